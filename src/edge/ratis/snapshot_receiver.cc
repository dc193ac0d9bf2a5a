#include "edge/ratis/snapshot_receiver.h"

#include <atomic>
#include <utility>

#include "base/log.h"
#include "edge/handshake.h"
#include "edge/status.h"

namespace sluice::edge::ratis {
namespace {

constexpr std::string_view kFolder = "sm/";

std::string NewPath(const std::string& dir) {
  static std::atomic<uint64_t> counter{0};
  return fmt::format("{}/incoming-{}", dir, ++counter);
}

}  // namespace

SnapshotReceiver::SnapshotReceiver(grpc::CallbackServerContext* context, node::Host* host,
                                   env::Executor* disk, env::Files* files,
                                   std::shared_ptr<OpenCalls<SnapshotReceiver>> calls)
    : BidiCall(context, 1u << 20), host_(host), disk_(disk), files_(files), calls_(std::move(calls)) {}

SnapshotReceiver::~SnapshotReceiver() = default;

void SnapshotReceiver::OnReadDone(bool ok) {
  if (!ok) {
    disk_->Post([self = shared_from_this()] {
      if (!self->installing_) self->End([] { return grpc::Status::OK; });
    });
    return;
  }
  disk_->Post([self = shared_from_this()] { self->OnChunk(); });
}

void SnapshotReceiver::OnDone() {
  disk_->Post([self = shared_from_this()] {
    if (!self->installing_) self->DropFile();
  });
  calls_->Remove(this);
}

void SnapshotReceiver::Stop() { Fail(Stopping()); }

void SnapshotReceiver::Fail(CallFailure failure) {
  End([this, failure = std::move(failure)] { return EndCall(*context_, failure); });
}

void SnapshotReceiver::DropFile() {
  file_.reset();
  if (path_.empty()) return;
  if (const absl::Status removed = files_->Remove(path_); !removed.ok()) {
    LogWarn("snapshot that did not arrive whole: {}", Message(removed));
  }
  path_.clear();
}

void SnapshotReceiver::OnChunk() {
  if (ending()) return;
  auto fail = [this](const absl::Status& status) {
    DropFile();
    Fail(IllegalArgument(std::string(Message(status))));
  };
  auto header = FromProto(request_.server_request());
  if (!header.ok()) return fail(header.status());
  const absl::Status same = CheckServer(
      *context_, *host_,
      {.group = header->group, .from = header->from, .target = {request_.server_request().reply_id()}});
  if (!same.ok()) {
    DropFile();
    return End([same] { return ToGrpc(same); });
  }
  if (!host_->HasGroup(header->group)) {
    return Fail(GroupMismatch(host_->options().self.id, header->group));
  }
  if (next_chunk_ > 0 && (header->group != header_.group || header->from != header_.from)) {
    return fail(absl::InvalidArgumentError("the chunks of a call belong to one group and one leader"));
  }
  header_ = *std::move(header);
  leader_term_ = Term{request_.leader_term()};
  if (!request_.has_snapshot_chunk()) return Reply(pb::CONF_MISMATCH, 0);  // a leader in notification mode
  const auto& chunk = request_.snapshot_chunk();
  if (const absl::Status written = WriteChunk(chunk); !written.ok()) return fail(written);
  if (chunk.done()) return Install();
  Reply(pb::SUCCESS, chunk.request_index());
  Read();
}

absl::Status SnapshotReceiver::Check(const pb::InstallSnapshotRequestProto::SnapshotChunkProto& chunk) const {
  if (chunk.file_chunks_size() != 1) {
    return absl::InvalidArgumentError(
        fmt::format("chunk with {} files: one expected", chunk.file_chunks_size()));
  }
  const pb::FileChunkProto& part = chunk.file_chunks(0);
  if (chunk.request_index() != next_chunk_ || part.chunk_index() != next_chunk_) {
    return absl::InvalidArgumentError(
        fmt::format("chunk {} where {} was expected", chunk.request_index(), next_chunk_));
  }
  if (part.offset() != written_ || part.data().size() > kChunkBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("chunk of {} bytes at {}: {} expected", part.data().size(), part.offset(), written_));
  }
  if (!part.filename().starts_with(kFolder) || part.filename().size() > 256) {
    return absl::InvalidArgumentError("a snapshot's file stands in the folder sm/");
  }
  if (next_chunk_ > 0 && (chunk.request_id() != request_id_ || part.filename() != filename_)) {
    return absl::InvalidArgumentError("a snapshot of more than one file is not sluice's");
  }
  const uint64_t limit = total_ > 0 ? total_ : kSnapshotBytesMax;
  if (part.data().size() > limit - written_) {
    return absl::InvalidArgumentError(fmt::format("more than the {} bytes announced", limit));
  }
  return absl::OkStatus();
}

