// The limit that streams are measured against: one plain TCP connection on loopback, and memcpy.
//
//   auto sink = PlainSink::Start();          // first, while the process has one thread: it forks
//   auto sent = (*sink)->Send(1 << 30);      // sent->seconds, sent->cpu_seconds of both ends
//
// One thread at a time. The child ends with its object, or with this process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::app {

class PlainSink {
 public:
  struct Sent {
    double seconds = 0;
    double cpu_seconds = 0;
  };
  static absl::StatusOr<std::unique_ptr<PlainSink>> Start();
  ~PlainSink();
  // `bytes` in writes of 256 KiB, until the child has read the last one.
  absl::StatusOr<Sent> Send(uint64_t bytes);

 private:
  PlainSink(pid_t child, int port) : child_(child), port_(port) {}
  const pid_t child_;
  const int port_;
};

// Seconds of each round trip of `bytes` bytes between two threads, both of which wait in recv.
absl::StatusOr<std::vector<double>> PlainEcho(size_t bytes, uint64_t count);

// Bytes per second of copying a buffer that no cache holds.
double MemcpyRate();

}  // namespace sluice::app
