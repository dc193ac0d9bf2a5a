// Small durable facts by key: names, contents, holders, the missing set, sessions, applied indexes (D-23).
//
//   IndexBatch batch;  batch.Put(key, value);  batch.Delete(other);
//   RETURN_IF_ERROR(index->Write(batch));          // atomic, visible at once, not yet durable
//   RETURN_IF_ERROR(index->Flush());               // everything written so far is durable
//
// There is no write-ahead log: the Raft log is that. After a crash the index is as it was after some Write at
// or after the last Flush, never a part of a batch, never an earlier batch missing: batches also get durable
// without a Flush, when the memory for them is full. Whatever entries rely on elsewhere (links and removals
// of contents) is therefore made durable by IndexHooks::before_durable, not by callers. Keys are ordered by
// unsigned bytes. Threading: thread-safe. Get and Scan answer from memory or disk and may block on a disk
// read; Flush blocks: a group calls them on its apply executor, never on a shard. Two implementations behind
// one contract test: RocksDB in the product, an ordered map with checkpoints in the simulator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "env/files.h"
#include "env/random.h"

namespace sluice::blob {

struct IndexOptions {
  uint64_t cache_bytes = 64u << 20;         // blocks of tables, their filters and indexes among them
  uint64_t write_buffer_bytes = 16u << 20;  // written and not yet in a table; two of them at most
  // A file that is there to be given up: on a full disk the index opens, and becomes durable, in its room.
  uint64_t ballast_bytes = 16u << 20;
};

struct IndexHooks {
  // Called before anything that was written gets durable, whoever starts that, on the thread that does it.
  // An error keeps it from getting durable: RESOURCE_EXHAUSTED may pass, every other one is final.
  std::function<absl::Status()> before_durable;
  // Of the map: makes a write durable now and then, as RocksDB does when its memory is full.
  env::Random* flush_at_random = nullptr;
};

class IndexBatch {
 public:
  void Put(std::string key, std::string value) { changes_.push_back({std::move(key), std::move(value)}); }
  void Delete(std::string key) { changes_.push_back({std::move(key), std::nullopt}); }
  // Every key from `from` on that is less than `end`.
  void DeleteRange(std::string from, std::string end) {
    changes_.push_back({std::move(from), std::nullopt, std::move(end)});
  }
  bool empty() const { return changes_.empty(); }
  struct Change {
    std::string key;
    std::optional<std::string> value;  // nullopt deletes
    std::string end = {};              // not empty: deletes up to here
  };
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
};

// What an index held at one moment, whatever is written to it after that.
class IndexView {
 public:
  virtual ~IndexView() = default;
  // As Index::Scan.
  virtual absl::Status Scan(
      std::string_view prefix, std::string_view from,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
};

class Index {
 public:
  virtual ~Index() = default;
  virtual absl::StatusOr<std::optional<std::string>> Get(std::string_view key) = 0;
  virtual absl::Status Write(const IndexBatch& batch) = 0;
  // Visits entries with key >= `from` that start with `prefix`, in order, until `visit` answers false.
  virtual absl::Status Scan(
      std::string_view prefix, std::string_view from,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) = 0;
  // Deletes every key that starts with `prefix`.
  virtual absl::Status DeletePrefix(std::string_view prefix) = 0;
  // The index as it is now, to be read on another thread while writing goes on. Taken at once; old entries
  // stay on disk while it lives. The index must outlive it.
  virtual std::unique_ptr<IndexView> View() = 0;
  // RESOURCE_EXHAUSTED: the disk has no room for it, and nothing was tried; the index goes on (F-12).
  virtual absl::Status Flush() = 0;
  // Nothing gets durable from here on, and no hook is called: Flush fails, and so may Write.
  virtual void Stop() = 0;
};

// Both create `dir` if it is absent.
absl::StatusOr<std::unique_ptr<Index>> OpenRocksIndex(env::Files& files, const std::string& dir,
                                                      const IndexOptions& options = {},
                                                      IndexHooks hooks = {});
absl::StatusOr<std::unique_ptr<Index>> OpenMapIndex(env::Files& files, const std::string& dir,
                                                    const IndexOptions& options = {}, IndexHooks hooks = {});

}  // namespace sluice::blob
