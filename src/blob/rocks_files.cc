#include "blob/rocks_files.h"

#include <rocksdb/env.h>
#include <rocksdb/io_status.h>

#include <string>
#include <utility>
#include <vector>

namespace sluice::blob {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus ToRocks(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const std::string message(Message(status));
  if (absl::IsNotFound(status)) return IOStatus::PathNotFound(message);
  if (absl::IsResourceExhausted(status)) return IOStatus::NoSpace(message);
  IOStatus result = IOStatus::IOError(message);
  result.SetDataLoss(absl::IsDataLoss(status));
  return result;
}

// Reads into `scratch` and points `result` at what came.
IOStatus ReadInto(env::File& file, uint64_t offset, size_t n, Slice* result, char* scratch) {
  auto got = file.ReadAt(offset, scratch, n);
  *result = Slice(scratch, got.ok() ? *got : 0);
  return ToRocks(got.status());
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::unique_ptr<env::File> file) : file_(std::move(file)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    IOStatus status = ReadInto(*file_, offset_, n, result, scratch);
    offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<env::File> file_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(std::unique_ptr<env::File> file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadInto(*file_, offset, n, result, scratch);
  }

 private:
  const std::unique_ptr<env::File> file_;
};

class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(std::unique_ptr<env::File> file, uint64_t size, std::function<absl::Status()> before_sync,
               std::function<absl::Status(uint64_t)> room_beside_reserve)
      : file_(std::move(file)),
        size_(size),
        before_sync_(std::move(before_sync)),
        room_beside_reserve_(std::move(room_beside_reserve)) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    // RocksDB gives the files of compactions the low priority, and those of flushes the high one.
    if (io_priority_ == rocksdb::Env::IO_LOW) {
      if (absl::Status room = room_beside_reserve_(data.size()); !room.ok()) return ToRocks(room);
    }
    // Copied, because a File may keep the bytes longer than RocksDB keeps its buffer.
    absl::Status status = file_->WriteAt(size_, Bytes::Copy({data.data(), data.size()}));
    if (status.ok()) size_ += data.size();
    return ToRocks(status);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    absl::Status status = file_->Truncate(size);
    if (status.ok()) size_ = size;
    return ToRocks(status);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    file_.reset();
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    if (before_sync_) {
      if (absl::Status status = before_sync_(); !status.ok()) return ToRocks(status);
      before_sync_ = nullptr;
    }
    return ToRocks(file_->Sync());
  }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return size_; }

 private:
  std::unique_ptr<env::File> file_;
  uint64_t size_;
  std::function<absl::Status()> before_sync_;  // until it was called
  const std::function<absl::Status(uint64_t)> room_beside_reserve_;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(env::Files& files, std::string path) : files_(files), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return ToRocks(files_.SyncDir(path_)); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  env::Files& files_;
  const std::string path_;
};

class HeldLock final : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::unique_ptr<env::FileLock> lock) : lock_(std::move(lock)) {}

 private:
  const std::unique_ptr<env::FileLock> lock_;
};

// RocksDB's own log lines; what matters reaches us as a Status.
class Silence final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

class RocksFiles final : public rocksdb::FileSystem {
 public:
  RocksFiles(env::Files& files, std::function<absl::Status()> before_durable, uint64_t reserve_bytes)
      : files_(files), before_durable_(std::move(before_durable)), reserve_bytes_(reserve_bytes) {}
  const char* Name() const override { return "SluiceFiles"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result, IODebugContext*) override {
    auto file = files_.Open(path, {.read_only = true});
    if (!file.ok()) return ToRocks(file.status());
    *result = std::make_unique<SequentialFile>(*std::move(file));
    return IOStatus::OK();
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext*) override {
    auto file = files_.Open(path, {.read_only = true});
    if (!file.ok()) return ToRocks(file.status());
    *result = std::make_unique<RandomAccessFile>(*std::move(file));
    return IOStatus::OK();
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    return OpenToWrite(path, true, result);
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions&,
                              std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    return OpenToWrite(path, false, result);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result, IODebugContext*) override {
    *result = std::make_unique<Directory>(files_, path);
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto exists = files_.Exists(path);
    if (!exists.ok()) return ToRocks(exists.status());
    return *exists ? IOStatus::OK() : IOStatus::NotFound();
  }
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    auto names = files_.List(path);
    if (absl::IsNotFound(names.status())) return IOStatus::NotFound();
    if (!names.ok()) return ToRocks(names.status());
    *result = *std::move(names);
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToRocks(files_.Remove(path));
  }
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToRocks(files_.MakeDirs(path));
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToRocks(files_.MakeDirs(path));
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::NotSupported("DeleteDir");
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override {
    auto file = files_.Open(path, {.read_only = true});
    if (!file.ok()) return ToRocks(file.status());
    auto bytes = (*file)->Size();
    if (bytes.ok()) *size = *bytes;
    return ToRocks(bytes.status());
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t*,
                                   IODebugContext*) override {
    return IOStatus::NotSupported("GetFileModificationTime");
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override {
    return ToRocks(files_.Rename(from, to));
  }
  IOStatus LockFile(const std::string& path, const IOOptions&, rocksdb::FileLock** lock,
                    IODebugContext*) override {
    auto held = files_.LockFile(path);
    *lock = nullptr;
    if (!held.ok()) return ToRocks(held.status());
    *lock = new HeldLock(*std::move(held));
    return IOStatus::OK();
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string*, IODebugContext*) override {
    return IOStatus::NotSupported("GetTestDirectory");
  }
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<Silence>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* result,
                           IODebugContext*) override {
    *result = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_directory,
                       IODebugContext*) override {
    *is_directory = files_.List(path).ok();
    return IOStatus::OK();
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions&, uint64_t* free, IODebugContext*) override {
    auto bytes = files_.FreeBytes(path);
    if (bytes.ok()) *free = *bytes;
    return ToRocks(bytes.status());
  }

 private:
  IOStatus OpenToWrite(const std::string& path, bool empty,
                       std::unique_ptr<rocksdb::FSWritableFile>* result) {
    auto file = files_.Open(path, {.create = true});
    if (!file.ok()) return ToRocks(file.status());
    auto size = (*file)->Size();
    if (size.ok() && empty && *size > 0) {
      if (absl::Status cut = (*file)->Truncate(0); !cut.ok()) return ToRocks(cut);
      size = 0;
    }
    if (size.ok()) {
      *result = std::make_unique<WritableFile>(std::move(file).value(), *size,
                                               path.ends_with(".sst") ? before_durable_ : nullptr,
                                               [this, path](uint64_t bytes) { return Room(path, bytes); });
    }
    return ToRocks(size.status());
  }

  // OK if `bytes` more at `path` leave the reserve as it is.
  absl::Status Room(const std::string& path, uint64_t bytes) {
    ASSIGN_OR_RETURN(const uint64_t free, files_.FreeBytes(path));
    if (free >= bytes + reserve_bytes_) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        fmt::format("write {}: {} bytes free, of which {} are kept", path, free, reserve_bytes_));
  }

  env::Files& files_;
  const std::function<absl::Status()> before_durable_;
  const uint64_t reserve_bytes_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> NewRocksFiles(env::Files& files,
                                                   std::function<absl::Status()> before_durable,
                                                   uint64_t reserve_bytes) {
  return std::make_shared<RocksFiles>(files, std::move(before_durable), reserve_bytes);
}

}  // namespace sluice::blob
