#include "blob/store.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/metrics.h"
#include "blob/sealed_file.h"
#include "blob/stage.h"
#include "blob/trash.h"

namespace sluice::blob {
namespace {

// Free space is asked for once per so many bytes, and for each write when it gets short.
constexpr uint64_t kSpaceCreditBytes = 64u << 20;

absl::Status IgnoreNotFound(absl::Status status) {
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

// What another group has under an id is not there for this one.
absl::Status AnotherGroups(const std::string& path) {
  return absl::NotFoundError(fmt::format("{} is another group's", path));
}

constexpr uint32_t kDirectRunBytesMax = 16u << 20;
// How much of a blob in a row is read by one thread.
constexpr uint64_t kNeighbourBytes = 1u << 20;
// So many readers are remembered before those that are gone are looked for.
constexpr size_t kReadersSwept = 1024;

// Which thread: the same in every process, so that a simulation repeats.
size_t Spread(const UploadId& id) { return Crc32c(id.ToHex()); }

using Threads = std::vector<std::unique_ptr<env::Executor>>;

Threads NewThreads(env::Executors& executors, const std::string& name, uint32_t count) {
  Threads threads;
  for (uint32_t i = 0; i < std::max(count, 1u); ++i) {
    threads.push_back(executors.NewExecutor(fmt::format("{}-{}", name, i)));
  }
  return threads;
}

class FolderStore final : public Store, public StagePlace {
 public:
  FolderStore(env::Files& files, env::Executors& executors, const env::Clock& clock, const std::string& dir,
              const StoreOptions& options)
      : files_(files),
        clock_(clock),
        options_(options),
        dir_(dir),
        stage_dir_(dir + "/stage"),
        trash_(std::make_unique<Trash>(
            files, executors, dir + "/trash",
            Trash::Options{.before_freeing = [this] { return SyncLinks(); },
                           .in_use = [this](const UploadId& id) { return HasReaders(id); }})),
        disk_(NewThreads(executors, "blob", options.threads)),
        read_(NewThreads(executors, "blob-read", options.read_threads)),
        hash_(NewThreads(executors, "blob-hash", options.hash_threads)) {}
  ~FolderStore() override;

  absl::Status Recover();

  absl::StatusOr<std::shared_ptr<Upload>> Create(UploadSpec spec, bool replace_content) override;
  std::shared_ptr<Upload> Find(const GroupId& group, const UploadId& id) override {
    return FindStage(group, id);
  }
  std::vector<std::shared_ptr<Upload>> Stages() override;
  absl::Status Link(const GroupId& group, const UploadId& id, const std::optional<Sealed>& wanted) override;
  absl::Status SyncLinks() override;
  void LinksEntered(const GroupId& group) override;
  std::vector<UploadId> LinksNotEntered(const GroupId& group) override;
  absl::StatusOr<std::optional<Sealed>> SealedState(const GroupId& group, const UploadId& id) override;
  absl::StatusOr<std::shared_ptr<Source>> OpenSource(const GroupId& group, const UploadId& id,
                                                     const std::optional<Sealed>& wanted) override;
  absl::Status Remove(const UploadId& id) override;
  Stats stats() override;
  std::vector<UploadId> TakeDamaged() override;

  // StagePlace
  env::Files& files() override { return files_; }
  const env::Clock& clock() const override { return clock_; }
  const StoreOptions& options() const override { return options_; }
  StagePaths PathsOf(const UploadId& id) const override {
    return {ContentPath(id) + kStageSuffix, stage_dir_ + "/" + id.ToHex()};
  }
  absl::Status Admit(uint64_t bytes) override;
  absl::Status SyncNames(const UploadId& id) override;
  void CountAwake(int change) override { awake_ += static_cast<uint32_t>(change); }
  bool Drop(const Stage* stage, bool sealed_too) override;
  bool PostUnlessStopping(env::Executor& executor, env::Task task) override;

  // Neighbouring reads go to different threads, so that one blob is read ahead while it is checked.
  env::Executor& ReaderOf(const UploadId& id, uint64_t offset) {
    return *read_[(Spread(id) + offset / kNeighbourBytes) % read_.size()];
  }
  // A read of this content met damage.
  void NoteDamage(const UploadId& id);
  // While `reader` lives, the bytes that the id has now are not freed, whatever becomes of their name.
  void NoteReader(const UploadId& id, std::weak_ptr<const void> reader);
  bool HasReaders(const UploadId& id);

 private:
  std::string ContentDir(const UploadId& id) const { return dir_ + "/blobs/" + ContentFolder(id); }
  std::string ContentPath(const UploadId& id) const { return ContentDir(id) + "/" + id.ToHex(); }
  Stage::Threads ThreadsOf(const UploadId& id) const {
    const size_t hash = Spread(id);
    return {*disk_[hash % disk_.size()], *hash_[hash % hash_.size()]};
  }
  std::shared_ptr<Stage> FindStage(const GroupId& group, const UploadId& id);
  absl::StatusOr<Footer> FooterAt(const std::string& path);
  absl::StatusOr<Footer> FooterAt(const GroupId& group, const std::string& path);
  absl::Status MakeRoomForStage();
  absl::Status RecoverStage(const UploadId& id);
  absl::Status RemoveDropped(const UploadId& id);
  absl::Status RemoveStageFiles(const UploadId& id);
  // The name of a content or stage is away, and is to be so durably.
  absl::Status NoteGone(const UploadId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(links_mutex_);
  absl::Status NoteSyncFailure(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(links_mutex_);
  absl::Status SyncFolders();
  // Calls `open` with the path of the content, else of the sealed stage: what the log has entered is not
  // what somebody sends under its id later. Beside a damaged content a sealed stage is what was fetched to replace
  // it, or bytes that do not match what the caller knows of it. A link may rename the file meanwhile, so what is
  // found nowhere is looked for once more when no link is under way.
  template <typename Opener>
  auto AtItsPlace(const GroupId& group, const UploadId& id, Opener open) -> decltype(open(std::string())) {
    auto opened = open(ContentPath(id));
    const bool damaged = absl::IsDataLoss(opened.status());
    if (!damaged && !absl::IsNotFound(opened.status())) return opened;
    if (auto stage = FindStage(group, id); stage != nullptr && stage->sealed()) {
      auto staged = open(PathsOf(id).data);
      if (staged.ok() || !(damaged || absl::IsNotFound(staged.status()))) return staged;
    }
    if (damaged) return opened;
    std::lock_guard lock(links_mutex_);
    return open(ContentPath(id));
  }

  env::Files& files_;
  const env::Clock& clock_;
  const StoreOptions options_;
  const std::string dir_;
  const std::string stage_dir_;

  // Locks are taken in the order of declaration. The first three are held over file operations, links_mutex_
  // only over renames, mutex_ never is.
  std::mutex names_mutex_;                                        // creations and removals of stages
  std::mutex sync_mutex_;                                         // syncs of folders, one after another
  std::mutex links_mutex_;                                        // links and removals
  std::set<std::string> unsynced_ ABSL_GUARDED_BY(links_mutex_);  // content folders
  std::set<UploadId> old_sides_ ABSL_GUARDED_BY(links_mutex_);    // side files to remove after the next sync
  // Contents whose side files stay until the index knows them.
  std::map<UploadId, GroupId> linked_ ABSL_GUARDED_BY(links_mutex_);
  std::set<std::string> made_folders_ ABSL_GUARDED_BY(links_mutex_);
  absl::Status sync_failure_ ABSL_GUARDED_BY(links_mutex_);
  std::mutex mutex_;
  std::map<UploadId, std::shared_ptr<Stage>> stages_ ABSL_GUARDED_BY(mutex_);  // ordered: Stages() is
  // Their files are still to be removed.
  std::map<UploadId, std::shared_ptr<Stage>> dropped_ ABSL_GUARDED_BY(mutex_);
  std::set<UploadId> damaged_ ABSL_GUARDED_BY(mutex_);
  std::multimap<UploadId, std::weak_ptr<const void>> readers_ ABSL_GUARDED_BY(mutex_);
  size_t readers_swept_at_ ABSL_GUARDED_BY(mutex_) = kReadersSwept;
  uint64_t space_credit_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint32_t> awake_ = 0;  // stages with open files
  std::atomic<uint64_t> damaged_chunks_ = 0;
  Counter& damage_counter_ =
      NewCounter("sluice_blob_damaged_chunks_total", "Chunks that did not match their checksum");

  // Last, so that their tasks end before what they use;
  // blob threads end before the hashing threads they post to.
  std::unique_ptr<Trash> trash_;
  Threads disk_;
  Threads read_;
  Threads hash_;
};

class FileSource final : public Source {
 public:
  FileSource(FolderStore& store, UploadId id, std::shared_ptr<SealedFile> file)
      : store_(store), id_(id), file_(std::move(file)) {}

  uint64_t length() const override { return file_->length(); }

  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Upload::Done<Bytes> done) override {
    // The task shares the file, so that the source may be dropped meanwhile.
    store_.ReaderOf(id_, offset)
        .Post([&store = store_, id = id_, file = file_, offset, count, reply_on,
               done = std::move(done)]() mutable {
          absl::StatusOr<Bytes> data = ReadNow(*file, offset, count);
          if (absl::IsDataLoss(data.status())) store.NoteDamage(id);
          reply_on->Post(
              [done = std::move(done), data = std::move(data)]() mutable { done(std::move(data)); });
        });
  }

 private:
  static absl::StatusOr<Bytes> ReadNow(SealedFile& file, uint64_t offset, uint64_t count) {
    if (count > kReadBytesMax) {
      return absl::InvalidArgumentError(
          fmt::format("read of {} bytes, at most {} at once", count, kReadBytesMax));
    }
    return file.Read(offset, count);
  }

  FolderStore& store_;
  const UploadId id_;
  const std::shared_ptr<SealedFile> file_;
};

FolderStore::~FolderStore() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  disk_.clear();  // before the trash: dropped stages go there
  read_.clear();
  hash_.clear();
  trash_.reset();  // what it does not come to is left to the next start
}

// ---- start

absl::Status FolderStore::Recover() {
  RETURN_IF_ERROR(files_.MakeDirs(stage_dir_));
  RETURN_IF_ERROR(files_.MakeDirs(dir_ + "/blobs"));
  RETURN_IF_ERROR(trash_->Recover([this](const UploadId& id) -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const bool linked, files_.Exists(ContentPath(id)));
    if (linked) return true;
    ASSIGN_OR_RETURN(const bool staged, files_.Exists(PathsOf(id).data));
    if (staged) return true;
    // It went into the trash in a life that may have ended before that was durable.
    std::lock_guard lock(links_mutex_);
    if (absl::Status noted = NoteGone(id); !noted.ok()) return noted;
    return false;
  }));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files_.List(stage_dir_));
  // What a killed process left unsynced counts from now on, so it must not vanish any more.
  RETURN_IF_ERROR(files_.SyncDir(stage_dir_));
  for (const std::string& name : names) {
    auto id = UploadId::FromHex(name);
    if (!id || id->ToHex() != name) {
      LogWarn("{}/{} is no stage: ignored", stage_dir_, Printable(name));
      continue;
    }
    ASSIGN_OR_RETURN(const bool has_data, files_.Exists(PathsOf(*id).data));
    if (has_data) {
      RETURN_IF_ERROR(RecoverStage(*id));
      continue;
    }
    // A link that the index may not know, or an interrupted removal: then the side file goes after the
    // content's folder is synced.
    ASSIGN_OR_RETURN(const bool has_folder, files_.Exists(ContentDir(*id)));
    ASSIGN_OR_RETURN(const bool linked, files_.Exists(ContentPath(*id)));
    std::optional<GroupId> group;
    if (linked) {
      if (const auto footer = FooterAt(ContentPath(*id)); footer.ok()) group = footer->group;
    }
    std::lock_guard lock(links_mutex_);
    if (group) {
      linked_[*id] = *group;
    } else {
      old_sides_.insert(*id);
    }
    if (has_folder) unsynced_.insert(ContentDir(*id));
  }
  return absl::OkStatus();
}

