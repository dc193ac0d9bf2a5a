// Reads one segment file and judges each of its blocks; walks the records of those that count.
//
//   ASSIGN_OR_RETURN(ScannedSegment segment, ScanSegment(file, path, generation, block_bytes));
//   WalkRecords(segment, {.limit = blocks, .damage_at_end_from = blocks}, replay);
//
// Page: docs/formats/log.md. Pure after the read; one thread. Read errors of single blocks make those
// unreadable; any other trouble with the file is a Status. Memory: the file's size, 1 GiB at most.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "env/files.h"
#include "log/replay.h"

namespace sluice::log {

// kOld: never written whole, a torn block too.
enum class BlockState : uint8_t { kOld, kValid, kBroken, kUnreadable };

struct ScannedSegment {
  uint64_t generation = 0;
  std::string path;
  uint64_t file_bytes = 0;
  size_t block_bytes = 0;
  bool cut = false;  // shorter than its header says: segments are written whole before their first use
  std::string data;
  std::vector<BlockState> blocks;                   // by block number; 0 is the segment header
  std::vector<std::optional<BlockHeader>> headers;  // where right and of this generation
  std::optional<uint64_t> first_sequence;           // nullopt: never used

  uint64_t sequence_of(uint64_t block) const { return first_sequence.value_or(0) + block - 1; }
  std::string_view block(uint64_t number) const {
    return std::string_view(data).substr(number * block_bytes, block_bytes);
  }
};

absl::StatusOr<ScannedSegment> ScanSegment(env::File& file, const std::string& path, uint64_t generation,
                                           size_t block_bytes);
// The same for bytes in memory; `unreadable` are numbers of blocks that could not be read.
absl::StatusOr<ScannedSegment> JudgeSegment(std::string data, const std::string& path, uint64_t generation,
                                            size_t block_bytes, const std::vector<uint64_t>& unreadable);

// Where the last used segment of a log ends.
struct SegmentEnd {
  uint64_t limit = 0;               // the first block that does not count
  uint64_t damage_at_end_from = 0;  // blocks from here to limit are damage at the end; == limit: none
  bool torn = false;                // a batch was cut
};
// Blocks before number `synced_upto` are known to be synced: what is not valid of them is damage. It may lie
// beyond the file.
SegmentEnd FindEnd(const ScannedSegment& segment, uint64_t synced_upto = 1);

// Tells `replay` the records of blocks [1, end.limit). Returns how many blocks were damaged.
uint64_t WalkRecords(const ScannedSegment& segment, const SegmentEnd& end, Replay& replay);

}  // namespace sluice::log
