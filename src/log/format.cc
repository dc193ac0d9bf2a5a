#include "log/format.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "base/crc32c.h"

namespace sluice::log {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr std::string_view kSegmentMagic = "SLULOG1\n";
constexpr std::string_view kHardStateMagic = "SLUHARD1";
constexpr uint32_t kBlockMagic = 0x4b424c53;  // "SLBK"
constexpr size_t kHardStateFixedBytes = 62;
constexpr uint64_t kFlagPromise = 1;
constexpr uint64_t kFlagAtEnd = 2;

template <typename T>
void Put(char* out, size_t offset, T value) {
  static_assert(std::is_integral_v<T>);
  std::memcpy(out + offset, &value, sizeof(value));
}
template <typename T>
T Get(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// Low half: the generation; high half: a checksum, so that damage does not look like another generation.
uint64_t StampOf(uint64_t generation, size_t sector) {
  char text[8];
  Put<uint32_t>(text, 0, static_cast<uint32_t>(generation));
  Put<uint32_t>(text, 4, static_cast<uint32_t>(sector));
  return (uint64_t{Crc32c({text, sizeof(text)})} << 32) | static_cast<uint32_t>(generation);
}
// Where a block keeps the bytes that the stamp of a sector took the place of.
char* StandIn(char* block, size_t sector) { return block + kBlockHeaderBytes + kStampBytes * (sector - 1); }

}  // namespace

void EncodeSegmentHeader(const SegmentHeader& header, char* out) {
  std::memcpy(out, kSegmentMagic.data(), kSegmentMagic.size());
  Put<uint32_t>(out, 12, header.version);
  Put<uint32_t>(out, 16, header.block_bytes);
  Put<uint32_t>(out, 20, 0);
  Put<uint64_t>(out, 24, header.segment_bytes);
  Put<uint64_t>(out, 32, header.generation);
  Put<uint64_t>(out, 40, header.first_sequence);
  Put<uint32_t>(out, 8, Crc32c({out + 12, kSegmentHeaderBytes - 12}));
}

std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderBytes || bytes.substr(0, 8) != kSegmentMagic) return std::nullopt;
  if (Get<uint32_t>(bytes, 8) != Crc32c(bytes.substr(12, kSegmentHeaderBytes - 12))) return std::nullopt;
  return SegmentHeader{.version = Get<uint32_t>(bytes, 12),
                       .block_bytes = Get<uint32_t>(bytes, 16),
                       .segment_bytes = Get<uint64_t>(bytes, 24),
                       .generation = Get<uint64_t>(bytes, 32),
                       .first_sequence = Get<uint64_t>(bytes, 40)};
}

void SealBlock(const BlockHeader& header, char* block, size_t block_bytes) {
  const size_t body = BlockBodyOffset(block_bytes);
  Put<uint32_t>(block, 0, kBlockMagic);
  Put<uint32_t>(block, 8, Crc32c({block + body, block_bytes - body}));
  Put<uint32_t>(block, 12, header.used);
  Put<uint64_t>(block, 16, header.generation);
  Put<uint64_t>(block, 24, header.sequence);
  Put<uint32_t>(block, 32, header.position);
  Put<uint32_t>(block, 36, header.count);
  Put<uint32_t>(block, 40, header.first_record);
  Put<uint32_t>(block, 44, 0);
  Put<uint32_t>(block, 4, Crc32c({block + 8, kBlockHeaderBytes - 8}));
  for (size_t sector = 1; sector < block_bytes / kSectorBytes; ++sector) {
    char* at = block + sector * kSectorBytes;
    std::memcpy(StandIn(block, sector), at, kStampBytes);
    Put<uint64_t>(at, 0, StampOf(header.generation, sector));
  }
}

bool UnsealBlock(const BlockHeader& header, char* block, size_t block_bytes) {
  bool whole = true;
  for (size_t sector = 1; sector < block_bytes / kSectorBytes; ++sector) {
    char* at = block + sector * kSectorBytes;
    const bool stamped = Get<uint64_t>({at, kStampBytes}, 0) == StampOf(header.generation, sector);
    if (stamped) std::memcpy(at, StandIn(block, sector), kStampBytes);
    whole = whole && stamped;
  }
  return whole;
}

bool HasOldSector(std::string_view block, uint64_t generation) {
  for (size_t sector = 0; sector < block.size() / kSectorBytes; ++sector) {
    const std::string_view bytes = block.substr(sector * kSectorBytes, kSectorBytes);
    if (bytes.find_first_not_of('\0') == std::string_view::npos) {
      return true;
    }
    if (sector == 0) {
      const std::optional<BlockHeader> header = DecodeBlockHeader(block, block.size());
      if (header && header->generation < generation) return true;
      continue;
    }
    const uint64_t stamp = Get<uint64_t>(bytes, 0);
    const auto of = static_cast<uint32_t>(stamp);
    if (of < static_cast<uint32_t>(generation) && stamp == StampOf(of, sector)) return true;
  }
  return false;
}