absl::Status FolderStore::RecoverStage(const UploadId& id) {
  const std::string side_path = PathsOf(id).side;
  RETURN_IF_ERROR(files_.SyncDir(ContentDir(id)));
  {
    // Records of a killed process may be in the page cache only,
    // and after a failed sync never reach the device.
    ASSIGN_OR_RETURN(auto side, files_.Open(side_path, {}));
    RETURN_IF_ERROR(side->Sync());
    side->DropCache();
  }
  auto state = ReadSide(files_, side_path);
  if (absl::IsResourceExhausted(state.status())) {
    LogError("{} is too large: ignored", side_path);
    return absl::OkStatus();
  }
  if (!state.ok() && !absl::IsDataLoss(state.status())) return state.status();
  if (!state.ok() || state->spec.id != id) {
    LogWarn("{}: never made durable, removed: {}", side_path,
            state.ok() ? "the spec is another upload's" : Message(state.status()));
    return RemoveStageFiles(id);
  }
  auto stage = std::make_shared<Stage>(*this, ThreadsOf(id), *state);
  std::lock_guard lock(mutex_);
  stages_.emplace(id, std::move(stage));
  return absl::OkStatus();
}

// ---- stages

// A stage that rests holds no files, but it has a place in the table.
absl::Status FolderStore::MakeRoomForStage() {
  std::shared_ptr<Stage> oldest;
  {
    std::lock_guard lock(mutex_);
    if (stages_.size() < options_.stages_max) return absl::OkStatus();
    for (const auto& [id, stage] : stages_) {
      if (stage->state() != StageState::kOpen || stage->awake()) continue;
      if (oldest == nullptr || stage->last_progress() < oldest->last_progress()) oldest = stage;
    }
  }
  if (oldest == nullptr) {
    return absl::ResourceExhaustedError(fmt::format("{} stages are here, the limit", options_.stages_max));
  }
  LogWarn("upload {}: dropped at {} bytes, because {} stages are here", oldest->spec().id.ToHex(),
          oldest->length(), options_.stages_max);
  oldest->Abort();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Upload>> FolderStore::Create(UploadSpec spec, bool replace_content) {
  if (spec.context.size() > kContextBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("context of {} bytes, at most {}", spec.context.size(), kContextBytesMax));
  }
  RETURN_IF_ERROR(Admit(spec.context.size()));
  const UploadId id = spec.id;
  RETURN_IF_ERROR(MakeRoomForStage());
  std::lock_guard names(names_mutex_);
  RETURN_IF_ERROR(RemoveDropped(id));
  bool old_side;
  {
    std::lock_guard links(links_mutex_);
    if (!made_folders_.contains(ContentDir(id))) {
      RETURN_IF_ERROR(files_.MakeDirs(ContentDir(id)));
      made_folders_.insert(ContentDir(id));
    }
    if (linked_.erase(id) > 0) old_sides_.insert(id);  // a copy that is replaced
    old_side = old_sides_.contains(id);
  }
  // A link or a removal still depends on it.
  if (old_side) RETURN_IF_ERROR(SyncFolders());
  {
    std::lock_guard links(links_mutex_);
    if (old_sides_.contains(id)) {
      return absl::InternalError(fmt::format("upload {}: its old side file cannot be removed", id.ToHex()));
    }
    ASSIGN_OR_RETURN(const bool entered, files_.Exists(ContentPath(id)));
    if (entered && !replace_content) {
      return absl::AlreadyExistsError(fmt::format("upload {} was entered already", id.ToHex()));
    }
    if (entered) {
      const auto footer = FooterAt(ContentPath(id));  // a damaged one does not say whose it is
      if (footer.ok() && footer->group != spec.group) {
        return absl::AlreadyExistsError(
            fmt::format("upload {} is content of group {}", id.ToHex(), footer->group.ToString()));
      }
    }
    std::lock_guard lock(mutex_);
    if (stages_.contains(id)) {
      return absl::AlreadyExistsError(fmt::format("upload {} has a stage", id.ToHex()));
    }
    if (awake_ >= options_.uploads_max) {
      return absl::ResourceExhaustedError(
          fmt::format("{} uploads are open, the limit", options_.uploads_max));
    }
  }
  auto file = StageFile::Create(files_, PathsOf(id), spec, options_.direct_run_bytes);
  if (!file.ok()) {
    if (absl::Status removed = RemoveStageFiles(id); !removed.ok()) {
      LogWarn("after a failed creation: {}", Message(removed));
    }
    return file.status();
  }
  auto stage = std::make_shared<Stage>(*this, ThreadsOf(id), std::move(spec), std::move(file).value());
  std::lock_guard lock(mutex_);
  stages_.emplace(id, stage);
  return stage;
}

