#include "edge/ratis/server_service.h"

#include <mutex>
#include <utility>

#include "base/metrics.h"
#include "edge/bidi_call.h"
#include "edge/handshake.h"
#include "edge/status.h"

namespace sluice::edge::ratis {
namespace {

grpc::Status Wrong(grpc::CallbackServerContext& context, const absl::Status& status) {
  std::string text(Message(status));
  if (absl::IsUnimplemented(status)) return EndCall(context, Unsupported(std::move(text)));
  return EndCall(context, IllegalArgument(std::move(text)));
}

// Header and group of a request; or how the call ends.
absl::StatusOr<ServerHeader> Addressed(grpc::CallbackServerContext& context, const node::Host& host,
                                       const pb::RaftRpcRequestProto& proto, grpc::Status* failure) {
  auto header = FromProto(proto);
  if (!header.ok()) {
    *failure = Wrong(context, header.status());
    return header;
  }
  const absl::Status same = CheckServer(
      context, host, {.group = header->group, .from = header->from, .target = {proto.reply_id()}});
  if (!same.ok()) {
    *failure = ToGrpc(same);
    return same;
  }
  if (!host.HasGroup(header->group)) {
    *failure = EndCall(context, GroupMismatch(host.options().self.id, header->group));
    return absl::NotFoundError("no such group");
  }
  return header;
}

Counter& RefusedStreams() {
  static Counter& counter = NewCounter("sluice_append_streams_refused_total",
                                       "Append streams of leaders beyond the limit of this server");
  return counter;
}

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, grpc::Status status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(std::move(status));
  return reactor;
}

}  // namespace

// The append stream of one leader to one group, or of its heartbeats.
class AppendCall final : public BidiCall<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto>,
                         public std::enable_shared_from_this<AppendCall> {
 public:
  AppendCall(grpc::CallbackServerContext* context, node::Host* host, ReplyTable* replies,
             std::shared_ptr<OpenCalls<AppendCall>> calls)
      : BidiCall(context, 4u << 20), host_(host), replies_(replies), calls_(std::move(calls)) {}

  void Begin() { Read(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      std::lock_guard lock(mutex_);
      half_closed_ = true;
      return EndIfDone();
    }
    grpc::Status failure;
    auto header = Addressed(*context_, *host_, request_.server_request(), &failure);
    if (!header.ok()) return Fail(std::move(failure));
    if (failure = Step(*header); !failure.ok()) {
      if (header->call > 0) context_->AddTrailingMetadata("call-id", fmt::format("{}", header->call));
      context_->AddTrailingMetadata("heartbeat", request_.entries().empty() ? "true" : "false");
      return Fail(std::move(failure));
    }
    ReadOn(/*only_if_paused=*/false);
  }

  void OnDone() override {
    replies_->Forget(this);
    calls_->Remove(this);
  }
  void Stop() {
    End([this] { return EndCall(*context_, Stopping()); });
  }

 private:
  grpc::Status Step(const ServerHeader& header) {
    const bool heartbeat = request_.entries().empty();
    auto append = TakeAppend(request_, 0);
    if (!append.ok()) return Wrong(*context_, append.status());
    {
      std::lock_guard lock(mutex_);
      ++waiting_;
    }
    append->call = replies_->Add(this, [self = shared_from_this(), header, heartbeat](auto reply) {
      self->OnReply(header, heartbeat, std::move(reply));
    });
    if (append->call == 0) {
      OnReply(header, heartbeat, std::nullopt);
      return EndCall(*context_, ResourceUnavailable("too many requests of servers wait for an answer"));
    }
    const uint64_t token = append->call;
    if (const absl::Status stepped = host_->Step(header.group, header.from, *std::move(append));
        !stepped.ok()) {
      replies_->Answer(token, raft::TimeoutNowReply{});  // nobody else will
      return EndCall(*context_, GroupMismatch(host_->options().self.id, header.group));
    }
    return grpc::Status::OK;
  }

  void OnReply(const ServerHeader& header, bool heartbeat, std::optional<raft::Message> reply) {
    auto* append = reply ? std::get_if<raft::AppendReply>(&*reply) : nullptr;
    if (append != nullptr) {
      append->heartbeat = heartbeat;
      pb::AppendEntriesReplyProto proto;
      ToProto(*append, &proto);
      ReplyHeader(header, host_->options().self.id, append->result == raft::AppendResult::kSuccess,
                  proto.mutable_server_reply());
      Write(std::move(proto));  // a leader that does not read its replies loses them, and times out
    }
    {
      std::lock_guard lock(mutex_);
      --waiting_;
      EndIfDone();
    }
    ReadOn(/*only_if_paused=*/true);
  }

  void ReadOn(bool only_if_paused) {
    {
      std::lock_guard lock(mutex_);
      if (only_if_paused && !paused_) return;
      paused_ = waiting_ >= kAppendsMax;
      if (paused_ || ended_) return;
    }
    Read();
  }

  // With the lock held.
  void EndIfDone() {
    if (!half_closed_ || waiting_ > 0) return;
    ended_ = true;
    End([] { return grpc::Status::OK; });
  }

  void Fail(grpc::Status status) {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    End([status = std::move(status)] { return status; });
  }

  node::Host* const host_;
  ReplyTable* const replies_;
  const std::shared_ptr<OpenCalls<AppendCall>> calls_;

  std::mutex mutex_;  // guards all below
  size_t waiting_ = 0;
  bool paused_ = false;
  bool half_closed_ = false;
  bool ended_ = false;
};

