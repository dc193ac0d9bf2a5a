// The index of the product: RocksDB without a write-ahead log. With one column family and memtables flushed
// in the order of their filling, what a crash leaves is a prefix of the batches.
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/log.h"
#include "blob/index.h"
#include "blob/rocks_files.h"
#include "env/descriptors.h"

namespace sluice::blob {
namespace {

// Few and large: a shard must keep several filters beside the blocks of keys.
constexpr int kCacheShardBits = 2;
constexpr uint64_t kOpenFilesMax = 256;
constexpr uint64_t kPlenty = 4;               // ballasts free before one is taken
constexpr uint64_t kOpeningBytes = 1u << 20;  // more than RocksDB writes when it opens
constexpr int kNoTrigger = 1 << 30;
constexpr int kWriteBuffers = 2;

// What a flush of `memory_bytes` may write: filters, indexes and the manifest stand beside them.
constexpr uint64_t FlushBytes(uint64_t memory_bytes) { return memory_bytes + (1u << 20); }

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

rocksdb::Options MakeOptions(rocksdb::Env* env, const IndexOptions& sizes) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(sizes.cache_bytes, kCacheShardBits);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // Filters and indexes grow with the names. In parts of 4 KiB a look-up that finds none of them in the cache
  // reads a few such parts, not a whole filter; only the list of the parts stays in memory.
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.pin_top_level_index_and_filter = true;

  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = sizes.write_buffer_bytes;
  options.max_write_buffer_number = kWriteBuffers;
  // What compactions take beside what is there: small enough for the reserve of the disk.
  options.max_bytes_for_level_base = 4 * sizes.write_buffer_bytes;
  options.target_file_size_base = 2 * sizes.write_buffer_bytes;
  options.max_compaction_bytes = 8 * sizes.write_buffer_bytes;
  // Nobody waits for them: on a full disk none may end, and the thread that writes also answers reads.
  options.level0_slowdown_writes_trigger = kNoTrigger;
  options.level0_stop_writes_trigger = kNoTrigger;
  options.soft_pending_compaction_bytes_limit = 0;
  options.hard_pending_compaction_bytes_limit = 0;
  options.max_open_files = static_cast<int>(std::min(kOpenFilesMax, env::DescriptorLimit() / 8));
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

// A file whose room is given up when nothing else is left. It is taken again when there is `plenty` times as
// much; with 0, when there is anything, and as far as that goes.
class Ballast {
 public:
  Ballast(env::Files& files, const std::string& dir, const char* name, uint64_t bytes, uint64_t plenty)
      : files_(files), dir_(dir), path_(fmt::format("{}/{}", dir, name)), bytes_(bytes), plenty_(plenty) {}

  void Take() {
    if (held_ || bytes_ == 0) return;
    const auto free = files_.FreeBytes(dir_);
    if (!free.ok() || *free < plenty_ * bytes_) return;
    const absl::Status written = Write();
    held_ = written.ok() || (plenty_ == 0 && absl::IsResourceExhausted(written));
    if (held_) return;
    LogWarn("no ballast: {}", Message(written));
    (void)files_.Remove(path_);
  }
  // True if there is more room now.
  bool GiveUp() {
    held_ = false;
    return files_.Remove(path_).ok();
  }

 private:
  static constexpr uint64_t kStepBytes = 64u << 10;

  absl::Status Write() {
    ASSIGN_OR_RETURN(auto file, files_.Open(path_, {.create = true}));
    ASSIGN_OR_RETURN(uint64_t at, file->Size());
    if (at == bytes_) return absl::OkStatus();
    if (at > bytes_) RETURN_IF_ERROR(file->Truncate(bytes_));
    for (; at < bytes_; at += std::min(kStepBytes, bytes_ - at)) {
      RETURN_IF_ERROR(file->WriteAt(at, Bytes::Take(std::string(std::min(kStepBytes, bytes_ - at), '\0'))));
    }
    return file->Sync();
  }

