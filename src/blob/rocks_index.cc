// The index of the product: RocksDB without a write-ahead log. With one column family and memtables flushed
// in the order of their filling, what a crash leaves is a prefix of the batches.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <utility>

#include "blob/index.h"
#include "blob/rocks_files.h"

namespace sluice::blob {
namespace {

constexpr size_t kWriteBufferBytes = 16u << 20;
constexpr size_t kBlockCacheBytes = 32u << 20;
constexpr int kOpenFilesMax = 256;

absl::Status FromRocks(const rocksdb::Status& status, const char* operation, const std::string& dir) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = fmt::format("{} index {}: {}", operation, dir, status.ToString());
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(message);
  if (status.IsCorruption() || status.IsIOError()) return absl::DataLossError(message);
  return absl::InternalError(message);
}

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view FromSlice(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// The first key after all that start with `prefix`; empty if there is none.
std::string EndOfPrefix(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

rocksdb::Options MakeOptions(rocksdb::Env* env) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));

  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.max_open_files = kOpenFilesMax;
  options.compression = rocksdb::kNoCompression;
  options.max_manifest_file_size = 16u << 20;
  // Closing loses what was not flushed, as a crash does: the Raft log has it.
  options.avoid_flush_during_shutdown = true;
  // A sync that failed is not tried again (F-10): the index then refuses writes.
  options.max_bgerror_resume_count = 0;
  options.paranoid_checks = true;
  // No threads and files for statistics, and no look at every table when it opens.
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  options.skip_checking_sst_file_sizes_on_db_open = true;
  return options;
}

class RocksIndex final : public Index {
 public:
  RocksIndex(env::Files& files, std::string dir)
      : dir_(std::move(dir)), env_(rocksdb::NewCompositeEnv(NewRocksFiles(files))) {
    write_options_.disableWAL = true;
  }

  absl::Status Open() {
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(MakeOptions(env_.get()), dir_, &db);
    db_.reset(db);
    return FromRocks(status, "open", dir_);
  }

  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    std::string value;
    const rocksdb::Status status = db_->Get({}, ToSlice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    RETURN_IF_ERROR(FromRocks(status, "read", dir_));
    return std::optional(std::move(value));
  }

  absl::Status Write(const IndexBatch& batch) override {
    rocksdb::WriteBatch changes;
    for (const IndexBatch::Change& change : batch.changes()) {
      const rocksdb::Status added =
          change.value ? changes.Put(change.key, *change.value) : changes.Delete(change.key);
      RETURN_IF_ERROR(FromRocks(added, "write", dir_));
    }
    return FromRocks(db_->Write(write_options_, &changes), "write", dir_);
  }

  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator({}));
    for (at->Seek(ToSlice(std::max(prefix, from))); at->Valid(); at->Next()) {
      const std::string_view key = FromSlice(at->key());
      if (!key.starts_with(prefix) || !visit(key, FromSlice(at->value()))) break;
    }
    return FromRocks(at->status(), "scan", dir_);
  }

  absl::Status DeletePrefix(std::string_view prefix) override {
    std::string end = EndOfPrefix(prefix);
    if (end.empty()) {
      // No key bounds this prefix from above: up to the last key there is.
      std::unique_ptr<rocksdb::Iterator> last(db_->NewIterator({}));
      last->SeekToLast();
      RETURN_IF_ERROR(FromRocks(last->status(), "scan", dir_));
      if (!last->Valid()) return absl::OkStatus();
      end = last->key().ToString() + '\0';
      if (end <= prefix) return absl::OkStatus();
    }
    rocksdb::WriteBatch changes;
    RETURN_IF_ERROR(FromRocks(changes.DeleteRange(ToSlice(prefix), end), "delete", dir_));
    return FromRocks(db_->Write(write_options_, &changes), "delete", dir_);
  }

  absl::Status Flush() override { return FromRocks(db_->Flush({}), "flush", dir_); }

 private:
  const std::string dir_;
  const std::unique_ptr<rocksdb::Env> env_;  // outlives db_
  rocksdb::WriteOptions write_options_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Index>> OpenRocksIndex(env::Files& files, const std::string& dir) {
  RETURN_IF_ERROR(files.MakeDirs(dir));
  auto index = std::make_unique<RocksIndex>(files, dir);
  RETURN_IF_ERROR(index->Open());
  return index;
}

}  // namespace sluice::blob
