#include "edge/ratis/append_sender.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "edge/ratis/methods.h"

namespace sluice::edge::ratis {
namespace {

using std::chrono::milliseconds;
constexpr env::Duration kPauseMin = milliseconds(20);
constexpr env::Duration kPauseMax = milliseconds(1000);
constexpr env::Duration kSilenceMax = milliseconds(3000);  // Ratis' request timeout

}  // namespace

AppendSender::AppendSender(node::Host* host, GroupId group, WireTo to, PeerWire* wire, TimeSeams time)
    : host_(host), group_(group), to_(std::move(to)), wire_(wire), time_(time) {}

AppendSender::~AppendSender() = default;

std::shared_ptr<OutgoingStream> AppendSender::TakeStale() {
  if (stream_ == nullptr || said_ == host_->cluster().said()) return nullptr;
  unanswered_ = 0;
  return std::exchange(stream_, nullptr);
}

std::shared_ptr<OutgoingStream> AppendSender::OpenStream() {
  if (stream_ != nullptr) return stream_;
  if (time_.clock->MonotonicNow() < retry_at_) return nullptr;
  said_ = host_->cluster().said();
  stream_ = wire_->Open(
      to_, kAppendEntries, kAppendQueueBytesMax,
      [self = shared_from_this()](const pb::AppendEntriesReplyProto& reply) { self->OnReply(reply); },
      [self = shared_from_this(), number = ++streams_](const absl::Status& status) {
        self->OnStreamEnded(number, status);
      });
  return stream_;
}

bool AppendSender::Send(const raft::AppendRequest& append) {
  std::shared_ptr<OutgoingStream> stream;
  std::shared_ptr<OutgoingStream> stale;
  {
    std::lock_guard lock(mutex_);
    stale = TakeStale();
    stream = OpenStream();
    if (stream != nullptr && unanswered_++ == 0) progress_at_ = time_.clock->MonotonicNow();
  }
  if (stale != nullptr) {
    stale->Cancel();
    host_->Unreachable(group_, to_.id);  // what it carried may be lost
  }
  if (stream == nullptr) return false;
  auto request = std::make_unique<pb::AppendEntriesRequestProto>();
  if (const absl::Status converted = ToProto(append, request.get()); !converted.ok()) {
    LogError("append to {} in group {} cannot be sent: {}", to_.id.value, group_.ToString(),
             Message(converted));
    return false;
  }
  ToProto(ServerHeader{host_->options().self.id, group_, append.call}, to_.id,
          request->mutable_server_request());
  return stream->Push(std::move(request));
}

void AppendSender::CheckSilence() {
  std::shared_ptr<OutgoingStream> stream;
  {
    std::lock_guard lock(mutex_);
    const env::Instant now = time_.clock->MonotonicNow();
    if (stream_ == nullptr || unanswered_ == 0 || now - progress_at_ < kSilenceMax) return;
    progress_at_ = now;  // once
    stream = stream_;
  }
  stream->Cancel();
}

void AppendSender::Close() {
  std::shared_ptr<OutgoingStream> stream;
  {
    std::lock_guard lock(mutex_);
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
}

void AppendSender::OnReply(const pb::AppendEntriesReplyProto& reply) {
  {
    std::lock_guard lock(mutex_);
    if (unanswered_ > 0) --unanswered_;
    progress_at_ = time_.clock->MonotonicNow();
    pause_ = {};
  }
  auto message = FromProto(reply);
  if (!message.ok()) {
    LogWarn("reply of {} in group {} dropped: {}", to_.id.value, group_.ToString(),
            Message(message.status()));
    return;
  }
  if (const absl::Status stepped = host_->Step(group_, to_.id, *std::move(message)); !stepped.ok()) {
    LogDebug("reply of {}: {}", to_.id.value, Message(stepped));
  }
}

void AppendSender::OnStreamEnded(uint64_t number, const absl::Status& status) {
  {
    std::lock_guard lock(mutex_);
    if (stream_ == nullptr || streams_ != number) return;
    stream_.reset();
    unanswered_ = 0;
    pause_ = std::clamp(pause_ * 2, kPauseMin, kPauseMax);
    const auto jitter = env::Duration(time_.random->Below(static_cast<uint64_t>(pause_.count() / 2)));
    retry_at_ = time_.clock->MonotonicNow() + pause_ / 2 + jitter;
  }
  LogDebug("append stream to {} ended: {}", to_.id.value, Printable(Message(status)));
  host_->cluster().TellRefused(to_.id, status);
  host_->Unreachable(group_, to_.id);
}

}  // namespace sluice::edge::ratis
