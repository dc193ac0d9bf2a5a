#include "log/segment_scan.h"

#include <algorithm>

#include "base/crc32c.h"
#include "env/aligned_memory.h"

namespace sluice::log {
namespace {

constexpr size_t kReadBytes = 1 << 20;

bool IsZero(std::string_view bytes) { return bytes.find_first_not_of('\0') == std::string_view::npos; }

bool IsBlockSize(size_t bytes) {
  return bytes >= kBlockBytesMin && bytes <= kBlockBytesMax && (bytes & (bytes - 1)) == 0;
}

// Follows records through the blocks of one segment.
class Walker {
 public:
  Walker(const ScannedSegment& segment, const SegmentEnd& end, Replay& replay)
      : segment_(segment), end_(end), replay_(replay) {}

  uint64_t Run() {
    for (number_ = 1; number_ < end_.limit; ++number_) {
      const bool exists = number_ < segment_.blocks.size();
      const bool told = exists && segment_.headers[number_].has_value();
      if (!exists || segment_.blocks[number_] != BlockState::kValid) ++damaged_;
      told ? WalkBlock(*segment_.headers[number_]) : SkipBlock();
    }
    EndPending(/*whole=*/false);
    return damaged_;
  }

 private:
  bool at_end() const { return number_ >= end_.damage_at_end_from; }
  void Unknown() { replay_.OnUnknownDamage(segment_.sequence_of(number_), at_end()); }

  // A block that tells nothing: it may have held only a part of a payload.
  void SkipBlock() {
    const size_t body = segment_.block_bytes - BlockBodyOffset(segment_.block_bytes);
    if (pending_ && left_ >= body) {
      left_ -= static_cast<uint32_t>(body);
      broken_ = true;
      record_.at_end = record_.at_end || at_end();
      if (left_ == 0) EndPending(/*whole=*/true);
      return;
    }
    broken_ = true;
    record_.at_end = record_.at_end || at_end();
    EndPending(/*whole=*/true);
    Unknown();
  }

  void WalkBlock(const BlockHeader& header) {
    const std::string_view block = segment_.block(number_).substr(0, header.used);
    if (header.position == 0) EndPending(/*whole=*/false);
    size_t offset = BlockBodyOffset(segment_.block_bytes);
    if (pending_) {
      offset += Take(block.substr(offset));
      if (pending_) return;
    }
    if (header.first_record == 0) return;
    if (header.first_record != offset) Unknown();
    offset = header.first_record;
    while (offset + kRecordHeaderBytes <= block.size()) {
      const std::optional<RecordHeader> found = DecodeRecordHeader(block.substr(offset));
      if (!found) {
        Unknown();
        return;
      }
      Begin(*found, offset);
      offset += kRecordHeaderBytes;
      offset += Take(block.substr(offset));
      if (pending_) return;
    }
  }

  void Begin(const RecordHeader& header, size_t offset) {
    pending_ = true;
    broken_ = false;
    left_ = header.payload_bytes;
    crc_ = 0;
    kept_.clear();
    const bool is_entry = header.kind == RecordKind::kEntry || header.kind == RecordKind::kCopy;
    keep_ = is_entry ? header.entry_kind == raft::EntryKind::kConfiguration
                     : header.payload_bytes <= kStateMarkBytes;
    record_ = {.header = header,
               .place = {segment_.generation, number_ * segment_.block_bytes + offset,
                         segment_.sequence_of(number_)},
               .payload = {},
               .damaged = false,
               .at_end = at_end()};
  }

  // Takes what the pending record has in these bytes; returns how many.
  size_t Take(std::string_view bytes) {
    const std::string_view part = bytes.substr(0, left_);
    crc_ = ExtendCrc32c(crc_, part);
    if (keep_) kept_.append(part);
    left_ -= static_cast<uint32_t>(part.size());
    record_.at_end = record_.at_end || at_end();
    if (left_ == 0) EndPending(/*whole=*/true);
    return part.size();
  }

  void EndPending(bool whole) {
    if (!pending_) return;
    pending_ = false;
    record_.damaged = !whole || broken_ || crc_ != record_.header.payload_crc;
    if (keep_ && !record_.damaged) record_.payload = Bytes::Copy(kept_);
    replay_.OnRecord(record_);
  }

