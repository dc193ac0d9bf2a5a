#include "edge/ratis/snapshot_chunks.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "env/random.h"
#include "node/snapshot_file.h"

namespace sluice::edge::ratis {
namespace {

constexpr std::string_view kFolder = "sm/";

std::string RandomUuid() {
  ClientId id;
  for (size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<uint8_t>(env::RealRandom().Next64());
  return id.ToString();
}

}  // namespace

// --- Sending -----------------------------------------------------------------------------------------------

SnapshotSource::SnapshotSource(SnapshotPlan plan, env::Files* files)
    : plan_(std::move(plan)), files_(files), request_id_(RandomUuid()) {}

// The file says how long it is: nobody has to know it beside.
absl::Status SnapshotSource::Open() {
  ASSIGN_OR_RETURN(file_, files_->Open(plan_.offer.path, {.read_only = true}));
  ASSIGN_OR_RETURN(total_, file_->Size());
  if (total_ == 0) return absl::DataLossError(fmt::format("{} is empty", plan_.offer.path));
  plan_.offer.progress->total = total_;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<pb::InstallSnapshotRequestProto>> SnapshotSource::Next() {
  if (outcome_ || all_sent_ || next_chunk_ - answered_ >= kUnansweredChunks) return std::nullopt;
  absl::Status good;
  if (file_ == nullptr) good = Open();
  if (good.ok()) {
    auto chunk = MakeChunk();
    if (chunk.ok()) return *std::move(chunk);
    good = chunk.status();
  }
  outcome_ = good;
  return good;
}

absl::StatusOr<pb::InstallSnapshotRequestProto> SnapshotSource::MakeChunk() {
  const node::SnapshotOffer& offer = plan_.offer;
  const auto count = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, total_ - offset_));
  std::string data(count, '\0');
  ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(offset_, data.data(), count));
  if (got != count) return absl::DataLossError(fmt::format("{}: {} bytes at {}", offer.path, got, offset_));
  md5_.Update(data);
  pb::InstallSnapshotRequestProto chunk;
  ToProto(ServerHeader{plan_.self, offer.group, 0}, plan_.to, chunk.mutable_server_request());
  chunk.set_leader_term(offer.leader_term.value);
  auto* configuration = chunk.mutable_last_raft_configuration_log_entry_proto();
  ToProto(offer.configuration, configuration->mutable_configuration_entry());
  configuration->set_index(ToWire(offer.at.index));
  auto* body = chunk.mutable_snapshot_chunk();
  body->set_request_id(request_id_);
  body->set_request_index(next_chunk_);
  body->mutable_term_index()->set_term(offer.at.term.value);
  body->mutable_term_index()->set_index(ToWire(offer.at.index));
  body->set_total_size(total_);
  pb::FileChunkProto* part = body->add_file_chunks();
  part->set_filename(fmt::format("{}snapshot.{}_{}", kFolder, offer.at.term.value, offer.at.index.value));
  part->set_total_size(total_);
  part->set_chunk_index(next_chunk_);
  part->set_offset(offset_);
  part->set_data(std::move(data));
  offset_ += count;
  ++next_chunk_;
  all_sent_ = offset_ == total_;
  part->set_done(all_sent_);
  body->set_done(all_sent_);
  if (all_sent_) part->set_file_digest(md5_.Finish());
  return chunk;
}

void SnapshotSource::OnReply(const pb::InstallSnapshotReplyProto& reply) {
  if (outcome_) return;
  switch (reply.result()) {
    case pb::SUCCESS:
      if (answered_ >= next_chunk_) {
        outcome_ = absl::FailedPreconditionError("an answer to a chunk that was not sent");
        return;
      }
      ++answered_;
      plan_.offer.progress->bytes = std::min<uint64_t>(answered_ * uint64_t{kChunkBytes}, total_);
      if (all_sent_ && answered_ == next_chunk_) outcome_ = absl::OkStatus();
      return;
    case pb::ALREADY_INSTALLED:
      outcome_ = absl::OkStatus();
      return;
    default:
      outcome_ = absl::FailedPreconditionError(
          fmt::format("answered with {}", pb::InstallSnapshotResult_Name(reply.result())));
  }
}

