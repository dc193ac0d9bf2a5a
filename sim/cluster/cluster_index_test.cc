// The index of whole servers gets durable by itself, at any write: what it says must then hold on the disk.

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

// No checkpoint ever syncs anything: what is durable is what the index made so.
TEST_F(ClusterFault, K14_AnIndexThatGetsDurableByItselfRestsOnDurableLinksAndRemovals) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    cluster_ = std::make_unique<Cluster>(seed, NoCheckpoints());
    clients_ = std::make_unique<Clients>(*cluster_);
    cluster_->StartAll();
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
    for (uint64_t i = 0; i < 8; ++i) {
      ASSERT_EQ(clients_->PutNow({.server = i % 3,
                                  .name = fmt::format("b{}", i),
                                  .content = MakeContent(20'000, i),
                                  .via = PutVia::kChain}),
                Outcome::kAcknowledged);
      if (i % 2 == 1) {
        ASSERT_EQ(clients_->RemoveNow(i % 3, fmt::format("b{}", i - i % 3)), Outcome::kAcknowledged);
      }
    }
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
    for (size_t i = 0; i < 3; ++i) Restart(i);
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    for (size_t i = 0; i < 3; ++i) {
      // Long before anything is abandoned; a fetch that was begun may have to end.
      EXPECT_TRUE(cluster_->AwaitNoStages(seconds(1))) << "seed " << seed << ": " << cluster_->Describe();
      EXPECT_THAT(cluster_->LostSpace(i), testing::IsEmpty()) << "seed " << seed << ", server " << i;
    }
    ExpectWhole();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice::sim
