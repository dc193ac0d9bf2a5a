// Random numbers that depend on the seed alone: the only randomness of the simulator.
//
//   SeededRandom random(seed);
//   if (random.Chance(0.1)) Drop();
//   SeededRandom of_disk = random.Fork();   // its draws do not disturb ours
//
// Lives in one thread at a time. Copying repeats the sequence.
#pragma once

#include <cstdint>

#include "env/random.h"

namespace sluice::sim {

class SeededRandom final : public env::Random {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}

  // splitmix64
  uint64_t Next64() override {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Uniform in [low, high].
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }
  // True with this probability; 0 is never, 1 is always.
  bool Chance(double probability) { return static_cast<double>(Next64() >> 11) * 0x1.0p-53 < probability; }
  SeededRandom Fork() { return SeededRandom(Next64()); }

 private:
  uint64_t state_;
};

}  // namespace sluice::sim
