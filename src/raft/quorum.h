// Majorities, also of two configurations at once (joint consensus). Pure functions.
//
//   Index commit = CommittedIndex(configuration, [&](const PeerId& id) { return match[id]; });
//   if (IsQuorum(configuration, [&](const PeerId& id) { return heard.contains(id); })) ...
//
// Learners never count. A configuration without voters has no majority. Threading: none of it keeps state.
#pragma once

#include <optional>

#include "absl/functional/function_ref.h"
#include "raft/types.h"

namespace sluice::raft {

enum class VoteOutcome : uint8_t { kPending, kWon, kLost };

// The highest index that a majority (of both configurations, if joint) holds; kNoIndex if there is none.
Index CommittedIndex(const Configuration& configuration, absl::FunctionRef<Index(const PeerId&)> held);

// True if a majority (of both configurations, if joint) agrees.
bool IsQuorum(const Configuration& configuration, absl::FunctionRef<bool(const PeerId&)> agrees);

// What the answers so far decide; nullopt is no answer yet.
VoteOutcome CountVotes(const Configuration& configuration,
                       absl::FunctionRef<std::optional<bool>(const PeerId&)> vote);

}  // namespace sluice::raft
