#include "edge/told_address.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace sluice::edge {
namespace {

TEST(ToldAddress, K20_AnUnspecifiedAddressIsNeverTold) {
  for (const char* host :
       {"0.0.0.0", "::", "[::]", "", "*", "0", "0.0", "[0:0:0:0:0:0:0:0]", "::ffff:0.0.0.0"}) {
    EXPECT_TRUE(IsUnspecified(host)) << host;
    EXPECT_TRUE(absl::IsInvalidArgument(CheckTold(std::string(host) + ":7400"))) << host;
    EXPECT_EQ(*ToldAddress(std::string(host) + ":7400", ""), ":7400") << host;
    EXPECT_EQ(*ToldAddress(std::string(host) + ":7400", "a.example:7500"), "a.example:7500") << host;
    EXPECT_FALSE(ToldAddress("10.0.0.1:7400", std::string(host) + ":7400").ok()) << host;
  }
  for (const char* host : {"10.0.0.1", "localhost", "[::1]", "0.example", "n0"}) {
    EXPECT_FALSE(IsUnspecified(host)) << host;
    EXPECT_EQ(*ToldAddress(std::string(host) + ":7400", ""), std::string(host) + ":7400");
  }
  for (const char* address : {"", "a", "a:", "a:0", "a:65533", "a:x", ":7400"}) {
    EXPECT_FALSE(CheckTold(address).ok()) << address;
  }
}

Membership Three(const std::string& listen, const std::vector<std::pair<std::string, std::string>>& peers) {
  Membership all{.id = "n0", .listen = listen, .advertise = "", .peers = {}, .ports = 4};
  for (const auto& [id, address] : peers) all.peers.push_back({.id = {id}, .address = address});
  return all;
}

TEST(ToldAddress, AMistypedMemberIsRefusedAndNamed) {
  const struct {
    std::string listen;
    std::vector<std::pair<std::string, std::string>> peers;
    const char* named;  // null: it can be
  } cases[] = {
      {"10.0.0.1:7400", {{"n0", "10.0.0.1:7400"}, {"n1", "10.0.0.2:7400"}}, nullptr},
      {"10.0.0.1:7400", {{"n0", "10.0.0.1:7400"}, {"n1", "10.0.0.1:7404"}}, nullptr},
      {"0.0.0.0:7400", {{"n0", "10.0.0.1:7400"}, {"n1", "10.0.0.2:7400"}}, nullptr},
      {"[::]:7400", {{"n0", "[fd00::1]:7400"}}, nullptr},
      {"10.0.0.1:7400", {{"n0", "a.example:7400"}, {"n1", "b.example:7400"}}, nullptr},
      {"[FD00:0::1]:7400", {{"n0", "[fd00::1]:7400"}}, nullptr},
      {"h:7400", {{"n0", "h:7400"}, {"n0", "h:7410"}}, "n0 is there twice, at h:7400 and at h:7410"},
      {"h:7400", {{"n0", "h:7400"}, {"n1", "i:7400"}, {"n1", "j:7400"}}, "n1 is there twice"},
      {"h:7400", {{"n0", "h:7400"}, {"n1", "h:7400"}}, "n0 at h:7400 and n1 at h:7400 need the same port"},
      {"h:7400", {{"n0", "h:7400"}, {"n1", "H:7403"}}, "each server has 4"},
      {"h:7400", {{"n0", "h:7400"}, {"n1", "i:7402"}, {"n2", "i:7400"}}, "n1 at i:7402 and n2 at i:7400"},
      {"[::1]:7400", {{"n0", "[::1]:7400"}, {"n1", "[0::1]:7401"}}, "need the same port"},
      {"h:7410", {{"n0", "h:7400"}, {"n1", "h:7410"}}, "n0 is at h:7400 there, and it listens on h:7410"},
      {"127.0.0.1:7400", {{"n0", "10.0.0.1:7400"}}, "listens on 127.0.0.1:7400: correct one of them"},
      {"0.0.0.0:7410", {{"n0", "10.0.0.1:7400"}}, "listens on 0.0.0.0:7410"},
      {"h:7400", {{"n1", "h:7400"}}, "n0 is not among them"},
      {"h:7400", {{"n0", "h:7400"}, {"n\n1", "i:7400"}}, "without control characters"},
      {"h:7400", {{"n0", "h"}}, "\"h\" is no HOST:PORT"},
      {"h", {{"n0", "h:7400"}}, "\"h\" is no HOST:PORT"},
  };
  for (const auto& one : cases) {
    const absl::Status checked = CheckMembership(Three(one.listen, one.peers));
    EXPECT_EQ(checked.ok(), one.named == nullptr) << checked;
    const std::string_view named = one.named == nullptr ? "" : one.named;
    EXPECT_NE(Message(checked).find(named), std::string_view::npos) << checked << ", not " << named;
  }
  // What leads to a server may be another address than what it listens on, if somebody says so.
  Membership behind = Three("172.17.0.2:7400", {{"n0", "10.0.0.1:9400"}});
  EXPECT_FALSE(CheckMembership(behind).ok());
  behind.advertise = "10.0.0.1:9400";
  EXPECT_TRUE(CheckMembership(behind).ok()) << CheckMembership(behind);
  behind.advertise = "10.0.0.1:9401";
  EXPECT_NE(Message(CheckMembership(behind)).find("they must agree"), std::string_view::npos);
}

}  // namespace
}  // namespace sluice::edge