absl::Status SnapshotReceiver::WriteChunk(const pb::InstallSnapshotRequestProto::SnapshotChunkProto& chunk) {
  if (next_chunk_ == 0) total_ = std::min(chunk.total_size(), kSnapshotBytesMax);
  RETURN_IF_ERROR(Check(chunk));
  const pb::FileChunkProto& part = chunk.file_chunks(0);
  if (next_chunk_ == 0) {
    request_id_ = chunk.request_id();
    filename_ = part.filename();
    RETURN_IF_ERROR(files_->MakeDirs(host_->snapshot_dir()));
    const std::string path = NewPath(host_->snapshot_dir());
    ASSIGN_OR_RETURN(file_, files_->Open(path, {.create = true}));
    path_ = path;
    RETURN_IF_ERROR(file_->Truncate(0));
  }
  md5_.Update(part.data());
  RETURN_IF_ERROR(file_->WriteAt(written_, Bytes::Copy(part.data())));
  written_ += part.data().size();
  ++next_chunk_;
  if (part.done() != chunk.done()) return absl::InvalidArgumentError("the last chunk ends the only file");
  return part.done() ? CloseFile(part.file_digest()) : absl::OkStatus();
}

absl::Status SnapshotReceiver::CloseFile(const std::string& digest) {
  if (total_ > 0 && written_ != total_) {
    return absl::InvalidArgumentError(fmt::format("{} bytes came, {} were announced", written_, total_));
  }
  if (md5_.Finish() != digest)
    return absl::InvalidArgumentError(fmt::format("MD5 of {} bytes differs", written_));
  RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  return files_->SyncDir(host_->snapshot_dir());
}

void SnapshotReceiver::Install() {
  installing_ = true;  // the file is the host's now
  const uint32_t index = next_chunk_ - 1;
  host_->InstallSnapshot(header_.group, header_.from, leader_term_, path_, disk_,
                         [self = shared_from_this(), index](absl::Status done) {
                           if (done.ok()) return self->Reply(pb::SUCCESS, index);
                           LogWarn("snapshot from {} not installed: {}", Printable(self->header_.from.value),
                                   Message(done));
                           if (absl::IsAlreadyExists(done)) return self->Reply(pb::ALREADY_INSTALLED, index);
                           if (absl::IsFailedPrecondition(done)) return self->Reply(pb::NOT_LEADER, index);
                           self->Fail(IllegalState(std::string(Message(done))));
                         });
}

void SnapshotReceiver::Reply(pb::InstallSnapshotResult result, uint32_t request_index) {
  pb::InstallSnapshotReplyProto reply;
  const bool success = result == pb::SUCCESS || result == pb::ALREADY_INSTALLED;
  ReplyHeader(header_, host_->options().self.id, success, reply.mutable_server_reply());
  reply.set_term(leader_term_.value);
  reply.set_result(result);
  reply.set_request_index(request_index);
  Write(std::move(reply));
  if (result != pb::SUCCESS || installing_) End([] { return grpc::Status::OK; });
}

}  // namespace sluice::edge::ratis