std::shared_ptr<Stage> FolderStore::FindStage(const GroupId& group, const UploadId& id) {
  std::lock_guard lock(mutex_);
  const auto at = stages_.find(id);
  return at == stages_.end() || at->second->spec().group != group ? nullptr : at->second;
}

std::vector<std::shared_ptr<Upload>> FolderStore::Stages() {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Upload>> stages;
  for (const auto& [id, stage] : stages_) stages.push_back(stage);
  // Not in the order of a hash table: callers' decisions must not depend on it.
  std::sort(stages.begin(), stages.end(), [](auto& a, auto& b) { return a->spec().id < b->spec().id; });
  return stages;
}

bool FolderStore::Drop(const Stage* stage, bool sealed_too) {
  const UploadId id = stage->spec().id;
  std::shared_ptr<Stage> dropped;
  {
    std::lock_guard lock(mutex_);
    const auto at = stages_.find(id);
    if (at == stages_.end() || at->second.get() != stage || !at->second->MarkDropped(sealed_too))
      return false;
    dropped = std::move(at->second);
    stages_.erase(at);
    dropped_[id] = dropped;
  }
  PostUnlessStopping(ThreadsOf(id).disk, [this, id, dropped] {
    dropped->CloseFiles();
    std::lock_guard names(names_mutex_);
    if (absl::Status status = RemoveDropped(id); !status.ok())
      LogError("removing a stage: {}", Message(status));
  });
  return true;
}

