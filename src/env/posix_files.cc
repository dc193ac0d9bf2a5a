#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/check.h"
#include "env/descriptors.h"
#include "env/files.h"
#include "env/write_run.h"

namespace sluice::env {
namespace {

// One O_DIRECT write copies at most this much; more becomes several synced writes.
constexpr size_t kDirectBytesMax = 4 << 20;

absl::Status PosixError(const char* operation, const std::string& path, int error) {
  const std::string message =
      fmt::format("{} {}: {} (errno {})", operation, path, strerrordesc_np(error), error);
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case EIO:
      return absl::DataLossError(message);
    default:
      return absl::InternalError(message);
  }
}

// Repeats a system call that a signal interrupted.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

class PosixFile final : public File {
 public:
  PosixFile(std::string path, Descriptor fd, Descriptor direct_fd, const OpenOptions& options)
      : path_(std::move(path)), fd_(std::move(fd)), direct_fd_(std::move(direct_fd)), options_(options) {
    if (options.run_bytes > 0) run_.emplace(options.run_bytes);
  }
  ~PosixFile() override {
    std::lock_guard lock(run_mutex_);
    (void)SpillRun();  // like any write without a sync: nothing was promised
  }

  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t count) override {
    {
      std::lock_guard lock(run_mutex_);
      if (run_ && offset < run_->end() && offset + count > run_->at()) RETURN_IF_ERROR(SpillRun());
    }
    const bool aligned = (offset | count | reinterpret_cast<uintptr_t>(out)) % kBlockBytes == 0;
    bool direct = options_.read_only && direct_fd_.valid() && aligned;
    size_t done = 0;
    while (done < count) {
      // What a short direct read leaves is not whole blocks any more.
      const int fd = direct && done == 0 ? direct_fd_.get() : fd_.get();
      const ssize_t n =
          Retry([&] { return pread(fd, out + done, count - done, static_cast<off_t>(offset + done)); });
      // A file system may open a file with O_DIRECT and yet not read it so.
      if (n < 0 && errno == EINVAL && std::exchange(direct, false)) continue;
      if (n < 0) return PosixError("read", path_, errno);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  absl::Status WriteAt(uint64_t offset, const Bytes& data) override {
    if (run_) {
      std::lock_guard lock(run_mutex_);
      return AppendToRun(offset, data);
    }
    return WriteBuffered(offset, data);
  }

  absl::Status WriteDurably(uint64_t offset, const Bytes& data) override {
    SLUICE_CHECK(offset % kSectorBytes == 0 && data.size() % kSectorBytes == 0)
        << path_ << ": " << data.size() << " bytes at " << offset << " are not whole sectors";
    for (size_t done = 0; done < data.size() && direct_fd_.valid();) {
      const Bytes piece = data.Slice(done, kDirectBytesMax);
      ASSIGN_OR_RETURN(const bool written, WriteDirectly(offset + done, piece));
      if (!written) {
        direct_fd_ = Descriptor();
        return WriteBufferedDurably(offset + done, data.Slice(done, data.size()));
      }
      done += piece.size();
    }
    if (direct_fd_.valid()) return absl::OkStatus();
    return WriteBufferedDurably(offset, data);
  }

  absl::Status Sync() override {
    {
      std::lock_guard lock(run_mutex_);
      RETURN_IF_ERROR(SpillRun());
      if (run_) run_->Release();  // who syncs pauses, or is done
    }
    if (Retry([&] { return fdatasync(fd_.get()); }) != 0) return PosixError("sync", path_, errno);
    return absl::OkStatus();
  }

  void StartWriteback(uint64_t offset, uint64_t count) override {
    if (run_ && direct_fd_.valid()) return;  // is on its way
    (void)sync_file_range(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(count),
                          SYNC_FILE_RANGE_WRITE);
  }

  absl::StatusOr<uint64_t> Size() override {
    struct stat status {};
    if (fstat(fd_.get(), &status) != 0) return PosixError("stat", path_, errno);
    std::lock_guard lock(run_mutex_);
    return std::max(static_cast<uint64_t>(status.st_size), run_ && !run_->empty() ? run_->end() : 0);
  }

  absl::Status Truncate(uint64_t size) override {
    std::lock_guard lock(run_mutex_);
    if (run_ && !run_->empty()) {
      if (size < run_->at()) {
        run_->Restart(0);
      } else {
        run_->Cut(size);
      }
    }
    if (Retry([&] { return ftruncate(fd_.get(), static_cast<off_t>(size)); }) != 0) {
      return PosixError("truncate", path_, errno);
    }
    return absl::OkStatus();
  }

  void DropCache() override { (void)posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED); }

 private:
  absl::Status WriteBuffered(uint64_t offset, const Bytes& data) {
    const int error = WriteVector(offset, data, 0);
    return error == 0 ? absl::OkStatus() : PosixError("write", path_, error);
  }

  // The three that follow: under run_mutex_.
  absl::Status AppendToRun(uint64_t offset, const Bytes& data) {
    if (run_->empty() ? offset != run_->at() : offset != run_->end()) RETURN_IF_ERROR(StartRun(offset));
    for (size_t done = 0;;) {
      if (run_->full()) RETURN_IF_ERROR(WriteRunOut());
      if (done == data.size()) return absl::OkStatus();
      const size_t taken = run_->Take(data.Slice(done, data.size() - done));
      if (taken == 0) return PosixError("allocate for", path_, ENOMEM);
      done += taken;
    }
  }

  // A run begins at a block, so it begins with what the file has in front of `offset` in that block.
  absl::Status StartRun(uint64_t offset) {
    RETURN_IF_ERROR(SpillRun());
    const uint64_t begin = offset / kBlockBytes * kBlockBytes;
    std::string before(offset - begin, '\0');
    if (!before.empty()) {
      const ssize_t n =
          Retry([&] { return pread(fd_.get(), before.data(), before.size(), static_cast<off_t>(begin)); });
      if (n < 0) return PosixError("read", path_, errno);
    }
    run_->Restart(begin);
    if (!before.empty() && run_->Take(Bytes::Take(std::move(before))) == 0) {
      return PosixError("allocate for", path_, ENOMEM);
    }
    run_->MarkClean();
    return absl::OkStatus();
  }

  absl::Status WriteRunOut() {
    if (!direct_fd_.valid()) {
      RETURN_IF_ERROR(SpillRun());
      run_->Advance();
      return absl::OkStatus();
    }
    const std::string_view bytes = run_->bytes();
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = Retry([&] {
        return pwrite(direct_fd_.get(), bytes.data() + done, bytes.size() - done,
                      static_cast<off_t>(run_->at() + done));
      });
      if (n < 0 && errno == EINVAL) {  // this file system has no O_DIRECT after all
        direct_fd_ = Descriptor();
        return WriteRunOut();
      }
      if (n < 0) return PosixError("write", path_, errno);
      const size_t whole_blocks = static_cast<size_t>(n) / kBlockBytes * kBlockBytes;
      if (whole_blocks == 0) return PosixError("write", path_, EIO);
      done += whole_blocks;
    }
    run_->Advance();
    return absl::OkStatus();
  }

