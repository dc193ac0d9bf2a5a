// The fixture itself: whole servers start, elect and stop.

#include "sim/cluster/clients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"

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

// The tests of this folder can fail: disks that skip every sync lose what was acknowledged,
// and it is noticed.
TEST(ClusterFixture, DisksThatLoseSyncsAreCaught) {
  spdlog::set_level(spdlog::level::off);
  size_t caught = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    ClusterOptions options;
    options.servers = 1;
    Cluster cluster(seed, options);
    Clients clients(cluster);
    cluster.StartAll();
    ASSERT_TRUE(cluster.AwaitLeader(kCounter));
    cluster.disk(0).LoseSyncs(true);
    for (int i = 0; i < 20; ++i) ASSERT_EQ(clients.IncrementNow(0), Outcome::kAcknowledged);
    cluster.PowerLoss(0);
    cluster.disk(0).LoseSyncs(false);
    // Refusing to start is noticing, too.
    caught += !cluster.Start(0).ok() || !cluster.AwaitConverged() || !clients.Check().ok();
  }
  EXPECT_GE(caught, 8u);
}

}  // namespace
}  // namespace sluice::sim
