// What the streams of this process did: those that are open, and, as sums, those that have ended.
//
//   StreamOpened(end);  ...  StreamEnded(end);       const StreamTotals totals = TotalsOfStreams();
//
// Thread-safe; not with the lock of a connection. Counting costs one lock when a stream opens and one when it
// ends. Totals never fall. Ownership: an open stream's end is kept until it has ended.
#pragma once

#include <cstdint>
#include <memory>

namespace sluice::edge::brpc {
class StreamEnd;
}

namespace sluice::edge::files {

struct StreamTotals {
  uint64_t open = 0;
  uint64_t unconsumed_bytes = 0;  // written here and not reported as consumed
  // Since the process began.
  uint64_t bytes_in = 0, bytes_out = 0;
  uint64_t messages_in = 0, messages_out = 0;
  uint64_t stalls = 0;
};

void StreamOpened(const std::shared_ptr<brpc::StreamEnd>& end);
// In on_closed.
void StreamEnded(const std::shared_ptr<brpc::StreamEnd>& end);
// Visits every open stream.
StreamTotals TotalsOfStreams();

}  // namespace sluice::edge::files