// Under names_mutex_. Whoever needs the names gone first removes them:
// the blob thread, a new Create, or SyncLinks.
absl::Status FolderStore::RemoveDropped(const UploadId& id) {
  {
    std::lock_guard lock(mutex_);
    if (!dropped_.contains(id)) return absl::OkStatus();
  }
  RETURN_IF_ERROR(RemoveStageFiles(id));
  std::lock_guard lock(mutex_);
  dropped_.erase(id);
  return absl::OkStatus();
}

// The side file goes once the data is durably away: it alone is harmless, and the data alone nobody finds.
absl::Status FolderStore::RemoveStageFiles(const UploadId& id) {
  RETURN_IF_ERROR(IgnoreNotFound(trash_->Take(PathsOf(id).data, id)));
  std::lock_guard lock(links_mutex_);
  old_sides_.insert(id);
  unsynced_.insert(ContentDir(id));
  return absl::OkStatus();
}

bool FolderStore::PostUnlessStopping(env::Executor& executor, env::Task task) {
  std::lock_guard lock(mutex_);
  if (stopping_) return false;
  executor.Post(std::move(task));
  return true;
}

absl::Status FolderStore::Admit(uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    if (bytes <= space_credit_) {
      space_credit_ -= bytes;
      return absl::OkStatus();
    }
  }
  ASSIGN_OR_RETURN(const uint64_t free, files_.FreeBytes(dir_));
  if (free < options_.reserve_bytes || free - options_.reserve_bytes < bytes) {
    return absl::ResourceExhaustedError(fmt::format("{}: {} bytes free, {} are reserved and {} wanted", dir_,
                                                    free, options_.reserve_bytes, bytes));
  }
  std::lock_guard lock(mutex_);
  space_credit_ = std::min(free - options_.reserve_bytes - bytes, kSpaceCreditBytes);
  return absl::OkStatus();
}

