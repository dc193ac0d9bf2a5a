#include "app/units.h"

#include <gtest/gtest.h>

namespace sluice::app {
namespace {

TEST(Units, SizesHaveUnits) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("512"), 512u);
  EXPECT_EQ(*ParseSize("64KiB"), 65'536u);
  EXPECT_EQ(*ParseSize("64 kib"), 65'536u);
  EXPECT_EQ(*ParseSize("1GiB"), 1u << 30);
  EXPECT_EQ(*ParseSize("2MB"), 2'000'000u);
  EXPECT_EQ(*ParseSize("18446744073709551615"), ~uint64_t{0});
  for (const char* text : {"", "GiB", "-1", "1.5GiB", "1GiBs", "x1", "18446744073709551616", "99999999TiB"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSize(text).status())) << text;
  }
}

TEST(Units, TimesHaveUnits) {
  EXPECT_EQ(*ParseMilliseconds("250ms"), 250u);
  EXPECT_EQ(*ParseMilliseconds("10s"), 10'000u);
  EXPECT_EQ(*ParseMilliseconds("2min"), 120'000u);
  EXPECT_EQ(*ParseMilliseconds("7"), 7u);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseMilliseconds("10KiB").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseCount("10s").status()));
}

TEST(Units, AreReadableAgain) {
  EXPECT_EQ(FormatSize(0), "0 B");
  EXPECT_EQ(FormatSize(1023), "1023 B");
  EXPECT_EQ(FormatSize(1024), "1.00 KiB");
  EXPECT_EQ(FormatSize(150u << 20), "150 MiB");
  EXPECT_EQ(FormatRate(-1), "0 B/s");
  EXPECT_EQ(FormatSeconds(0.85), "850 ms");
  EXPECT_EQ(FormatSeconds(12.34), "12.3 s");
  EXPECT_EQ(FormatSeconds(125), "2:05");
  EXPECT_EQ(FormatSeconds(3'725), "1:02:05");
}

TEST(Units, PortsMove) {
  EXPECT_EQ(*MovePort("127.0.0.1:7400", 3), "127.0.0.1:7403");
  EXPECT_EQ(*MovePort("[::1]:7400", 1), "[::1]:7401");
  for (const char* address : {"7400", ":7400", "a:0", "a:65535", "a:b", ""}) {
    EXPECT_TRUE(absl::IsInvalidArgument(MovePort(address, 1).status())) << address;
  }
}

}  // namespace
}  // namespace sluice::app
