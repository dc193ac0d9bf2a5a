#include "edge/ratis/client_service.h"

#include <mutex>
#include <utility>

#include "edge/bidi_call.h"
#include "edge/handshake.h"
#include "edge/ratis/ordered_window.h"
#include "edge/status.h"
#include "env/clock.h"
#include "wire/handshake.h"

namespace sluice::edge::ratis {

// One `ordered` or `unordered` call.
class ClientCall final : public BidiCall<pb::RaftClientRequestProto, pb::RaftClientReplyProto>,
                         public std::enable_shared_from_this<ClientCall> {
 public:
  ClientCall(grpc::CallbackServerContext* context, bool ordered, node::Host* host,
             std::shared_ptr<CommitBoard> board, std::shared_ptr<MessageStreams> messages,
             std::shared_ptr<OpenCalls<ClientCall>> calls)
      : BidiCall(context, kRequestBytesMax),
        ordered_(ordered),
        host_(host),
        board_(std::move(board)),
        messages_(std::move(messages)),
        calls_(std::move(calls)) {}

  void Begin() { Read(); }

  void OnReadDone(bool ok) override {
    if (!ok) return OnHalfClose();
    {
      std::lock_guard lock(mutex_);
      if (leaving_) return;
    }
    ParsedRequest parsed;
    if (auto failure = TakeClientRequest(*host_, request_, &parsed)) return Fail(std::move(*failure));
    auto ready = Admit(std::move(parsed));
    if (!ready.ok()) return;
    for (Numbered& one : *ready) Submit(std::move(one));
    ReadOn();
  }

  void OnWriteDone(bool ok) override {
    BidiCall::OnWriteDone(ok);
    ReadOn(/*only_if_paused=*/true);
  }

  void OnDone() override { calls_->Remove(this); }

  // Rule 8: an ordered call does not survive the leader that it was made to.
  void LeadershipLost(const GroupId& group) {
    if (!ordered_) return;
    std::lock_guard lock(mutex_);
    if (group_ && *group_ != group) return;
    leaving_ = true;
    EndIfDone();
  }

  void Stop() {
    std::lock_guard lock(mutex_);
    leaving_ = stopping_ = true;
    EndIfDone();
  }

 private:
  using Window = OrderedWindow<ParsedRequest, pb::RaftClientReplyProto>;
  using Numbered = Window::Numbered;

  // What may be submitted now; or an error after the call was ended.
  absl::StatusOr<std::vector<Numbered>> Admit(ParsedRequest parsed) {
    if (!ordered_) {
      std::vector<Numbered> one;
      one.push_back({0, std::move(parsed)});
      return one;
    }
    auto refuse = [this](CallFailure failure) {
      absl::Status status = absl::InvalidArgumentError(failure.description);
      Fail(std::move(failure));
      return status;
    };
    if (!parsed.in_window) return refuse(IllegalArgument("ordered request without a sliding window entry"));
    std::unique_lock lock(mutex_);
    if (!group_) group_ = parsed.request.group;
    if (*group_ != parsed.request.group) {
      lock.unlock();
      return refuse(GroupMismatch(parsed.context.self, parsed.request.group));
    }
    const uint64_t seq = parsed.seq, bytes = parsed.bytes;
    const bool is_first = parsed.is_first;
    auto ready = window_.Receive(seq, is_first, std::move(parsed), bytes);
    lock.unlock();
    if (!ready.ok()) return refuse(ResourceUnavailable(std::string(Message(ready.status()))));
    return ready;
  }

  void Submit(Numbered one) {
    const uint64_t bytes = one.request.bytes;
    {
      std::lock_guard lock(mutex_);
      ++running_;
      running_bytes_ += bytes;
    }
    if (absl::Status held = Assemble(&one.request); !held.ok()) {
      node::ClientReply refusal;
      refusal.code = node::ReplyCode::kStateMachine;
      refusal.error = std::move(held);
      return OnReply(one.request.context, one.seq, bytes, std::move(refusal));
    }
    host_->Submit(std::move(one.request.request),
                  [self = shared_from_this(), context = std::move(one.request.context), seq = one.seq,
                   bytes](node::ClientReply reply) { self->OnReply(context, seq, bytes, std::move(reply)); });
  }

  // A part of a message is kept, and asks only whether this server leads; the last part is the write.
  absl::Status Assemble(ParsedRequest* parsed) {
    if (!parsed->part) return absl::OkStatus();
    node::ClientRequest& request = parsed->request;
    ASSIGN_OR_RETURN(std::optional<Bytes> whole,
                     messages_->Add(request.group, request.client, *parsed->part, std::move(request.message),
                                    env::RealClock().MonotonicNow()));
    request.message = Bytes();
    if (!whole) return absl::OkStatus();
    request.message = *std::move(whole);
    request.kind = parsed->context.kind = node::RequestKind::kWrite;
    return absl::OkStatus();
  }

  void OnReply(const ReplyContext& context, uint64_t seq, uint64_t bytes, node::ClientReply reply) {
    pb::RaftClientReplyProto proto;
    const Index index = reply.log_index;
    auto failure = FillReply(context, std::move(reply), &proto);
    if (!failure)
      board_->Fill(context.group, context.kind == node::RequestKind::kWrite ? index : kNoIndex, &proto);
    {
      std::lock_guard lock(mutex_);
      --running_;
      running_bytes_ -= bytes;
      if (!failure) failure = Emit(seq, std::move(proto));
      if (!failure) EndIfDone();
    }
    if (failure) return Fail(std::move(*failure));
    ReadOn(/*only_if_paused=*/true);
  }

  // Writes what may leave. With the lock held: the order of replies is the order of pushes.
  std::optional<CallFailure> Emit(uint64_t seq, pb::RaftClientReplyProto proto) {
    bool room = true;
    if (ordered_) {
      for (pb::RaftClientReplyProto& one : window_.Replied(seq, std::move(proto))) {
        room = Write(std::move(one)) && room;
      }
    } else {
      room = Write(std::move(proto));
    }
    if (room || ending()) return std::nullopt;
    return ResourceUnavailable("too many replies wait to be read by the client");
  }

  void OnHalfClose() {
    std::lock_guard lock(mutex_);
    half_closed_ = true;
    for (ParsedRequest& never : window_.HalfClose()) {
      pb::RaftClientReplyProto reply;
      FillAlreadyClosed(never.context, &reply);
      board_->Fill(never.context.group, kNoIndex, &reply);
      Write(std::move(reply));
    }
    EndIfDone();
  }

  // With the lock held.
  void EndIfDone() {
    if (running_ > 0 || !(half_closed_ || leaving_)) return;
    const bool cut_short = stopping_ && !half_closed_;
    End([this, cut_short] { return cut_short ? EndCall(*context_, Stopping()) : grpc::Status::OK; });
  }

  void Fail(CallFailure failure) {
    {
      std::lock_guard lock(mutex_);
      leaving_ = true;
    }
    End([this, failure = std::move(failure)] { return EndCall(*context_, failure); });
  }

  // Reads the next request, or pauses while too much is in work.
  void ReadOn(bool only_if_paused = false) {
    {
      std::lock_guard lock(mutex_);
      if (only_if_paused && !paused_) return;
      paused_ =
          running_ + queue().size() >= kRequestsMax || running_bytes_ + queue().bytes() >= kRequestBytesMax;
      if (paused_ || leaving_) return;
    }
    Read();
  }

  const bool ordered_;
  node::Host* const host_;
  const std::shared_ptr<CommitBoard> board_;
  const std::shared_ptr<MessageStreams> messages_;
  const std::shared_ptr<OpenCalls<ClientCall>> calls_;

  std::mutex mutex_;  // guards all below
  Window window_{kRequestsMax, kRequestBytesMax};
  std::optional<GroupId> group_;  // bound by the first ordered request
  size_t running_ = 0;            // submitted, not answered
  uint64_t running_bytes_ = 0;
  bool paused_ = false;
  bool half_closed_ = false;
  bool leaving_ = false;  // nothing more is read
  bool stopping_ = false;
};

ClientService::ClientService(node::Host* host, env::Executor* executor)
    : host_(host),
      board_(std::make_shared<CommitBoard>(host, executor)),
      messages_(std::make_shared<MessageStreams>()),
      calls_(std::make_shared<OpenCalls<ClientCall>>(kClientCallsMax)) {
  host_->OnLeadershipLost([calls = calls_, messages = messages_](const GroupId& group) {
    messages->Drop(group);
    calls->ForEach([&group](ClientCall& call) { call.LeadershipLost(group); });
  });
}

ClientService::~ClientService() = default;

ClientService::Reactor* ClientService::ordered(grpc::CallbackServerContext* context) {
  return Open(context, true);
}
ClientService::Reactor* ClientService::unordered(grpc::CallbackServerContext* context) {
  return Open(context, false);
}

ClientService::Reactor* ClientService::Open(grpc::CallbackServerContext* context, bool ordered) {
  if (const absl::Status same = CheckClient(*context, *host_); !same.ok()) {
    return Refuse<pb::RaftClientRequestProto, pb::RaftClientReplyProto>(ToGrpc(same));
  }
  const ClusterId cluster = host_->cluster().id();
  if (!cluster.IsZero()) context->AddInitialMetadata(wire::kClusterKey, std::string(cluster.AsBytes()));
  auto call = std::make_shared<ClientCall>(context, ordered, host_, board_, messages_, calls_);
  if (!calls_->Add(call)) {
    return Refuse<pb::RaftClientRequestProto, pb::RaftClientReplyProto>(
        {grpc::StatusCode::UNAVAILABLE, "the server is stopping or has too many calls"});
  }
  call->Begin();
  return call.get();
}

void ClientService::Stop() {
  calls_->Stop();
  calls_->ForEach([](ClientCall& call) { call.Stop(); });
}

}  // namespace sluice::edge::ratis