// Without a lock over the syncs: file systems gather those that come at the same time.
absl::Status FolderStore::SyncNames(const UploadId& id) {
  {
    std::lock_guard lock(links_mutex_);
    RETURN_IF_ERROR(sync_failure_);
  }
  absl::Status status = files_.SyncDir(ContentDir(id));
  if (status.ok()) status = files_.SyncDir(stage_dir_);
  std::lock_guard lock(links_mutex_);
  if (!status.ok()) return NoteSyncFailure(status);
  return sync_failure_;  // of a sync beside this one, which may have taken the error of our names
}

// ---- contents

absl::Status FolderStore::Link(const GroupId& group, const UploadId& id,
                               const std::optional<Sealed>& wanted) {
  std::lock_guard lock(links_mutex_);
  std::shared_ptr<Stage> stage;
  bool unfit = false;  // there is a stage, and it is not what is to be linked
  {
    std::lock_guard map_lock(mutex_);
    if (const auto at = stages_.find(id); at != stages_.end()) {
      unfit = !at->second->sealed() || at->second->spec().group != group ||
              (wanted && !Matches(at->second->sealed_state(), *wanted));
      if (!unfit && at->second->MarkLinked()) {
        // Out of the map first: an abort that comes now must not remove what is being linked.
        stage = std::move(at->second);
        stages_.erase(at);
      }
    }
  }
  if (stage == nullptr) {
    ASSIGN_OR_RETURN(bool linked, files_.Exists(ContentPath(id)));
    if (linked && wanted) {
      ASSIGN_OR_RETURN(const Footer footer, FooterAt(ContentPath(id)));
      unfit = footer.group != group || !Matches(footer.sealed, *wanted);
      linked = !unfit;
    }
    if (unfit && !linked) {
      return absl::FailedPreconditionError(fmt::format(
          "link of upload {}: what is here is not sealed, other bytes, or another group's", id.ToHex()));
    }
    if (!linked)
      return absl::NotFoundError(fmt::format("link of upload {}: neither stage nor content", id.ToHex()));
    unsynced_.insert(ContentDir(id));  // a link before a restart may not be durable yet
    return absl::OkStatus();
  }
  // A damaged copy that is replaced; the rename alone would free it here.
  absl::Status status = IgnoreNotFound(trash_->Take(ContentPath(id), id));
  unsynced_.insert(ContentDir(id));  // before the trash frees it, also when what follows fails
  if (status.ok()) status = files_.Rename(PathsOf(id).data, ContentPath(id));
  if (!status.ok()) {
    stage->UnmarkLinked();
    std::lock_guard map_lock(mutex_);
    stages_.emplace(id, std::move(stage));
    return status;
  }
  linked_[id] = stage->spec().group;
  NoteReader(id, stage);  // who holds it may have the file open
  return absl::OkStatus();
}

