#include "app/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "app/bench_report.h"
#include "app/units.h"

namespace sluice::app {
namespace {

constexpr double kWidth = 900;
constexpr double kTitleHeight = 48;
constexpr double kChartHeight = 340;
constexpr double kLeft = 90;
constexpr double kRight = 240;  // the legend stands there
constexpr double kAbove = 42;
constexpr double kBelow = 52;
constexpr size_t kCurvePoints = 200;
constexpr std::array kColours = {"#1f5fa8", "#c2571a", "#3a7d44", "#7a4fa3"};

// Where values of one chart are on the page.
struct Frame {
  double top = 0;  // of the plotting area
  double x_max = 1;
  double y_min = 0, y_max = 1;

  double bottom() const { return top + kChartHeight - kAbove - kBelow; }
  double X(double x) const { return kLeft + (kWidth - kLeft - kRight) * x / x_max; }
  double Y(double y) const { return bottom() - (bottom() - top) * (y - y_min) / (y_max - y_min); }
};

std::string Escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else
      safe += c;
  }
  return safe;
}

std::string Text(double x, double y, std::string_view text, std::string_view how = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, how, Escaped(text));
}

std::string Line(double x1, double y1, double x2, double y2, std::string_view how) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                     how);
}

std::string Across(const Frame& frame, double y, std::string_view label) {
  return Line(kLeft, frame.Y(y), kWidth - kRight, frame.Y(y), "stroke=\"#ddd\"") +
         Text(kLeft - 8, frame.Y(y) + 4, label, "text-anchor=\"end\"");
}

std::string Upright(const Frame& frame, double x, std::string_view label) {
  return Line(frame.X(x), frame.top, frame.X(x), frame.bottom(), "stroke=\"#eee\"") +
         Text(frame.X(x), frame.bottom() + 18, label, "text-anchor=\"middle\"");
}

// 1, 2 or 5 times a power of ten, so that about five of them reach `max`.
double Step(double max) {
  const double rough = max / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::string Figure(double value) {
  return value < 100 ? fmt::format("{:.3g}", value)
                     : fmt::format("{}", static_cast<int64_t>(std::llround(value)));
}

std::string Legend(const Frame& frame, size_t row, std::string_view name, std::string_view figure) {
  const double y = frame.top + 12 + 44 * static_cast<double>(row);
  const double x = kWidth - kRight + 18;
  return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"{}\"/>\n", x, y - 4,
                     kColours[row % kColours.size()]) +
         Text(x + 12, y, name) + Text(x + 12, y + 17, figure, "fill=\"#555\"");
}

std::string DrawRounds(const Chart& chart, Frame frame) {
  size_t rounds = 1;
  double max = 0;
  for (const Series& series : chart.series) {
    rounds = std::max(rounds, series.values.size());
    for (const double value : series.values) max = std::max(max, value);
  }
  if (max <= 0) max = 1;
  const double step = Step(max);
  frame.y_max = step * std::ceil(max / step * 1.02);
  frame.x_max = static_cast<double>(rounds) + 1;
  std::string svg;
  for (double y = 0; y <= frame.y_max * 1.0001; y += step) svg += Across(frame, y, Figure(y));
  const auto every = static_cast<size_t>(std::ceil(Step(static_cast<double>(rounds) / 2)));
  for (size_t i = 1; i <= rounds; ++i) {
    if (i == 1 || i % every == 0) svg += Upright(frame, static_cast<double>(i), fmt::format("{}", i));
  }
  svg += Text(kLeft + (kWidth - kLeft - kRight) / 2, frame.bottom() + 38, "round", "text-anchor=\"middle\"");
  for (size_t row = 0; row < chart.series.size(); ++row) {
    const Series& series = chart.series[row];
    if (series.values.empty()) continue;
    const std::string_view colour = kColours[row % kColours.size()];
    const double median = Median(series.values);
    svg += Line(kLeft, frame.Y(median), kWidth - kRight, frame.Y(median),
                fmt::format("stroke=\"{}\" stroke-dasharray=\"5 4\" stroke-width=\"1.5\"", colour));
    for (size_t i = 0; i < series.values.size(); ++i) {
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" fill=\"{}\"/>\n",
                         frame.X(static_cast<double>(i + 1)), frame.Y(series.values[i]), colour);
    }
    svg += Legend(frame, row, series.name, fmt::format("median {} {}", Figure(median), chart.unit));
  }
  return svg;
}

