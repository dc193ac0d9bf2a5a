#include "log/recovery.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "log/segment_scan.h"

namespace sluice::log {
namespace {

constexpr std::string_view kSegmentPrefix = "segment-";
constexpr std::string_view kSparePrefix = "spare-";
constexpr std::string_view kUnfinished = ".tmp";

class Recovery {
 public:
  Recovery(env::Files& files, const std::string& dir, const LogOptions& options)
      : files_(files), dir_(dir), options_(options) {}

  absl::StatusOr<Recovered> Run() {
    RETURN_IF_ERROR(ListFiles());
    RETURN_IF_ERROR(ReplaySegments());
    std::map<GroupId, Term> hard_terms;
    for (const auto& [group, state] : hard_states_) {
      const auto drop = replay_.dropped().find(group);
      const bool left_over =
          drop != replay_.dropped().end() && (!state.newest || state.newest->log_sequence <= drop->second);
      if (left_over) {
        result_.leftovers.push_back(HardStateName(group));
      } else {
        const bool tells = state.newest && state.newest->state.silent_upto != raft::kEveryTerm;
        hard_terms[group] = tells ? state.newest->state.term : raft::kEveryTerm;
      }
    }
    for (auto& [group, log] : replay_.Finish(hard_terms)) {
      RecoveredGroup& recovered = result_.groups[group];
      recovered.log = std::move(log);
      if (hard_terms.contains(group)) recovered.hard_state = hard_states_[group];
    }
    return std::move(result_);
  }

 private:
  absl::Status ListFiles() {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, files_.List(dir_));
    for (const std::string& name : names) {
      const std::optional<uint64_t> segment = ParseGeneration(name, kSegmentPrefix);
      const std::optional<uint64_t> spare = ParseGeneration(name, kSparePrefix);
      const std::optional<GroupId> group = ParseHardStateName(name);
      if (segment) {
        generations_.push_back(*segment);
      } else if (spare) {
        result_.spares.push_back(name);
      } else if (group) {
        ASSIGN_OR_RETURN(hard_states_[*group], LoadHardState(files_, dir_ + "/" + name, *group));
        Witness(hard_states_[*group]);
      } else if (name == kExtentName) {
        ASSIGN_OR_RETURN(const LoadedHardState extent, LoadHardState(files_, dir_ + "/" + name, {}));
        Witness(extent);
        if (extent.newest) result_.extent_sequence = extent.newest->sequence;
      } else if (name.ends_with(kUnfinished)) {
        result_.leftovers.push_back(name);
      } else {
        LogWarn("log {}: {} is not a file of the log, left alone", dir_, Printable(name));
      }
      result_.next_generation =
          std::max(result_.next_generation, std::max(segment.value_or(0), spare.value_or(0)) + 1);
    }
    std::sort(generations_.begin(), generations_.end());
    return absl::OkStatus();
  }

  // Every data block before its log sequence was synced when it was written.
  void Witness(const LoadedHardState& state) {
    if (state.newest) synced_upto_ = std::max(synced_upto_, state.newest->log_sequence);
  }

