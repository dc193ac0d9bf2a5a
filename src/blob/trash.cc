#include "blob/trash.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.h"

namespace sluice::blob {
namespace {

constexpr env::Duration kRetry = std::chrono::seconds(1);

}  // namespace

Trash::Trash(env::Files& files, env::Executors& executors, std::string dir, Options options)
    : files_(files),
      dir_(std::move(dir)),
      options_(std::move(options)),
      thread_(executors.NewExecutor("blob-trash")) {}

Trash::~Trash() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    entries_gauge_.Decrement(static_cast<double>(entries_.size()));
  }
  thread_.reset();
}

absl::Status Trash::Recover(const std::function<absl::StatusOr<bool>(const UploadId& id)>& still_named) {
  RETURN_IF_ERROR(files_.MakeDirs(dir_));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files_.List(dir_));
  for (const std::string& name : names) {
    const size_t dot = name.find('.');
    const auto id = UploadId::FromHex(name.substr(0, dot));
    uint64_t number = 0;
    const char* end = name.data() + name.size();
    if (!id || dot == std::string::npos ||
        std::from_chars(name.data() + dot + 1, end, number) != std::from_chars_result{end, std::errc()}) {
      LogWarn("{}/{} is nothing that was removed: ignored", dir_, Printable(name));
      continue;
    }
    // Of a file with two names only this one goes: its bytes are the other's.
    ASSIGN_OR_RETURN(const bool named, still_named(*id));
    if (named) {
      RETURN_IF_ERROR(files_.Remove(dir_ + "/" + name));
      continue;
    }
    std::lock_guard lock(mutex_);
    last_number_ = std::max(last_number_, number);
    entries_.push_back({name, *id});
    entries_gauge_.Increment();
  }
  std::lock_guard lock(mutex_);
  if (!entries_.empty()) Wake();
  return absl::OkStatus();
}

absl::Status Trash::Take(const std::string& path, const UploadId& id) {
  std::lock_guard lock(mutex_);
  if (entries_.size() >= options_.entries_max) return files_.Remove(path);
  Entry entry{fmt::format("{}.{}", id.ToHex(), ++last_number_), id};
  if (absl::Status moved = files_.Rename(path, dir_ + "/" + entry.name); !moved.ok()) {
    return absl::IsNotFound(moved) ? moved : files_.Remove(path);
  }
  entries_.push_back(std::move(entry));
  entries_gauge_.Increment();
  Wake();
  return absl::OkStatus();
}

void Trash::Wake() {
  if (stopping_ || std::exchange(posted_, true)) return;
  thread_->Post([this] { Work(); });
}

void Trash::WorkAfter(env::Duration delay) {
  if (stopping_ || std::exchange(posted_, true)) return;
  thread_->PostAfter(delay, [this] { Work(); });
}

void Trash::Work() {
  Entry entry;
  size_t waiting;
  {
    std::lock_guard lock(mutex_);
    posted_ = false;
    if (stopping_ || entries_.empty()) return;
    waiting = entries_.size();
    entry = entries_.front();
  }
  if (durable_ == 0) {
    if (absl::Status synced = options_.before_freeing(); !synced.ok()) {
      std::lock_guard lock(mutex_);
      // Every other failure is final (F-10): the next start frees what is here.
      if (absl::IsResourceExhausted(synced)) WorkAfter(kRetry);
      return;
    }
    durable_ = waiting;
  }
  const bool in_use = options_.in_use(entry.id);
  const bool done = !in_use && Free(entry);
  std::lock_guard lock(mutex_);
  if (!in_use && !done) return Wake();
  --durable_;
  entries_.pop_front();
  if (in_use) {
    entries_.push_back(std::move(entry));
    return WorkAfter(durable_ == 0 ? kRetry : env::Duration(0));
  }
  entries_gauge_.Decrement();
  if (!entries_.empty()) Wake();
}

bool Trash::Free(const Entry& entry) {
  const std::string path = dir_ + "/" + entry.name;
  if (CutStep(path)) return false;
  const absl::Status removed = files_.Remove(path);
  if (!removed.ok() && !absl::IsNotFound(removed)) LogWarn("{} stays on disk: {}", path, Message(removed));
  return true;
}

// False if no step is left to be cut, or if it cannot be cut: then it is removed as it is.
bool Trash::CutStep(const std::string& path) {
  auto file = files_.Open(path, {});
  if (!file.ok()) return false;
  const auto size = (*file)->Size();
  return size.ok() && *size > options_.step_bytes && (*file)->Truncate(*size - options_.step_bytes).ok();
}

}  // namespace sluice::blob
