// Time as a seam. MonotonicNow() drives every timeout (CLOCK_BOOTTIME: it counts suspension); WallNow() is
// only for display and for stamps that a leader puts into the log.
//
//   const env::Instant deadline = clock.MonotonicNow() + std::chrono::seconds(1);
//
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>

namespace sluice::env {

using Duration = std::chrono::nanoseconds;
// Time since an arbitrary start that differs between processes.
using Instant = std::chrono::duration<int64_t, std::nano>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant MonotonicNow() const = 0;
  // Milliseconds since 1970-01-01 UTC.
  virtual int64_t WallNowMs() const = 0;
};

// The process's real clock.
const Clock& RealClock();

}  // namespace sluice::env
