// Reads a log directory and tells what it holds: the groups, the segments, and what is to be tidied up.
//
//   ASSIGN_OR_RETURN(Recovered found, Recover(files, dir, options));
//
// Changes nothing, so `sluice inspect` uses it too. Blocks; one thread. Page: docs/formats/log.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "env/files.h"
#include "log/hard_state.h"
#include "log/log.h"
#include "log/replay.h"

namespace sluice::log {

struct RecoveredSegment {
  uint64_t generation = 0;
  std::string path;
  uint64_t bytes = 0;
  uint64_t block_bytes = 0;
  bool used = false;            // has blocks of its own generation
  bool clean = false;           // no unreadable block: may be recycled as it is
  uint64_t blocks = 0;          // that count
  uint64_t damaged_blocks = 0;  // of these
};

struct RecoveredGroup {
  ReplayedGroup log;
  LoadedHardState hard_state;
};

struct Recovered {
  std::map<GroupId, RecoveredGroup> groups;
  std::vector<RecoveredSegment> segments;  // by generation
  std::vector<std::string> spares;         // names: recycled or never used
  std::vector<std::string> leftovers;      // names: unfinished files, hard states of dropped groups
  uint64_t next_generation = 1;
  uint64_t next_sequence = 0;
  uint64_t extent_sequence = 0;  // of updates of the file that says how far the log goes
  uint64_t torn_tails_cut = 0;
  std::vector<std::string> damage;  // one line for each damaged segment, names file and block
};

absl::StatusOr<Recovered> Recover(env::Files& files, const std::string& dir, const LogOptions& options);

}  // namespace sluice::log
