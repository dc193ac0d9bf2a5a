#include "wire/routing.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace sluice::wire {
namespace {

using Routes = std::vector<std::pair<std::string, std::vector<std::string>>>;

ratis::common::RoutingTableProto Proto(const Routes& routes) {
  ratis::common::RoutingTableProto proto;
  for (const auto& [peer, successors] : routes) {
    auto* route = proto.add_routes();
    route->mutable_peer_id()->set_id(peer);
    for (const std::string& next : successors) route->add_successors()->set_id(next);
  }
  return proto;
}

std::string Error(const Routes& routes) {
  return std::string(Message(ParseRoutingTable(Proto(routes)).status()));
}

TEST(Routing, ChainStarTreeAndSingle) {
  absl::StatusOr<RoutingTable> chain = ParseRoutingTable(Proto({{"n1", {"n2"}}, {"n0", {"n1"}}}));
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->primary.value, "n0");
  EXPECT_EQ(chain->SuccessorsOf({"n1"}), (std::vector<PeerId>{{"n2"}}));
  EXPECT_TRUE(chain->SuccessorsOf({"n2"}).empty());
  EXPECT_TRUE(chain->Contains({"n2"}));
  EXPECT_FALSE(chain->Contains({"n3"}));
  EXPECT_TRUE(chain->SuccessorsOf({"n3"}).empty());

  EXPECT_EQ(ParseRoutingTable(Proto({{"n1", {"n0", "n2"}}}))->SuccessorsOf({"n1"}).size(), 2u);
  EXPECT_EQ(ParseRoutingTable(Proto({{"a", {"b", "c"}}, {"c", {"d"}}, {"d", {}}}))->primary.value, "a");
  EXPECT_EQ(ParseRoutingTable(Proto({{"n0", {}}}))->primary.value, "n0");
}

TEST(Routing, TravelsAsJavaWritesIt) {
  absl::StatusOr<RoutingTable> chain = ParseRoutingTable(Proto({{"n0", {"n1"}}, {"n1", {"n2"}}, {"n2", {}}}));
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(ToProto(*chain).SerializeAsString(), Proto({{"n0", {"n1"}}, {"n1", {"n2"}}}).SerializeAsString());
  absl::StatusOr<RoutingTable> single = ParseRoutingTable(Proto({{"n0", {}}}));
  EXPECT_EQ(ToProto(*single).SerializeAsString(), Proto({{"n0", {}}}).SerializeAsString());
}

TEST(Routing, F71_AnythingButATreeIsRefused) {
  EXPECT_EQ(Error({}), "routing table: no peer starts it");
  EXPECT_EQ(Error({{"n0", {"n0"}}}), "routing table: n0 succeeds itself");
  EXPECT_EQ(Error({{"n0", {"n1"}}, {"n1", {"n0"}}}), "routing table: no peer starts it");
  EXPECT_EQ(Error({{"n0", {"n1"}}, {"n2", {"n3"}}}), "routing table: both n0 and n2 start it");
  EXPECT_EQ(Error({{"n0", {"n2"}}, {"n1", {"n2"}}}), "routing table: n2 has two predecessors");
  EXPECT_EQ(Error({{"n0", {"n1", "n1"}}}), "routing table: n1 has two predecessors");
  EXPECT_EQ(Error({{"n0", {"n1"}}, {"n0", {"n2"}}}), "routing table: two routes for n0");
  EXPECT_EQ(Error({{"n0", {}}, {"a", {"b"}}, {"b", {"a"}}}),
            "routing table: has a loop apart from its start");
}

TEST(Routing, F71_IllegalPeerIdsAreRefused) {
  EXPECT_FALSE(ParseRoutingTable(Proto({{"", {"n1"}}})).ok());
  EXPECT_FALSE(ParseRoutingTable(Proto({{"n0", {""}}})).ok());
  EXPECT_FALSE(ParseRoutingTable(Proto({{"n0", {std::string(256, 'x')}}})).ok());
  EXPECT_FALSE(ParseRoutingTable(Proto({{"n0", {"\xff"}}})).ok());
}

TEST(Routing, F71_HugeTablesAreRefused) {
  Routes chain;
  for (int i = 0; i < 255; ++i) chain.push_back({std::to_string(i), {std::to_string(i + 1)}});
  EXPECT_TRUE(ParseRoutingTable(Proto(chain)).ok());  // 256 peers
  chain.push_back({"255", {"256"}});
  EXPECT_FALSE(ParseRoutingTable(Proto(chain)).ok());
  Routes star = {{"n", {}}};
  for (int i = 0; i < 100'000; ++i) star[0].second.push_back(std::to_string(i));
  EXPECT_FALSE(ParseRoutingTable(Proto(star)).ok());
}

}  // namespace
}  // namespace sluice::wire
