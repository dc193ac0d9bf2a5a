// The fixture itself: whole servers start, elect and stop.

#include "sim/cluster/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::sim {
namespace {

TEST(ClusterFixture, ThreeServersElectALeaderInBothGroups) {
  Cluster cluster(1);
  cluster.StartAll();
  ASSERT_TRUE(cluster.AwaitLeader(kBlobs)) << cluster.Describe();
  ASSERT_TRUE(cluster.AwaitLeader(kCounter)) << cluster.Describe();
  ASSERT_TRUE(cluster.AwaitConverged()) << cluster.Describe();
  EXPECT_THAT(cluster.violations(), testing::IsEmpty());
}

TEST(ClusterFixture, OneSeedGivesOneRun) {
  std::vector<uint64_t> steps;
  for (int run = 0; run < 2; ++run) {
    Cluster cluster(7);
    cluster.StartAll();
    cluster.RunFor(std::chrono::seconds(3));
    steps.push_back(cluster.world().steps());
  }
  EXPECT_EQ(steps[0], steps[1]);
}

}  // namespace
}  // namespace sluice::sim
