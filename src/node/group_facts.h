// What a group is, as its log says it: the mode (who may be a member), the state machine (D-01), and the
// cluster that it belongs to.
//
//   Bytes entry = EncodeFactsEntry({GroupMode::kSluice, "blob"});   // the group's first command
//   RETURN_IF_ERROR(CheckFacts(spec, cluster, facts));              // before anything is applied
//
// In `sluice` mode the first leader writes them as the first command; from then on they travel with the
// applied index and in snapshots. A group in `ratis` mode has no such entry, because Java servers could not
// apply it. Format: docs/formats/command.md. Threading: plain values.
#pragma once

#include <optional>
#include <string>

#include "base/cluster_id.h"
#include "base/fields.h"
#include "node/command.h"
#include "node/host.h"

namespace sluice::node {

struct GroupFacts {
  GroupMode mode = GroupMode::kSluice;
  std::string machine;
  ClusterId cluster = {};  // zero: the log does not say it
  int64_t clock_ms = 0;    // the log's time (log_clock.h); not in the entry, which comes before all time
};

// The payload of the entry, and what a command says if it is one; nullopt for any other command.
Bytes EncodeFactsEntry(const GroupFacts& facts);
absl::StatusOr<std::optional<GroupFacts>> FactsOf(const Command& command);

// Fields of a record that tells the facts among others (the applied index, a snapshot's head).
inline constexpr uint32_t kModeTag = 4;
inline constexpr uint32_t kMachineTag = 5;
inline constexpr uint32_t kClockTag = 6;
inline constexpr uint32_t kClusterTag = 7;
// Takes the current field of `in` if it is one of these.
void ReadFacts(const FieldReader& in, std::optional<GroupFacts>& facts);

// FAILED_PRECONDITION when this server is set up for something else than the log says, or belongs to another
// cluster (zero: to none yet).
absl::Status CheckFacts(const GroupSpec& spec, const ClusterId& cluster, const GroupFacts& logged);

}  // namespace sluice::node
