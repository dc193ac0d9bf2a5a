#include "client/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::client {
namespace {

using testing::HasSubstr;

// `status` says so, and exits with 1.
TEST(ServerStatus, K28_IsReadyWhenItServesInEveryGroupAndHasRoom) {
  ServerStatus well;
  EXPECT_FALSE(well.Ready()) << "it has no group";
  well.groups.resize(2);
  well.groups[1].id = "of-the-second";
  well.free_bytes = well.reserve_bytes = 100;
  EXPECT_TRUE(well.Ready()) << well.WhyNotReady();

  ServerStatus ill = well;
  ill.groups[1].not_serving = "no majority";
  EXPECT_THAT(ill.WhyNotReady(), testing::AllOf(HasSubstr("of-the-second"), HasSubstr("no majority")));
  ill = well;
  ill.free_bytes = 99;
  EXPECT_THAT(ill.WhyNotReady(), testing::AllOf(HasSubstr("99 bytes"), HasSubstr("100")));
  ill = well;
  ill.log_error = "sync failed";
  EXPECT_EQ(ill.WhyNotReady(), "sync failed");
  ill = well;
  ill.stopping = true;
  EXPECT_EQ(ill.WhyNotReady(), "it is stopping");
}

}  // namespace
}  // namespace sluice::client