// --- Receiving ---------------------------------------------------------------------------------------------

SnapshotSink::SnapshotSink(node::Host* host, env::Executor* disk, env::Files* files, std::string path,
                           CallerSays says)
    : host_(host), disk_(disk), files_(files), path_(std::move(path)), says_(std::move(says)) {}

CallFailure SnapshotSink::FailureOf(const absl::Status& status) const {
  if (absl::IsNotFound(status)) return GroupMismatch(host_->options().self.id, header_.group);
  if (absl::IsInvalidArgument(status)) return IllegalArgument(std::string(Message(status)));
  if (absl::IsUnavailable(status)) return Refused(status);
  return IllegalState(std::string(Message(status)));
}

void SnapshotSink::DropFile() {
  file_.reset();
  if (!std::exchange(made_, false)) return;
  const absl::Status removed = files_->Remove(path_);
  if (!removed.ok() && !absl::IsNotFound(removed)) {
    LogWarn("snapshot that did not arrive whole: {}", Message(removed));
  }
}

void SnapshotSink::Drop() {
  dropped_ = true;
  if (!installing_) DropFile();
}

void SnapshotSink::Fail(const absl::Status& status, Reply reply) {
  DropFile();
  reply(status, true);
}

void SnapshotSink::OnChunk(Chunk chunk, Reply reply) {
  auto header = FromProto(chunk.server_request());
  if (!header.ok()) return Fail(header.status(), std::move(reply));
  const absl::Status same = CheckServer(
      says_, *host_,
      {.group = header->group, .from = header->from, .target = {chunk.server_request().reply_id()}});
  if (!same.ok()) return Fail(same, std::move(reply));
  if (next_chunk_ == 0) header_.group = header->group;
  if (!host_->HasGroup(header->group)) {
    return Fail(absl::NotFoundError(header->group.ToString()), std::move(reply));
  }
  if (next_chunk_ > 0 && (header->group != header_.group || header->from != header_.from)) {
    return Fail(absl::InvalidArgumentError("the chunks of a call belong to one group and one leader"),
                std::move(reply));
  }
  header_ = *std::move(header);
  leader_term_ = Term{chunk.leader_term()};
  // A leader in notification mode.
  if (!chunk.has_snapshot_chunk()) return reply(Answer(pb::CONF_MISMATCH, 0), true);
  if (const absl::Status good = Check(chunk); !good.ok()) return Fail(good, std::move(reply));
  if (next_chunk_ > 0) return TakeChunk(chunk, std::move(reply));

  TermIndex at;
  if (const absl::Status good = CheckFirst(chunk, &at); !good.ok()) return Fail(good, std::move(reply));
  // Refused before the transfer, not after it.
  host_->WantsSnapshot(header_.group, leader_term_, at, disk_,
                       [self = shared_from_this(), chunk = std::move(chunk),
                        reply = std::move(reply)](absl::Status wanted) mutable {
                         const uint32_t index = chunk.snapshot_chunk().request_index();
                         if (self->dropped_) return;
                         if (wanted.ok()) return self->TakeChunk(chunk, std::move(reply));
                         if (absl::IsAlreadyExists(wanted))
                           return reply(self->Answer(pb::ALREADY_INSTALLED, index), true);
                         if (absl::IsFailedPrecondition(wanted))
                           return reply(self->Answer(pb::NOT_LEADER, index), true);
                         self->Fail(wanted, std::move(reply));
                       });
}

absl::Status SnapshotSink::Check(const Chunk& request) const {
  const auto& chunk = request.snapshot_chunk();
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
  const uint64_t total = next_chunk_ > 0 ? total_ : chunk.total_size();
  if (total == 0 || total > kSnapshotBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("a snapshot of {} bytes: 1 to {} expected", total, kSnapshotBytesMax));
  }
  if (part.data().size() > total - written_) {
    return absl::InvalidArgumentError(fmt::format("more than the {} bytes announced", total));
  }
  if (part.done() != chunk.done()) return absl::InvalidArgumentError("the last chunk ends the only file");
  return absl::OkStatus();
}

