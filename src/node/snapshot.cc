// Snapshots of an Applier: a file of length-prefixed records with a checksum at its end
// (docs/formats/snapshot.md).

#include <algorithm>
#include <cstring>
#include <set>

#include "base/crc32c.h"
#include "base/fields.h"
#include "base/log.h"
#include "node/applier.h"

namespace sluice::node {
namespace {

constexpr char kMagic[] = "sluicesnap1";  // 11 characters and the NUL
constexpr size_t kMagicBytes = sizeof(kMagic);
constexpr size_t kBufferBytes = 1u << 20;
constexpr size_t kRecordBytesMax = 16u << 20;
constexpr size_t kTailBytes = 8;  // record length 0xffffffff, then CRC32C of everything before the tail

// Little endian.
void AppendU32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
}
uint32_t ReadU32(const char* raw) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(raw[i]);
  return value;
}

class SnapshotWriter {
 public:
  explicit SnapshotWriter(std::unique_ptr<env::File> file) : file_(std::move(file)) {
    buffer_.assign(kMagic, kMagicBytes);
  }
  void Add(std::string_view record) {
    AppendU32(buffer_, static_cast<uint32_t>(record.size()));
    buffer_.append(record);
    if (buffer_.size() >= kBufferBytes) Write();
  }
  absl::Status Finish() {
    Write();
    AppendU32(buffer_, 0xffffffffu);
    AppendU32(buffer_, crc_);
    Write();
    RETURN_IF_ERROR(status_);
    return file_->Sync();
  }

 private:
  void Write() {
    crc_ = ExtendCrc32c(crc_, buffer_);
    const size_t size = buffer_.size();
    if (status_.ok()) status_ = file_->WriteAt(at_, Bytes::Take(std::move(buffer_)));
    at_ += size;
    buffer_.clear();
  }
  std::unique_ptr<env::File> file_;
  std::string buffer_;
  uint64_t at_ = 0;
  uint32_t crc_ = 0;
  absl::Status status_;
};

// Reads records in order; the checksum is verified by a pass of its own before anything is believed.
class SnapshotReader {
 public:
  static absl::StatusOr<SnapshotReader> Open(env::Files& files, const std::string& path) {
    SnapshotReader reader;
    ASSIGN_OR_RETURN(reader.file_, files.Open(path, {.read_only = true}));
    ASSIGN_OR_RETURN(reader.size_, reader.file_->Size());
    if (reader.size_ < kMagicBytes + kTailBytes) {
      return absl::DataLossError(fmt::format("snapshot {} of {} bytes is cut short", path, reader.size_));
    }
    uint32_t crc = 0;
    std::string buffer(kBufferBytes, '\0');
    const uint64_t end = reader.size_ - kTailBytes;
    for (uint64_t at = 0; at < end;) {
      const size_t step = static_cast<size_t>(std::min<uint64_t>(kBufferBytes, end - at));
      ASSIGN_OR_RETURN(const size_t got, reader.file_->ReadAt(at, buffer.data(), step));
      if (got != step) return absl::DataLossError(fmt::format("snapshot {} ends at {}", path, at + got));
      if (at == 0 && std::memcmp(buffer.data(), kMagic, kMagicBytes) != 0) {
        return absl::DataLossError(fmt::format("{} is no snapshot of this format", path));
      }
      crc = ExtendCrc32c(crc, std::string_view(buffer).substr(0, step));
      at += step;
    }
    char tail[kTailBytes];
    ASSIGN_OR_RETURN(const size_t got, reader.file_->ReadAt(end, tail, kTailBytes));
    if (got != kTailBytes || ReadU32(tail) != 0xffffffffu || ReadU32(tail + 4) != crc) {
      return absl::DataLossError(fmt::format("snapshot {} fails its checksum", path));
    }
    reader.at_ = kMagicBytes;
    return reader;
  }
  // The next record; nullopt at the end.
  absl::StatusOr<std::optional<std::string>> Next() {
    char head[4];
    ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(at_, head, 4));
    const uint32_t size = ReadU32(head);
    if (got == 4 && size == 0xffffffffu) return std::nullopt;
    if (got != 4 || size > kRecordBytesMax) return absl::DataLossError("snapshot record is malformed");
    std::string record(size, '\0');
    ASSIGN_OR_RETURN(const size_t read, file_->ReadAt(at_ + 4, record.data(), size));
    if (read != size) return absl::DataLossError("snapshot record is cut short");
    at_ += 4 + size;
    return record;
  }

 private:
  std::unique_ptr<env::File> file_;
  uint64_t size_ = 0;
  uint64_t at_ = 0;
};

