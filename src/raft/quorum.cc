#include "raft/quorum.h"

#include <algorithm>
#include <functional>

namespace sluice::raft {
namespace {

size_t Majority(size_t voters) { return voters / 2 + 1; }

Index CommittedAmong(const std::vector<Peer>& voters, absl::FunctionRef<Index(const PeerId&)> held) {
  if (voters.empty()) return kNoIndex;
  std::vector<Index> indexes;
  indexes.reserve(voters.size());
  for (const Peer& voter : voters) indexes.push_back(held(voter.id));
  auto nth = indexes.begin() + static_cast<ptrdiff_t>(Majority(voters.size()) - 1);
  std::nth_element(indexes.begin(), nth, indexes.end(), std::greater<>());
  return *nth;
}

VoteOutcome CountAmong(const std::vector<Peer>& voters,
                       absl::FunctionRef<std::optional<bool>(const PeerId&)> vote) {
  size_t yes = 0;
  size_t no = 0;
  for (const Peer& voter : voters) {
    std::optional<bool> answer = vote(voter.id);
    if (answer.has_value()) ++(*answer ? yes : no);
  }
  if (yes >= Majority(voters.size())) return VoteOutcome::kWon;
  if (voters.size() - no < Majority(voters.size())) return VoteOutcome::kLost;
  return VoteOutcome::kPending;
}

}  // namespace

Index CommittedIndex(const Configuration& configuration, absl::FunctionRef<Index(const PeerId&)> held) {
  Index index = CommittedAmong(configuration.voters, held);
  if (configuration.joint()) index = std::min(index, CommittedAmong(configuration.old_voters, held));
  return index;
}

bool IsQuorum(const Configuration& configuration, absl::FunctionRef<bool(const PeerId&)> agrees) {
  return CountVotes(configuration, [&](const PeerId& id) { return std::optional<bool>(agrees(id)); }) ==
         VoteOutcome::kWon;
}

VoteOutcome CountVotes(const Configuration& configuration,
                       absl::FunctionRef<std::optional<bool>(const PeerId&)> vote) {
  VoteOutcome now = CountAmong(configuration.voters, vote);
  if (!configuration.joint()) return now;
  VoteOutcome before = CountAmong(configuration.old_voters, vote);
  if (now == VoteOutcome::kLost || before == VoteOutcome::kLost) return VoteOutcome::kLost;
  return now == VoteOutcome::kWon && before == VoteOutcome::kWon ? VoteOutcome::kWon : VoteOutcome::kPending;
}

}  // namespace sluice::raft
