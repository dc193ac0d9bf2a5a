#include "client/content.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/sigpipe.h"
#include "base/strings.h"

namespace sluice::client {
namespace {

constexpr uint64_t kBeyondMax = 1u << 20;  // read to say how long a file is that goes on after its size

absl::Status FileError(const std::string& path, const char* doing) {
  const int error = errno;
  const std::string text = fmt::format("{} {}: {}", doing, path, strerror(error));
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(text);
  if (error == ENOSPC) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileContent>> FileContent::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for its writer
  if (fd < 0) return FileError(path, "cannot open");
  struct stat facts {};
  if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(
        fmt::format("{} is no regular file: only files of a known size can be put", path));
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::unique_ptr<FileContent>(new FileContent(path, fd, static_cast<uint64_t>(facts.st_size)));
}

FileContent::~FileContent() { close(fd_); }

absl::StatusOr<Bytes> FileContent::Read(uint64_t offset, uint64_t count) {
  auto memory = std::make_unique<char[]>(count);
  for (uint64_t done = 0; done < count;) {
    const ssize_t got = pread(fd_, memory.get() + done, count - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, "cannot read");
    if (got == 0) {
      return absl::DataLossError(
          fmt::format("{} ends at {}, before its size of {}: it changed while it was sent", path_,
                      offset + done, length_));
    }
    done += static_cast<uint64_t>(got);
  }
  char* data = memory.release();
  return Bytes::Wrap(data, count, [data] { std::unique_ptr<char[]> last(data); });
}

// A file may grow while it is sent, and some files, as those in /proc, have a size of 0 and bytes nevertheless.
absl::Status FileContent::CheckEnd() {
  uint64_t size = length_;
  char buffer[4096];
  while (true) {
    const ssize_t got = pread(fd_, buffer, sizeof buffer, static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, "cannot read");
    if (got == 0) break;
    size += static_cast<uint64_t>(got);
    if (size - length_ >= kBeyondMax) break;
  }
  if (size == length_) return absl::OkStatus();
  return absl::DataLossError(fmt::format(
      "{} has {}{} bytes, and its size was {} when the put began: copy it to a file that does not change",
      path_, size - length_ >= kBeyondMax ? "more than " : "", size, length_));
}

absl::Status WriteAll(int fd, const Bytes& data, const std::string& what) {
  const WithoutSigpipe quiet;  // `fd` may be a pipe
  absl::Status status;
  data.ForEachChunk([&](std::string_view chunk) {
    while (status.ok() && !chunk.empty()) {
      const ssize_t written = write(fd, chunk.data(), chunk.size());
      if (written >= 0) {
        chunk.remove_prefix(static_cast<size_t>(written));
      } else if (errno != EINTR) {
        status = FileError(what, "cannot write");
      }
    }
  });
  return status;
}

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  struct stat facts {};
  const bool in_place = stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode);
  const std::string temporary = in_place ? "" : fmt::format("{}.sluice-{}", path, getpid());
  const std::string& opened = in_place ? path : temporary;
  const int fd = open(opened.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(opened, "cannot create");
  return std::unique_ptr<OutputFile>(new OutputFile(path, temporary, fd));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status OutputFile::Append(const Bytes& data) { return WriteAll(fd_, data, path_); }

absl::Status OutputFile::Commit() {
  if (close(std::exchange(fd_, -1)) != 0) return FileError(path_, "cannot write");
  if (temporary_.empty()) return absl::OkStatus();
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return FileError(path_, "cannot rename to");
  temporary_.clear();
  return absl::OkStatus();
}

}  // namespace sluice::client
