#include "edge/ratis/admin_service.h"

#include <algorithm>
#include <utility>

#include "edge/ratis/commit_board.h"

namespace sluice::edge::ratis {
namespace {

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, grpc::Status status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(std::move(status));
  return reactor;
}

grpc::ServerUnaryReactor* NotOffered(grpc::CallbackServerContext* context, std::string_view what) {
  return FinishNow(context,
                   EndCall(*context, Unsupported(fmt::format("{} is not supported by this server", what))));
}

uint64_t Elapsed(int64_t ms) { return static_cast<uint64_t>(std::max<int64_t>(ms, 0)); }

void FillRole(const node::GroupStatus& group, const raft::Peer& self, pb::RoleInfoProto* out) {
  const bool learner = group.role == raft::Role::kLearner;
  ToProto(self, learner, out->mutable_self());
  out->set_role_elapsed_time_ms(Elapsed(group.role_elapsed_ms));
  switch (group.role) {
    case raft::Role::kLeader: {
      out->set_role(pb::LEADER);
      pb::LeaderInfoProto* leader = out->mutable_leader_info();
      leader->set_term(group.term.value);
      for (const raft::Core::PeerProgress& progress : group.progress) {
        const raft::Peer* peer = group.configuration.Find(progress.id);
        if (peer == nullptr || peer->id == self.id) continue;
        pb::ServerRpcProto* follower = leader->add_follower_info();
        ToProto(*peer, progress.learner, follower->mutable_id());
        follower->set_last_rpc_elapsed_time_ms(progress.active ? 0 : Elapsed(group.leader_elapsed_ms));
      }
      return;
    }
    case raft::Role::kCandidate:
      out->set_role(pb::CANDIDATE);
      out->mutable_candidate_info()->set_last_leader_elapsed_time_ms(Elapsed(group.leader_elapsed_ms));
      return;
    case raft::Role::kFollower:
    case raft::Role::kLearner: {
      out->set_role(learner ? pb::LISTENER : pb::FOLLOWER);
      pb::ServerRpcProto* leader = out->mutable_follower_info()->mutable_leader_info();
      leader->mutable_id();  // the default peer while the leader is unknown
      const raft::Peer* peer = group.configuration.Find(group.leader);
      if (peer != nullptr) ToProto(*peer, false, leader->mutable_id());
      leader->set_last_rpc_elapsed_time_ms(Elapsed(group.leader_elapsed_ms));
      return;
    }
  }
}

// The status knows terms only of the last entry and the snapshot; the shell prints the indexes.
void FillLogInfo(const node::GroupStatus& group, pb::LogInfoProto* out) {
  auto fill = [&group](Index index, pb::TermIndexProto* at) {
    at->set_index(ToWire(index));
    at->set_term(index == group.snapshot.index ? group.snapshot.term.value : group.last.term.value);
  };
  if (group.snapshot.index.valid()) fill(group.snapshot.index, out->mutable_last_snapshot());
  if (group.applied.valid()) fill(group.applied, out->mutable_applied());
  if (group.commit.valid()) fill(group.commit, out->mutable_committed());
  if (group.last.index.valid()) fill(group.last.index, out->mutable_last_entry());
}

}  // namespace

void FillGroupInfo(const node::GroupStatus& group, const raft::Peer& self, pb::GroupInfoReplyProto* out) {
  const std::string_view id = group.id.AsBytes();
  out->mutable_group()->mutable_group_id()->set_id(id.data(), id.size());
  auto is_learner = [&group](const raft::Peer& peer) {
    return std::any_of(group.configuration.learners.begin(), group.configuration.learners.end(),
                       [&peer](const raft::Peer& one) { return one.id == peer.id; });
  };
  for (const raft::Peer& peer : group.configuration.AllPeers()) {
    ToProto(peer, is_learner(peer), out->mutable_group()->add_peers());
  }
  FillRole(group, self, out->mutable_role());
  out->set_is_raft_storage_healthy(group.storage.ok());
  for (pb::CommitInfoProto& info : CommitInfos(self.id, group.commits))
    *out->add_commit_infos() = std::move(info);
  ToProto(group.configuration, out->mutable_conf());
  FillLogInfo(group, out->mutable_log_info());
}

