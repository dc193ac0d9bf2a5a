// Which remembered replies are still needed: those of the last `keep_ms` of the log's time (F-68), as long as
// they fit into `bytes_max`.
//
//   ages.Clock(now_ms);                    // the log's time, from its clock entries (log_clock.h)
//   ages.Add(index, bytes);                // a reply was remembered
//   sessions.ForgetBefore(ages.first_kept());
//
// Decided from the log alone, so that every server forgets the same. Replies are counted in runs of entries,
// a second or a part of the bytes each: a run is forgotten as a whole. Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <deque>

#include "base/ids.h"

namespace sluice::node {

class ReplyAges {
 public:
  ReplyAges(uint64_t bytes_max, int64_t keep_ms) : bytes_max_(bytes_max), keep_ms_(keep_ms) {}

  void Clock(int64_t now_ms);
  void Add(Index index, uint64_t bytes);
  // Replies of earlier entries are forgotten.
  Index first_kept() const { return first_kept_; }
  int64_t now_ms() const { return now_ms_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Run {
    Index last;
    int64_t since_ms;
    uint64_t bytes;
    uint64_t replies;
  };
  void ForgetOldest();

  uint64_t bytes_max_;
  int64_t keep_ms_;
  std::deque<Run> runs_;
  int64_t now_ms_ = 0;
  uint64_t bytes_ = 0;
  Index first_kept_ = kNoIndex;
};

}  // namespace sluice::node
