#include "edge/files/stream_totals.h"

#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "edge/brpc/stream_end.h"

namespace sluice::edge::files {
namespace {

struct Known {
  std::mutex mutex;
  // Shared with the library.
  absl::flat_hash_set<std::shared_ptr<brpc::StreamEnd>> open ABSL_GUARDED_BY(mutex);
  StreamTotals ended ABSL_GUARDED_BY(mutex);
};

Known& TheKnown() {
  static Known& known = *new Known;
  return known;
}

void Add(const StreamInfo& info, StreamTotals* totals) {
  totals->bytes_in += info.bytes_in;
  totals->bytes_out += info.bytes_out;
  totals->messages_in += info.messages_in;
  totals->messages_out += info.messages_out;
  totals->stalls += info.stalls;
}

}  // namespace

void StreamOpened(const std::shared_ptr<brpc::StreamEnd>& end) {
  Known& known = TheKnown();
  std::lock_guard lock(known.mutex);
  known.open.insert(end);
}

void StreamEnded(const std::shared_ptr<brpc::StreamEnd>& end) {
  const StreamInfo info = end->Info();
  Known& known = TheKnown();
  std::lock_guard lock(known.mutex);
  if (known.open.erase(end) > 0) Add(info, &known.ended);
}

StreamTotals TotalsOfStreams() {
  Known& known = TheKnown();
  std::lock_guard lock(known.mutex);
  StreamTotals totals = known.ended;
  totals.open = known.open.size();
  for (const auto& end : known.open) {
    const StreamInfo info = end->Info();
    Add(info, &totals);
    totals.unconsumed_bytes += info.unconsumed_bytes;
  }
  return totals;
}

}  // namespace sluice::edge::files
