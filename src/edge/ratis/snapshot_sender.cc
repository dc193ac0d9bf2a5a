#include "edge/ratis/snapshot_sender.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "edge/ratis/snapshot_receiver.h"
#include "env/random.h"

namespace sluice::edge::ratis {
namespace {

using Service = ::sluice::ratis::grpc::RaftServerProtocolService;

std::string RandomUuid() {
  ClientId id;
  for (size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<uint8_t>(env::RealRandom().Next64());
  return id.ToString();
}

class SnapshotSender final
    : public grpc::ClientBidiReactor<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>,
      public std::enable_shared_from_this<SnapshotSender> {
 public:
  SnapshotSender(SnapshotPlan plan, std::unique_ptr<Service::Stub> stub,
                 std::shared_ptr<grpc::ClientContext> context, InFlight* in_flight, env::Executor* disk,
                 env::Files* files, absl::AnyInvocable<void(absl::Status)> done)
      : plan_(std::move(plan)),
        stub_(std::move(stub)),
        context_(std::move(context)),
        in_flight_(in_flight),
        disk_(disk),
        files_(files),
        done_(std::move(done)),
        request_id_(RandomUuid()) {}

  void Begin() {
    self_ = shared_from_this();
    // A megabyte a second is slow enough; a follower that is silent for good is not waited for for good.
    const auto limit = std::chrono::seconds(60 + static_cast<int64_t>(plan_.offer.bytes >> 20));
    context_->set_deadline(std::chrono::system_clock::now() + limit);
    stub_->async()->installSnapshot(context_.get(), this);
    AddHold();  // chunks are written from `disk`; released once no more will be
    StartRead(&reply_);
    StartCall();
    disk_->Post([self = self_] { self->Advance(); });
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        std::lock_guard lock(mutex_);
        broken_ = true;
      }
      disk_->Post([self = shared_from_this()] { self->Advance(); });
      return;
    }
    OnReply();
    StartRead(&reply_);
    disk_->Post([self = shared_from_this()] { self->Advance(); });
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      broken_ = broken_ || !ok;
    }
    disk_->Post([self = shared_from_this()] { self->Advance(); });
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status outcome = outcome_;
    if (!installed_ && outcome.ok()) {
      outcome =
          absl::UnavailableError(fmt::format("snapshot to {}: {}", plan_.to.value,
                                             status.ok() ? "the call ended early" : status.error_message()));
    }
    done_(installed_ ? absl::OkStatus() : outcome);
    in_flight_->End(context_.get());
    const std::shared_ptr<SnapshotSender> last = std::move(self_);  // destroyed here, or by `disk`
  }

 private:
  void OnReply() {
    std::lock_guard lock(mutex_);
    switch (reply_.result()) {
      case pb::SUCCESS:
        ++answered_;
        installed_ = last_sent_ && answered_ == next_chunk_;
        return;
      case pb::ALREADY_INSTALLED:
        installed_ = broken_ = true;
        return;
      default:
        broken_ = true;
        outcome_ =
            absl::FailedPreconditionError(fmt::format("snapshot to {} answered with {}", plan_.to.value,
                                                      pb::InstallSnapshotResult_Name(reply_.result())));
    }
  }

  // On `disk`: writes the next chunk if it may, or lets the call end.
  void Advance() {
    {
      std::lock_guard lock(mutex_);
      if (released_ || writing_) return;
      if (broken_ || last_sent_) return Release();
      if (next_chunk_ - answered_ >= kUnansweredChunks) return;
    }
    const absl::Status made = MakeChunk();
    std::unique_lock lock(mutex_);
    if (!made.ok()) {
      broken_ = true;
      outcome_ = made;
      context_->TryCancel();
      return Release();
    }
    writing_ = true;
    ++next_chunk_;
    last_sent_ = chunk_.snapshot_chunk().done();
    lock.unlock();
    StartWrite(&chunk_);
  }

  // With the lock held and no write under way.
  void Release() {
    released_ = true;
    if (!broken_) StartWritesDone();
    RemoveHold();
  }

  absl::Status MakeChunk() {
    if (file_ == nullptr) {
      ASSIGN_OR_RETURN(file_, files_->Open(plan_.offer.path, {.read_only = true}));
    }
    const node::SnapshotOffer& offer = plan_.offer;
    const size_t count = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, offer.bytes - offset_));
    std::string data(count, '\0');
    ASSIGN_OR_RETURN(size_t got, file_->ReadAt(offset_, data.data(), count));
    if (got != count) return absl::DataLossError(fmt::format("{}: {} bytes at {}", offer.path, got, offset_));
    md5_.Update(data);
    chunk_.Clear();
    ToProto(ServerHeader{plan_.self, offer.group, 0}, plan_.to, chunk_.mutable_server_request());
    chunk_.set_leader_term(offer.leader_term.value);
    ToProto(offer.configuration,
            chunk_.mutable_last_raft_configuration_log_entry_proto()->mutable_configuration_entry());
    chunk_.mutable_last_raft_configuration_log_entry_proto()->set_index(ToWire(offer.at.index));
    auto* body = chunk_.mutable_snapshot_chunk();
    body->set_request_id(request_id_);
    body->set_request_index(next_chunk_);
    body->mutable_term_index()->set_term(offer.at.term.value);
    body->mutable_term_index()->set_index(ToWire(offer.at.index));
    body->set_total_size(offer.bytes);
    pb::FileChunkProto* part = body->add_file_chunks();
    part->set_filename(fmt::format("sm/snapshot.{}_{}", offer.at.term.value, offer.at.index.value));
    part->set_total_size(offer.bytes);
    part->set_chunk_index(next_chunk_);
    part->set_offset(offset_);
    part->set_data(std::move(data));
    offset_ += count;
    const bool last = offset_ == offer.bytes;
    part->set_done(last);
    body->set_done(last);
    if (last) part->set_file_digest(md5_.Finish());
    return absl::OkStatus();
  }

  const SnapshotPlan plan_;
  const std::unique_ptr<Service::Stub> stub_;
  const std::shared_ptr<grpc::ClientContext> context_;
  InFlight* const in_flight_;
  env::Executor* const disk_;
  env::Files* const files_;
  absl::AnyInvocable<void(absl::Status)> done_;
  const std::string request_id_;
  pb::InstallSnapshotReplyProto reply_;
  std::shared_ptr<SnapshotSender> self_;

  // Used on `disk` only.
  std::unique_ptr<env::File> file_;
  pb::InstallSnapshotRequestProto chunk_;
  Md5Builder md5_;
  uint64_t offset_ = 0;

  std::mutex mutex_;  // guards all below
  uint32_t next_chunk_ = 0;
  uint32_t answered_ = 0;
  bool writing_ = false;
  bool last_sent_ = false;
  bool broken_ = false;
  bool released_ = false;
  bool installed_ = false;
  absl::Status outcome_;
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
