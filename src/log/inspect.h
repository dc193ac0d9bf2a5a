// Walks a log directory offline and tells what is in it and whether it verifies.
//
//   ASSIGN_OR_RETURN(Inspection found, Inspect(files, dir));
//   for (const SegmentReport& segment : found.segments) Print(segment);
//
// Changes nothing; the directory should not be in use. Blocks; reads every segment. Errors: as Log::Open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "env/files.h"
#include "log/log.h"

namespace sluice::log {

struct SegmentReport {
  uint64_t generation = 0;
  std::string path;
  uint64_t bytes = 0;
  uint64_t blocks = 0;          // that are part of the log
  uint64_t damaged_blocks = 0;  // of these
};

struct GroupReport {
  GroupId group;
  std::optional<raft::HardState> hard_state;
  bool hard_state_lost = false;
  bool hard_state_older = false;   // than the last entry (F-09)
  bool hard_state_healthy = true;  // false: one copy is damaged or older, or there is no file
  TermIndex compacted{Term{0}, kNoIndex};
  TermIndex last{Term{0}, kNoIndex};  // equal to `compacted`: no entries
  uint64_t entries = 0;
  uint64_t bytes = 0;  // of their payloads
  std::optional<TermIndex> promised_last;
  uint64_t whole_beyond = 0;  // entries behind damage that are whole
  bool damage_at_end = false;
  // The last that stands in the log; none if it was compacted away, or does not read.
  std::optional<raft::Configuration> configuration;
};

struct Inspection {
  std::vector<SegmentReport> segments;  // in log order
  uint64_t spare_segments = 0;
  std::vector<GroupReport> groups;
  bool torn_tail = false;           // an ordinary crash; opening cuts it
  std::vector<std::string> damage;  // one line each, with file and offset
  bool verifies() const { return damage.empty(); }
};

absl::StatusOr<Inspection> Inspect(env::Files& files, const std::string& dir, const LogOptions& options = {});

}  // namespace sluice::log