  // Brings what waits in memory to the page cache. It stays in the run, which may yet become whole.
  absl::Status SpillRun() {
    if (!run_ || run_->unwritten().empty()) return absl::OkStatus();
    const std::string_view bytes = run_->unwritten();
    const Bytes data = Bytes::Wrap(bytes.data(), bytes.size(), [] {});
    RETURN_IF_ERROR(WriteBuffered(run_->at() + run_->clean(), data));
    run_->MarkClean();
    return absl::OkStatus();
  }

  // Writes all of `data`, however many chunks it has and however little each call takes.
  // Returns an errno or 0.
  int WriteVector(uint64_t offset, const Bytes& data, int flags) {
    std::vector<iovec> pieces;
    data.ForEachChunk([&](std::string_view chunk) {
      pieces.push_back({const_cast<char*>(chunk.data()), chunk.size()});
    });
    for (size_t first = 0; first < pieces.size();) {
      const int count = static_cast<int>(std::min<size_t>(pieces.size() - first, IOV_MAX));
      const ssize_t n = Retry(
          [&] { return pwritev2(fd_.get(), &pieces[first], count, static_cast<off_t>(offset), flags); });
      if (n < 0) return errno;
      if (n == 0) return EIO;
      offset += static_cast<uint64_t>(n);
      size_t left = static_cast<size_t>(n);
      while (first < pieces.size() && left >= pieces[first].iov_len) left -= pieces[first++].iov_len;
      if (left > 0) {
        pieces[first].iov_base = static_cast<char*>(pieces[first].iov_base) + left;
        pieces[first].iov_len -= left;
      }
    }
    return 0;
  }

  absl::Status WriteBufferedDurably(uint64_t offset, const Bytes& data) {
    if (has_dsync_) {
      const int error = WriteVector(offset, data, RWF_DSYNC);
      if (error == 0) return absl::OkStatus();
      if (error != EOPNOTSUPP && error != ENOSYS) return PosixError("write durably", path_, error);
      has_dsync_ = false;
    }
    RETURN_IF_ERROR(WriteAt(offset, data));
    return Sync();
  }