std::optional<BlockHeader> DecodeBlockHeader(std::string_view bytes, size_t block_bytes) {
  if (bytes.size() < kBlockHeaderBytes || Get<uint32_t>(bytes, 0) != kBlockMagic) return std::nullopt;
  if (Get<uint32_t>(bytes, 4) != Crc32c(bytes.substr(8, kBlockHeaderBytes - 8))) return std::nullopt;
  const BlockHeader header{.body_crc = Get<uint32_t>(bytes, 8),
                           .used = Get<uint32_t>(bytes, 12),
                           .generation = Get<uint64_t>(bytes, 16),
                           .sequence = Get<uint64_t>(bytes, 24),
                           .position = Get<uint32_t>(bytes, 32),
                           .count = Get<uint32_t>(bytes, 36),
                           .first_record = Get<uint32_t>(bytes, 40)};
  const size_t body = BlockBodyOffset(block_bytes);
  const bool sane =
      header.used >= body && header.used <= block_bytes && header.position < header.count &&
      header.sequence >= header.position &&
      (header.first_record == 0 || (header.first_record >= body && header.first_record < header.used));
  if (!sane) return std::nullopt;
  return header;
}

bool BlockBodyIsValid(const BlockHeader& header, std::string_view block) {
  return header.body_crc == Crc32c(block.substr(BlockBodyOffset(block.size())));
}

void EncodeRecordHeader(const RecordHeader& header, char* out) {
  Put<uint32_t>(out, 4, header.payload_crc);
  Put<uint32_t>(out, 8, header.payload_bytes);
  Put<uint8_t>(out, 12, static_cast<uint8_t>(header.kind));
  Put<uint8_t>(out, 13, static_cast<uint8_t>(header.entry_kind));
  Put<uint16_t>(out, 14, 0);
  std::memcpy(out + 16, header.group.bytes.data(), 16);
  Put<uint64_t>(out, 32, header.at.term.value);
  Put<int64_t>(out, 40, header.at.index.value);
  Put<uint64_t>(out, 48, header.previous_term.value);
  Put<uint32_t>(out, 0, Crc32c({out + 4, kRecordHeaderBytes - 4}));
}

std::optional<RecordHeader> DecodeRecordHeader(std::string_view bytes) {
  if (bytes.size() < kRecordHeaderBytes) return std::nullopt;
  if (Get<uint32_t>(bytes, 0) != Crc32c(bytes.substr(4, kRecordHeaderBytes - 4))) return std::nullopt;
  const uint8_t kind = Get<uint8_t>(bytes, 12);
  const uint8_t entry_kind = Get<uint8_t>(bytes, 13);
  if (kind < 1 || kind > 6 || entry_kind > static_cast<uint8_t>(raft::EntryKind::kMetadata)) {
    return std::nullopt;
  }
  RecordHeader header{.kind = static_cast<RecordKind>(kind),
                      .entry_kind = static_cast<raft::EntryKind>(entry_kind),
                      .group = *GroupId::FromBytes(bytes.substr(16, 16)),
                      .at = {Term{Get<uint64_t>(bytes, 32)}, Index{Get<int64_t>(bytes, 40)}},
                      .previous_term = Term{Get<uint64_t>(bytes, 48)},
                      .payload_bytes = Get<uint32_t>(bytes, 8),
                      .payload_crc = Get<uint32_t>(bytes, 4)};
  const bool is_entry = header.kind == RecordKind::kEntry || header.kind == RecordKind::kCopy;
  // The largest index is the mark for "unknown" and never that of an entry.
  const bool index_ok = header.at.index.value >= (is_entry ? 0 : -1) && header.at.index.value < INT64_MAX;
  if (!index_ok || header.payload_bytes > kSegmentBytesMax) return std::nullopt;
  return header;
}

std::string EncodeStateMark(const StateMark& mark) {
  std::string out(kStateMarkBytes, '\0');
  Put<uint64_t>(out.data(), 0, mark.last.term.value);
  Put<int64_t>(out.data(), 8, mark.last.index.value);
  if (mark.promise) {
    Put<uint64_t>(out.data(), 16, kFlagPromise | (mark.promise->at_end ? kFlagAtEnd : 0));
    Put<uint64_t>(out.data(), 24, mark.promise->last.term.value);
    Put<int64_t>(out.data(), 32, mark.promise->last.index.value);
  }
  return out;
}