// 0 is the fastest, 1 is p90, 2 is p99, and so on.
double NinesOf(double share) { return -std::log10(1 - share); }

// Microseconds matter where FormatSeconds rounds to milliseconds.
std::string ShortTime(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} µs", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3g} ms", seconds * 1e3);
  return fmt::format("{:.3g} s", seconds);
}

std::string Curve(const Frame& frame, const std::vector<double>& sorted, std::string_view colour) {
  const double nines = NinesOf(1 - 1 / static_cast<double>(sorted.size() + 1));
  std::string points;
  for (size_t i = 0; i <= kCurvePoints; ++i) {
    const double x = nines * static_cast<double>(i) / kCurvePoints;
    const double value = Percentile(sorted, 1 - std::pow(10, -x));
    fmt::format_to(std::back_inserter(points), "{:.1f},{:.1f} ", frame.X(x), frame.Y(std::log10(value)));
  }
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points,
                     colour);
}

std::string DrawPercentiles(const Chart& chart, Frame frame) {
  double low = 1e9;
  double high = 0;
  size_t most = 1;
  std::vector<std::vector<double>> sorted;
  for (const Series& series : chart.series) {
    std::vector<double>& values = sorted.emplace_back(series.values);
    for (double& value : values) value = std::max(value, 1e-9);
    std::sort(values.begin(), values.end());
    if (values.empty()) continue;
    low = std::min(low, values.front());
    high = std::max(high, values.back());
    most = std::max(most, values.size());
  }
  frame.x_max = std::max(1.0, NinesOf(1 - 1 / static_cast<double>(most + 1)));
  frame.y_min = std::floor(std::log10(low));
  frame.y_max = std::max(std::ceil(std::log10(high)), frame.y_min + 1);
  std::string svg;
  for (double y = frame.y_min; y <= frame.y_max; ++y) svg += Across(frame, y, ShortTime(std::pow(10, y)));
  for (const auto& [label, share] :
       {std::pair{"p50", 0.5}, std::pair{"p90", 0.9}, std::pair{"p99", 0.99}, std::pair{"p99.9", 0.999},
        std::pair{"p99.99", 0.9999}, std::pair{"p99.999", 0.99999}}) {
    if (NinesOf(share) <= frame.x_max) svg += Upright(frame, NinesOf(share), label);
  }
  svg += Text(kLeft + (kWidth - kLeft - kRight) / 2, frame.bottom() + 38, "share that was faster",
              "text-anchor=\"middle\"");
  for (size_t row = 0; row < sorted.size(); ++row) {
    if (sorted[row].empty()) continue;
    svg += Curve(frame, sorted[row], kColours[row % kColours.size()]);
    svg += Legend(frame, row, chart.series[row].name,
                  fmt::format("p50 {}, p99 {}", ShortTime(Percentile(sorted[row], 0.5)),
                              ShortTime(Percentile(sorted[row], 0.99))));
  }
  return svg;
}

bool HasValues(const Chart& chart) {
  return std::any_of(chart.series.begin(), chart.series.end(),
                     [](const Series& one) { return !one.values.empty(); });
}

}  // namespace

std::string DrawPlot(std::string_view title, const std::vector<Chart>& charts) {
  std::string body;
  double top = kTitleHeight;
  for (const Chart& chart : charts) {
    if (!HasValues(chart)) continue;
    const Frame frame{.top = top + kAbove};
    body += Text(kLeft, top + 22,
                 chart.unit.empty() ? chart.title : fmt::format("{}, {}", chart.title, chart.unit),
                 "font-weight=\"bold\"");
    body += chart.kind == Chart::Kind::kRounds ? DrawRounds(chart, frame) : DrawPercentiles(chart, frame);
    body += Line(kLeft, frame.bottom(), kWidth - kRight, frame.bottom(), "stroke=\"#333\"");
    top += kChartHeight;
  }
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
             "font-family=\"sans-serif\" font-size=\"13\">\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
             kWidth, top + 12) +
         Text(kLeft, 32, title, "font-size=\"18\"") + body + "</svg>\n";
}

}  // namespace sluice::app
