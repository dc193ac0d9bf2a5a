#include "log/hard_state.h"

#include <utility>

namespace sluice::log {

absl::StatusOr<LoadedHardState> LoadHardState(env::Files& files, const std::string& path,
                                              const GroupId& group) {
  LoadedHardState loaded;
  auto file = files.Open(path, {.read_only = true});
  if (file.status().code() == absl::StatusCode::kNotFound) return loaded;
  if (!file.ok()) return file.status();
  loaded.exists = true;
  (*file)->DropCache();  // what a failed sync left there is not on the device (F-10)
  std::optional<HardStateBlock> copies[2];
  for (size_t i = 0; i < 2; ++i) {
    std::string block(kHardStateBlockBytes, '\0');
    const auto count = (*file)->ReadAt(i * kHardStateBlockBytes, block.data(), block.size());
    if (!count.ok() && count.status().code() != absl::StatusCode::kDataLoss) return count.status();
    if (!count.ok()) continue;
    copies[i] = DecodeHardState(std::string_view(block).substr(0, *count));
    if (copies[i] && copies[i]->group != group) copies[i].reset();
  }
  loaded.healthy = copies[0] && copies[1] && copies[0]->sequence == copies[1]->sequence;
  loaded.newest = copies[0];
  if (copies[1] && (!copies[0] || copies[1]->sequence > copies[0]->sequence)) loaded.newest = copies[1];
  return loaded;
}

HardStateFile::HardStateFile(env::Files& files, std::string path, const GroupId& group, uint64_t sequence)
    : files_(files), path_(std::move(path)), group_(group), sequence_(sequence) {}

absl::Status HardStateFile::Store(const raft::HardState& state, uint64_t log_sequence) {
  ASSIGN_OR_RETURN(
      const std::string block,
      EncodeHardState(
          {.sequence = sequence_ + 1, .log_sequence = log_sequence, .group = group_, .state = state}));
  const Bytes copy = Bytes::Copy(block);
  if (file_ == nullptr) {
    ASSIGN_OR_RETURN(const bool exists, files_.Exists(path_));
    if (exists) {
      // An earlier call may have failed between the file's rename and this.
      RETURN_IF_ERROR(files_.SyncDir(env::FolderOf(path_)));
    } else {
      Bytes both = copy;
      both.Append(copy);
      RETURN_IF_ERROR(env::WriteFileDurably(files_, path_, both));
      ++sequence_;
    }
    ASSIGN_OR_RETURN(file_, files_.Open(path_, {.direct = true}));
    if (!exists) return absl::OkStatus();
  }
  ++sequence_;
  // One after the other: at any time one copy is whole.
  RETURN_IF_ERROR(file_->WriteDurably(0, copy));
  return file_->WriteDurably(kHardStateBlockBytes, copy);
}

}  // namespace sluice::log
