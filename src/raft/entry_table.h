// What consensus remembers of the log: term, kind and size of each entry since the base,
// and the configurations.
//
//   table.Append(term, kind, bytes, std::nullopt);
//   auto term = table.TermAt(index);
//   Index end = table.BatchEnd(next, 4 << 20, &bytes);
//
// The base is the last entry that is no longer in the log (a snapshot's, or the last compacted one). Sixteen
// bytes an entry; payload is not here. Threading: lives on one shard with its Core.
// Nothing can fail: callers check first.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>

#include "raft/effects.h"
#include "raft/types.h"

namespace sluice::raft {

// What an entry costs beside its payload, wherever bytes are counted; so that empty entries are bounded, too.
inline constexpr uint64_t kEntryOverheadBytes = 32;

class EntryTable {
 public:
  // `configuration` is in force at `base`.
  EntryTable(TermIndex base, Configuration configuration);

  // Forgets everything and starts after `base`.
  void Reset(TermIndex base, Configuration configuration);
  // Adds the entry after last(). `configuration` is set for kConfiguration entries, and in force from now on.
  void Append(Term term, EntryKind kind, uint64_t bytes, std::optional<Configuration> configuration);
  // Drops the entries from `from` (beyond the base) on, and the configurations among them.
  void TruncateFrom(Index from);
  // Moves the base up to `upto`, which is in the log.
  void CompactTo(Index upto);

  TermIndex base() const { return base_; }
  TermIndex last() const;
  Index first() const { return base_.index.Next(); }
  // Of the base too; Term{0} for kNoIndex while nothing was compacted; nullopt if it is not known.
  std::optional<Term> TermAt(Index index) const;
  bool Contains(TermIndex at) const { return TermAt(at.index) == at.term; }
  uint64_t BytesAt(Index index) const;
  // What the entries after `index` (the base or later) cost together, with kEntryOverheadBytes each.
  uint64_t BytesAfter(Index index) const;
  // One past the last of the entries from `from` on that cost at most `bytes_max` together, at least one.
  // `bytes` becomes their cost.
  Index BatchEnd(Index from, uint64_t bytes_max, uint64_t* bytes) const;

  const Configuration& configuration() const { return configurations_.rbegin()->second; }
  Index configuration_index() const { return configurations_.rbegin()->first; }

 private:
  struct Slot {
    uint64_t term;
    uint64_t end_bytes : 56;  // payload of all entries up to and with this one, since Reset()
    uint64_t kind : 8;
  };
  // Payload up to and with `index`.
  uint64_t EndBytes(Index index) const { return index <= base_.index ? base_bytes_ : At(index).end_bytes; }
  const Slot& At(Index index) const { return slots_[static_cast<size_t>(index - first())]; }

  TermIndex base_;
  uint64_t base_bytes_ = 0;
  std::deque<Slot> slots_;
  // By the index of their entry; the lowest is the one in force at the base.
  std::map<Index, Configuration> configurations_;
};

}  // namespace sluice::raft
