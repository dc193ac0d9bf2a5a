#include "node/snapshot_file.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"
#include "base/fields.h"
#include "base/log.h"
#include "node/sessions.h"

namespace sluice::node {
namespace {

constexpr size_t kBufferBytes = 1u << 20;
// A machine may make one value of many entries. What a reader allocates for a record is never more than the file has,
// and that is read and compared with its checksum before.
constexpr size_t kRecordBytesMax = 1u << 30;
constexpr uint32_t kEndMark = 0xffffffffu;  // where a record's length would stand
constexpr size_t kTailBytes = 8;            // kEndMark, then CRC32C of everything before the tail
constexpr uint64_t kTermMax = uint64_t{1} << 62;
constexpr uint64_t kIndexMax = uint64_t{1} << 62;

// Little endian.
void AppendU32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
}
uint32_t ReadU32(std::string_view raw) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(raw[i]);
  return value;
}

class SnapshotWriter {
 public:
  explicit SnapshotWriter(std::unique_ptr<env::File> file)
      : file_(std::move(file)), buffer_(kSnapshotMagic) {}
  void Add(std::string_view record) {
    if (record.size() > kRecordBytesMax && status_.ok()) {
      status_ = absl::InvalidArgumentError(
          fmt::format("a value of {} bytes does not fit into a snapshot, which takes {}", record.size(),
                      kRecordBytesMax));
    }
    if (!status_.ok()) return;
    AppendU32(buffer_, static_cast<uint32_t>(record.size()));
    buffer_.append(record);
    if (buffer_.size() >= kBufferBytes) Write();
  }
  absl::Status Finish() {
    Write();
    AppendU32(buffer_, kEndMark);
    AppendU32(buffer_, crc_);
    Write();
    RETURN_IF_ERROR(status_);
    return file_->Sync();
  }
  const absl::Status& status() const { return status_; }

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

std::string EncodeHead(const SnapshotHead& head) {
  FieldWriter out;
  out.PutVarint(1, head.at.term.value);
  out.PutVarint(2, static_cast<uint64_t>(head.at.index.value + 1));
  out.PutText(3, raft::EncodeConfiguration(head.configuration).ToString());
  if (head.facts) {
    out.PutVarint(kModeTag, static_cast<uint64_t>(head.facts->mode));
    out.PutText(kMachineTag, head.facts->machine);
    if (!head.facts->cluster.IsZero()) out.PutText(kClusterTag, head.facts->cluster.AsBytes());
    out.PutVarint(kClockTag, static_cast<uint64_t>(head.facts->clock_ms));
  }
  return out.Take();
}

// What the group remembers of calls: kind `r`, by the index of the entry, in big endian.
absl::Status CheckReply(std::string_view key, std::string_view value, Index upto) {
  if (key.size() != 8) return absl::InvalidArgumentError("its key is no index");
  uint64_t index = 0;
  for (const char byte : key) index = index << 8 | static_cast<uint8_t>(byte);
  if (index > static_cast<uint64_t>(upto.value)) {
    return absl::InvalidArgumentError(fmt::format("it answers entry {}", index));
  }
  return DecodeReply(Index{static_cast<int64_t>(index)}, value).status();
}

}  // namespace

absl::StatusOr<SnapshotReader> SnapshotReader::Open(env::Files& files, const std::string& path) {
  ASSIGN_OR_RETURN(auto file, files.Open(path, {.read_only = true}));
  ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size < kSnapshotMagic.size() + kTailBytes) {
    return absl::DataLossError(fmt::format("snapshot {} of {} bytes is cut short", path, size));
  }
  SnapshotReader reader(path, std::move(file), size - kTailBytes);
  RETURN_IF_ERROR(reader.CheckSum());
  RETURN_IF_ERROR(reader.ReadHead());
  return reader;
}

absl::Status SnapshotReader::CheckSum() {
  uint32_t crc = 0;
  std::string buffer(kBufferBytes, '\0');
  for (uint64_t at = 0; at < end_;) {
    const auto step = static_cast<size_t>(std::min<uint64_t>(kBufferBytes, end_ - at));
    ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(at, buffer.data(), step));
    if (got != step) return Malformed(fmt::format("it ends at {}", at + got));
    const std::string_view read = std::string_view(buffer).substr(0, step);
    if (at == 0 && !read.starts_with(kSnapshotMagic)) return Malformed("it is no snapshot of this format");
    crc = ExtendCrc32c(crc, read);
    at += step;
  }
  char tail[kTailBytes];
  ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(end_, tail, kTailBytes));
  const std::string_view read(tail, got);
  if (got != kTailBytes || ReadU32(read) != kEndMark || ReadU32(read.substr(4)) != crc) {
    return Malformed("its checksum differs");
  }
  at_ = kSnapshotMagic.size();
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> SnapshotReader::Take(size_t size) {
  if (buffer_.size() - taken_ < size) {
    buffer_.erase(0, taken_);
    taken_ = 0;
    const size_t held = buffer_.size();
    const auto more =
        static_cast<size_t>(std::min<uint64_t>(std::max(size - held, kBufferBytes), end_ - at_));
    if (held + more < size) return Malformed("a record is cut short");
    buffer_.resize(held + more);
    ASSIGN_OR_RETURN(const size_t got, file_->ReadAt(at_, buffer_.data() + held, more));
    if (got != more) return Malformed(fmt::format("it ends at {}", at_ + got));
    at_ += more;
  }
  const std::string_view out = std::string_view(buffer_).substr(taken_, size);
  taken_ += size;
  return out;
}

