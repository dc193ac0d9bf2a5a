// The bytes of the log on disk: headers of segments, blocks and records, and a hard-state block.
//
//   SealBlock(header, block, block_bytes);        // checksums what the block holds, stamps its sectors
//   std::optional<BlockHeader> header = DecodeBlockHeader({block, kBlockHeaderBytes});
//
// Page: docs/formats/log.md. Pure functions; a decoder answers nullopt for anything that its encoder cannot
// have written, and never reads beyond what it is given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/status.h"
#include "raft/types.h"

namespace sluice::log {

inline constexpr uint32_t kFormatVersion = 2;
inline constexpr size_t kSegmentHeaderBytes = 48;
inline constexpr size_t kBlockHeaderBytes = 48;
inline constexpr size_t kSectorBytes = 512;  // what any device writes whole
inline constexpr size_t kStampBytes = 8;     // of each sector of a block but the first
inline constexpr size_t kRecordHeaderBytes = 56;
inline constexpr size_t kStateMarkBytes = 40;
inline constexpr size_t kHardStateBlockBytes = 4096;
inline constexpr size_t kHardStateBytesMax = kSectorBytes;
inline constexpr size_t kBlockBytesMin = kSectorBytes;
inline constexpr size_t kBlockBytesMax = 16384;
inline constexpr uint64_t kSegmentBytesMax = 1u << 30;

// Of segments and blocks. INVALID_ARGUMENT names the option with which there is no log.
absl::Status CheckSizes(uint64_t segment_bytes, uint64_t block_bytes);

struct SegmentHeader {
  uint32_t version = kFormatVersion;
  uint32_t block_bytes = 0;
  uint64_t segment_bytes = 0;
  uint64_t generation = 0;
  uint64_t first_sequence = 0;  // of block 1
  bool operator==(const SegmentHeader&) const = default;
};
void EncodeSegmentHeader(const SegmentHeader& header, char* out);
std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes);

struct BlockHeader {
  uint32_t body_crc = 0;
  uint32_t used = 0;
  uint64_t generation = 0;
  uint64_t sequence = 0;
  uint32_t position = 0;
  uint32_t count = 0;
  uint32_t first_record = 0;
  // Everything before this sequence was durable when the block was written.
  uint64_t synced_to() const { return sequence - position; }
};
// Where the body of a block begins: behind its header and what the stamps stand in for.
constexpr size_t BlockBodyOffset(size_t block_bytes) {
  return kBlockHeaderBytes + kStampBytes * (block_bytes / kSectorBytes - 1);
}
// Fills in the header of a complete block and its body_crc, and stamps its sectors.
void SealBlock(const BlockHeader& header, char* block, size_t block_bytes);
// Puts back what the stamps stand in for. False: a sector has another stamp; what it held is not put back.
bool UnsealBlock(const BlockHeader& header, char* block, size_t block_bytes);
// True if a sector of the block shows that the block was never written whole in this generation: it is of an
// older one, or zeros.
bool HasOldSector(std::string_view block, uint64_t generation);
// nullopt also when the fields contradict each other. The body is not looked at.
std::optional<BlockHeader> DecodeBlockHeader(std::string_view bytes, size_t block_bytes);
// Of an unsealed block.
bool BlockBodyIsValid(const BlockHeader& header, std::string_view block);

enum class RecordKind : uint8_t { kEntry = 1, kCopy = 2, kCompact = 3, kRestart = 4, kDrop = 5, kState = 6 };

struct RecordHeader {
  RecordKind kind = RecordKind::kEntry;
  raft::EntryKind entry_kind = raft::EntryKind::kCommand;
  GroupId group;
  TermIndex at{Term{0}, kNoIndex};
  Term previous_term;
  uint32_t payload_bytes = 0;
  uint32_t payload_crc = 0;
};
void EncodeRecordHeader(const RecordHeader& header, char* out);
std::optional<RecordHeader> DecodeRecordHeader(std::string_view bytes);

// A promise of entries that damage took, as GroupState reports it.
struct Promise {
  TermIndex last{Term{0}, kNoIndex};
  bool at_end = false;
  bool operator==(const Promise&) const = default;
};

// The payload of a state record.
struct StateMark {
  TermIndex last{Term{0}, kNoIndex};
  std::optional<Promise> promise;
};
std::string EncodeStateMark(const StateMark& mark);
std::optional<StateMark> DecodeStateMark(std::string_view bytes);

struct HardStateBlock {
  uint64_t sequence = 0;      // of updates of this file
  uint64_t log_sequence = 0;  // of the log's next data block when this was written
  GroupId group;
  raft::HardState state;
};
// A whole block of kHardStateBlockBytes. INVALID_ARGUMENT when the voted-for id is too long.
absl::StatusOr<std::string> EncodeHardState(const HardStateBlock& block);
std::optional<HardStateBlock> DecodeHardState(std::string_view bytes);

// File names, and back.
inline constexpr std::string_view kExtentName = "extent";
std::string SegmentName(uint64_t generation);
std::string SpareName(uint64_t generation);
std::string HardStateName(const GroupId& group);
std::optional<uint64_t> ParseGeneration(std::string_view name, std::string_view prefix);
std::optional<GroupId> ParseHardStateName(std::string_view name);

}  // namespace sluice::log
