// The file system as a seam: POSIX in the product, memory with crash clones in the simulator.
//
//   ASSIGN_OR_RETURN(auto file, files.Open(path, {.create = true}));
//   RETURN_IF_ERROR(file->WriteAt(0, data));
//   RETURN_IF_ERROR(file->Sync());            // data is durable...
//   RETURN_IF_ERROR(files.SyncDir(folder));   // ...and so is the name
//
// All calls block: never on a shard thread. Paths are '/'-separated. Files is thread-safe; a File is used by
// one thread at a time, except ReadAt, which may run beside anything. Errors: NOT_FOUND, ALREADY_EXISTS,
// RESOURCE_EXHAUSTED (ENOSPC, EDQUOT, EMFILE), DATA_LOSS (EIO), else INTERNAL; the message names operation,
// path and errno. After a failed Sync the state of unsynced data is unknown: the caller must not sync this
// file again and acknowledge (F-10).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "env/aligned_memory.h"

namespace sluice::env {

class File {
 public:
  virtual ~File() = default;
  // Reads up to `count` bytes at `offset` into `out`; fewer only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t count) = 0;
  // Writes all of `data` at `offset`, extending the file as needed. Not durable until Sync.
  virtual absl::Status WriteAt(uint64_t offset, const Bytes& data) = 0;
  // Writes all of `data` at `offset` and makes it durable before it returns (RWF_DSYNC; with
  // OpenOptions::direct, O_DIRECT where the file system allows it). `offset` and `data.size()` are multiples
  // of kSectorBytes. The file's size must already cover the range for this to be one device write.
  virtual absl::Status WriteDurably(uint64_t offset, const Bytes& data) = 0;
  // Makes everything written so far durable (fdatasync: data and size).
  virtual absl::Status Sync() = 0;
  // Asks the kernel to start writing the range to the device, without waiting.
  // A hint: no durability, no error.
  virtual void StartWriteback(uint64_t offset, uint64_t count) = 0;
  virtual absl::StatusOr<uint64_t> Size() = 0;
  virtual absl::Status Truncate(uint64_t size) = 0;
  // Drops the range from the page cache, so that the next read comes from the device. A hint.
  virtual void DropCache() {}
};

struct OpenOptions {
  bool create = false;     // make the file if it is absent
  bool exclusive = false;  // with create: ALREADY_EXISTS if it is there
  bool direct = false;     // WriteDurably bypasses the page cache where possible, and so does a ReadAt of a
                           // read_only file whose offset, count and memory are multiples of kBlockBytes
  bool read_only = false;
  // Above 0: WriteAts that follow one another are collected and go past the page cache, where possible, in
  // runs of this size, a multiple of kBlockBytes. For bulk: a copy less, and the cache keeps what is read.
  // ReadAt, Size and Sync see what waits in memory; another open file sees it after Sync.
  size_t run_bytes = 0;
  // RESOURCE_EXHAUSTED when only the reserve of descriptors is left (F-14).
  bool for_client = false;
};

// Held from LockFile until destruction.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class Files {
 public:
  virtual ~Files() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) = 0;
  // A file or an empty folder.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Replaces `to` if it exists.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Makes the folder and its parents; fine if it is there. Syncs every parent in which it made an entry.
  virtual absl::Status MakeDirs(const std::string& path) = 0;
  // Makes creations, renames and removals in this folder durable. RESOURCE_EXHAUSTED: the folder could not be
  // opened, and nothing was tried; any other failure is final.
  virtual absl::Status SyncDir(const std::string& path) = 0;
  // Names (not paths) in the folder, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  // Takes an exclusive lock between processes; FAILED_PRECONDITION naming the path
  // if another holds it (F-19).
  virtual absl::StatusOr<std::unique_ptr<FileLock>> LockFile(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> FreeBytes(const std::string& path) = 0;
};

Files& RealFiles();

// Of "a/b": "a"; of "b": ".".
std::string FolderOf(const std::string& path);

// Recipe for small files: writes `data` to `path`.tmp, syncs it, renames it over `path`, syncs the folder.
// After a crash `path` holds the old or the new content, whole.
absl::Status WriteFileDurably(Files& files, const std::string& path, const Bytes& data);
// The whole file; `size_max` bounds the allocation (RESOURCE_EXHAUSTED beyond).
absl::StatusOr<std::string> ReadWholeFile(Files& files, const std::string& path, size_t size_max);

}  // namespace sluice::env