absl::StatusOr<std::optional<std::string_view>> SnapshotReader::NextRaw() {
  if (taken_ == buffer_.size() && at_ == end_) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string_view head, Take(4));
  const uint32_t size = ReadU32(head);
  if (size > kRecordBytesMax) return Malformed(fmt::format("a record of {} bytes", size));
  ASSIGN_OR_RETURN(const std::string_view record, Take(size));
  return record;
}

absl::Status SnapshotReader::ReadHead() {
  ASSIGN_OR_RETURN(const auto record, NextRaw());
  if (!record) return Malformed("it has no head");
  uint64_t term = 0;
  uint64_t next = 0;
  std::string_view configuration;
  FieldReader in(*record);
  while (in.Next()) {
    if (in.tag() == 1) term = in.varint();
    if (in.tag() == 2) next = in.varint();
    if (in.tag() == 3) configuration = in.text();
    ReadFacts(in, head_.facts);
  }
  if (!in.ok() || term >= kTermMax || next == 0 || next > kIndexMax) {
    return Malformed(fmt::format("its head says term {}, next index {}", term, next));
  }
  head_.at = {Term{term}, Index{static_cast<int64_t>(next) - 1}};
  absl::StatusOr<raft::Configuration> decoded = raft::DecodeConfiguration(Bytes::Copy(configuration));
  absl::Status good = decoded.status();
  if (good.ok()) good = raft::CheckConfiguration(*decoded);
  if (good.ok() && decoded->voters.empty()) good = absl::InvalidArgumentError("no voters");
  if (!good.ok()) return Malformed(fmt::format("its configuration: {}", Message(good)));
  head_.configuration = *std::move(decoded);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SnapshotRecord>> SnapshotReader::Next() {
  ASSIGN_OR_RETURN(const auto raw, NextRaw());
  if (!raw) return std::nullopt;
  SnapshotRecord record;
  FieldReader in(*raw);
  while (in.Next()) {
    if (in.tag() == 1) record.key = std::string(in.text());
    if (in.tag() == 2) record.value = std::string(in.text());
  }
  if (!in.ok() || record.key.empty()) return Malformed(fmt::format("a record of {} bytes", raw->size()));
  return record;
}

absl::Status SnapshotReader::Malformed(std::string_view what) const {
  return absl::DataLossError(fmt::format("snapshot {}: {}", path_, what));
}

absl::Status WriteSnapshot(env::Files& files, const SnapshotView& view, const std::string& path) {
  ASSIGN_OR_RETURN(auto file, files.Open(path, {.create = true}));
  RETURN_IF_ERROR(file->Truncate(0));
  SnapshotWriter writer(std::move(file));
  writer.Add(EncodeHead(view.head));
  for (const char kind : {'s', 'r'}) {
    const std::string prefix = view.prefix + kind;
    RETURN_IF_ERROR(view.index->Scan(prefix, prefix, [&](std::string_view key, std::string_view value) {
      FieldWriter record;
      record.PutRecord(1, key.substr(view.prefix.size()));
      record.PutRecord(2, value);
      writer.Add(record.Take());
      return writer.status().ok();
    }));
  }
  return writer.Finish();
}

absl::StatusOr<SnapshotHead> VerifySnapshot(env::Files& files, const std::string& path,
                                            const StateMachine& machine) {
  ASSIGN_OR_RETURN(SnapshotReader reader, SnapshotReader::Open(files, path));
  std::string before;
  while (true) {
    ASSIGN_OR_RETURN(const auto record, reader.Next());
    if (!record) return reader.head();
    const std::string_view key = record->key;
    const bool same_kind = !before.empty() && before[0] == key[0];
    absl::Status good;
    if (same_kind ? key <= before : !before.empty() && before[0] == 'r') {
      good = absl::InvalidArgumentError("it does not follow the one before it");
    } else if (key[0] == 's') {
      good = machine.CheckRecord(key.substr(1), record->value);
    } else if (key[0] == 'r') {
      good = CheckReply(key.substr(1), record->value, reader.head().at.index);
    } else {
      good = absl::InvalidArgumentError("its kind is unknown");
    }
    if (!good.ok()) {
      return absl::DataLossError(fmt::format("snapshot {}: record {} with {} bytes: {}", path,
                                             Printable(key.substr(0, 64)), record->value.size(),
                                             Message(good)));
    }
    before = record->key;
  }
}

}  // namespace sluice::node
