// What the records of a log add up to: the state of each group, and what damage took from it.
//
//   Replay replay;
//   replay.OnRecord({header, place, ...});  replay.OnUnknownDamage(sequence, at_end);  // in log order
//   std::map<GroupId, ReplayedGroup> groups = replay.Finish(hard_terms);
//
// Pure; one thread. Any sequence of records is accepted: what contradicts itself becomes damage.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "log/format.h"

namespace sluice::log {

// Where a record lies.
struct RecordPlace {
  uint64_t generation = 0;  // of the segment
  uint64_t offset = 0;      // of the record header in its file
  uint64_t sequence = 0;    // of the block that the header is in
};

// A record as found: its header is right, its payload may not be.
struct FoundRecord {
  RecordHeader header;
  RecordPlace place;
  Bytes payload;         // of configurations and state marks; else not kept
  bool damaged = false;  // the payload is not what was written
  bool at_end = false;   // ... and the damage is the end of the log
};

struct ReplayedEntry {
  enum class Condition : uint8_t { kMissing, kDamaged, kIntact };
  Term term;
  Condition condition = Condition::kMissing;
  bool at_end = false;
  bool copied = false;
  raft::EntryKind kind = raft::EntryKind::kCommand;
  uint32_t bytes = 0;
  RecordPlace place;
  Bytes configuration;
};

struct ReplayedGroup {
  TermIndex compacted{Term{0}, kNoIndex};
  std::deque<ReplayedEntry> entries;  // from compacted.index + 1 on; after Finish all intact
  // After Finish: from the first lost entry on, intact ones behind it too. A missing one may have term 0.
  std::deque<ReplayedEntry> beyond;
  std::optional<Promise> promise;

  Index end() const { return compacted.index + 1 + static_cast<int64_t>(entries.size()); }
  TermIndex last() const {
    return entries.empty() ? compacted : TermIndex{entries.back().term, end().Prev()};
  }
};

class Replay {
 public:
  void OnRecord(const FoundRecord& record);
  // Bytes before or in the block of this sequence cannot be told: any group may have had records there.
  void OnUnknownDamage(uint64_t sequence, bool at_end);
  // `hard_terms`: groups with a hard-state file, and the term in it (raft::kEveryTerm: it does not tell); they
  // exist even without records.
  std::map<GroupId, ReplayedGroup> Finish(const std::map<GroupId, Term>& hard_terms);
  // Groups whose last record is a drop, and its sequence.
  const std::map<GroupId, uint64_t>& dropped() const { return dropped_; }

 private:
  struct Group {
    ReplayedGroup state;
    uint64_t clear_from = 0;     // unknown damage before this sequence does not concern the group
    bool contradiction = false;  // what it held cannot be told
  };

  void OnEntry(Group& group, const FoundRecord& record);
  void OnCopy(Group& group, const FoundRecord& record);
  void OnState(Group& group, const FoundRecord& record);
  static void Compact(ReplayedGroup& group, TermIndex upto);
  static void CheckPrevious(Group& group, Index previous, Term term);
  void Settle(Group& group, Term hard_term) const;

  std::map<GroupId, Group> groups_;
  std::map<GroupId, uint64_t> dropped_;
  // Sequence + 1 of the last unknown damage of each sort; 0: none.
  uint64_t unknown_to_ = 0;
  uint64_t unknown_at_end_to_ = 0;
};

}  // namespace sluice::log