  env::Files& files_;
  const std::string dir_;
  const std::string path_;
  const uint64_t bytes_;
  const uint64_t plenty_;
  bool held_ = false;
};

// Waits for flushes to end. RocksDB 7.8 that has once been out of room answers each later call of Flush at once,
// with OK, when it has only begun (it never forgets that it "is stopped").
class FlushWatch final : public rocksdb::EventListener {
 public:
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo& flush) override {
    std::lock_guard lock(mutex_);
    flushed_ = std::max(flushed_, flush.largest_seqno);
    ++events_;
    changed_.notify_all();
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    // One that lacks room fails no flush; what is worse stops them, without another word.
    if (reason == rocksdb::BackgroundErrorReason::kCompaction &&
        error->severity() < rocksdb::Status::Severity::kHardError) {
      return;
    }
    std::lock_guard lock(mutex_);
    error_ = *error;
    ++events_;
    changed_.notify_all();
  }
  void Stop() {
    std::lock_guard lock(mutex_);
    error_ = rocksdb::Status::ShutdownInProgress();
    stopped_ = true;
    ++events_;
    changed_.notify_all();
  }
  // Before a flush begins: what went wrong earlier is not its fault.
  void Forget() {
    std::lock_guard lock(mutex_);
    if (!stopped_) error_ = rocksdb::Status::OK();
  }
  // Until what was written up to `sequence` is in tables, or a flush failed. An entry that leaves nothing behind
  // is in no table: so `nothing_waits` is asked, too, whenever something has happened.
  rocksdb::Status Wait(uint64_t sequence, const std::function<bool()>& nothing_waits) {
    std::unique_lock lock(mutex_);
    while (error_.ok() && flushed_ < sequence) {
      const uint64_t seen = events_;
      lock.unlock();
      const bool done = nothing_waits();
      lock.lock();
      if (done) return rocksdb::Status::OK();
      changed_.wait(lock, [&] { return events_ != seen; });
    }
    return flushed_ < sequence ? error_ : rocksdb::Status::OK();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t events_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushed_ ABSL_GUARDED_BY(mutex_) = 0;  // the largest sequence number in a table
  rocksdb::Status error_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status ScanDb(rocksdb::DB& db, const rocksdb::ReadOptions& options, const std::string& dir,
                    std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) {
  std::unique_ptr<rocksdb::Iterator> at(db.NewIterator(options));
  for (at->Seek(ToSlice(std::max(prefix, from))); at->Valid(); at->Next()) {
    const std::string_view key = FromSlice(at->key());
    if (!key.starts_with(prefix) || !visit(key, FromSlice(at->value()))) break;
  }
  return FromRocks(at->status(), "scan", dir);
}

class RocksView final : public IndexView {
 public:
  RocksView(rocksdb::DB* db, std::string dir)
      : db_(db), dir_(std::move(dir)), snapshot_(db_->GetSnapshot()) {}
  ~RocksView() override { db_->ReleaseSnapshot(snapshot_); }

  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot_;
    options.fill_cache = false;  // read once: it would only drive out what is looked up
    return ScanDb(*db_, options, dir_, prefix, from, visit);
  }

 private:
  rocksdb::DB* const db_;
  const std::string dir_;
  const rocksdb::Snapshot* const snapshot_;
};

class RocksIndex final : public Index {
 public:
  RocksIndex(env::Files& files, std::string dir, const IndexOptions& sizes,
             std::function<absl::Status()> before_durable)
      : files_(files),
        dir_(std::move(dir)),
        sizes_(sizes),
        ballast_(files, dir_, "ballast", sizes.ballast_bytes, kPlenty),
        opening_(files, dir_, "opening", sizes.ballast_bytes == 0 ? 0 : kOpeningBytes, 0),
        env_(rocksdb::NewCompositeEnv(NewRocksFiles(files, std::move(before_durable),
                                                    FlushBytes(kWriteBuffers * sizes.write_buffer_bytes)))) {
    write_options_.disableWAL = true;
  }

