#include "log/replay.h"

#include <algorithm>
#include <iterator>

namespace sluice::log {
namespace {

using Condition = ReplayedEntry::Condition;

// More entries than a group can have: an index jump beyond it is a contradiction, not a gap to remember.
constexpr int64_t kGapMax = 1 << 24;

ReplayedEntry EntryOf(const FoundRecord& record) {
  return {.term = record.header.at.term,
          .condition = record.damaged ? Condition::kDamaged : Condition::kIntact,
          .at_end = record.at_end,
          .copied = record.header.kind == RecordKind::kCopy,
          .kind = record.header.entry_kind,
          .bytes = record.header.payload_bytes,
          .place = record.place,
          .configuration = record.payload};
}

// What the group holds is at least as new as what it promised.
void Heal(ReplayedGroup& group) {
  if (group.promise && group.last() >= group.promise->last) group.promise.reset();
}

void Merge(std::optional<Promise>& promise, Promise more) {
  if (!promise) {
    promise = more;
    return;
  }
  promise->last = std::max(promise->last, more.last);
  promise->at_end = promise->at_end && more.at_end;
}

}  // namespace

void Replay::OnRecord(const FoundRecord& record) {
  const GroupId& id = record.header.group;
  if (record.header.kind == RecordKind::kDrop) {
    groups_.erase(id);
    dropped_[id] = record.place.sequence;
    return;
  }
  Group& group = groups_[id];
  dropped_.erase(id);
  switch (record.header.kind) {
    case RecordKind::kEntry:
      OnEntry(group, record);
      break;
    case RecordKind::kCopy:
      OnCopy(group, record);
      break;
    case RecordKind::kCompact:
      Compact(group.state, record.header.at);
      break;
    case RecordKind::kRestart:
      group.state.compacted = record.header.at;
      group.state.entries.clear();
      group.clear_from = record.place.sequence;
      group.contradiction = false;
      Heal(group.state);
      break;
    case RecordKind::kState:
      OnState(group, record);
      break;
    case RecordKind::kDrop:
      break;
  }
}

void Replay::OnUnknownDamage(uint64_t sequence, bool at_end) {
  (at_end ? unknown_at_end_to_ : unknown_to_) = sequence + 1;
}

// The entry before must be the one that the writer saw there; if not, that one was lost.
void Replay::CheckPrevious(Group& group, Index previous, Term term) {
  ReplayedGroup& state = group.state;
  if (previous < state.compacted.index) return;
  if (previous == state.compacted.index) {
    group.contradiction = group.contradiction || state.compacted.term != term;
    return;
  }
  ReplayedEntry& entry = state.entries[static_cast<size_t>(previous - state.compacted.index - 1)];
  if (entry.condition == Condition::kMissing || entry.term != term) {
    entry = ReplayedEntry();
    entry.term = term;
  }
}

void Replay::OnEntry(Group& group, const FoundRecord& record) {
  ReplayedGroup& state = group.state;
  const Index index = record.header.at.index;
  if (index <= state.compacted.index || index - state.end() > kGapMax) {
    // Only after lost marks: what the record says about its time is right.
    group.contradiction = group.contradiction || index > state.end();
    state.compacted = {record.header.previous_term, index.Prev()};
    state.entries.clear();
  }
  state.entries.resize(static_cast<size_t>(index - state.compacted.index - 1));
  CheckPrevious(group, index.Prev(), record.header.previous_term);
  state.entries.push_back(EntryOf(record));
  group.clear_from = record.place.sequence;
  Heal(state);
}

void Replay::OnCopy(Group& group, const FoundRecord& record) {
  ReplayedGroup& state = group.state;
  const Index index = record.header.at.index;
  if (index <= state.compacted.index || index - state.end() > kGapMax) return;
  const size_t at = static_cast<size_t>(index - state.compacted.index - 1);
  if (at >= state.entries.size()) state.entries.resize(at + 1);
  ReplayedEntry& entry = state.entries[at];
  const bool better =
      entry.condition != Condition::kIntact || (entry.term == record.header.at.term && !record.damaged);
  if (better) entry = EntryOf(record);
}

void Replay::Compact(ReplayedGroup& group, TermIndex upto) {
  if (upto.index <= group.compacted.index) return;
  const int64_t count =
      std::min<int64_t>(upto.index - group.compacted.index, static_cast<int64_t>(group.entries.size()));
  group.entries.erase(group.entries.begin(), group.entries.begin() + count);
  group.compacted = upto;
}

void Replay::OnState(Group& group, const FoundRecord& record) {
  ReplayedGroup& state = group.state;
  Compact(state, record.header.at);
  const std::optional<StateMark> mark = DecodeStateMark(record.payload.ToString());
  if (record.damaged || !mark || mark->last.index < state.compacted.index ||
      mark->last.index - state.end() > kGapMax) {
    group.contradiction = true;
    return;
  }
  // What the log ended with is known now; entries beyond were given up by an earlier recovery, entries that
  // are not there come as copies later, or are lost.
  state.entries.resize(static_cast<size_t>(mark->last.index - state.compacted.index));
  CheckPrevious(group, mark->last.index, mark->last.term);
  group.clear_from = record.place.sequence;
  group.contradiction = false;
  state.promise = mark->promise;
}

void Replay::Settle(Group& group, Term hard_term) const {
  ReplayedGroup& state = group.state;
  const TermIndex last = state.last();
  size_t good = 0;
  while (good < state.entries.size() && state.entries[good].condition == Condition::kIntact) ++good;
  const bool told = state.promise && state.promise->last >= last;  // by an earlier recovery
  if (good < state.entries.size() && !told) {
    bool at_end = true;
    for (size_t i = good; i < state.entries.size(); ++i) {
      at_end = at_end && (state.entries[i].condition == Condition::kIntact || state.entries[i].at_end);
    }
    Merge(state.promise, {last, at_end});
  }
  // A hard state that is lost, or older than the log, does not tell in which terms this server acknowledged; what
  // was promised when it did not tell, it may tell by now (F-08).
  const Term reach = hard_term < last.term ? raft::kEveryTerm : hard_term;
  if (state.promise && state.promise->last.term == raft::kEveryTerm) state.promise->last.term = reach;
  const bool before_end = unknown_to_ > group.clear_from || group.contradiction;
  if (before_end || unknown_at_end_to_ > group.clear_from) {
    Merge(state.promise, {{reach, Index{INT64_MAX}}, !before_end});
  }
  state.beyond.assign(std::make_move_iterator(state.entries.begin() + static_cast<std::ptrdiff_t>(good)),
                      std::make_move_iterator(state.entries.end()));
  state.entries.resize(good);
}

std::map<GroupId, ReplayedGroup> Replay::Finish(const std::map<GroupId, Term>& hard_terms) {
  for (const auto& [id, term] : hard_terms) {
    groups_.try_emplace(id);
  }
  std::map<GroupId, ReplayedGroup> result;
  for (auto& [id, group] : groups_) {
    const auto hard = hard_terms.find(id);
    Settle(group, hard == hard_terms.end() ? Term{0} : hard->second);
    result.emplace(id, std::move(group.state));
  }
  return result;
}

}  // namespace sluice::log
