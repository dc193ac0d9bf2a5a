#include <sys/random.h>

#include <atomic>

#include "base/check.h"
#include "env/random.h"

namespace sluice::env {
namespace {

// splitmix64: its state is a counter, so one atomic addition makes it thread-safe.
class PosixRandom final : public Random {
 public:
  PosixRandom() {
    uint64_t seed = 0;
    SLUICE_CHECK(getrandom(&seed, sizeof(seed), 0) == sizeof(seed)) << "the system has no randomness";
    state_ = seed;
  }
  uint64_t Next64() override {
    uint64_t z = state_.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  std::atomic<uint64_t> state_;
};

}  // namespace

Random& RealRandom() {
  static PosixRandom random;
  return random;
}

}  // namespace sluice::env
