#include "log/inspect.h"

#include "log/recovery.h"

namespace sluice::log {

absl::StatusOr<Inspection> Inspect(env::Files& files, const std::string& dir, const LogOptions& options) {
  ASSIGN_OR_RETURN(Recovered recovered, Recover(files, dir, options));
  Inspection found;
  for (const RecoveredSegment& segment : recovered.segments) {
    found.segments.push_back({.generation = segment.generation,
                              .path = segment.path,
                              .bytes = segment.bytes,
                              .blocks = segment.blocks,
                              .damaged_blocks = segment.damaged_blocks});
  }
  found.spare_segments = recovered.spares.size();
  found.torn_tail = recovered.torn_tails_cut > 0;
  found.damage = std::move(recovered.damage);
  for (const auto& [group, state] : recovered.groups) {
    GroupReport report;
    report.group = group;
    if (state.hard_state.newest) report.hard_state = state.hard_state.newest->state;
    report.hard_state_healthy = state.hard_state.healthy;
    report.compacted = state.log.compacted;
    report.last = state.log.last();
    report.hard_state_lost =
        !state.hard_state.newest && (state.hard_state.exists || report.last.term > Term{0});
    report.entries = state.log.entries.size();
    for (const ReplayedEntry& entry : state.log.entries) {
      report.bytes += entry.bytes;
      if (entry.kind != raft::EntryKind::kConfiguration) continue;
      if (auto found_here = raft::DecodeConfiguration(entry.configuration); found_here.ok()) {
        report.configuration = *std::move(found_here);
      }
    }
    if (state.log.promise) {
      report.promised_last = state.log.promise->last;
      report.damage_at_end = state.log.promise->at_end;
    }
    for (const ReplayedEntry& entry : state.log.beyond) {
      report.whole_beyond += entry.condition == ReplayedEntry::Condition::kIntact ? 1 : 0;
    }
    report.hard_state_older = report.hard_state && report.hard_state->term < report.last.term;
    if (report.hard_state_older) {
      found.damage.push_back(
          fmt::format("{}/{}: term {} of the hard state is older than term {} of the last entry", dir,
                      HardStateName(group), report.hard_state->term.value, report.last.term.value));
    }
    if (report.hard_state_lost) {
      found.damage.push_back(
          fmt::format("{}/{}: neither copy of the hard state is valid", dir, HardStateName(group)));
    }
    found.groups.push_back(std::move(report));
  }
  return found;
}

}  // namespace sluice::log
