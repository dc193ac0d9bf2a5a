// The log and the hard state: what was appended, what of it is durable, and what is committed.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {

void Core::Impl::SetHardState(HardState state) {
  // Only OthersTold says how far forgotten promises reach; the passing of that term ends them.
  const bool silent = hard_state_.silent_upto > Term{0} && state.term <= hard_state_.silent_upto;
  if (silent) state.silent_upto = hard_state_.silent_upto;
  if (state == hard_state_ && hard_state_version_ != 0) return;
  hard_state_ = std::move(state);
  effects_.hard_state = hard_state_;
  effects_.hard_state_version = ++hard_state_version_;
}

void Core::Impl::HardStatePersisted(uint64_t version) {
  if (failed_) return;
  SLUICE_CHECK(version <= hard_state_version_) << "hard state " << version << " was never handed out";
  hard_state_durable_ = std::max(hard_state_durable_, version);
  if (role_ == Role::kCandidate && !pre_vote_ && hard_state_durable_ == hard_state_version_) {
    votes_[options_.self] = true;
    TallyVotes(/*at_timeout=*/false);
  }
}

void Core::Impl::AppendOne(Entry entry, std::optional<Configuration> configuration) {
  SLUICE_CHECK(entry.at.index == log_.last().index.Next()) << "append " << entry.at.index.value;
  const uint64_t bytes = entry.payload.size();
  const bool changes = configuration.has_value();
  log_.Append(entry.at.term, entry.kind, bytes, std::move(configuration));
  append_bytes_ += bytes + kEntryOverheadBytes;
  effects_.append.push_back(std::move(entry));
  if (changes) ConfigurationChanged();
}

void Core::Impl::TruncateFrom(Index from) {
  SLUICE_CHECK(from > commit_) << "truncate at " << from.value << ", committed " << commit_.value;
  const bool changes = log_.configuration_index() >= from;
  log_.TruncateFrom(from);
  durable_ = std::min(durable_, from.Prev());
  unreadable_ = std::min(unreadable_, from.Prev());
  effects_.truncated_from = effects_.truncated_from ? std::min(*effects_.truncated_from, from) : from;
  while (!effects_.append.empty() && effects_.append.back().at.index >= from) {
    append_bytes_ -= effects_.append.back().payload.size() + kEntryOverheadBytes;
    effects_.append.pop_back();
  }
  // Appends of a leadership that is over, not sent yet: their entries are no longer what they were.
  std::erase_if(effects_.send_now, [&](const Outgoing& out) { return out.entries_end > from; });
  std::erase_if(effects_.send_after, [&](const OutgoingAfter& out) {
    return out.outgoing.entries_end > from || out.entry.index >= from;
  });
  if (changes) ConfigurationChanged();
}

// The same (term, index) can be appended, truncated and appended again while the first append is still on its
// way to the disk. So a report is matched with the oldest append that it can mean, and never reaches beyond a
// truncation that is still under way.
void Core::Impl::Persisted(TermIndex upto) {
  if (failed_) return;
  size_t done = 0;
  for (size_t i = 0; i < unsynced_.size() && done == 0; ++i) {
    if (unsynced_[i].last == upto) done = i + 1;
  }
  if (done == 0 && !log_.Contains(upto)) return;
  for (; done > 0; --done) {
    unsynced_bytes_ -= unsynced_.front().bytes;
    unsynced_.pop_front();
    unsynced_ticks_ = 0;
  }
  Index reach = std::min(upto.index, log_.last().index);
  for (const Unsynced& append : unsynced_) {
    if (append.truncates) reach = std::min(reach, append.truncates->Prev());
  }
  if (effects_.truncated_from) reach = std::min(reach, effects_.truncated_from->Prev());
  durable_ = std::max(durable_, reach);
  CheckRepaired();
  if (role_ == Role::kLeader) {
    MaybeCommit();
  } else {
    SetCommit(std::min(leader_commit_, durable_));
  }
}

void Core::Impl::CheckRepaired() {
  if (!promised_last_.has_value()) return;
  // An entry of a later term than the promised one is proof enough: the leader of that term was elected with
  // all that was committed before it, and our log agrees with its log up to there.
  if (TermIndex{*log_.TermAt(durable_), durable_} >= *promised_last_) promised_last_.reset();
}

// Whatever was lost here, and was acknowledged, was acknowledged in the promised term or in one before it: in
// the term that this server still is in. So nobody but a leader of these terms can count it.
// - Entries of this term all come from its one leader, whose log only grows while it leads. The loss is older
//   than the question, and the question is older than the answer: what was lost lies at or before `last`.
// - Entries of earlier terms that a majority acknowledged were in the leader's log when it was elected: it had
//   the vote of one of that majority, who held them then, or, like this server since its loss, voted only for
//   who had all that was promised.
// So a log that agrees with the leader's up to `last` has all that can count, what was acknowledged before the
// loss and is counted only now included; what else was lost can never be committed. And a log agrees that far
// as soon as its last entry is not older: in this term, that entry is the leader's. An AppendRequest proves
// less: it may have been sent before entries that were acknowledged and lost, and have come late.
bool Core::Impl::LeaderEndsAt(TermIndex last) {
  const bool tells = promised_last_ && promised_last_->index == kEndUnknown &&
                     promised_last_->term == last.term && hard_state_.term == last.term;
  if (failed_ || hard_state_.silent_upto == kEveryTerm || !tells) return false;
  promised_last_ = last;
  CheckRepaired();
  return true;
}