absl::Status SnapshotSink::CheckFirst(const Chunk& request, TermIndex* at) {
  const auto& chunk = request.snapshot_chunk();
  ASSIGN_OR_RETURN(at->index, IndexFromWire(chunk.term_index().index()));
  at->term = Term{chunk.term_index().term()};
  if (!at->index.valid()) return absl::InvalidArgumentError("a snapshot without an index");
  // A Java leader's files are its machine's own.
  if (!std::string_view(chunk.file_chunks(0).data()).starts_with(node::kSnapshotMagic)) {
    return absl::InvalidArgumentError("this is no snapshot of sluice's format");
  }
  total_ = chunk.total_size();
  request_id_ = chunk.request_id();
  filename_ = chunk.file_chunks(0).filename();
  return absl::OkStatus();
}

void SnapshotSink::TakeChunk(const Chunk& chunk, Reply reply) {
  if (const absl::Status written = WriteChunk(chunk); !written.ok()) return Fail(written, std::move(reply));
  if (chunk.snapshot_chunk().done()) return Install(std::move(reply));
  reply(Answer(pb::SUCCESS, chunk.snapshot_chunk().request_index()), false);
}

absl::Status SnapshotSink::WriteChunk(const Chunk& chunk) {
  const pb::FileChunkProto& part = chunk.snapshot_chunk().file_chunks(0);
  if (next_chunk_ == 0) {
    RETURN_IF_ERROR(files_->MakeDirs(host_->snapshot_dir()));
    made_ = true;
    ASSIGN_OR_RETURN(file_, files_->Open(path_, {.create = true}));
    RETURN_IF_ERROR(file_->Truncate(0));
  }
  md5_.Update(part.data());
  RETURN_IF_ERROR(file_->WriteAt(written_, Bytes::Copy(part.data())));
  written_ += part.data().size();
  ++next_chunk_;
  return part.done() ? CloseFile(part.file_digest()) : absl::OkStatus();
}

absl::Status SnapshotSink::CloseFile(const std::string& digest) {
  if (written_ != total_) {
    return absl::InvalidArgumentError(fmt::format("{} bytes came, {} were announced", written_, total_));
  }
  if (md5_.Finish() != digest)
    return absl::InvalidArgumentError(fmt::format("MD5 of {} bytes differs", written_));
  RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  return files_->SyncDir(host_->snapshot_dir());
}

void SnapshotSink::Install(Reply reply) {
  installing_ = true;
  host_->InstallSnapshot(header_.group, path_, disk_,
                         [self = shared_from_this(), index = next_chunk_ - 1,
                          reply = std::move(reply)](absl::Status done) mutable {
                           self->installing_ = false;
                           if (done.ok()) {
                             self->made_ = false;  // the host has it
                             return reply(self->Answer(pb::SUCCESS, index), true);
                           }
                           LogWarn("snapshot from {} not installed: {}", Printable(self->header_.from.value),
                                   Message(done));
                           if (!absl::IsAlreadyExists(done)) return self->Fail(done, std::move(reply));
                           self->DropFile();
                           reply(self->Answer(pb::ALREADY_INSTALLED, index), true);
                         });
}

pb::InstallSnapshotReplyProto SnapshotSink::Answer(pb::InstallSnapshotResult result, uint32_t index) const {
  pb::InstallSnapshotReplyProto reply;
  const bool success = result == pb::SUCCESS || result == pb::ALREADY_INSTALLED;
  ReplyHeader(header_, host_->options().self.id, success, reply.mutable_server_reply());
  reply.set_term(leader_term_.value);
  reply.set_result(result);
  reply.set_request_index(index);
  return reply;
}

}  // namespace sluice::edge::ratis
