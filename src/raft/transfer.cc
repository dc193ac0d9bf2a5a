// Handing leadership to a chosen peer: bring it up to date, then let it campaign at once, without a pre-vote.
#include "raft/core_impl.h"

namespace sluice::raft {

absl::Status Core::Impl::TransferTo(const PeerId& peer) {
  RETURN_IF_ERROR(MayPropose());
  if (IsSelf(peer)) return absl::OkStatus();
  if (!configuration().IsVoter(peer)) {
    return absl::InvalidArgumentError(fmt::format("transfer: {} is not a voter", peer.value));
  }
  transferee_ = peer;
  transfer_asked_ = false;
  transfer_elapsed_ = 0;
  MaybeFinishTransfer();
  return absl::OkStatus();
}

void Core::Impl::MaybeFinishTransfer() {
  if (transferee_.empty() || transfer_asked_) return;
  auto it = progress_.find(transferee_);
  if (it == progress_.end()) {
    transferee_ = PeerId();
    return;
  }
  if (it->second.match() != log_.last().index) return;
  transfer_asked_ = true;
  Send(transferee_, TimeoutNow{NextCall(), log_.last()});
}

void Core::Impl::Handle(const PeerId& from, TimeoutNow& request) {
  const bool accepted = role_ == Role::kFollower && leader_ == from &&
                        request.leader_last.term == hard_state_.term && log_.last() >= request.leader_last &&
                        MayCampaign();
  Send(from, TimeoutNowReply{request.call, accepted});
  if (accepted) Campaign(/*pre_vote=*/false);
}

void Core::Impl::Handle(const PeerId& from, TimeoutNowReply& reply) {
  if (from == transferee_ && !reply.accepted) transferee_ = PeerId();
}

}  // namespace sluice::raft