  absl::Status Open() {
    // RocksDB writes a few small files to open, and removes as many. Their room goes to nobody else
    // meanwhile, so that the next start finds it, too.
    if (const auto free = files_.FreeBytes(dir_); free.ok() && *free < kOpeningBytes) opening_.GiveUp();
    absl::Status status = OpenOnce();
    if (absl::IsResourceExhausted(status) && ballast_.GiveUp()) status = OpenOnce();
    if (!status.ok()) return status;
    opening_.Take();
    ballast_.Take();
    return absl::OkStatus();
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
      const rocksdb::Status added = change.value         ? changes.Put(change.key, *change.value)
                                    : change.end.empty() ? changes.Delete(change.key)
                                                         : changes.DeleteRange(change.key, change.end);
      RETURN_IF_ERROR(FromRocks(added, "write", dir_));
    }
    return WriteNow(&changes, "write");
  }

  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return ScanDb(*db_, {}, dir_, prefix, from, visit);
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
    return WriteNow(&changes, "delete");
  }

  std::unique_ptr<IndexView> View() override { return std::make_unique<RocksView>(db_.get(), dir_); }

  // A flush that fails for want of room makes RocksDB refuse writes, and with them everything that would free
  // some. So none is begun that does not fit.
  absl::Status Flush() override {
    std::lock_guard lock(flush_mutex_);
    if (absl::Status room = HasRoomToFlush(); !room.ok() && !(ballast_.GiveUp() && HasRoomToFlush().ok())) {
      return room;
    }
    rocksdb::FlushOptions flush;
    flush.allow_write_stall = true;  // else it waits for compactions
    const uint64_t sequence = db_->GetLatestSequenceNumber();
    watch_->Forget();
    RETURN_IF_ERROR(FromRocks(db_->Flush(flush), "flush", dir_));
    RETURN_IF_ERROR(FromRocks(watch_->Wait(sequence, [this] { return NoTableWaits(); }), "flush", dir_));
    ballast_.Take();
    return absl::OkStatus();
  }

  void Stop() override {
    rocksdb::CancelAllBackgroundWork(db_.get(), true);
    watch_->Stop();
  }

 private:
  absl::Status OpenOnce() {
    rocksdb::DB* db = nullptr;
    rocksdb::Options options = MakeOptions(env_.get(), sizes_);
    options.listeners.push_back(watch_);
    const rocksdb::Status status = rocksdb::DB::Open(options, dir_, &db);
    db_.reset(db);
    return FromRocks(status, "open", dir_);
  }

  bool NoTableWaits() {
    uint64_t waiting = 0;
    return db_->GetIntProperty(rocksdb::DB::Properties::kNumImmutableMemTable, &waiting) && waiting == 0;
  }

  absl::Status HasRoomToFlush() {
    uint64_t memory = 0;
    ASSIGN_OR_RETURN(const uint64_t free, files_.FreeBytes(dir_));
    if (!db_->GetIntProperty(rocksdb::DB::Properties::kCurSizeAllMemTables, &memory)) return absl::OkStatus();
    if (free >= FlushBytes(memory)) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        fmt::format("flush index {}: {} bytes free, it may take {}", dir_, free, FlushBytes(memory)));
  }

  // RocksDB that was out of room for its own flush takes no write until that has succeeded, which it tries
  // every few seconds.
  absl::Status WriteNow(rocksdb::WriteBatch* changes, const char* operation) {
    const rocksdb::Status status = db_->Write(write_options_, changes);
    if (status.IsNoSpace()) {
      std::lock_guard lock(flush_mutex_);
      ballast_.GiveUp();
    }
    return FromRocks(status, operation, dir_);
  }

  env::Files& files_;
  const std::string dir_;
  const IndexOptions sizes_;
  std::mutex flush_mutex_;
  Ballast ballast_ ABSL_GUARDED_BY(flush_mutex_);
  Ballast opening_;                          // of Open alone
  const std::unique_ptr<rocksdb::Env> env_;  // outlives db_
  rocksdb::WriteOptions write_options_;
  const std::shared_ptr<FlushWatch> watch_ = std::make_shared<FlushWatch>();
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Index>> OpenRocksIndex(env::Files& files, const std::string& dir,
                                                      const IndexOptions& options, IndexHooks hooks) {
  RETURN_IF_ERROR(files.MakeDirs(dir));
  auto index = std::make_unique<RocksIndex>(files, dir, options, std::move(hooks.before_durable));
  RETURN_IF_ERROR(index->Open());
  return index;
}

}  // namespace sluice::blob
