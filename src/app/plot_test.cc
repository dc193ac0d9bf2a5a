#include "app/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace sluice::app {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Plot, ARoundIsADotAndTheMedianALine) {
  const std::string svg = DrawPlot(
      "a < b & c",
      {{.title = "Rate", .unit = "MB/s", .series = {{"stream", {100, 300, 200}}, {"plain TCP", {400}}}}});
  EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; c"));
  EXPECT_EQ(Count(svg, "r=\"4.5\""), 4u);
  EXPECT_EQ(Count(svg, "stroke-dasharray"), 2u);
  EXPECT_THAT(svg, HasSubstr("median 200 MB/s"));
  EXPECT_EQ(Count(svg, "<svg"), Count(svg, "</svg>"));
}

TEST(Plot, LatenciesShowTheirTail) {
  std::vector<double> seconds(1000, 0.001);
  std::fill(seconds.end() - 20, seconds.end(), 0.5);  // two in a hundred
  const std::string svg = DrawPlot(
      "echo", {{.title = "Round trips", .kind = Chart::Kind::kPercentiles, .series = {{"stream", seconds}}}});
  EXPECT_THAT(svg, HasSubstr("p50 1 ms, p99 500 ms"));
  EXPECT_THAT(svg, HasSubstr(">p99.9<"));
  EXPECT_THAT(svg, Not(HasSubstr(">p99.99<")));  // no thousand values tell that
}

TEST(Plot, NothingMeasuredIsNoChartAndNoNonsense) {
  for (const Chart::Kind kind : {Chart::Kind::kRounds, Chart::Kind::kPercentiles}) {
    EXPECT_THAT(DrawPlot("t", {{.title = "gone", .kind = kind, .series = {{"none", {}}}}}),
                Not(HasSubstr("gone")));
    const std::string one =
        DrawPlot("t", {{.title = "zero", .kind = kind, .series = {{"a", {0.0}}, {"b", {}}}}});
    EXPECT_THAT(one, HasSubstr("zero"));
    EXPECT_THAT(one, Not(HasSubstr("nan")));
    EXPECT_THAT(one, Not(HasSubstr("inf")));
  }
}

}  // namespace
}  // namespace sluice::app
