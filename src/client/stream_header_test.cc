#include "client/stream_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/routing.h"

namespace sluice::client {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<Member> kMembers = {{"n0", "h0:1", "h0:2"}, {"n1", "h1:1", "h1:2"}, {"n2", "h2:1", "h2:2"}};
const PeerId kN0{"n0"}, kN1{"n1"}, kN2{"n2"};

TEST(RouteOf, AChainStartsAtThePrimaryAndKeepsTheOrderOfTheGroup) {
  const auto table = wire::ParseRoutingTable(RouteOf(BlobRoute::kChain, "n1", kMembers));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->primary, kN1);
  EXPECT_THAT(table->SuccessorsOf(kN1), ElementsAre(kN0));
  EXPECT_THAT(table->SuccessorsOf(kN0), ElementsAre(kN2));
  EXPECT_THAT(table->SuccessorsOf(kN2), IsEmpty());
}

TEST(RouteOf, AStarHasAllAfterThePrimary) {
  const auto table = wire::ParseRoutingTable(RouteOf(BlobRoute::kStar, "n2", kMembers));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->SuccessorsOf(kN2), ElementsAre(kN0, kN1));
  EXPECT_THAT(table->SuccessorsOf(kN0), IsEmpty());
}

TEST(RouteOf, MembersThatTakeNoStreamsAreLeftOut) {
  std::vector<Member> members = kMembers;
  members[0].data_stream_address.clear();
  const auto table = wire::ParseRoutingTable(RouteOf(BlobRoute::kChain, "n1", members));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->SuccessorsOf(kN1), ElementsAre(kN2));
  EXPECT_FALSE(table->Contains(kN0));
}

TEST(RouteOf, AGroupOfOneHasNoSuccessors) {
  const auto table = wire::ParseRoutingTable(RouteOf(RoutingTable{}, "n0", {kMembers[0]}));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->primary, kN0);
  EXPECT_THAT(table->SuccessorsOf(kN0), IsEmpty());
}

TEST(RouteOf, ATableOfTheUserIsTakenAsItIs) {
  RoutingTable route;
  route.shape = RoutingTable::Shape::kStar;
  route.successors = {{kN2, {kN0}}};
  const auto table = wire::ParseRoutingTable(RouteOf(route, "n2", kMembers));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->primary, kN2);
  EXPECT_THAT(table->SuccessorsOf(kN2), ElementsAre(kN0));
  EXPECT_FALSE(table->Contains(kN1));
}

TEST(StreamHeader, NamesTheStreamAsServersExpect) {
  const UploadId id{ClientId{{7}}, CallId{42}};
  const auto header = StreamHeader(id, kDefaultGroup, "n1", "message");
  EXPECT_EQ(header.rpc_request().requestor_id(), id.client.AsBytes());
  EXPECT_EQ(header.rpc_request().call_id(), 42u);
  EXPECT_EQ(header.rpc_request().reply_id(), "n1");
  EXPECT_EQ(header.message().content(), "message");
  EXPECT_TRUE(header.has_data_stream());
}

}  // namespace
}  // namespace sluice::client