  // One segment is held back: where it ends is told by the next used one.
  absl::Status ReplaySegments() {
    std::optional<ScannedSegment> held;
    bool damaged_after = false;
    for (const uint64_t generation : generations_) {
      const std::string path = dir_ + "/" + SegmentName(generation);
      ASSIGN_OR_RETURN(auto file, files_.Open(path, {.direct = true, .read_only = true}));
      ASSIGN_OR_RETURN(ScannedSegment next, ScanSegment(*file, path, generation, options_.block_bytes));
      const bool clean =
          std::find(next.blocks.begin(), next.blocks.end(), BlockState::kUnreadable) == next.blocks.end();
      if (!next.first_sequence && clean) {
        result_.spares.push_back(SegmentName(generation));  // made ready, never used
        continue;
      }
      result_.segments.push_back({.generation = generation,
                                  .path = path,
                                  .bytes = next.file_bytes,
                                  .block_bytes = next.block_bytes,
                                  .used = next.first_sequence.has_value(),
                                  .clean = clean,
                                  .blocks = 0,
                                  .damaged_blocks = 0});
      if (!next.first_sequence) {
        // The first batch was perhaps this one block, which is not readable.
        damaged_after =
            damaged_after || (next.blocks.size() > 1 && next.blocks[1] == BlockState::kUnreadable);
        continue;
      }
      if (held) ReplayUpTo(*held, *next.first_sequence);
      held = std::move(next);
      damaged_after = false;
    }
    if (held) ReplayLast(*held);
    if (!held && synced_upto_ > 0) {
      replay_.OnUnknownDamage(synced_upto_ - 1, /*at_end=*/false);
      result_.next_sequence = synced_upto_;
      result_.damage.push_back(fmt::format("{}: every segment is missing ({} blocks)", dir_, synced_upto_));
    }
    if (damaged_after) {
      replay_.OnUnknownDamage(result_.next_sequence++, /*at_end=*/true);
      result_.damage.push_back(fmt::format("{}: the first block of a new segment is not readable", dir_));
    }
    return absl::OkStatus();
  }

  void ReplayUpTo(const ScannedSegment& segment, uint64_t next_sequence) {
    const uint64_t first = *segment.first_sequence;
    const uint64_t limit = next_sequence > first ? next_sequence - first + 1 : 1;
    // What lies beyond this file was in a segment that is missing.
    const uint64_t here = std::min<uint64_t>(limit, segment.blocks.size());
    Walk(segment, {.limit = here, .damage_at_end_from = here, .torn = false});
    if (limit <= here) return;
    replay_.OnUnknownDamage(next_sequence - 1, /*at_end=*/false);
    result_.damage.push_back(
        fmt::format("{}: the next segment is missing ({} blocks)", segment.path, limit - here));
  }

  void ReplayLast(const ScannedSegment& segment) {
    const uint64_t first = *segment.first_sequence;
    const SegmentEnd end = FindEnd(segment, synced_upto_ > first ? synced_upto_ - first + 1 : 1);
    result_.next_sequence = first + end.limit - 1;
    if (end.limit > segment.blocks.size()) return ReplayUpTo(segment, result_.next_sequence);
    if (end.torn) ++result_.torn_tails_cut;
    Walk(segment, end);
    if (!segment.cut) return;
    // No crash makes a segment shorter: what was there may have been acknowledged.
    replay_.OnUnknownDamage(result_.next_sequence++, /*at_end=*/true);
    result_.damage.push_back(
        fmt::format("{}: the file was cut to {} bytes", segment.path, segment.file_bytes));
  }

  void Walk(const ScannedSegment& segment, const SegmentEnd& end) {
    const uint64_t damaged = WalkRecords(segment, end, replay_);
    for (RecoveredSegment& told : result_.segments) {
      if (told.generation != segment.generation) continue;
      told.blocks = end.limit - 1;
      told.damaged_blocks = damaged;
    }
    if (damaged == 0) return;
    uint64_t first = 1;
    while (first < end.limit && first < segment.blocks.size() &&
           segment.blocks[first] == BlockState::kValid) {
      ++first;
    }
    result_.damage.push_back(fmt::format("{}: {} damaged blocks, the first at offset {}{}", segment.path,
                                         damaged, first * segment.block_bytes,
                                         first >= end.damage_at_end_from ? " (the end of the log)" : ""));
  }

  env::Files& files_;
  const std::string& dir_;
  const LogOptions& options_;
  std::vector<uint64_t> generations_;
  uint64_t synced_upto_ = 0;  // the sequence before which all is known to be synced
  std::map<GroupId, LoadedHardState> hard_states_;
  Replay replay_;
  Recovered result_;
};

}  // namespace

absl::StatusOr<Recovered> Recover(env::Files& files, const std::string& dir, const LogOptions& options) {
  return Recovery(files, dir, options).Run();
}

}  // namespace sluice::log
