// What must hold before and after every input, in every build.
#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {

Core::Impl::Watermark Core::Impl::Mark() const {
  return {hard_state_.term, hard_state_.voted_for, commit_, applied_, log_.base().index, role_, log_.last()};
}

void Core::Impl::CheckInvariants(const Watermark& before) const {
  const TermIndex last = log_.last();
  // The log and its boundaries.
  SLUICE_CHECK(log_.base().index <= applied_)
      << log_.base().index.value << " compacted, applied " << applied_.value;
  SLUICE_CHECK(applied_ <= commit_) << "applied " << applied_.value << ", commit " << commit_.value;
  SLUICE_CHECK(commit_ <= last.index) << "commit " << commit_.value << ", last " << last.index.value;
  SLUICE_CHECK(log_.base().index <= durable_ && durable_ <= last.index)
      << "durable " << durable_.value << ", last " << last.index.value;
  SLUICE_CHECK(last.term <= hard_state_.term)
      << "entry of term " << last.term.value << " in term " << hard_state_.term.value;
  SLUICE_CHECK(role_ == Role::kLeader || commit_ <= durable_ || commit_ == before.commit)
      << "follower committed " << commit_.value << " with " << durable_.value << " durable";

  // What never goes back.
  SLUICE_CHECK(hard_state_.term >= before.term)
      << "term " << hard_state_.term.value << " after " << before.term.value;
  SLUICE_CHECK(commit_ >= before.commit) << "commit " << commit_.value << " after " << before.commit.value;
  SLUICE_CHECK(applied_ >= before.applied && log_.base().index >= before.base)
      << "applied " << applied_.value;
  SLUICE_CHECK(hard_state_.term != before.term || before.voted_for.empty() ||
               hard_state_.voted_for == before.voted_for)
      << "a second vote in term " << before.term.value;
  SLUICE_CHECK(hard_state_durable_ <= hard_state_version_) << "hard state " << hard_state_version_;

  // Roles.
  if (role_ != Role::kLeader) {
    SLUICE_CHECK(progress_.empty() && !IsSelf(leader_)) << "leads without being the leader";
    return;
  }
  SLUICE_CHECK(IsSelf(leader_) && hard_state_.voted_for == options_.self) << "leads without its own vote";
  SLUICE_CHECK(before.role != Role::kLeader || before.term != hard_state_.term || last >= before.last)
      << "a leader's log ends at " << last.index.value << ", before at " << before.last.index.value;
  SLUICE_CHECK(own_first_ <= last.index && log_.TermAt(last.index) == hard_state_.term)
      << "no entry of the own term";
  for (const auto& [id, progress] : progress_) {
    SLUICE_CHECK(progress.match() <= progress.known() && progress.known() < progress.next() &&
                 progress.next() <= last.index.Next())
        << id.value << ": match " << progress.match().value << ", next " << progress.next().value << ", last "
        << last.index.value;
    SLUICE_CHECK(progress.inflight() <= options_.inflight_appends_max)
        << id.value << ": " << progress.inflight();
  }
}

}  // namespace sluice::raft