std::optional<CallFailure> AdminService::Check(const pb::RaftRpcRequestProto& header,
                                               ReplyContext* out) const {
  const auto client = ClientId::FromBytes(header.requestor_id());
  if (!client)
    return IllegalState(fmt::format("client id of {} bytes: 16 expected", header.requestor_id().size()));
  const auto group = GroupId::FromBytes(header.raft_group_id().id());
  if (!group)
    return IllegalState(fmt::format("group id of {} bytes: 16 expected", header.raft_group_id().id().size()));
  out->self = host_->options().self.id;
  out->client = *client;
  out->group = *group;
  out->call = header.call_id();
  return std::nullopt;
}

// The group in the header may be anything: the shell invents one.
grpc::ServerUnaryReactor* AdminService::groupList(grpc::CallbackServerContext* context,
                                                  const pb::GroupListRequestProto* request,
                                                  pb::GroupListReplyProto* reply) {
  ReplyContext header;
  if (auto failure = Check(request->rpc_request(), &header))
    return FinishNow(context, EndCall(*context, *failure));
  FillHeader(header, true, reply->mutable_rpc_reply());
  for (const GroupId& group : host_->Groups()) {
    reply->add_group_id()->set_id(group.AsBytes().data(), group.AsBytes().size());
  }
  return FinishNow(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::groupInfo(grpc::CallbackServerContext* context,
                                                  const pb::GroupInfoRequestProto* request,
                                                  pb::GroupInfoReplyProto* reply) {
  ReplyContext header;
  auto failure = Check(request->rpc_request(), &header);
  if (!failure && !host_->HasGroup(header.group)) failure = GroupMismatch(header.self, header.group);
  if (failure) return FinishNow(context, EndCall(*context, *failure));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Status(executor_, [context, reactor, reply, header](node::HostStatus status) {
    const auto group =
        std::find_if(status.groups.begin(), status.groups.end(),
                     [&header](const node::GroupStatus& one) { return one.id == header.group; });
    if (group == status.groups.end()) {
      return reactor->Finish(EndCall(*context, GroupMismatch(header.self, header.group)));
    }
    FillHeader(header, true, reply->mutable_rpc_reply());
    FillGroupInfo(*group, status.self, reply);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::setConfiguration(grpc::CallbackServerContext* context,
                                                         const pb::SetConfigurationRequestProto*,
                                                         pb::RaftClientReplyProto*) {
  return NotOffered(context, "setConfiguration");
}
grpc::ServerUnaryReactor* AdminService::transferLeadership(grpc::CallbackServerContext* context,
                                                           const pb::TransferLeadershipRequestProto*,
                                                           pb::RaftClientReplyProto*) {
  return NotOffered(context, "transferLeadership");
}
grpc::ServerUnaryReactor* AdminService::groupManagement(grpc::CallbackServerContext* context,
                                                        const pb::GroupManagementRequestProto*,
                                                        pb::RaftClientReplyProto*) {
  return NotOffered(context, "groupManagement");
}
grpc::ServerUnaryReactor* AdminService::snapshotManagement(grpc::CallbackServerContext* context,
                                                           const pb::SnapshotManagementRequestProto*,
                                                           pb::RaftClientReplyProto*) {
  return NotOffered(context, "snapshotManagement");
}
grpc::ServerUnaryReactor* AdminService::leaderElectionManagement(
    grpc::CallbackServerContext* context, const pb::LeaderElectionManagementRequestProto*,
    pb::RaftClientReplyProto*) {
  return NotOffered(context, "leaderElectionManagement");
}

}  // namespace sluice::edge::ratis