std::optional<StateMark> DecodeStateMark(std::string_view bytes) {
  if (bytes.size() != kStateMarkBytes) return std::nullopt;
  StateMark mark{.last = {Term{Get<uint64_t>(bytes, 0)}, Index{Get<int64_t>(bytes, 8)}},
                 .promise = std::nullopt};
  if (mark.last.index.value < -1 || mark.last.index.value == INT64_MAX) return std::nullopt;
  const uint64_t flags = Get<uint64_t>(bytes, 16);
  if ((flags & kFlagPromise) != 0) {
    mark.promise =
        Promise{{Term{Get<uint64_t>(bytes, 24)}, Index{Get<int64_t>(bytes, 32)}}, (flags & kFlagAtEnd) != 0};
  }
  return mark;
}

absl::StatusOr<std::string> EncodeHardState(const HardStateBlock& block) {
  const std::string& voted_for = block.state.voted_for.value;
  if (voted_for.size() > kHardStateBytesMax - kHardStateFixedBytes) {
    return absl::InvalidArgumentError(
        fmt::format("hard state of group {}: a peer id of {} bytes does not fit", block.group.ToString(),
                    voted_for.size()));
  }
  std::string out(kHardStateBlockBytes, '\0');
  std::memcpy(out.data(), kHardStateMagic.data(), kHardStateMagic.size());
  Put<uint64_t>(out.data(), 12, block.sequence);
  Put<uint64_t>(out.data(), 20, block.log_sequence);
  Put<uint64_t>(out.data(), 28, block.state.term.value);
  std::memcpy(out.data() + 36, block.group.bytes.data(), 16);
  Put<uint16_t>(out.data(), 52, static_cast<uint16_t>(voted_for.size()));
  Put<uint64_t>(out.data(), 54, block.state.silent_upto.value);
  std::memcpy(out.data() + kHardStateFixedBytes, voted_for.data(), voted_for.size());
  Put<uint32_t>(out.data(), 8, Crc32c({out.data() + 12, kHardStateBytesMax - 12}));
  return out;
}

std::optional<HardStateBlock> DecodeHardState(std::string_view bytes) {
  if (bytes.size() < kHardStateBytesMax || bytes.substr(0, 8) != kHardStateMagic) return std::nullopt;
  if (Get<uint32_t>(bytes, 8) != Crc32c(bytes.substr(12, kHardStateBytesMax - 12))) return std::nullopt;
  const size_t voted_for_bytes = Get<uint16_t>(bytes, 52);
  if (voted_for_bytes > kHardStateBytesMax - kHardStateFixedBytes) return std::nullopt;
  return HardStateBlock{.sequence = Get<uint64_t>(bytes, 12),
                        .log_sequence = Get<uint64_t>(bytes, 20),
                        .group = *GroupId::FromBytes(bytes.substr(36, 16)),
                        .state = {Term{Get<uint64_t>(bytes, 28)},
                                  PeerId{std::string(bytes.substr(kHardStateFixedBytes, voted_for_bytes))},
                                  Term{Get<uint64_t>(bytes, 54)}}};
}

std::string SegmentName(uint64_t generation) { return fmt::format("segment-{:016x}", generation); }
std::string SpareName(uint64_t generation) { return fmt::format("spare-{:016x}", generation); }
std::string HardStateName(const GroupId& group) { return "state-" + ToHex(group.AsBytes()); }

std::optional<uint64_t> ParseGeneration(std::string_view name, std::string_view prefix) {
  if (name.substr(0, prefix.size()) != prefix || name.size() != prefix.size() + 16) return std::nullopt;
  uint64_t generation = 0;
  for (const char c : name.substr(prefix.size())) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return std::nullopt;
    generation = generation << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return generation;
}

absl::Status CheckSizes(uint64_t segment, uint64_t block) {
  if (block < kBlockBytesMin || block > kBlockBytesMax || (block & (block - 1)) != 0) {
    return absl::InvalidArgumentError(fmt::format("log.block_bytes is {}: a power of two from {} to {}",
                                                  block, kBlockBytesMin, kBlockBytesMax));
  }
  constexpr uint64_t kSegmentBlocksMin = 8;
  if (segment % block != 0 || segment < kSegmentBlocksMin * block || segment > kSegmentBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("log.segment_bytes is {}: a multiple of log.block_bytes, {}, from {} to {}", segment,
                    block, kSegmentBlocksMin * block, kSegmentBytesMax));
  }
  return absl::OkStatus();
}

std::optional<GroupId> ParseHardStateName(std::string_view name) {
  constexpr std::string_view kPrefix = "state-";
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  const std::optional<std::string> raw = FromHex(name.substr(kPrefix.size()));
  if (!raw) return std::nullopt;
  const std::optional<GroupId> group = GroupId::FromBytes(*raw);
  if (!group || HardStateName(*group) != name) return std::nullopt;
  return group;
}

}  // namespace sluice::log
