#include "edge/ratis/snapshot_receiver.h"

#include <atomic>
#include <utility>

namespace sluice::edge::ratis {
namespace {

std::string NewPath(const std::string& dir) {
  static std::atomic<uint64_t> counter{0};
  return fmt::format("{}/incoming-{}", dir, ++counter);
}

}  // namespace

SnapshotReceiver::SnapshotReceiver(grpc::CallbackServerContext* context, node::Host* host,
                                   env::Executor* disk, env::Files* files, env::Duration silence,
                                   std::shared_ptr<OpenCalls<SnapshotReceiver>> calls)
    : BidiCall(context, 1u << 20),
      disk_(disk),
      calls_(std::move(calls)),
      sink_(
          std::make_shared<SnapshotSink>(host, disk, files, NewPath(host->snapshot_dir()), SaidIn(*context))),
      silent_for_(silence),
      silence_(disk, silence, [this] { return OnSilence(); }) {}

SnapshotReceiver::~SnapshotReceiver() = default;

void SnapshotReceiver::Begin() {
  silence_.Start(weak_from_this());
  Read();
}

void SnapshotReceiver::OnReadDone(bool ok) {
  silence_.Sign();
  if (ok) answering_ = true;
  disk_->Post([self = shared_from_this(), ok] {
    if (!ok) {
      if (!self->answering_) self->End([] { return grpc::Status::OK; });
      return;
    }
    if (self->ending()) return;
    self->sink_->OnChunk(std::move(self->request_),
                         [self](absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last) {
                           self->OnAnswer(std::move(reply), last);
                         });
  });
}

void SnapshotReceiver::OnAnswer(absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last) {
  answering_ = false;
  const absl::Status& status = reply.status();
  if (!status.ok()) return Fail(sink_->FailureOf(status));
  Write(*std::move(reply));
  if (last) return End([] { return grpc::Status::OK; });
  silence_.Sign();
  Read();
}

// A sender that says nothing must not keep one of kSnapshotsMax places.
bool SnapshotReceiver::OnSilence() {
  if (ending()) return true;
  if (answering_) return false;  // it waits for us
  Fail(Refused(absl::DeadlineExceededError(
      fmt::format("no chunk came for {} ms",
                  std::chrono::duration_cast<std::chrono::milliseconds>(silent_for_).count()))));
  return true;
}

void SnapshotReceiver::OnDone() {
  silence_.Stop();
  disk_->Post([sink = sink_] { sink->Drop(); });
  calls_->Remove(this);
}

void SnapshotReceiver::Stop() { Fail(Stopping()); }

void SnapshotReceiver::Fail(CallFailure failure) {
  End([this, failure = std::move(failure)] { return EndCall(*context_, failure); });
}

}  // namespace sluice::edge::ratis
