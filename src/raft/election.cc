// Who leads: timers, candidates, and the changes of role.
#include <algorithm>

#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {
namespace {

// Terms that a fence may lie ahead: elections that a server may have missed while it was away.
constexpr uint64_t kFenceMax = uint64_t{1} << 32;

}  // namespace

Role Core::Impl::PassiveRole() const {
  const bool listed = configuration().Find(options_.self) != nullptr;
  return listed && !configuration().IsVoter(options_.self) ? Role::kLearner : Role::kFollower;
}

bool Core::Impl::DiskStalled() const {
  return !unsynced_.empty() && unsynced_ticks_ >= options_.election_ticks_max;
}

bool Core::Impl::MayCampaign() const {
  const bool readable = unreadable_ <= applied_;
  return MayVoteIn(hard_state_.term.Next()) && may_lead_ && !failed_ && !promised_last_ && readable &&
         !DiskStalled() && configuration().IsVoter(options_.self);
}

void Core::Impl::SetMayLead(bool may) {
  may_lead_ = may;
  const bool active = role_ == Role::kLeader || role_ == Role::kCandidate;
  if (!may && active) BecomeFollower(hard_state_.term, PeerId());
}

void Core::Impl::ResetElectionTimer() {
  election_elapsed_ = 0;
  const uint64_t spread = options_.election_ticks_max - options_.election_ticks_min + 1;
  election_timeout_ = options_.election_ticks_min + static_cast<uint32_t>(Random(spread));
}

void Core::Impl::TickElection(uint32_t ticks) {
  election_elapsed_ += ticks;
  if (election_elapsed_ < election_timeout_) return;
  ResetElectionTimer();
  const uint64_t round = vote_call_;
  if (role_ == Role::kCandidate) TallyVotes(/*at_timeout=*/true);
  if (role_ == Role::kLeader || vote_call_ != round) return;  // won this round
  if (MayCampaign()) Campaign(/*pre_vote=*/true);
}

// A pre-vote names the current term, as Ratis does:
// it asks whether an election could be won and changes nothing.
void Core::Impl::Campaign(bool pre_vote) {
  FailReads();
  role_ = Role::kCandidate;
  leader_ = PeerId();
  pre_vote_ = pre_vote;
  if (!pre_vote) SetHardState({hard_state_.term.Next(), options_.self});
  ResetElectionTimer();
  vote_call_ = next_call_;
  votes_.clear();
  // The own vote, too, counts only once it is durable (HardStatePersisted).
  if (pre_vote) votes_[options_.self] = true;
  RequestVotes();
  TallyVotes(/*at_timeout=*/false);
}

void Core::Impl::RequestVotes() {
  for (const Peer& peer : configuration().AllPeers()) {
    if (IsSelf(peer.id) || !configuration().IsVoter(peer.id)) continue;
    Send(peer.id, VoteRequest{NextCall(), hard_state_.term, log_.last(), pre_vote_});
  }
}

void Core::Impl::TallyVotes(bool at_timeout) {
  VoteOutcome outcome = CountVotes(configuration(), [&](const PeerId& id) {
    auto vote = votes_.find(id);
    return vote == votes_.end() ? std::nullopt : std::optional<bool>(vote->second);
  });
  const Peer* self = configuration().Find(options_.self);
  for (const Peer& peer : configuration().voters) {
    if (self == nullptr || peer.priority <= self->priority) continue;
    const auto vote = votes_.find(peer.id);
    const bool agrees = vote != votes_.end() && vote->second;
    // Voters of higher priority go first: they must agree, or have had their time until the timeout. A refusal
    // is no veto: whoever refuses may be one that cannot lead itself (F-07, F-08, F-20).
    if (!agrees && outcome == VoteOutcome::kWon && !at_timeout) outcome = VoteOutcome::kPending;
  }
  if (outcome == VoteOutcome::kLost) {
    BecomeFollower(hard_state_.term, PeerId());
  } else if (outcome == VoteOutcome::kWon && pre_vote_) {
    Campaign(/*pre_vote=*/false);
  } else if (outcome == VoteOutcome::kWon) {
    BecomeLeader();
  }
}

void Core::Impl::BecomeLeader() {
  role_ = Role::kLeader;
  leader_ = options_.self;
  votes_.clear();
  progress_.clear();
  RebuildProgress();
  uncommitted_bytes_ = 0;
  for (Index i = commit_.Next(); i <= log_.last().index; i = i.Next()) uncommitted_bytes_ += log_.BytesAt(i);
  // Nothing older can be committed by counting; this entry of the own term commits all before it.
  own_first_ = log_.last().index.Next();
  Configuration current = configuration();
  Entry entry{{hard_state_.term, own_first_}, EntryKind::kConfiguration, EncodeConfiguration(current)};
  uncommitted_bytes_ += entry.payload.size();
  AppendOne(std::move(entry), std::move(current));
  SendAppendsToAll();
}

void Core::Impl::BecomeFollower(Term term, const PeerId& leader) {
  if (term > hard_state_.term) SetHardState({term, PeerId()});
  if (leader_ != leader) FailReads();
  const bool was_active = role_ == Role::kLeader || role_ == Role::kCandidate;
  if (role_ == Role::kLeader) {
    progress_.clear();
    transferee_ = PeerId();
    own_first_ = kNoIndex;
    leader_commit_ = std::max(leader_commit_, commit_);
  }
  votes_.clear();
  role_ = PassiveRole();
  leader_ = leader;
  if (was_active || !leader.empty()) ResetElectionTimer();
}

bool Core::Impl::HearsLeader() const {
  if (role_ == Role::kLeader) return QuorumIsActive();
  return !leader_.empty() && since_leader_ < options_.election_ticks_min;
}

void Core::Impl::Fence(Term term) {
  if (failed_ || term <= hard_state_.term || term.value - hard_state_.term.value > kFenceMax ||
      HearsLeader()) {
    return;
  }
  BecomeFollower(term, PeerId());
}

void Core::Impl::StepDown() {
  if (role_ == Role::kLeader) BecomeFollower(hard_state_.term, PeerId());
}

}  // namespace sluice::raft
