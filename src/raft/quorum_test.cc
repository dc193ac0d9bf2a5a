#include "raft/quorum.h"

#include <gtest/gtest.h>

#include <map>

#include "raft/cluster_for_test.h"

namespace sluice::raft {
namespace {

Configuration Voters(int count, int old_count = 0) {
  Configuration configuration;
  for (int i = 0; i < count; ++i) configuration.voters.push_back(PeerNamed(fmt::format("n{}", i)));
  for (int i = 0; i < old_count; ++i) configuration.old_voters.push_back(PeerNamed(fmt::format("o{}", i)));
  return configuration;
}

Index Committed(const Configuration& configuration, std::map<std::string, int64_t> held) {
  return CommittedIndex(configuration, [&](const PeerId& id) {
    auto it = held.find(id.value);
    return it == held.end() ? kNoIndex : Index{it->second};
  });
}

TEST(Quorum, CommittedIndexIsWhatAMajorityHolds) {
  EXPECT_EQ(Committed(Voters(0), {}), kNoIndex);
  EXPECT_EQ(Committed(Voters(1), {{"n0", 7}}), Index{7});
  EXPECT_EQ(Committed(Voters(2), {{"n0", 7}, {"n1", 3}}), Index{3});
  EXPECT_EQ(Committed(Voters(3), {{"n0", 7}, {"n1", 3}}), Index{3});
  EXPECT_EQ(Committed(Voters(4), {{"n0", 7}, {"n1", 5}, {"n2", 3}}), Index{3});
  EXPECT_EQ(Committed(Voters(5), {{"n0", 7}, {"n1", 5}, {"n2", 3}}), Index{3});
  EXPECT_EQ(Committed(Voters(3), {{"n0", 7}}), kNoIndex);
}

TEST(Quorum, JointNeedsBothMajoritiesAndLearnersNeverCount) {
  Configuration joint = Voters(3, 3);
  EXPECT_EQ(Committed(joint, {{"n0", 9}, {"n1", 9}, {"n2", 9}}), kNoIndex);
  EXPECT_EQ(Committed(joint, {{"n0", 9}, {"n1", 9}, {"o0", 4}, {"o1", 5}}), Index{4});
  Configuration with_learner = Voters(1);
  with_learner.learners.push_back(PeerNamed("z"));
  EXPECT_EQ(Committed(with_learner, {{"z", 9}}), kNoIndex);
  EXPECT_FALSE(IsQuorum(with_learner, [](const PeerId& id) { return id.value == "z"; }));
  EXPECT_TRUE(IsQuorum(with_learner, [](const PeerId& id) { return id.value == "n0"; }));
}

VoteOutcome Count(const Configuration& configuration, const std::string& yes, const std::string& no) {
  return CountVotes(configuration, [&](const PeerId& id) -> std::optional<bool> {
    if (yes.find(id.value) != std::string::npos) return true;
    if (no.find(id.value) != std::string::npos) return false;
    return std::nullopt;
  });
}

TEST(Quorum, VotesAreWonLostOrOpen) {
  EXPECT_EQ(Count(Voters(3), "n0 n1", ""), VoteOutcome::kWon);
  EXPECT_EQ(Count(Voters(3), "n0", "n1"), VoteOutcome::kPending);
  EXPECT_EQ(Count(Voters(3), "n0", "n1 n2"), VoteOutcome::kLost);
  EXPECT_EQ(Count(Voters(4), "n0 n1", "n2 n3"), VoteOutcome::kLost);
  EXPECT_EQ(Count(Voters(4), "n0 n1", "n2"), VoteOutcome::kPending);
  EXPECT_EQ(Count(Voters(3, 3), "n0 n1", ""), VoteOutcome::kPending);
  EXPECT_EQ(Count(Voters(3, 3), "n0 n1 n2", "o0 o1"), VoteOutcome::kLost);
  EXPECT_EQ(Count(Voters(3, 3), "n0 n1 o1 o2", "n2"), VoteOutcome::kWon);
  EXPECT_EQ(Count(Voters(0), "", ""), VoteOutcome::kLost);
}

}  // namespace
}  // namespace sluice::raft
