#include "node/reply_ages.h"

#include <algorithm>

#include "base/metrics.h"
#include "node/log_clock.h"

namespace sluice::node {
namespace {

constexpr uint64_t kRunsOfBytes = 64;  // that many runs share the bytes at least

Counter& ForgottenEarly() {
  static Counter& counter = NewCounter("sluice_node_replies_forgotten_early_total",
                                       "Replies forgotten before their time, because there were too many");
  return counter;
}

}  // namespace

void ReplyAges::Clock(int64_t now_ms) {
  now_ms_ = std::max(now_ms_, now_ms);
  // What a run holds was made within kClockEveryMs after its beginning.
  while (!runs_.empty() && runs_.front().since_ms + kClockEveryMs + keep_ms_ <= now_ms_) ForgetOldest();
}

void ReplyAges::Add(Index index, uint64_t bytes) {
  if (runs_.empty() || runs_.back().since_ms != now_ms_ || runs_.back().bytes >= bytes_max_ / kRunsOfBytes) {
    runs_.push_back({index, now_ms_, 0, 0});
  }
  runs_.back().last = index;
  runs_.back().bytes += bytes;
  ++runs_.back().replies;
  bytes_ += bytes;
  while (bytes_ > bytes_max_ && runs_.size() > 1) {
    ForgottenEarly().Increment(static_cast<double>(runs_.front().replies));
    ForgetOldest();
  }
}

void ReplyAges::ForgetOldest() {
  bytes_ -= runs_.front().bytes;
  first_kept_ = runs_.front().last.Next();
  runs_.pop_front();
}

}  // namespace sluice::node
