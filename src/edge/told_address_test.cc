#include "edge/told_address.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sluice::edge