  // False when this file system refuses O_DIRECT or RWF_DSYNC: nothing is promised then about the range.
  absl::StatusOr<bool> WriteDirectly(uint64_t offset, const Bytes& data) {
    if (aligned_bytes_ < data.size()) {
      aligned_ = AllocateAligned(WholeBlocks(data.size()));
      if (aligned_ == nullptr) return PosixError("allocate for", path_, ENOMEM);
      aligned_bytes_ = data.size();
    }
    data.CopyTo(aligned_.get());
    for (size_t done = 0; done < data.size();) {
      iovec piece{aligned_.get() + done, data.size() - done};
      const ssize_t n = Retry([&] {
        return pwritev2(direct_fd_.get(), &piece, 1, static_cast<off_t>(offset + done), RWF_DSYNC);
      });
      if (n < 0 && (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) return false;
      if (n < 0) return PosixError("write", path_, errno);
      const size_t whole_sectors = static_cast<size_t>(n) / kSectorBytes * kSectorBytes;
      if (whole_sectors == 0) return PosixError("write", path_, EIO);
      done += whole_sectors;
    }
    return true;
  }

  const std::string path_;
  const Descriptor fd_;
  Descriptor direct_fd_;  // with O_DIRECT; invalid when not wanted or not possible
  const OpenOptions options_;
  bool has_dsync_ = true;
  std::mutex run_mutex_;         // ReadAt runs beside anything
  std::optional<WriteRun> run_;  // guarded by run_mutex_; set once
  AlignedMemory aligned_;
  size_t aligned_bytes_ = 0;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  const Descriptor fd_;  // closing it gives the lock back
};

class PosixFiles final : public Files {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) override {
    int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
    if (options.create) flags |= O_CREAT;
    if (options.create && options.exclusive) flags |= O_EXCL;
    Descriptor fd(Retry([&] { return open(path.c_str(), flags, 0644); }));
    if (!fd.valid()) return PosixError("open", path, errno);
    Descriptor direct_fd;
    if (options.direct || options.run_bytes > 0) {
      const int access = options.read_only ? O_RDONLY : O_RDWR;
      direct_fd = Descriptor(Retry([&] { return open(path.c_str(), O_CLOEXEC | access | O_DIRECT); }));
      if (!direct_fd.valid() && errno != EINVAL) return PosixError("open", path, errno);
    }
    if (options.for_client && IsOfReserve(std::max(fd.get(), direct_fd.get()))) {
      return absl::ResourceExhaustedError(
          fmt::format("open {}: of {} descriptors the last {} are not for clients", path, DescriptorLimit(),
                      DescriptorReserve()));
    }
    return std::make_unique<PosixFile>(path, std::move(fd), std::move(direct_fd), options);
  }

  absl::Status Remove(const std::string& path) override {
    if (::remove(path.c_str()) != 0) return PosixError("remove", path, errno);
    return absl::OkStatus();
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return PosixError("rename", from + " to " + to, errno);
    return absl::OkStatus();
  }

  absl::Status MakeDirs(const std::string& path) override {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string folder = path.substr(0, end);
      if (mkdir(folder.c_str(), 0755) == 0) {
        const size_t slash = folder.find_last_of('/');
        RETURN_IF_ERROR(
            SyncDir(slash == std::string::npos ? "." : folder.substr(0, std::max<size_t>(slash, 1))));
      } else if (errno != EEXIST) {
        return PosixError("make folder", folder, errno);
      }
      if (end == std::string::npos) break;
    }
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return PosixError("stat", path, errno);
    return S_ISDIR(status.st_mode) ? absl::OkStatus() : PosixError("make folder", path, EEXIST);
  }

  absl::Status SyncDir(const std::string& path) override {
    const Descriptor fd(Retry([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd.valid()) return PosixError("open folder", path, errno);
    if (Retry([&] { return fsync(fd.get()); }) == 0) return absl::OkStatus();
    // Final whatever the reason: a full disk, too, may have cost the change (F-10).
    const absl::Status failed = PosixError("sync folder", path, errno);
    return absl::IsResourceExhausted(failed) ? absl::DataLossError(failed.message()) : failed;
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    DIR* folder = opendir(path.c_str());
    if (folder == nullptr) return PosixError("list", path, errno);
    const auto close_folder = absl::MakeCleanup([&] { closedir(folder); });
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(folder);
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return PosixError("list", path, errno);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<bool> Exists(const std::string& path) override {
    struct stat status {};
    if (stat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return PosixError("stat", path, errno);
  }

  absl::StatusOr<std::unique_ptr<FileLock>> LockFile(const std::string& path) override {
    Descriptor fd(Retry([&] { return open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644); }));
    if (!fd.valid()) return PosixError("open lock", path, errno);
    if (Retry([&] { return flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) return PosixError("lock", path, errno);
      return absl::FailedPreconditionError(fmt::format("{} is locked by another process", path));
    }
    return std::make_unique<PosixLock>(std::move(fd));
  }

  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override {
    struct statvfs status {};
    if (statvfs(path.c_str(), &status) != 0) return PosixError("statvfs", path, errno);
    return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  }
};

}  // namespace

Files& RealFiles() {
  static PosixFiles files;
  return files;
}

}  // namespace sluice::env