ServerService::ServerService(node::Host* host, ReplyTable* replies, env::Executor* disk, env::Files* files)
    : host_(host),
      replies_(replies),
      disk_(disk),
      files_(files),
      appends_(std::make_shared<OpenCalls<AppendCall>>(kServerCallsMax)),
      snapshots_(std::make_shared<OpenCalls<SnapshotReceiver>>(kSnapshotsMax)) {}

ServerService::~ServerService() = default;

// A unary request: step `message`, and finish when `fill(reply)` has written the answer. `fill` gives false
// for an answer of another kind.
template <typename Request, typename Fill>
grpc::ServerUnaryReactor* StepUnary(grpc::CallbackServerContext* context, node::Host* host,
                                    ReplyTable* replies, const ServerHeader& header, Request message,
                                    Fill fill) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  message.call = replies->Add(reactor, [reactor,
                                        fill = std::move(fill)](std::optional<raft::Message> reply) mutable {
    const bool filled = reply && fill(*reply);
    reactor->Finish(filled ? grpc::Status::OK
                           : grpc::Status(grpc::StatusCode::UNAVAILABLE, "the group gave no answer in time"));
  });
  if (message.call == 0) {
    reactor->Finish(
        EndCall(*context, ResourceUnavailable("too many requests of servers wait for an answer")));
    return reactor;
  }
  const uint64_t token = message.call;
  if (!host->Step(header.group, header.from, std::move(message)).ok())
    replies->Answer(token, raft::AppendReply{});
  return reactor;
}

grpc::ServerUnaryReactor* ServerService::requestVote(grpc::CallbackServerContext* context,
                                                     const pb::RequestVoteRequestProto* request,
                                                     pb::RequestVoteReplyProto* reply) {
  grpc::Status failure;
  auto header = Addressed(*context, *host_, request->server_request(), &failure);
  if (!header.ok()) return FinishNow(context, std::move(failure));
  auto vote = FromProto(*request, 0);
  if (!vote.ok()) return FinishNow(context, Wrong(*context, vote.status()));
  return StepUnary(
      context, host_, replies_, *header, *vote, [this, reply, header = *header](raft::Message& message) {
        auto* voted = std::get_if<raft::VoteReply>(&message);
        if (voted == nullptr) return false;
        ToProto(*voted, reply);
        ReplyHeader(header, host_->options().self.id, voted->granted, reply->mutable_server_reply());
        return true;
      });
}

grpc::ServerUnaryReactor* ServerService::startLeaderElection(
    grpc::CallbackServerContext* context, const pb::StartLeaderElectionRequestProto* request,
    pb::StartLeaderElectionReplyProto* reply) {
  grpc::Status failure;
  auto header = Addressed(*context, *host_, request->server_request(), &failure);
  if (!header.ok()) return FinishNow(context, std::move(failure));
  auto timeout_now = FromProto(*request, 0);
  if (!timeout_now.ok()) return FinishNow(context, Wrong(*context, timeout_now.status()));
  if (!timeout_now->has_value()) {
    ReplyHeader(*header, host_->options().self.id, false, reply->mutable_server_reply());
    return FinishNow(context, grpc::Status::OK);
  }
  return StepUnary(context, host_, replies_, *header, **timeout_now,
                   [this, reply, header = *header](raft::Message& message) {
                     auto* answered = std::get_if<raft::TimeoutNowReply>(&message);
                     if (answered == nullptr) return false;
                     ReplyHeader(header, host_->options().self.id, answered->accepted,
                                 reply->mutable_server_reply());
                     return true;
                   });
}

grpc::ServerUnaryReactor* ServerService::readIndex(grpc::CallbackServerContext* context,
                                                   const pb::ReadIndexRequestProto* request,
                                                   pb::ReadIndexReplyProto* reply) {
  grpc::Status failure;
  auto header = Addressed(*context, *host_, request->server_request(), &failure);
  if (!header.ok()) return FinishNow(context, std::move(failure));
  return StepUnary(context, host_, replies_, *header, raft::ReadIndexRequest{},
                   [this, reply, header = *header](raft::Message& message) {
                     auto* answered = std::get_if<raft::ReadIndexReply>(&message);
                     if (answered == nullptr) return false;
                     ToProto(*answered, reply);
                     ReplyHeader(header, host_->options().self.id, answered->ok,
                                 reply->mutable_server_reply());
                     return true;
                   });
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
  auto call = std::make_shared<SnapshotReceiver>(context, host_, disk_, files_, snapshots_);
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
