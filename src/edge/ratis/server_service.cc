#include "edge/ratis/server_service.h"

#include <utility>

#include "base/metrics.h"
#include "edge/bidi_call.h"

namespace sluice::edge::ratis {
namespace {

Counter& RefusedStreams() {
  static Counter& counter = NewCounter("sluice_append_streams_refused_total",
                                       "Append streams of leaders beyond the limit of this server");
  return counter;
}

template <typename Request, typename Reply>
grpc::ServerUnaryReactor* Serve(ServerHandlers& handlers, grpc::CallbackServerContext* context,
                                const Request* request, Reply* reply,
                                void (ServerHandlers::*handler)(const CallerSays&, const Request&, Reply*,
                                                                ServerHandlers::Finish)) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (handlers.*handler)(SaidIn(*context), *request, reply,
                      [context, reactor](const std::optional<CallFailure>& failure) {
                        reactor->Finish(failure ? EndCall(*context, *failure) : grpc::Status::OK);
                      });
  return reactor;
}

}  // namespace

// Carries an append stream to and from its AppendIntake.
class AppendCall final : public BidiCall<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto>,
                         public AppendIntake {
 public:
  AppendCall(grpc::CallbackServerContext* context, node::Host* host, ReplyTable* replies,
             std::shared_ptr<OpenCalls<AppendCall>> calls)
      : BidiCall(context, 4u << 20),
        AppendIntake(SaidIn(*context), host, replies),
        calls_(std::move(calls)) {}

  void Begin() { Read(); }
  void OnReadDone(bool ok) override { ok ? OnRequest(request_) : OnHalfClosed(); }
  void OnDone() override {
    OnGone();
    calls_->Remove(this);
  }
  void Stop() { EndWith(Stopping()); }

 private:
  void ReadNext() override { Read(); }
  void Reply(pb::AppendEntriesReplyProto reply) override { Write(std::move(reply)); }
  void EndWith(std::optional<CallFailure> failure) override {
    End([this, failure = std::move(failure)] {
      return failure ? EndCall(*context_, *failure) : grpc::Status::OK;
    });
  }

  const std::shared_ptr<OpenCalls<AppendCall>> calls_;
};

ServerService::ServerService(node::Host* host, ReplyTable* replies, env::Executor* disk, env::Files* files,
                             env::Duration snapshot_silence)
    : host_(host),
      replies_(replies),
      handlers_(host, replies),
      disk_(disk),
      files_(files),
      snapshot_silence_(snapshot_silence),
      appends_(std::make_shared<OpenCalls<AppendCall>>(kServerCallsMax)),
      snapshots_(std::make_shared<OpenCalls<SnapshotReceiver>>(kSnapshotsMax)) {}

ServerService::~ServerService() = default;

grpc::ServerUnaryReactor* ServerService::requestVote(grpc::CallbackServerContext* context,
                                                     const pb::RequestVoteRequestProto* request,
                                                     pb::RequestVoteReplyProto* reply) {
  return Serve(handlers_, context, request, reply, &ServerHandlers::RequestVote);
}

grpc::ServerUnaryReactor* ServerService::startLeaderElection(
    grpc::CallbackServerContext* context, const pb::StartLeaderElectionRequestProto* request,
    pb::StartLeaderElectionReplyProto* reply) {
  return Serve(handlers_, context, request, reply, &ServerHandlers::StartLeaderElection);
}

grpc::ServerUnaryReactor* ServerService::readIndex(grpc::CallbackServerContext* context,
                                                   const pb::ReadIndexRequestProto* request,
                                                   pb::ReadIndexReplyProto* reply) {
  return Serve(handlers_, context, request, reply, &ServerHandlers::ReadIndex);
}

ServerService::AppendReactor* ServerService::appendEntries(grpc::CallbackServerContext* context) {
  auto call = std::make_shared<AppendCall>(context, host_, replies_, appends_);
  if (!appends_->Add(call)) {
    RefusedStreams().Increment();
    return Refuse<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto>(
        {grpc::StatusCode::UNAVAILABLE, "the server is stopping or has too many calls"});
  }
  call->Begin();
  return call.get();
}

ServerService::SnapshotReactor* ServerService::installSnapshot(grpc::CallbackServerContext* context) {
  auto call =
      std::make_shared<SnapshotReceiver>(context, host_, disk_, files_, snapshot_silence_, snapshots_);
  if (!snapshots_->Add(call)) {
    return Refuse<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>(
        {grpc::StatusCode::UNAVAILABLE, "the server is stopping or receives too many snapshots"});
  }
  call->Begin();
  return call.get();
}

void ServerService::Stop() {
  appends_->Stop();
  snapshots_->Stop();
  appends_->ForEach([](AppendCall& call) { call.Stop(); });
  snapshots_->ForEach([](SnapshotReceiver& call) { call.Stop(); });
}

}  // namespace sluice::edge::ratis