  const ScannedSegment& segment_;
  const SegmentEnd& end_;
  Replay& replay_;
  uint64_t number_ = 0;
  uint64_t damaged_ = 0;
  bool pending_ = false;  // record_ lacks left_ bytes of its payload
  bool broken_ = false;
  bool keep_ = false;
  uint32_t left_ = 0;
  uint32_t crc_ = 0;
  std::string kept_;
  FoundRecord record_;
};

}  // namespace

absl::StatusOr<ScannedSegment> ScanSegment(env::File& file, const std::string& path, uint64_t generation,
                                           size_t block_bytes) {
  ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  if (size > kSegmentBytesMax) {
    return absl::DataLossError(fmt::format("{} has {} bytes, more than any segment", path, size));
  }
  std::string data(size, '\0');
  // From the device: after a failed sync the page cache may hold what the device does not (F-10).
  file.DropCache();
  const env::AlignedMemory memory = env::AllocateAligned(kReadBytes);
  if (memory == nullptr) return absl::ResourceExhaustedError(fmt::format("no memory to read {}", path));
  const auto read = [&](uint64_t at, size_t count) {
    const absl::StatusOr<size_t> done = file.ReadAt(at, memory.get(), env::WholeBlocks(count));
    if (done.ok()) std::copy_n(memory.get(), std::min(*done, count), data.data() + at);
    return done.status();
  };
  std::vector<uint64_t> unreadable;
  for (uint64_t offset = 0; offset < size;) {
    const size_t count = std::min<uint64_t>(kReadBytes, size - offset);
    const absl::Status whole = read(offset, count);
    if (!whole.ok() && !absl::IsDataLoss(whole)) return whole;
    if (!whole.ok()) {
      for (uint64_t at = offset; at < offset + count; at += env::kBlockBytes) {
        const size_t part = std::min<uint64_t>(env::kBlockBytes, offset + count - at);
        if (read(at, part).ok()) continue;
        for (uint64_t lost = at; lost < at + part; lost += block_bytes)
          unreadable.push_back(lost / block_bytes);
      }
    }
    offset += count;
  }
  return JudgeSegment(std::move(data), path, generation, block_bytes, unreadable);
}

absl::StatusOr<ScannedSegment> JudgeSegment(std::string data, const std::string& path, uint64_t generation,
                                            size_t block_bytes, const std::vector<uint64_t>& unreadable) {
  ScannedSegment segment;
  segment.generation = generation;
  segment.path = path;
  segment.file_bytes = data.size();
  const std::optional<SegmentHeader> header = DecodeSegmentHeader(data);
  const bool ours = header && header->generation == generation;
  if (header && header->version != kFormatVersion) {
    return absl::FailedPreconditionError(
        fmt::format("{} has log format {}, this program knows {}", path, header->version, kFormatVersion));
  }
  if (header && header->generation > generation) {
    return absl::DataLossError(
        fmt::format("{} holds segment {:016x}: it was renamed or copied", path, header->generation));
  }
  segment.block_bytes = ours && IsBlockSize(header->block_bytes) ? header->block_bytes : block_bytes;
  segment.data = std::move(data);
  if (ours) segment.first_sequence = header->first_sequence;
  segment.cut = ours && segment.file_bytes < header->segment_bytes;
  const uint64_t count = segment.data.size() / segment.block_bytes;
  segment.blocks.resize(count, BlockState::kUnreadable);
  segment.headers.resize(count);
  bool used = false;
  for (uint64_t n = 1; n < count; ++n) {
    const std::string_view block = segment.block(n);
    const std::optional<BlockHeader> found = DecodeBlockHeader(block, segment.block_bytes);
    const bool bad = std::find(unreadable.begin(), unreadable.end(), n) != unreadable.end();
    // One sector that is still what it was: the write of this block never came to its end.
    const bool old = !bad && HasOldSector(block, generation);
    if (old) segment.blocks[n] = BlockState::kOld;
    if (!bad && found && found->generation == generation) {
      if (!segment.first_sequence && found->sequence + 1 >= n)
        segment.first_sequence = found->sequence + 1 - n;
      if (!segment.first_sequence || found->sequence != segment.sequence_of(n) || found->position >= n)
        continue;
      used = true;
      segment.headers[n] = found;
      const bool whole =
          UnsealBlock(*found, segment.data.data() + n * segment.block_bytes, segment.block_bytes);
      if (old) continue;
      segment.blocks[n] = whole && BlockBodyIsValid(*found, block) ? BlockState::kValid : BlockState::kBroken;
    }
  }
  if (count > 0) {
    const bool old_header = (header && header->generation < generation) || IsZero(segment.block(0));
    segment.blocks[0] = ours ? BlockState::kValid : old_header ? BlockState::kOld : BlockState::kUnreadable;
  }
  if (!used) segment.first_sequence.reset();
  return segment;
}

SegmentEnd FindEnd(const ScannedSegment& segment, uint64_t synced_upto) {
  const uint64_t count = segment.blocks.size();
  const auto state = [&](uint64_t n) { return n < count ? segment.blocks[n] : BlockState::kOld; };
  uint64_t start = 1;  // of the last batch of which there is any sign
  uint64_t blocks = 0;
  for (uint64_t n = 1; n < count; ++n) {
    if (!segment.headers[n]) continue;
    const uint64_t from = n - segment.headers[n]->position;
    if (from > start || blocks == 0) blocks = segment.headers[n]->count;
    start = std::max(start, from);
  }
  SegmentEnd end;
  const uint64_t after = start + blocks;
  if (synced_upto > start) {
    const uint64_t limit = std::max(after, synced_upto);
    return {.limit = limit, .damage_at_end_from = limit, .torn = false};
  }
  bool whole = true;
  for (uint64_t n = start; n < after; ++n) {
    if (state(n) == BlockState::kOld) {
      return {.limit = start, .damage_at_end_from = start, .torn = true};
    }
    whole = whole && state(n) == BlockState::kValid;
  }
  end.limit = after;
  while (state(end.limit) == BlockState::kUnreadable) ++end.limit;
  end.damage_at_end_from = whole ? after : start;
  // Blocks of a batch whose first one was never written.
  for (uint64_t n = end.limit; n < count && !end.torn; ++n) end.torn = state(n) != BlockState::kOld;
  return end;
}

uint64_t WalkRecords(const ScannedSegment& segment, const SegmentEnd& end, Replay& replay) {
  return Walker(segment, end, replay).Run();
}

}  // namespace sluice::log