void FolderStore::LinksEntered(const GroupId& group) {
  std::lock_guard lock(links_mutex_);
  std::erase_if(linked_, [&](const auto& link) {
    if (link.second == group) old_sides_.insert(link.first);
    return link.second == group;
  });
}

std::vector<UploadId> FolderStore::LinksNotEntered(const GroupId& group) {
  std::vector<UploadId> ids;
  std::lock_guard lock(links_mutex_);
  for (const auto& [id, of] : linked_) {
    if (of == group) ids.push_back(id);
  }
  return ids;
}

absl::Status FolderStore::SyncLinks() {
  {
    std::vector<UploadId> dropped;
    std::lock_guard names(names_mutex_);
    {
      std::lock_guard lock(mutex_);
      for (const auto& [id, stage] : dropped_) dropped.push_back(id);
    }
    for (const UploadId& id : dropped) RETURN_IF_ERROR(RemoveDropped(id));
  }
  return SyncFolders();
}

// Links go on meanwhile; who comes with the same wish waits until what was taken here is durable.
absl::Status FolderStore::SyncFolders() {
  std::lock_guard sync(sync_mutex_);
  std::set<std::string> folders;
  std::vector<UploadId> sides;
  {
    std::lock_guard lock(links_mutex_);
    RETURN_IF_ERROR(sync_failure_);
    folders = std::exchange(unsynced_, {});
    sides.assign(old_sides_.begin(), old_sides_.end());
  }
  absl::Status status;
  while (!folders.empty() && (status = files_.SyncDir(*folders.begin())).ok()) {
    folders.erase(folders.begin());
  }
  // A side file that cannot be removed now is tried again at the next sync.
  if (status.ok()) {
    std::erase_if(
        sides, [this](const UploadId& id) { return !IgnoreNotFound(files_.Remove(PathsOf(id).side)).ok(); });
  }
  std::lock_guard lock(links_mutex_);
  if (!status.ok()) {
    unsynced_.merge(folders);
    return NoteSyncFailure(std::move(status));
  }
  for (const UploadId& id : sides) old_sides_.erase(id);
  return sync_failure_;  // of a sync beside this one, which may have taken the error of our names
}

