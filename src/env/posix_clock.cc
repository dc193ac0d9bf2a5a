#include <time.h>

#include "base/check.h"
#include "env/clock.h"

namespace sluice::env {
namespace {

class PosixClock final : public Clock {
 public:
  Instant MonotonicNow() const override { return Read(CLOCK_BOOTTIME); }
  int64_t WallNowMs() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Read(CLOCK_REALTIME)).count();
  }

 private:
  static Instant Read(clockid_t clock) {
    timespec now{};
    SLUICE_CHECK(clock_gettime(clock, &now) == 0) << "clock " << clock;
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }
};

}  // namespace

const Clock& RealClock() {
  static const PosixClock clock;
  return clock;
}

}  // namespace sluice::env
