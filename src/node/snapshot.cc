// Snapshots of an Applier: a view of its state goes out, a file replaces all of it.

#include <set>

#include "base/log.h"
#include "node/applier.h"

namespace sluice::node {
namespace {

constexpr size_t kBatchBytes = 1u << 20;
constexpr size_t kBatchChanges = 4096;

}  // namespace

absl::StatusOr<SnapshotView> Applier::TakeView() {
  RETURN_IF_ERROR(Whole());
  return SnapshotView{{applied_, configuration_, facts_}, prefix_, parts_.index->View()};
}

absl::StatusOr<SnapshotHead> Applier::CheckSnapshot(const std::string& path) const {
  ASSIGN_OR_RETURN(SnapshotHead head, VerifySnapshot(*parts_.files, path, *machine_));
  if (head.facts) RETURN_IF_ERROR(CheckFacts(parts_.spec, parts_.cluster->id(), *head.facts));
  return head;
}

absl::Status Applier::LoadSnapshotFile(const std::string& path, const std::vector<UploadId>& before) {
  ASSIGN_OR_RETURN(auto reader, SnapshotReader::Open(*parts_.files, path));
  RETURN_IF_ERROR(RemoveContentsNotIn(path, before));
  RETURN_IF_ERROR(parts_.index->DeletePrefix(prefix_));
  blob::IndexBatch batch;
  size_t batched = 0;
  while (true) {
    ASSIGN_OR_RETURN(auto record, reader.Next());
    if (!record) break;
    batched += record->key.size() + record->value.size();
    batch.Put(prefix_ + record->key, std::move(record->value));
    if (batched > kBatchBytes) {
      RETURN_IF_ERROR(parts_.index->Write(batch));
      batch = {};
      batched = 0;
    }
  }
  RETURN_IF_ERROR(parts_.index->Write(batch));
  // The applied index comes with the last batch: where it stands, the whole snapshot was loaded.
  blob::IndexBatch last;
  if (blob_ != nullptr) {
    // The bytes do not travel in a snapshot: what is not here goes into the missing set.
    absl::Status written;
    BlobMachine::ForEachContent(state_, [&](const ContentRecord& content) {
      Applied ignored;
      ChangeContent(
          {ContentChange::Kind::kLink, content.id, reader.head().at.index, content.sealed, content.holders},
          last, ignored);
      if (last.changes().size() < kBatchChanges || !written.ok()) return;
      written = parts_.index->Write(last);
      last = {};
    });
    RETURN_IF_ERROR(written);
    // Read again it would fail again: no reason to wait for room.
    if (!state_.status().ok()) return absl::InternalError(state_.status().message());
  }
  configuration_ = reader.head().configuration;
  applied_ = reader.head().at;
  facts_ = reader.head().facts;
  PutApplied(last);
  RETURN_IF_ERROR(parts_.index->Write(last));
  return parts_.index->Flush();
}

// What was removed meanwhile: its entry will never be applied here. It goes before the index forgets it, which
// may get durable at any time (K14): later nobody would know of it.
absl::Status Applier::RemoveContentsNotIn(const std::string& path, const std::vector<UploadId>& before) {
  if (before.empty()) return absl::OkStatus();
  std::set<UploadId> gone(before.begin(), before.end());
  ASSIGN_OR_RETURN(auto reader, SnapshotReader::Open(*parts_.files, path));
  while (true) {
    ASSIGN_OR_RETURN(const auto record, reader.Next());
    if (!record) break;
    const std::string_view key = record->key;
    if (!key.starts_with('s')) continue;
    if (const auto id = BlobMachine::ContentOf(key.substr(1), record->value)) gone.erase(*id);
  }
  for (const UploadId& id : gone) {
    if (const auto removed = RemoveIfOwn(id); !removed.ok()) {
      LogWarn("bytes of {} stay on disk: {}", id.ToHex(), Message(removed));
    }
  }
  return absl::OkStatus();
}

// Also those of an earlier life that the index has forgotten.
std::vector<UploadId> Applier::ContentIds() const {
  if (blob_ == nullptr) return {};
  std::vector<UploadId> ids = parts_.store->LinksNotEntered(parts_.spec.id);
  BlobMachine::ForEachContent(state_, [&](const ContentRecord& content) { ids.push_back(content.id); });
  return ids;
}

absl::StatusOr<std::vector<UploadId>> Applier::MissingIds() {
  std::vector<UploadId> ids;
  const std::string prefix = prefix_ + "m";
  RETURN_IF_ERROR(parts_.index->Scan(prefix, prefix, [&](std::string_view key, std::string_view) {
    if (const auto id = ParseUploadKey(key.substr(prefix.size()))) ids.push_back(*id);
    return true;
  }));
  return ids;
}

absl::Status Applier::DropSnapshotFile() {
  RETURN_IF_ERROR(parts_.files->Remove(parts_.snapshot_path));
  return parts_.files->SyncDir(parts_.snapshot_path.substr(0, parts_.snapshot_path.rfind('/')));
}

// From here on the snapshot counts: a restart would install it, too.
absl::Status Applier::TakeSnapshotFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::vector<UploadId> missing, MissingIds());
  RETURN_IF_ERROR(parts_.files->Rename(path, parts_.snapshot_path));
  replaced_ = Replaced{std::move(missing), ContentIds()};
  return absl::OkStatus();
}

absl::Status Applier::BeginReplacing() {
  RETURN_IF_ERROR(broken_);
  if (unwritten_) return absl::UnavailableError("applied entries wait for room on the disk");
  replacing_ = true;
  return absl::OkStatus();
}

absl::StatusOr<Applier::Start> Applier::Replace(const std::string& path) {
  if (!replaced_) RETURN_IF_ERROR(TakeSnapshotFile(path));
  const std::string folder = parts_.snapshot_path.substr(0, parts_.snapshot_path.rfind('/'));
  RETURN_IF_ERROR(parts_.files->SyncDir(folder));
  RETURN_IF_ERROR(LoadSnapshotFile(parts_.snapshot_path, replaced_->contents));
  RETURN_IF_ERROR(DropSnapshotFile());  // loaded again by a later start it would take the state back (F-32)
  Start start;
  RETURN_IF_ERROR(Load(&start));
  std::set<UploadId> missing;
  for (const MissingContent& each : start.missing) missing.insert(each.upload.upload);
  for (const UploadId& id : replaced_->missing) {
    if (!missing.contains(id)) start.no_longer_missing.push_back(id);
  }
  replaced_.reset();
  return start;
}

}  // namespace sluice::node
