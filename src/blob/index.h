// Small durable facts by key: names, contents, holders, the missing set, sessions, applied indexes (D-23).
//
//   IndexBatch batch;  batch.Put(key, value);  batch.Delete(other);
//   RETURN_IF_ERROR(index->Write(batch));          // atomic, visible at once, not yet durable
//   RETURN_IF_ERROR(index->Flush());               // everything written so far is durable
//
// There is no write-ahead log: the Raft log is that. After a crash the index is as it was after some Write at
// or after the last Flush, never a part of a batch, never an earlier batch missing. Keys are ordered by
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

namespace sluice::blob {

class IndexBatch {
 public:
  void Put(std::string key, std::string value) { changes_.push_back({std::move(key), std::move(value)}); }
  void Delete(std::string key) { changes_.push_back({std::move(key), std::nullopt}); }
  bool empty() const { return changes_.empty(); }
  struct Change {
    std::string key;
    std::optional<std::string> value;  // nullopt deletes
  };
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
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
  virtual absl::Status Flush() = 0;
};

// Both create `dir` if it is absent.
absl::StatusOr<std::unique_ptr<Index>> OpenRocksIndex(env::Files& files, const std::string& dir);
absl::StatusOr<std::unique_ptr<Index>> OpenMapIndex(env::Files& files, const std::string& dir);

}  // namespace sluice::blob
