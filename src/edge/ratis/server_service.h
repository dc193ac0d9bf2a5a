// RaftServerProtocolService over gRPC: carries what ServerHandlers, AppendIntake and SnapshotSink say.
//
//   ServerService service(host, &replies, &disk, files);  builder.RegisterService(&service);
//   replies.Answer(token, message);   // the core's answers, which come through PeerTransport::Send
//
// Threading: gRPC's threads parse and step; answers are written from the group's shard. Ownership: calls own
// themselves through OpenCalls; the service must live until the grpc::Server is shut down.
#pragma once

#include <memory>

#include "edge/open_calls.h"
#include "edge/ratis/errors.h"
#include "edge/ratis/reply_table.h"
#include "edge/ratis/server_handlers.h"
#include "edge/ratis/snapshot_receiver.h"
#include "env/executor.h"
#include "env/files.h"
#include "node/host.h"
#include "sluice/ratis/grpc.grpc.pb.h"

namespace sluice::edge::ratis {

inline constexpr size_t kServerCallsMax = 16'384;  // append streams: two of each group that follows

class AppendCall;

class ServerService final : public ::sluice::ratis::grpc::RaftServerProtocolService::CallbackService {
 public:
  using AppendReactor = grpc::ServerBidiReactor<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto>;
  using SnapshotReactor =
      grpc::ServerBidiReactor<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>;

  // `disk` may block: snapshots are written there. One whose sender says nothing for `snapshot_silence` ends.
  ServerService(node::Host* host, ReplyTable* replies, env::Executor* disk, env::Files* files,
                env::Duration snapshot_silence = kSnapshotSilence);
  ~ServerService() override;

  grpc::ServerUnaryReactor* requestVote(grpc::CallbackServerContext* context,
                                        const pb::RequestVoteRequestProto* request,
                                        pb::RequestVoteReplyProto* reply) override;
  grpc::ServerUnaryReactor* startLeaderElection(grpc::CallbackServerContext* context,
                                                const pb::StartLeaderElectionRequestProto* request,
                                                pb::StartLeaderElectionReplyProto* reply) override;
  grpc::ServerUnaryReactor* readIndex(grpc::CallbackServerContext* context,
                                      const pb::ReadIndexRequestProto* request,
                                      pb::ReadIndexReplyProto* reply) override;
  AppendReactor* appendEntries(grpc::CallbackServerContext* context) override;
  SnapshotReactor* installSnapshot(grpc::CallbackServerContext* context) override;
  void Stop();

 private:
  node::Host* const host_;
  ReplyTable* const replies_;
  ServerHandlers handlers_;
  env::Executor* const disk_;
  env::Files* const files_;
  const env::Duration snapshot_silence_;
  const std::shared_ptr<OpenCalls<AppendCall>> appends_;          // shared with the calls
  const std::shared_ptr<OpenCalls<SnapshotReceiver>> snapshots_;  // shared with the calls
};

}  // namespace sluice::edge::ratis
