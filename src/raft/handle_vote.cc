// Votes, given and received.
//
// The rules are Ratis': a pre-vote, or a vote in our own term, is refused while a leader is heard from
// (leader stickiness); a real vote of a higher term is not. It can only come from a candidate that just
// passed a pre-vote at a majority, or that the leader itself told to campaign (a transfer, which must not be
// refused, and carries no mark that would tell it from the other). A server that was removed, or that hears
// nobody, passes no pre-vote, so that it cannot raise terms for ever (F-45, F-46, F-51).
#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {

// False: refused for reasons that do not touch our term.
bool Core::Impl::VoteIsDue(const PeerId& from, const VoteRequest& request) const {
  if (!configuration().IsVoter(from)) return false;
  if (!request.pre_vote) {
    if (request.term < hard_state_.term) return false;
    const bool same_term = request.term == hard_state_.term;
    if (same_term && !hard_state_.voted_for.empty() && hard_state_.voted_for != from) return false;
    if (!same_term) return true;
  }
  if (role_ == Role::kLeader) return !QuorumIsActive();
  return leader_.empty() || leader_ == from || since_leader_ >= options_.election_ticks_min;
}

bool Core::Impl::LogIsGoodEnough(const PeerId& from, TermIndex candidate_last) const {
  if (promised_last_ && candidate_last < *promised_last_) return false;
  const TermIndex last = log_.last();
  if (candidate_last != last) return candidate_last > last;
  const Peer* self = configuration().Find(options_.self);
  const Peer* candidate = configuration().Find(from);
  return self == nullptr || candidate == nullptr || self->priority <= candidate->priority;
}

bool Core::Impl::ShouldShutDown(const PeerId& from, const VoteRequest& request) const {
  const Index changed = log_.configuration_index();
  return role_ == Role::kLeader && !configuration().joint() && changed <= commit_ &&
         configuration().Find(from) == nullptr && request.last.index < changed;
}

void Core::Impl::Handle(const PeerId& from, VoteRequest& request) {
  bool granted = false;
  const bool shut_down = ShouldShutDown(from, request);
  if (VoteIsDue(from, request)) {
    // A pre-vote names the term before the one that it is about.
    const Term asked = request.pre_vote ? request.term.Next() : request.term;
    granted =
        MayVoteIn(asked) && configuration().IsVoter(options_.self) && LogIsGoodEnough(from, request.last);
    if (!request.pre_vote) {
      // The term is taken over even if the vote is refused. A candidate gets here only in its pre-vote: later
      // it has voted for itself.
      if (request.term > hard_state_.term || (granted && role_ == Role::kCandidate)) {
        BecomeFollower(request.term, PeerId());
      }
      if (granted) SetHardState({request.term, from});
    }
    if (granted && role_ != Role::kLeader && role_ != Role::kCandidate) ResetElectionTimer();
  }
  Send(from, VoteReply{request.call, hard_state_.term, granted, request.pre_vote, request.term, log_.last(),
                       shut_down});
}

void Core::Impl::Handle(const PeerId& from, VoteReply& reply) {
  if (!configuration().IsVoter(from)) return;
  if (reply.term > hard_state_.term) {
    BecomeFollower(reply.term, PeerId());
    return;
  }
  const bool of_this_round = role_ == Role::kCandidate && reply.pre_vote == pre_vote_ &&
                             reply.request_term == hard_state_.term && reply.call >= vote_call_;
  if (!of_this_round) return;
  const bool empty_log = !reply.last.index.valid();
  if (reply.granted && empty_log && commit_.valid() && !options_.trust_empty_voters) return;
  votes_.emplace(from, reply.granted);
  TallyVotes(/*at_timeout=*/false);
}

}  // namespace sluice::raft