// The first record: where the snapshot stands.
struct SnapshotHead {
  TermIndex at{Term{0}, kNoIndex};
  std::string configuration;
  std::optional<GroupFacts> facts;
};

absl::StatusOr<SnapshotHead> ReadHead(SnapshotReader& reader) {
  ASSIGN_OR_RETURN(const auto record, reader.Next());
  if (!record) return absl::DataLossError("snapshot without a head");
  SnapshotHead head;
  FieldReader in(*record);
  while (in.Next()) {
    if (in.tag() == 1) head.at.term = Term{in.varint()};
    if (in.tag() == 2) head.at.index = Index{static_cast<int64_t>(in.varint()) - 1};
    if (in.tag() == 3) head.configuration = std::string(in.text());
    ReadFacts(in, head.facts);
  }
  if (!in.ok() || !head.at.index.valid()) return absl::DataLossError("snapshot head is malformed");
  return head;
}

}  // namespace

absl::StatusOr<TermIndex> Applier::SaveSnapshot(const std::string& path) {
  RETURN_IF_ERROR(Whole());
  ASSIGN_OR_RETURN(auto file, parts_.files->Open(path, {.create = true}));
  RETURN_IF_ERROR(file->Truncate(0));
  SnapshotWriter writer(std::move(file));
  FieldWriter head;
  head.PutVarint(1, applied_.term.value);
  head.PutVarint(2, static_cast<uint64_t>(applied_.index.value + 1));
  head.PutText(3, raft::EncodeConfiguration(configuration_).ToString());
  PutFacts(head);
  writer.Add(head.Take());
  for (const char kind : {'s', 'r'}) {
    const std::string prefix = prefix_ + kind;
    RETURN_IF_ERROR(parts_.index->Scan(prefix, prefix, [&](std::string_view key, std::string_view value) {
      FieldWriter record;
      record.PutRecord(1, key.substr(prefix_.size()));
      record.PutRecord(2, value);
      writer.Add(record.Take());
      return true;
    }));
  }
  RETURN_IF_ERROR(writer.Finish());
  return applied_;
}

absl::StatusOr<TermIndex> Applier::CheckSnapshot(env::Files& files, const std::string& path) {
  ASSIGN_OR_RETURN(auto reader, SnapshotReader::Open(files, path));
  ASSIGN_OR_RETURN(const auto head, ReadHead(reader));
  return head.at;
}

