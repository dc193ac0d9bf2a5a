// Randomness as a seam: seeds for election timeouts, ids, jitter. Not for keys.
//
//   const uint64_t seed = random.Next64();
//
// Thread-safe.
#pragma once

#include <cstdint>

namespace sluice::env {

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next64() = 0;
  // Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound) { return Next64() % bound; }
};

// Seeded from the operating system once a process.
Random& RealRandom();

}  // namespace sluice::env
