#include "node/cluster.h"

#include <gtest/gtest.h>

namespace sluice::node {
namespace {

const ClusterId kOurs{{1}};
const ClusterId kTheirs{{2}};

TEST(Cluster, K7_WhoKnowsNoneTakesEverybody) {
  Cluster cluster({"n0"}, &env::RealClock());
  EXPECT_TRUE(cluster.id().IsZero());
  EXPECT_TRUE(cluster.Check("server n1", kTheirs).ok());
  EXPECT_TRUE(cluster.Check("server n1", ClusterId{}).ok());
  cluster.Said(kOurs);  // not known for good: another leader's may win
  EXPECT_TRUE(cluster.Check("server n1", kTheirs).ok());
  EXPECT_EQ(cluster.said(), kOurs);
  cluster.Said(kTheirs);
  EXPECT_EQ(cluster.said(), kTheirs);
}

TEST(Cluster, K7_F19_WhoKnowsOneRefusesOthersAndNamesBoth) {
  Cluster cluster({"n0"}, &env::RealClock());
  cluster.Said(kTheirs);
  EXPECT_TRUE(cluster.Learn(kOurs));
  EXPECT_FALSE(cluster.Learn(kOurs));
  EXPECT_FALSE(cluster.Learn(kTheirs));
  cluster.Said(kTheirs);
  EXPECT_EQ(cluster.id(), kOurs);
  EXPECT_EQ(cluster.said(), kOurs);
  EXPECT_TRUE(cluster.Check("server n1", kOurs).ok());
  for (const ClusterId& other : {kTheirs, ClusterId{}}) {
    const absl::Status refused = cluster.Check("server n1", other);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    const std::string text(refused.message());
    EXPECT_NE(text.find(kOurs.ToString()), std::string::npos) << text;
    EXPECT_NE(text.find(other.IsZero() ? "no cluster" : kTheirs.ToString()), std::string::npos) << text;
    EXPECT_NE(text.find("server n1"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace sluice::node
