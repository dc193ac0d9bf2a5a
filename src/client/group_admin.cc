#include "client/group_admin.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "client/ratis_reply.h"
#include "sluice/ratis/grpc.grpc.pb.h"
#include "wire/ratis.h"

namespace sluice::client {
namespace {

namespace pb = ::sluice::ratis::common;
using Stub = ::sluice::ratis::grpc::AdminProtocolService::Stub;

// Admin calls need no unique call id: they are questions.
void FillHeader(const ClientId& client, const GroupId& group, pb::RaftRpcRequestProto* header) {
  header->set_requestor_id(std::string(client.AsBytes()));
  header->set_reply_id("server");  // ignored, but it must not be empty
  header->mutable_raft_group_id()->set_id(std::string(group.AsBytes()));
}

// Asks `server`, or any; the errors of a Ratis call are in its trailers.
absl::Status Ask(Connection& connection, const std::string& server,
                 absl::FunctionRef<grpc::Status(Stub&, grpc::ClientContext*)> call) {
  const auto attempt = [&](const std::string& address, Duration timeout) {
    const auto stub = ::sluice::ratis::grpc::AdminProtocolService::NewStub(connection.Channel(address));
    grpc::ClientContext context;
    connection.Prepare(address, &context, std::min(timeout, kCallTimeout));
    const grpc::Status status = call(*stub, &context);
    return StatusOfCall(status, context);
  };
  return server.empty() ? connection.AtAny(attempt) : attempt(server, kCallTimeout);
}

RaftGroupMember MemberOf(const pb::RaftPeerProto& peer) {
  return {.id = {peer.id()},
          .address = peer.client_address().empty() ? peer.address() : peer.client_address(),
          .data_stream_address = peer.data_stream_address(),
          .listener = peer.startup_role() == pb::LISTENER};
}

RaftGroupInfo::Role RoleOf(pb::RaftPeerRole role) {
  switch (role) {
    case pb::LEADER:
      return RaftGroupInfo::Role::kLeader;
    case pb::CANDIDATE:
      return RaftGroupInfo::Role::kCandidate;
    case pb::LISTENER:
      return RaftGroupInfo::Role::kListener;
    default:
      return RaftGroupInfo::Role::kFollower;
  }
}

}  // namespace

absl::StatusOr<RaftGroupInfo> FromWire(const pb::GroupInfoReplyProto& reply) {
  RaftGroupInfo info;
  ASSIGN_OR_RETURN(info.id, wire::ParseGroupId(reply.group().group_id().id()));
  for (const auto& peer : reply.group().peers()) info.members.push_back(MemberOf(peer));
  info.server = {reply.role().self().id()};
  info.role = RoleOf(reply.role().role());
  info.leader = info.role == RaftGroupInfo::Role::kLeader
                    ? info.server
                    : PeerId{reply.role().follower_info().leader_info().id().id()};
  if (reply.log_info().has_applied()) info.applied = wire::IndexFromWire(reply.log_info().applied().index());
  if (reply.log_info().has_committed()) {
    info.committed = wire::IndexFromWire(reply.log_info().committed().index());
  }
  info.storage_healthy = reply.is_raft_storage_healthy();
  return info;
}

absl::StatusOr<std::vector<GroupId>> GroupAdmin::GroupList(const std::string& server) {
  pb::GroupListRequestProto request;
  FillHeader(client_, kDefaultGroup, request.mutable_rpc_request());
  pb::GroupListReplyProto reply;
  RETURN_IF_ERROR(Ask(*connection_, server, [&](Stub& stub, grpc::ClientContext* context) {
    return stub.groupList(context, request, &reply);
  }));
  std::vector<GroupId> groups;
  for (const auto& one : reply.group_id()) {
    ASSIGN_OR_RETURN(const GroupId group, wire::ParseGroupId(one.id()));
    groups.push_back(group);
  }
  return groups;
}

absl::StatusOr<RaftGroupInfo> GroupAdmin::GroupInfo(const GroupId& group, const std::string& server) {
  pb::GroupInfoRequestProto request;
  FillHeader(client_, group, request.mutable_rpc_request());
  pb::GroupInfoReplyProto reply;
  RETURN_IF_ERROR(Ask(*connection_, server, [&](Stub& stub, grpc::ClientContext* context) {
    return stub.groupInfo(context, request, &reply);
  }));
  return FromWire(reply);
}

}  // namespace sluice::client