void Core::Impl::Restored(Index first, std::vector<EntryInfo> entries) {
  const bool as_it_was = first == log_.last().index.Next() && durable_ == log_.last().index &&
                         unsynced_.empty() && effects_.append.empty() && role_ != Role::kLeader;
  if (failed_ || !as_it_was || entries.empty()) return;
  bool changes = false;
  for (EntryInfo& entry : entries) {
    std::optional<Configuration> configuration;
    if (entry.kind == EntryKind::kConfiguration) {
      absl::StatusOr<Configuration> decoded = DecodeConfiguration(entry.configuration);
      SLUICE_CHECK(decoded.ok()) << decoded.status();  // it was in the log before
      configuration = *std::move(decoded);
      changes = true;
    }
    log_.Append(entry.term, entry.kind, entry.bytes, std::move(configuration));
  }
  durable_ = log_.last().index;
  // The hard state was lost too, or it would not be older.
  if (hard_state_.term < log_.last().term) SetHardState({log_.last().term, PeerId()});
  CheckRepaired();
  SetCommit(std::min(leader_commit_, durable_));
  if (changes) ConfigurationChanged();
}

void Core::Impl::OthersTold(Term highest) {
  if (failed_ || hard_state_.silent_upto != kEveryTerm) return;
  if (highest > Reach()) {
    // One step towards it, as after a message with such a term (K24); still forgetful, it asks again.
    ++impossible_;
    BecomeFollower(Reach(), PeerId());
    return;
  }
  // In that term it acknowledges again: whatever it had promised was of this term or of one before.
  if (highest > hard_state_.term) BecomeFollower(highest, PeerId());
  HardState state = hard_state_;
  state.silent_upto = hard_state_.term;
  hard_state_.silent_upto = Term{0};
  SetHardState(std::move(state));
  if (promised_last_ && promised_last_->term == kEveryTerm) promised_last_->term = hard_state_.term;
  CheckRepaired();
}

void Core::Impl::SetCommit(Index commit) {
  if (commit <= commit_) return;
  SLUICE_CHECK(commit <= log_.last().index)
      << "commit " << commit.value << " beyond " << log_.last().index.value;
  if (role_ == Role::kLeader) {
    for (Index i = commit_.Next(); i <= commit; i = i.Next()) uncommitted_bytes_ -= log_.BytesAt(i);
  }
  commit_ = commit;
  effects_.commit = commit;
}

void Core::Impl::Applied(Index upto) {
  SLUICE_CHECK(upto <= commit_) << "applied " << upto.value << " beyond commit " << commit_.value;
  applied_ = std::max(applied_, upto);
}

void Core::Impl::Compact(Index upto) {
  SLUICE_CHECK(upto <= applied_) << "compact " << upto.value << " beyond applied " << applied_.value;
  // What is not durable here yet cannot be dropped from the log.
  log_.CompactTo(std::min(upto, durable_));
  if (unreadable_ < log_.first()) unreadable_ = kNoIndex;
}

bool Core::Impl::WantsSnapshot(TermIndex at) const {
  return !failed_ && role_ != Role::kLeader && at.index > commit_ && !log_.Contains(at);
}

void Core::Impl::SnapshotInstalled(TermIndex at, Configuration configuration) {
  if (failed_ || at.index <= commit_) return;
  SLUICE_CHECK(role_ != Role::kLeader) << "snapshot " << at.index.value << " at a leader";
  const TermIndex dropped{*log_.TermAt(durable_), durable_};
  // Where the old log agrees with the snapshot, what followed may have been acknowledged and is gone: as
  // after damage on disk. Where it does not agree, what followed was never committed,
  // whatever its term: no promise.
  if (log_.Contains(at) && dropped > at && (!promised_last_ || *promised_last_ < dropped)) {
    promised_last_ = dropped;
  }
  if (log_.last().index > at.index) effects_.truncated_from = at.index.Next();
  log_.Reset(at, std::move(configuration));
  unreadable_ = kNoIndex;
  effects_.append.clear();
  append_bytes_ = 0;
  effects_.send_after.clear();
  unsynced_.clear();
  unsynced_bytes_ = 0;
  durable_ = commit_ = applied_ = at.index;
  leader_commit_ = std::max(leader_commit_, at.index);
  effects_.commit = commit_;
  if (hard_state_.term < at.term) SetHardState({at.term, PeerId()});
  CheckRepaired();
  ConfigurationChanged();
}

void Core::Impl::ConfigurationChanged() {
  if (role_ == Role::kLeader) {
    RebuildProgress();
  } else if (role_ == Role::kCandidate && !MayCampaign()) {
    BecomeFollower(hard_state_.term, PeerId());
  } else if (role_ != Role::kCandidate) {
    role_ = PassiveRole();
  }
}

Effects Core::Impl::TakeEffects() {
  if (!effects_.append.empty()) {
    if (unsynced_.empty()) unsynced_ticks_ = 0;
    unsynced_.push_back({effects_.append.back().at, effects_.truncated_from, append_bytes_});
    unsynced_bytes_ += append_bytes_;
    append_bytes_ = 0;
  }
  return std::exchange(effects_, Effects());
}

}  // namespace sluice::raft
