#include "blob/stage_file.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"

namespace sluice::blob {
namespace {

// Enough for 4 TiB of chunk checksums.
constexpr size_t kSideFileBytesMax = 256u << 20;

// The partial chunk at the end goes on growing, so damage in it would be hidden under a new checksum.
absl::Status CheckLastChunk(env::File& data, const ChunkList& chunks, const std::string& path) {
  const uint64_t tail = chunks.length() % kChunkBytes;
  if (tail == 0) return absl::OkStatus();
  std::string buffer(tail, '\0');
  ASSIGN_OR_RETURN(const size_t got, data.ReadAt(chunks.length() - tail, buffer.data(), buffer.size()));
  if (got != tail || Crc32c(buffer) != chunks.crcs().back()) {
    return absl::DataLossError(
        fmt::format("{}: the chunk at {} does not match its checksum", path, chunks.length() - tail));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SideState> ReadSide(env::Files& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(files, path, kSideFileBytesMax));
  return DecodeSide(text);
}

absl::StatusOr<std::unique_ptr<StageFile>> StageFile::Create(env::Files& files, const StagePaths& paths,
                                                             const UploadSpec& spec, size_t run_bytes) {
  ASSIGN_OR_RETURN(auto side, files.Open(paths.side, {.create = true, .for_client = true}));
  ASSIGN_OR_RETURN(std::shared_ptr<env::File> data,
                   files.Open(paths.data, {.create = true, .run_bytes = run_bytes, .for_client = true}));
  RETURN_IF_ERROR(side->Truncate(0));
  RETURN_IF_ERROR(data->Truncate(0));
  std::unique_ptr<StageFile> stage(new StageFile(std::move(data), std::move(side)));
  RETURN_IF_ERROR(stage->AppendRecord(EncodeSideStart(spec)));
  return stage;
}

absl::StatusOr<std::unique_ptr<StageFile>> StageFile::Reopen(env::Files& files, const StagePaths& paths,
                                                             size_t run_bytes) {
  ASSIGN_OR_RETURN(SideState side_state, ReadSide(files, paths.side));
  ASSIGN_OR_RETURN(auto side, files.Open(paths.side, {.for_client = true}));
  ASSIGN_OR_RETURN(std::shared_ptr<env::File> data,
                   files.Open(paths.data, {.run_bytes = run_bytes, .for_client = true}));
  const uint64_t length = side_state.durable.length();
  ASSIGN_OR_RETURN(const uint64_t data_bytes, data->Size());
  if (data_bytes < length) {
    return absl::DataLossError(
        fmt::format("{} has {} bytes, {} were durable", paths.data, data_bytes, length));
  }
  RETURN_IF_ERROR(CheckLastChunk(*data, side_state.durable, paths.data));
  if (data_bytes > length) RETURN_IF_ERROR(data->Truncate(length));
  RETURN_IF_ERROR(side->Truncate(side_state.valid_bytes));
  std::unique_ptr<StageFile> stage(new StageFile(std::move(data), std::move(side)));
  stage->chunks_ = std::move(side_state.durable);
  stage->side_bytes_ = side_state.valid_bytes;
  stage->durable_length_ = stage->writeback_to_ = length;
  return stage;
}

absl::Status StageFile::Append(const Bytes& data) {
  RETURN_IF_ERROR(Write(chunks_.length(), data));
  chunks_.Extend(data);
  return absl::OkStatus();
}

void StageFile::StartWriteback() {
  data_->StartWriteback(writeback_to_, unwritten_back());
  writeback_to_ = chunks_.length();
}

absl::Status StageFile::Flush() {
  if (durable_length_ == chunks_.length()) return absl::OkStatus();
  RETURN_IF_ERROR(data_->Sync());
  RETURN_IF_ERROR(AppendRecord(EncodeFlushRecord(chunks_, durable_length_)));
  RETURN_IF_ERROR(side_->Sync());
  durable_length_ = writeback_to_ = chunks_.length();
  return absl::OkStatus();
}

absl::Status StageFile::Seal(const UploadSpec& spec, const Sealed& sealed) {
  const Footer footer{spec.id, spec.group, spec.epoch, sealed};
  RETURN_IF_ERROR(Write(chunks_.length(), Bytes::Take(EncodeFooter(footer, chunks_))));
#ifndef SLUICE_BREAK_SKIP_SYNC
  RETURN_IF_ERROR(data_->Sync());
#endif
  // Only now: the record promises that the data is durable.
  RETURN_IF_ERROR(AppendRecord(EncodeSealRecord(sealed)));
  RETURN_IF_ERROR(side_->Sync());
  durable_length_ = chunks_.length();
  return absl::OkStatus();
}

// A full disk may leave a part behind, which must not stay: the footer is found from the end of the file.
absl::Status StageFile::Write(uint64_t offset, const Bytes& data) {
  absl::Status written = data_->WriteAt(offset, data);
  if (absl::IsResourceExhausted(written)) {
    if (absl::Status cut = data_->Truncate(offset); !cut.ok()) return cut;
  }
  return written;
}

absl::Status StageFile::AppendRecord(std::string record) {
  const size_t size = record.size();
  RETURN_IF_ERROR(side_->WriteAt(side_bytes_, Bytes::Take(std::move(record))));
  side_bytes_ += size;
  return absl::OkStatus();
}

}  // namespace sluice::blob
