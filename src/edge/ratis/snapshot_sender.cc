#include "edge/ratis/snapshot_sender.h"

#include <utility>

#include "base/log.h"
#include "env/clock.h"

namespace sluice::edge::ratis {
namespace {

using Service = ::sluice::ratis::grpc::RaftServerProtocolService;

constexpr std::chrono::seconds kWatchEvery{5};

class SnapshotSender final
    : public grpc::ClientBidiReactor<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>,
      public std::enable_shared_from_this<SnapshotSender> {
 public:
  SnapshotSender(SnapshotPlan plan, std::unique_ptr<Service::Stub> stub,
                 std::shared_ptr<grpc::ClientContext> context, InFlight* in_flight, env::Executor* disk,
                 env::Files* files, absl::AnyInvocable<void(absl::Status)> done)
      : stub_(std::move(stub)),
        context_(std::move(context)),
        in_flight_(in_flight),
        disk_(disk),
        source_(std::move(plan), files),
        done_(std::move(done)) {}

  void Begin() {
    // The call holds this until OnDone, which may come before StartCall has returned: what follows it here
    // lives on `self`.
    const std::shared_ptr<SnapshotSender> self = shared_from_this();
    self_ = self;
    advanced_at_ = env::RealClock().MonotonicNow();
    stub_->async()->installSnapshot(context_.get(), this);
    AddHold();  // chunks are written from `disk`; released once no more will be
    StartRead(&reply_);
    env::Executor* const disk = disk_;
    StartCall();
    disk->Post([self] {
      self->Advance();
      Watch(self);
    });
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      disk_->Post([self = shared_from_this()] {
        self->broken_ = true;
        self->Advance();
      });
      return;
    }
    disk_->Post([self = shared_from_this(), reply = std::move(reply_)] {
      self->advanced_at_ = env::RealClock().MonotonicNow();
      self->source_.OnReply(reply);
      self->Advance();
    });
    reply_.Clear();
    StartRead(&reply_);
  }

  void OnWriteDone(bool ok) override {
    disk_->Post([self = shared_from_this(), ok] {
      self->writing_ = false;
      self->broken_ = self->broken_ || !ok;
      self->Advance();
    });
  }

  void OnDone(const grpc::Status& status) override {
    disk_->Post([self = std::move(self_), status] { self->Finish(status); });
  }

 private:
  // All below on `disk`.
  void Advance() {
    if (released_ || writing_) return;
    if (broken_ || source_.outcome()) return Release();
    auto chunk = source_.Next();
    if (!chunk.ok()) {
      context_->TryCancel();
      return Release();
    }
    if (!chunk->has_value()) {
      if (source_.all_sent()) Release();
      return;
    }
    chunk_ = **std::move(chunk);
    writing_ = true;
    StartWrite(&chunk_);
  }

  // With no write under way.
  void Release() {
    released_ = true;
    if (!broken_) StartWritesDone();
    RemoveHold();
  }

  static void Watch(const std::shared_ptr<SnapshotSender>& self) {
    const auto silence = env::RealClock().MonotonicNow() - self->advanced_at_;
    auto patience = kSnapshotSilence;
    if (self->source_.all_sent()) patience += std::chrono::seconds(self->source_.bytes() >> 20);
    if (silence > patience) self->context_->TryCancel();
    self->disk_->PostAfter(kWatchEvery, [weak = std::weak_ptr(self)] {
      if (const auto again = weak.lock()) Watch(again);
    });
  }

  void Finish(const grpc::Status& status) {
    absl::Status outcome = source_.outcome().value_or(absl::UnavailableError("the call ended early"));
    if (!source_.outcome() && !status.ok()) {
      const bool elsewhere = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                             status.error_code() == grpc::StatusCode::CANCELLED;
      const std::string text = Printable(status.error_message());
      outcome = elsewhere ? absl::UnavailableError(text) : absl::FailedPreconditionError(text);
    }
    done_(std::move(outcome));
    in_flight_->End(context_.get());
  }

  const std::unique_ptr<Service::Stub> stub_;
  const std::shared_ptr<grpc::ClientContext> context_;
  InFlight* const in_flight_;
  env::Executor* const disk_;
  pb::InstallSnapshotReplyProto reply_;  // of gRPC, between StartRead and OnReadDone
  std::shared_ptr<SnapshotSender> self_;

  // Used on `disk` only.
  SnapshotSource source_;
  absl::AnyInvocable<void(absl::Status)> done_;
  pb::InstallSnapshotRequestProto chunk_;
  env::Instant advanced_at_{};  // the last answer
  bool writing_ = false;
  bool broken_ = false;
  bool released_ = false;
};

}  // namespace

void StartSnapshotSender(SnapshotPlan plan, std::unique_ptr<Service::Stub> stub, InFlight* in_flight,
                         env::Executor* disk, env::Files* files,
                         absl::AnyInvocable<void(absl::Status)> done) {
  auto context = in_flight->Begin();
  if (context == nullptr) return done(absl::UnavailableError("too many calls to other servers"));
  std::make_shared<SnapshotSender>(std::move(plan), std::move(stub), std::move(context), in_flight, disk,
                                   files, std::move(done))
      ->Begin();
}

}  // namespace sluice::edge::ratis
