// AdminProtocolService: the questions of `ratis sh`.
//
//   AdminService service(host, &loop);  builder.RegisterService(&service);
//
// groupList and groupInfo are answered in full. What would change a group (configuration, leadership, groups,
// snapshots, elections) ends with UnsupportedOperationException: the host offers no such operation.
// Threading: gRPC's threads; answers come over `executor`.
#pragma once

#include "edge/ratis/errors.h"
#include "env/executor.h"
#include "node/host.h"
#include "sluice/ratis/grpc.grpc.pb.h"

namespace sluice::edge::ratis {

// The answer to groupInfo but for its header.
void FillGroupInfo(const node::GroupStatus& group, const raft::Peer& self, pb::GroupInfoReplyProto* out);

class AdminService final : public ::sluice::ratis::grpc::AdminProtocolService::CallbackService {
 public:
  AdminService(node::Host* host, env::Executor* executor) : host_(host), executor_(executor) {}

  grpc::ServerUnaryReactor* groupList(grpc::CallbackServerContext* context,
                                      const pb::GroupListRequestProto* request,
                                      pb::GroupListReplyProto* reply) override;
  grpc::ServerUnaryReactor* groupInfo(grpc::CallbackServerContext* context,
                                      const pb::GroupInfoRequestProto* request,
                                      pb::GroupInfoReplyProto* reply) override;
  grpc::ServerUnaryReactor* setConfiguration(grpc::CallbackServerContext* context,
                                             const pb::SetConfigurationRequestProto* request,
                                             pb::RaftClientReplyProto* reply) override;
  grpc::ServerUnaryReactor* transferLeadership(grpc::CallbackServerContext* context,
                                               const pb::TransferLeadershipRequestProto* request,
                                               pb::RaftClientReplyProto* reply) override;
  grpc::ServerUnaryReactor* groupManagement(grpc::CallbackServerContext* context,
                                            const pb::GroupManagementRequestProto* request,
                                            pb::RaftClientReplyProto* reply) override;
  grpc::ServerUnaryReactor* snapshotManagement(grpc::CallbackServerContext* context,
                                               const pb::SnapshotManagementRequestProto* request,
                                               pb::RaftClientReplyProto* reply) override;
  grpc::ServerUnaryReactor* leaderElectionManagement(grpc::CallbackServerContext* context,
                                                     const pb::LeaderElectionManagementRequestProto* request,
                                                     pb::RaftClientReplyProto* reply) override;

 private:
  // Client and group ids of 16 bytes, or the reason why the call ends.
  std::optional<CallFailure> Check(const pb::RaftRpcRequestProto& header, ReplyContext* out) const;

  node::Host* const host_;
  env::Executor* const executor_;
};

}  // namespace sluice::edge::ratis