absl::Status FolderStore::NoteSyncFailure(absl::Status status) {
  // Too few descriptors: the folder was not even opened, and nothing is lost.
  if (absl::IsResourceExhausted(status)) return status;
  LogError("sync of blob folders failed, for good: {}", Message(status));
  if (sync_failure_.ok()) sync_failure_ = status;
  return status;
}

absl::StatusOr<Footer> FolderStore::FooterAt(const std::string& path) {
  ASSIGN_OR_RETURN(auto file, files_.Open(path, {.read_only = true}));
  return ReadFooter(*file, path);
}

absl::StatusOr<Footer> FolderStore::FooterAt(const GroupId& group, const std::string& path) {
  ASSIGN_OR_RETURN(Footer footer, FooterAt(path));
  if (footer.group != group) return AnotherGroups(path);
  return footer;
}

absl::StatusOr<std::optional<Sealed>> FolderStore::SealedState(const GroupId& group, const UploadId& id) {
  auto footer = AtItsPlace(group, id, [&](const std::string& path) { return FooterAt(group, path); });
  if (absl::IsNotFound(footer.status())) return std::nullopt;
  if (absl::IsDataLoss(footer.status())) NoteDamage(id);
  RETURN_IF_ERROR(footer.status());
  return footer->sealed;
}

