#include "edge/ratis/snapshot_sender.h"

#include <utility>

#include "base/log.h"
#include "edge/ratis/methods.h"
#include "env/clock.h"

namespace sluice::edge::ratis {
namespace {

constexpr std::chrono::seconds kWatchEvery{5};
constexpr uint64_t kQueueBytesMax = 2 * uint64_t{kUnansweredChunks} * kChunkBytes;  // never full

class SnapshotSender final : public std::enable_shared_from_this<SnapshotSender> {
 public:
  SnapshotSender(SnapshotPlan plan, SnapshotWay way, absl::AnyInvocable<void(absl::Status)> done)
      : way_(std::move(way)), source_(std::move(plan), way_.files), done_(std::move(done)) {}

  // The stream's callbacks hold this until its end.
  void Begin() {
    advanced_at_ = way_.clock->MonotonicNow();
    auto stream = way_.wire->Open(
        way_.to, kInstallSnapshot, kQueueBytesMax,
        [self = shared_from_this()](const pb::InstallSnapshotReplyProto& reply) {
          self->way_.disk->Post([self, reply] { self->OnReply(reply); });
        },
        [self = shared_from_this()](const absl::Status& status) {
          self->way_.disk->Post([self, status] { self->Finish(status); });
        });
    if (stream == nullptr) return done_(absl::UnavailableError("too many calls to other servers"));
    way_.disk->Post([self = shared_from_this(), stream = std::move(stream)]() mutable {
      self->stream_ = std::move(stream);
      self->Advance();
      Watch(self);
    });
  }

 private:
  // All below on `disk`.
  void OnReply(const pb::InstallSnapshotReplyProto& reply) {
    advanced_at_ = way_.clock->MonotonicNow();
    source_.OnReply(reply);
    Advance();
  }

  void Advance() {
    if (stream_ == nullptr || over_) return;
    while (!source_.outcome()) {
      auto chunk = source_.Next();
      if (!chunk.ok()) {
        over_ = true;
        return stream_->Cancel();
      }
      if (!chunk->has_value()) break;
      // False: the stream is at its end, which says why.
      if (!stream_->Push(std::make_unique<pb::InstallSnapshotRequestProto>(**std::move(chunk)))) break;
    }
    if (!source_.outcome() && !source_.all_sent()) return;
    over_ = true;
    stream_->PushedAll();
  }

  static void Watch(const std::shared_ptr<SnapshotSender>& self) {
    if (self->stream_ == nullptr) return;
    const auto silence = self->way_.clock->MonotonicNow() - self->advanced_at_;
    auto patience = kSnapshotSilence;
    if (self->source_.all_sent()) patience += std::chrono::seconds(self->source_.bytes() >> 20);
    if (silence > patience) self->stream_->Cancel();
    self->way_.disk->PostAfter(kWatchEvery, [weak = std::weak_ptr(self)] {
      if (const auto again = weak.lock()) Watch(again);
    });
  }

  void Finish(const absl::Status& status) {
    absl::Status outcome = source_.outcome().value_or(absl::UnavailableError("the call ended early"));
    if (!source_.outcome() && !status.ok()) {
      const bool elsewhere = absl::IsUnavailable(status) || absl::IsCancelled(status);
      const std::string text = Printable(Message(status));
      outcome = elsewhere ? absl::UnavailableError(text) : absl::FailedPreconditionError(text);
    }
    over_ = true;
    stream_.reset();
    done_(std::move(outcome));
  }

  const SnapshotWay way_;
  SnapshotSource source_;
  absl::AnyInvocable<void(absl::Status)> done_;
  std::shared_ptr<OutgoingStream> stream_;  // shared with the wire
  env::Instant advanced_at_{};              // the last answer
  bool over_ = false;                       // nothing more is pushed
};

}  // namespace

void StartSnapshotSender(SnapshotPlan plan, SnapshotWay way, absl::AnyInvocable<void(absl::Status)> done) {
  std::make_shared<SnapshotSender>(std::move(plan), std::move(way), std::move(done))->Begin();
}

}  // namespace sluice::edge::ratis
