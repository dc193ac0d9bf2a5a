// An ordered map in memory with checkpoints: the index of the simulator,
// where RocksDB's threads would make seeds irreproducible.
#include <map>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "blob/index.h"

namespace sluice::blob {
namespace {

constexpr std::string_view kMagic = "SLUIDX1\n";
constexpr size_t kCheckpointBytesMax = 1u << 30;
// One write in so many gets durable by itself.
constexpr uint64_t kFlushOneIn = 12;

using Entries = std::map<std::string, std::string, std::less<>>;

void PutNumber(std::string& out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Takes `bytes` bytes off the front; nullopt if there are fewer.
std::optional<uint64_t> TakeNumber(std::string_view& in, size_t bytes) {
  if (in.size() < bytes) return std::nullopt;
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<uint8_t>(in[i])) << (8 * i);
  in.remove_prefix(bytes);
  return value;
}

std::string Encode(const Entries& entries) {
  std::string out(kMagic);
  PutNumber(out, entries.size(), 8);
  for (const auto& [key, value] : entries) {
    PutNumber(out, key.size(), 4);
    PutNumber(out, value.size(), 4);
    out.append(key).append(value);
  }
  PutNumber(out, Crc32c(out), 4);
  return out;
}

std::optional<Entries> Decode(std::string_view in) {
  if (in.size() < kMagic.size() + 12 || in.substr(0, kMagic.size()) != kMagic) return std::nullopt;
  std::string_view last = in.substr(in.size() - 4);
  in.remove_suffix(4);
  if (TakeNumber(last, 4) != Crc32c(in)) return std::nullopt;
  in.remove_prefix(kMagic.size());
  const uint64_t count = *TakeNumber(in, 8);
  Entries entries;
  for (uint64_t i = 0; i < count; ++i) {
    const auto key_bytes = TakeNumber(in, 4);
    const auto value_bytes = TakeNumber(in, 4);
    if (!key_bytes || !value_bytes || in.size() < *key_bytes + *value_bytes) return std::nullopt;
    entries.emplace_hint(entries.end(), in.substr(0, *key_bytes), in.substr(*key_bytes, *value_bytes));
    in.remove_prefix(*key_bytes + *value_bytes);
  }
  if (!in.empty()) return std::nullopt;
  return entries;
}

class MapView final : public IndexView {
 public:
  explicit MapView(Entries entries) : entries_(std::move(entries)) {}

  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    for (auto at = entries_.lower_bound(std::max(prefix, from)); at != entries_.end(); ++at) {
      if (!at->first.starts_with(prefix) || !visit(at->first, at->second)) break;
    }
    return absl::OkStatus();
  }

 private:
  const Entries entries_;
};

class MapIndex final : public Index {
 public:
  MapIndex(env::Files& files, std::string path, IndexHooks hooks)
      : files_(files), path_(std::move(path)), hooks_(std::move(hooks)) {}

  absl::Status Load() {
    ASSIGN_OR_RETURN(const bool exists, files_.Exists(path_));
    if (!exists) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(files_, path_, kCheckpointBytesMax));
    auto entries = Decode(text);
    if (!entries) return absl::DataLossError(fmt::format("{}: the index checkpoint is damaged", path_));
    std::lock_guard lock(mutex_);
    entries_ = std::move(*entries);
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    std::lock_guard lock(mutex_);
    const auto at = entries_.find(key);
    return at == entries_.end() ? std::nullopt : std::optional(at->second);
  }

  absl::Status Write(const IndexBatch& batch) override {
    {
      std::lock_guard lock(flush_mutex_);
      RETURN_IF_ERROR(failure_);
    }
    {
      std::lock_guard lock(mutex_);
      for (const IndexBatch::Change& change : batch.changes()) {
        if (change.value) {
          entries_.insert_or_assign(change.key, *change.value);
        } else if (!change.end.empty()) {
          entries_.erase(entries_.lower_bound(change.key),
                         entries_.lower_bound(std::max(change.key, change.end)));
        } else {
          entries_.erase(change.key);
        }
      }
    }
    MaybeFlush();
    return absl::OkStatus();
  }

  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    // Without the lock while `visit` runs, which may write: the next key is looked up again after each.
    std::string key(std::max(prefix, from));
    for (bool first = true;; first = false) {
      std::string value;
      {
        std::lock_guard lock(mutex_);
        const auto at = first ? entries_.lower_bound(key) : entries_.upper_bound(key);
        if (at == entries_.end() || !at->first.starts_with(prefix)) return absl::OkStatus();
        key = at->first;
        value = at->second;
      }
      if (!visit(key, value)) return absl::OkStatus();
    }
  }

  absl::Status DeletePrefix(std::string_view prefix) override {
    std::unique_lock lock(mutex_);
    auto end = entries_.lower_bound(prefix);
    while (end != entries_.end() && end->first.starts_with(prefix)) ++end;
    entries_.erase(entries_.lower_bound(prefix), end);
    lock.unlock();
    MaybeFlush();
    return absl::OkStatus();
  }

  std::unique_ptr<IndexView> View() override {
    std::lock_guard lock(mutex_);
    return std::make_unique<MapView>(entries_);
  }

  absl::Status Flush() override {
    std::lock_guard flush_lock(flush_mutex_);
    if (!failure_.ok()) return failure_;  // F-10: a sync that failed is not tried again
    std::string text;
    {
      std::lock_guard lock(mutex_);
      text = Encode(entries_);
    }
    absl::Status written = MakeDurable(std::move(text));
    // A full disk is no broken one: the file that is there was not touched (F-12).
    if (!absl::IsResourceExhausted(written)) failure_ = written;
    return written;
  }

  void Stop() override {
    std::lock_guard flush_lock(flush_mutex_);
    if (failure_.ok()) failure_ = absl::UnavailableError(fmt::format("index {} is stopped", path_));
  }

 private:
  // The hook comes after `text` was taken: what is written beside it waits for the next flush.
  absl::Status MakeDurable(std::string text) {
    if (hooks_.before_durable) RETURN_IF_ERROR(hooks_.before_durable());
    return WriteFileDurably(files_, path_, Bytes::Take(std::move(text)));
  }

  // As in RocksDB nobody is told of a failure, until the next write.
  void MaybeFlush() {
    if (hooks_.flush_at_random != nullptr && hooks_.flush_at_random->Below(kFlushOneIn) == 0) (void)Flush();
  }

  env::Files& files_;
  const std::string path_;
  const IndexHooks hooks_;
  std::mutex flush_mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(flush_mutex_);
  std::mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Index>> OpenMapIndex(env::Files& files, const std::string& dir,
                                                    const IndexOptions&, IndexHooks hooks) {
  RETURN_IF_ERROR(files.MakeDirs(dir));
  auto index = std::make_unique<MapIndex>(files, dir + "/index", std::move(hooks));
  RETURN_IF_ERROR(index->Load());
  return index;
}

}  // namespace sluice::blob
