#include "edge/ratis/append_sender.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "edge/status.h"
#include "edge/write_queue.h"

namespace sluice::edge::ratis {
namespace {

using std::chrono::milliseconds;
constexpr env::Duration kPauseMin = milliseconds(20);
constexpr env::Duration kPauseMax = milliseconds(1000);
constexpr env::Duration kSilenceMax = milliseconds(3000);  // Ratis' request timeout

env::Instant Now() { return env::RealClock().MonotonicNow(); }

}  // namespace

// Lives from OpenCall to OnDone, held by itself.
class AppendSender::Call final
    : public grpc::ClientBidiReactor<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto> {
 public:
  Call(std::shared_ptr<AppendSender> sender, std::shared_ptr<grpc::ClientContext> context)
      : sender_(std::move(sender)),
        context_(std::move(context)),
        queue_(kAppendQueueBytesMax, [this](const pb::AppendEntriesRequestProto* request,
                                            grpc::WriteOptions options) { StartWrite(request, options); }) {}

  void Begin(std::shared_ptr<Call> self) {
    self_ = std::move(self);
    sender_->stub_->async()->appendEntries(context_.get(), this);
    AddHold();  // writes come from outside gRPC's callbacks; released when the queue has ended
    StartRead(&reply_);
    StartCall();
  }
  bool Push(pb::AppendEntriesRequestProto request) { return queue_.Push(std::move(request)); }
  void Cancel() { context_->TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return queue_.Cut([this] { RemoveHold(); });
    sender_->OnReply(reply_);
    StartRead(&reply_);
  }
  void OnWriteDone(bool ok) override { queue_.OnWriteDone(ok); }
  void OnDone(const grpc::Status& status) override {
    sender_->OnCallEnded(this, status);
    sender_->in_flight_->End(context_.get());
    const std::shared_ptr<Call> last = std::move(self_);  // destroyed here
  }

 private:
  const std::shared_ptr<AppendSender> sender_;
  const std::shared_ptr<grpc::ClientContext> context_;
  WriteQueue<pb::AppendEntriesRequestProto> queue_;
  pb::AppendEntriesReplyProto reply_;
  std::shared_ptr<Call> self_;
};

AppendSender::AppendSender(node::Host* host, GroupId group, PeerId peer, std::shared_ptr<Stub> stub,
                           InFlight* in_flight)
    : host_(host), group_(group), peer_(std::move(peer)), stub_(std::move(stub)), in_flight_(in_flight) {}

AppendSender::~AppendSender() = default;

std::shared_ptr<AppendSender::Call> AppendSender::TakeStale() {
  if (call_ == nullptr || said_ == host_->cluster().said()) return nullptr;
  unanswered_ = 0;
  return std::exchange(call_, nullptr);
}

std::shared_ptr<AppendSender::Call> AppendSender::OpenCall() {
  if (call_ != nullptr) return call_;
  if (Now() < retry_at_) return nullptr;
  auto context = in_flight_->Begin();
  if (context == nullptr) return nullptr;
  said_ = host_->cluster().said();
  call_ = std::make_shared<Call>(shared_from_this(), std::move(context));
  call_->Begin(call_);
  return call_;
}

bool AppendSender::Send(const raft::AppendRequest& append) {
  std::shared_ptr<Call> call;
  std::shared_ptr<Call> stale;
  {
    std::lock_guard lock(mutex_);
    stale = TakeStale();
    call = OpenCall();
    if (call == nullptr) return false;
    if (unanswered_++ == 0) progress_at_ = Now();
  }
  if (stale != nullptr) {
    stale->Cancel();
    host_->Unreachable(group_, peer_);  // what it carried may be lost
  }
  pb::AppendEntriesRequestProto request;
  if (const absl::Status converted = ToProto(append, &request); !converted.ok()) {
    LogError("append to {} in group {} cannot be sent: {}", peer_.value, group_.ToString(),
             Message(converted));
    return false;
  }
  ToProto(ServerHeader{host_->options().self.id, group_, append.call}, peer_,
          request.mutable_server_request());
  return call->Push(std::move(request));
}

void AppendSender::CheckSilence() {
  std::shared_ptr<Call> call;
  {
    std::lock_guard lock(mutex_);
    if (call_ == nullptr || unanswered_ == 0 || Now() - progress_at_ < kSilenceMax) return;
    progress_at_ = Now();  // once
    call = call_;
  }
  call->Cancel();
}

void AppendSender::Close() {
  std::shared_ptr<Call> call;
  {
    std::lock_guard lock(mutex_);
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

void AppendSender::OnReply(const pb::AppendEntriesReplyProto& reply) {
  {
    std::lock_guard lock(mutex_);
    if (unanswered_ > 0) --unanswered_;
    progress_at_ = Now();
    pause_ = {};
  }
  auto message = FromProto(reply);
  if (!message.ok()) {
    LogWarn("reply of {} in group {} dropped: {}", peer_.value, group_.ToString(), Message(message.status()));
    return;
  }
  if (const absl::Status stepped = host_->Step(group_, peer_, *std::move(message)); !stepped.ok()) {
    LogDebug("reply of {}: {}", peer_.value, Message(stepped));
  }
}

void AppendSender::OnCallEnded(const Call* call, const grpc::Status& status) {
  {
    std::lock_guard lock(mutex_);
    if (call_.get() != call) return;
    call_.reset();
    unanswered_ = 0;
    pause_ = std::clamp(pause_ * 2, kPauseMin, kPauseMax);
    const auto jitter = env::Duration(env::RealRandom().Below(static_cast<uint64_t>(pause_.count() / 2)));
    retry_at_ = Now() + pause_ / 2 + jitter;
  }
  LogDebug("append stream to {} ended: {}", peer_.value, Printable(status.error_message()));
  host_->cluster().TellRefused(peer_, FromGrpc(status));
  host_->Unreachable(group_, peer_);
}

}  // namespace sluice::edge::ratis
