#include "log/segment_pool.h"

#include <algorithm>
#include <utility>

namespace sluice::log {
namespace {

constexpr uint64_t kStepBytes = 1 << 20;
constexpr char kFillingName[] = "segment.tmp";

}  // namespace

SegmentPool::SegmentPool(env::Files& files, std::string dir, const LogOptions& options,
                         uint64_t next_generation, std::vector<std::string> spares)
    : files_(files),
      dir_(std::move(dir)),
      options_(options),
      next_generation_(next_generation),
      spares_(std::move(spares)) {}

absl::StatusOr<bool> SegmentPool::PrepareStep() {
  if (prepared_) return true;
  while (!spares_.empty() && filling_ == nullptr) {
    const std::string path = Path(spares_.back());
    ASSIGN_OR_RETURN(auto file, files_.Open(path, {.read_only = true}));
    ASSIGN_OR_RETURN(const uint64_t size, file->Size());
    spares_.pop_back();
    if (size == options_.segment_bytes) {
      RETURN_IF_ERROR(UseAs(path));
      return true;
    }
    RETURN_IF_ERROR(files_.Remove(path));  // made under another segment size
  }
  absl::StatusOr<bool> done = Fill();
  if (!done.ok()) {
    filling_.reset();
    (void)files_.Remove(Path(kFillingName));  // gives the space back; if that fails, the next open removes it
  }
  return done;
}

absl::StatusOr<bool> SegmentPool::Fill() {
  if (filling_ == nullptr) {
    // Not begun in vain: on a full disk even for a moment nothing would be left to the index.
    ASSIGN_OR_RETURN(const uint64_t free, files_.FreeBytes(dir_));
    if (free < options_.segment_bytes) {
      return absl::ResourceExhaustedError(
          fmt::format("{}: {} bytes free, a segment has {}", dir_, free, options_.segment_bytes));
    }
    ASSIGN_OR_RETURN(filling_, files_.Open(Path(kFillingName), {.create = true, .run_bytes = kStepBytes}));
    RETURN_IF_ERROR(filling_->Truncate(0));
    filled_ = 0;
  }
  const uint64_t count = std::min(kStepBytes, options_.segment_bytes - filled_);
  RETURN_IF_ERROR(filling_->WriteAt(filled_, Bytes::Take(std::string(count, '\0'))));
  filling_->StartWriteback(filled_, count);
  filled_ += count;
  if (filled_ < options_.segment_bytes) return false;
  RETURN_IF_ERROR(filling_->Sync());
  filling_.reset();
  RETURN_IF_ERROR(UseAs(Path(kFillingName)));
  return true;
}

absl::Status SegmentPool::UseAs(const std::string& from) {
  const std::string path = Path(SegmentName(next_generation_));
  RETURN_IF_ERROR(files_.Rename(from, path));
  RETURN_IF_ERROR(files_.SyncDir(dir_));
  ASSIGN_OR_RETURN(std::shared_ptr<env::File> file, files_.Open(path, {.direct = true}));
  prepared_ = PreparedSegment{next_generation_++, std::move(file)};
  return absl::OkStatus();
}

absl::Status SegmentPool::Recycle(const std::string& path, uint64_t generation, uint64_t bytes, bool clean) {
  // What an earlier call has moved or removed already is not found.
  const auto unless_done = [](const absl::Status& status) {
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  };
  const std::string spare = SpareName(generation);
  const bool keep = clean && bytes == options_.segment_bytes && spares_.size() < options_.spare_segments;
  RETURN_IF_ERROR(unless_done(keep ? files_.Rename(path, Path(spare)) : files_.Remove(path)));
  RETURN_IF_ERROR(files_.SyncDir(dir_));
  ASSIGN_OR_RETURN(const bool kept, files_.Exists(Path(spare)));
  if (kept) spares_.push_back(spare);
  return absl::OkStatus();
}

}  // namespace sluice::log
