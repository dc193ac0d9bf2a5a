// What the log knows in memory: where each entry of each group lies, and the bytes of recent ones.
//
//   Frees frees = group.Append(entries);          // as soon as it is asked for: replication reads it at once
//   group.Land(entry, place);                     // when it is durable
//
// Guarded by the log's mutex. An entry's bytes stay until it is durable; then the cache may let them go.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/bytes.h"
#include "raft/types.h"

namespace sluice::log {

// Where an entry's record begins. Generation 0: not durable yet.
struct EntryPlace {
  uint64_t generation = 0;
  uint32_t offset = 0;
  bool operator==(const EntryPlace&) const = default;
};

struct Slot {
  Term term;
  EntryPlace place;
  uint32_t bytes = 0;
  raft::EntryKind kind = raft::EntryKind::kCommand;
  bool cached = false;
  bool copied = false;  // moved to a newer segment than its neighbours
  Bytes payload;        // while cached
};

// Entries of a segment that no longer count.
struct Freed {
  uint64_t generation = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;
};
using Frees = std::vector<Freed>;

class GroupMemory {
 public:
  explicit GroupMemory(TermIndex compacted) : compacted_(compacted) {}

  TermIndex compacted() const { return compacted_; }
  Index next() const { return compacted_.index + 1 + static_cast<int64_t>(slots_.size()); }
  // nullptr if there is no such entry.
  Slot* Find(Index index);
  // The term of the entry, or of the one the log begins after; 0 if that is not known.
  Term TermOf(Index index);

  // INVALID_ARGUMENT: not consecutive, a gap before the first, or at or before what is compacted.
  absl::Status Check(const std::vector<raft::Entry>& entries) const;
  void Append(const std::vector<raft::Entry>& entries, Frees& frees);
  void AddRecovered(Slot slot) { slots_.push_back(std::move(slot)); }
  // What lies behind damage: a slot of generation 0 is of a lost entry. An Append or Restart takes it all.
  void AddBeyond(Slot slot) { beyond_.push_back(std::move(slot)); }
  bool has_beyond() const { return !beyond_.empty(); }
  // nullptr: not there, or lost.
  const Slot* FindBeyond(Index index) const;
  // Changes with everything that overwrites what lies behind the end.
  uint64_t overwritten() const { return overwritten_; }
  // A lost entry is at this place now. False if it is not lost.
  bool Mend(const raft::Entry& entry, EntryPlace place);
  // The last entry, were the whole ones that follow it taken.
  TermIndex MendedLast() const;
  // Takes them.
  std::vector<Slot> TakeMended();
  void DropBeyond(Frees& frees);
  // True if the entry is still this one.
  bool Land(TermIndex at, EntryPlace place);
  void Compact(TermIndex upto, Frees& frees);
  void Restart(TermIndex at, Frees& frees);
  // Cached entries [from, end), within the bound but at least one; stops at the first that is not cached.
  std::vector<raft::Entry> Cached(Index from, Index end, uint64_t bytes_max);
  // Indexes of entries that lie in the segment, at most `bytes_max` bytes.
  void CollectIn(uint64_t generation, uint64_t bytes_max, std::vector<TermIndex>& out);

 private:
  TermIndex compacted_;
  std::deque<Slot> slots_;
  std::deque<Slot> beyond_;
  uint64_t overwritten_ = 0;
};

// First in, first out, over all groups: which durable entries still have their bytes in memory.
class EntryCache {
 public:
  using Groups = absl::flat_hash_map<GroupId, std::unique_ptr<GroupMemory>>;
  explicit EntryCache(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  // The entry became durable; lets the oldest go.
  void Add(const GroupId& group, TermIndex at, uint64_t bytes, Groups& groups);

 private:
  struct Held {
    GroupId group;
    TermIndex at;
    uint64_t cost;
  };
  const uint64_t bytes_max_;
  uint64_t bytes_ = 0;
  std::deque<Held> held_;  // entries that were compacted since count until their turn comes
};

}  // namespace sluice::log
