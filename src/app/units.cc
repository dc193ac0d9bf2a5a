#include "app/units.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <limits>
#include <span>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace sluice::app {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr std::array kSizes{Unit{"", 1},
                            Unit{"b", 1},
                            Unit{"kib", 1ull << 10},
                            Unit{"mib", 1ull << 20},
                            Unit{"gib", 1ull << 30},
                            Unit{"tib", 1ull << 40},
                            Unit{"kb", 1000},
                            Unit{"mb", 1'000'000},
                            Unit{"gb", 1'000'000'000},
                            Unit{"tb", 1'000'000'000'000}};
constexpr std::array kTimes{Unit{"", 1},       Unit{"ms", 1},       Unit{"s", 1000},
                            Unit{"m", 60'000}, Unit{"min", 60'000}, Unit{"h", 3'600'000}};
constexpr std::array kNone{Unit{"", 1}};

absl::StatusOr<uint64_t> Parse(std::string_view text, std::span<const Unit> units, const char* example) {
  size_t digits = 0;
  while (digits < text.size() && isdigit(static_cast<unsigned char>(text[digits])) != 0) ++digits;
  uint64_t number = 0;
  const std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(ToAbsl(text.substr(digits))));
  if (absl::SimpleAtoi(ToAbsl(text.substr(0, digits)), &number)) {
    for (const Unit& one : units) {
      if (one.name != unit) continue;
      if (number > std::numeric_limits<uint64_t>::max() / one.factor) break;
      return number * one.factor;
    }
  }
  return absl::InvalidArgumentError(fmt::format("\"{}\" is not understood: write it like {}", text, example));
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(std::string_view text) { return Parse(text, kSizes, "64KiB or 1GiB"); }
absl::StatusOr<uint64_t> ParseMilliseconds(std::string_view text) {
  return Parse(text, kTimes, "250ms or 10s");
}
absl::StatusOr<uint64_t> ParseCount(std::string_view text) { return Parse(text, kNone, "1000"); }

std::string FormatSize(uint64_t bytes) {
  constexpr std::array kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, kNames[unit]);
}

std::string FormatRate(double bytes_per_second) {
  return FormatSize(bytes_per_second > 0 ? static_cast<uint64_t>(bytes_per_second) : 0) + "/s";
}

std::string FormatSeconds(double seconds) {
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(seconds);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

absl::StatusOr<std::string> MovePort(std::string_view address, int offset) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(ToAbsl(address.substr(colon + 1)), &port) || port < 1 || port + offset > 65535) {
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no HOST:PORT", address));
  }
  return fmt::format("{}:{}", address.substr(0, colon), port + offset);
}

}  // namespace sluice::app
