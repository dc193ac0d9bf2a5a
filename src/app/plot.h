// The charts of `sluice bench --plot FILE.svg`: what each round measured, and latencies by percentile.
//
//   Chart chart = {.title = "Round trips",
//                  .kind = Chart::Kind::kPercentiles,
//                  .series = {{"stream", seconds}, {"plain TCP", limit}}};
//   std::string svg = DrawPlot("sluice bench echo", {chart});
//
// Pure functions; any thread. Charts whose series are all empty are left out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::app {

struct Series {
  std::string name;
  std::vector<double> values;
};

struct Chart {
  enum class Kind {
    kRounds,       // one dot a value, in order, and a line at the median; from 0 upwards
    kPercentiles,  // seconds; both axes logarithmic, so that the tail is as visible as the median
  };
  std::string title;
  std::string unit;  // of kRounds
  Kind kind = Kind::kRounds;
  std::vector<Series> series;
};

// A whole SVG file, black and coloured on white.
std::string DrawPlot(std::string_view title, const std::vector<Chart>& charts);

}  // namespace sluice::app