absl::StatusOr<std::shared_ptr<Source>> FolderStore::OpenSource(const GroupId& group, const UploadId& id,
                                                                const std::optional<Sealed>& wanted) {
  // Before it is opened: it must not be cut between that and now.
  const auto reading = std::make_shared<const char>();
  NoteReader(id, reading);
  auto file =
      AtItsPlace(group, id, [&](const std::string& path) -> absl::StatusOr<std::unique_ptr<SealedFile>> {
        ASSIGN_OR_RETURN(auto opened, SealedFile::Open(files_, path, options_.direct_read_bytes));
        if (opened->footer().group != group) return AnotherGroups(path);
        return opened;
      });
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(fmt::format("no sealed bytes of upload {}", id.ToHex()));
  }
  if (file.ok() && (*file)->footer().id != id) {
    file =
        absl::DataLossError(fmt::format("{} holds upload {}", (*file)->path(), (*file)->footer().id.ToHex()));
  }
  if (absl::IsDataLoss(file.status())) NoteDamage(id);
  RETURN_IF_ERROR(file.status());
  // Not damage: other bytes than are asked for. They must not leave under this name (P4).
  if (const Sealed& held = (*file)->footer().sealed; wanted && !Matches(held, *wanted)) {
    return absl::DataLossError(
        fmt::format("{} holds {} bytes with checksum {:08x}, the log says {} with {:08x}", (*file)->path(),
                    held.length, held.checksum, wanted->length, wanted->checksum));
  }
  std::shared_ptr<SealedFile> opened((*file).release(), [reading](SealedFile* sealed) { delete sealed; });
  return std::make_shared<FileSource>(*this, id, std::move(opened));
}

absl::Status FolderStore::Remove(const UploadId& id) {
  std::lock_guard lock(links_mutex_);
  // Also what is gone already: by a life that may have ended before that was durable.
  RETURN_IF_ERROR(IgnoreNotFound(trash_->Take(ContentPath(id), id)));
  if (linked_.erase(id) > 0) old_sides_.insert(id);
  return NoteGone(id);
}

absl::Status FolderStore::NoteGone(const UploadId& id) {
  ASSIGN_OR_RETURN(const bool has_folder, files_.Exists(ContentDir(id)));
  if (has_folder) unsynced_.insert(ContentDir(id));
  return absl::OkStatus();
}

void FolderStore::NoteReader(const UploadId& id, std::weak_ptr<const void> reader) {
  std::lock_guard lock(mutex_);
  if (readers_.size() >= readers_swept_at_) {
    std::erase_if(readers_, [](const auto& each) { return each.second.expired(); });
    readers_swept_at_ = std::max(kReadersSwept, 2 * readers_.size());
  }
  readers_.emplace(id, std::move(reader));
}

bool FolderStore::HasReaders(const UploadId& id) {
  std::lock_guard lock(mutex_);
  const auto [first, end] = readers_.equal_range(id);
  return std::any_of(first, end, [](const auto& each) { return !each.second.expired(); });
}

void FolderStore::NoteDamage(const UploadId& id) {
  ++damaged_chunks_;
  damage_counter_.Increment();
  std::lock_guard lock(mutex_);
  if (damaged_.size() < kDamagedMax) damaged_.insert(id);
}

std::vector<UploadId> FolderStore::TakeDamaged() {
  std::lock_guard lock(mutex_);
  std::vector<UploadId> damaged(damaged_.begin(), damaged_.end());
  damaged_.clear();
  return damaged;
}

Store::Stats FolderStore::stats() {
  Stats stats;
  {
    std::lock_guard lock(mutex_);
    stats.stages = stages_.size();
    for (const auto& [id, stage] : stages_) stats.staged_bytes += stage->length();
  }
  stats.damaged_chunks = damaged_chunks_;
  if (auto free = files_.FreeBytes(dir_); free.ok()) stats.free_bytes = *free;
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(env::Files& files, env::Executors& executors,
                                                   const env::Clock& clock, const std::string& dir,
                                                   StoreOptions options) {
  if (options.direct_run_bytes % env::kBlockBytes != 0 || options.direct_run_bytes > kDirectRunBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("blob.direct_run_bytes is {}: a multiple of {}, at most {}, is possible",
                    options.direct_run_bytes, env::kBlockBytes, kDirectRunBytesMax));
  }
  auto store = std::make_unique<FolderStore>(files, executors, clock, dir, options);
  RETURN_IF_ERROR(store->Recover());
  return store;
}

}  // namespace sluice::blob
