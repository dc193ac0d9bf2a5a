#include "env/files.h"

#include "absl/cleanup/cleanup.h"

namespace sluice::env {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteFileDurably(Files& files, const std::string& path, const Bytes& data) {
  const std::string temporary = path + ".tmp";
  auto discard = absl::MakeCleanup([&] { files.Remove(temporary).IgnoreError(); });
  {
    ASSIGN_OR_RETURN(auto file, files.Open(temporary, {.create = true}));
    RETURN_IF_ERROR(file->Truncate(0));  // a crash may have left an older one
    RETURN_IF_ERROR(file->WriteAt(0, data));
    RETURN_IF_ERROR(file->Sync());
  }
  RETURN_IF_ERROR(files.Rename(temporary, path));
  std::move(discard).Cancel();
  return files.SyncDir(FolderOf(path));
}

absl::StatusOr<std::string> ReadWholeFile(Files& files, const std::string& path, size_t size_max) {
  ASSIGN_OR_RETURN(auto file, files.Open(path, {.read_only = true}));
  ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > size_max) {
    return absl::ResourceExhaustedError(
        fmt::format("read {}: {} bytes, at most {} expected", path, size, size_max));
  }
  std::string content(size, '\0');
  ASSIGN_OR_RETURN(const size_t count, file->ReadAt(0, content.data(), content.size()));
  content.resize(count);
  return content;
}

}  // namespace sluice::env