absl::Status Applier::LoadSnapshotFile(const std::string& path, const std::vector<UploadId>& before) {
  ASSIGN_OR_RETURN(auto reader, SnapshotReader::Open(*parts_.files, path));
  ASSIGN_OR_RETURN(const auto head, ReadHead(reader));
  RETURN_IF_ERROR(RemoveContentsNotIn(path, before));
  RETURN_IF_ERROR(parts_.index->DeletePrefix(prefix_));
  blob::IndexBatch batch;
  size_t batched = 0;
  while (true) {
    ASSIGN_OR_RETURN(const auto record, reader.Next());
    if (!record) break;
    std::string key;
    std::string value;
    FieldReader in(*record);
    while (in.Next()) {
      if (in.tag() == 1) key = std::string(in.text());
      if (in.tag() == 2) value = std::string(in.text());
    }
    if (!in.ok() || key.empty()) return absl::DataLossError("snapshot record is malformed");
    batched += key.size() + value.size();
    batch.Put(prefix_ + key, std::move(value));
    if (batched > kBufferBytes) {
      RETURN_IF_ERROR(parts_.index->Write(batch));
      batch = {};
      batched = 0;
    }
  }
  ASSIGN_OR_RETURN(auto configuration, raft::DecodeConfiguration(Bytes::Copy(head.configuration)));
  RETURN_IF_ERROR(parts_.index->Write(batch));
  // The applied index comes with the last batch: where it stands, the whole snapshot was loaded.
  blob::IndexBatch last;
  if (blob_ != nullptr) {
    // The bytes do not travel in a snapshot: what is not here goes into the missing set.
    Applied ignored;
    BlobMachine::ForEachContent(state_, [&](const ContentRecord& content) {
      ChangeContent({ContentChange::Kind::kLink, content.id, head.at.index, content.sealed, content.holders},
                    last, ignored);
    });
    // Read again it would fail again: no reason to wait for room.
    if (!state_.status().ok()) return absl::InternalError(state_.status().message());
  }
  configuration_ = std::move(configuration);
  applied_ = head.at;
  facts_ = head.facts;
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
  RETURN_IF_ERROR(ReadHead(reader).status());
  while (true) {
    ASSIGN_OR_RETURN(const auto record, reader.Next());
    if (!record) break;
    FieldReader in(*record);
    while (in.Next()) {
      if (in.tag() != 1 || !in.text().starts_with('s')) continue;
      if (const auto id = BlobMachine::ContentOfKey(in.text().substr(1))) gone.erase(*id);
    }
  }
  for (const UploadId& id : gone) {
    if (const auto removed = parts_.store->Remove(id); !removed.ok()) {
      LogWarn("bytes of {} stay on disk: {}", id.ToHex(), Message(removed));
    }
  }
  return absl::OkStatus();
}

std::vector<UploadId> Applier::ContentIds() const {
  std::vector<UploadId> ids;
  if (blob_ == nullptr) return ids;
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
  ASSIGN_OR_RETURN(auto reader, SnapshotReader::Open(*parts_.files, path));
  ASSIGN_OR_RETURN(const auto head, ReadHead(reader));
  if (head.facts) RETURN_IF_ERROR(CheckFacts(parts_.spec, parts_.cluster->id(), *head.facts));
  ASSIGN_OR_RETURN(std::vector<UploadId> missing, MissingIds());
  RETURN_IF_ERROR(parts_.files->Rename(path, parts_.snapshot_path));
  replaced_ = Replaced{std::move(missing), ContentIds()};
  return absl::OkStatus();
}

absl::StatusOr<Applier::Start> Applier::InstallSnapshot(const std::string& path) {
  RETURN_IF_ERROR(broken_);
  if (!replaced_) RETURN_IF_ERROR(TakeSnapshotFile(path));
  const std::string folder = parts_.snapshot_path.substr(0, parts_.snapshot_path.rfind('/'));
  RETURN_IF_ERROR(parts_.files->SyncDir(folder));
  RETURN_IF_ERROR(LoadSnapshotFile(parts_.snapshot_path, replaced_->contents));
  RETURN_IF_ERROR(DropSnapshotFile());  // loaded again by a later start it would take the state back (F-32)
  Start start;
  RETURN_IF_ERROR(Load(&start));
  start.installed_snapshot = true;
  std::set<UploadId> missing;
  for (const MissingContent& each : start.missing) missing.insert(each.upload.upload);
  for (const UploadId& id : replaced_->missing) {
    if (!missing.contains(id)) start.no_longer_missing.push_back(id);
  }
  replaced_.reset();
  return start;
}

}  // namespace sluice::node
