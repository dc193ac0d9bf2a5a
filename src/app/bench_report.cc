#include "app/bench_report.h"

#include <errno.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "app/output.h"
#include "app/units.h"

namespace sluice::app {

double Seconds(BenchClock::duration duration) { return std::chrono::duration<double>(duration).count(); }

double SecondsSince(BenchClock::time_point begin) { return Seconds(BenchClock::now() - begin); }

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double Percentile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(at, sorted.size() - 1)];
}

nlohmann::json Latencies(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {{"p50_ms", Percentile(seconds, 0.5) * 1e3},
          {"p99_ms", Percentile(seconds, 0.99) * 1e3},
          {"p999_ms", Percentile(seconds, 0.999) * 1e3}};
}

double OwnCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double CpuSecondsOf(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) rest >> skipped;
  double user = 0;
  double system = 0;
  rest >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

uint64_t ResidentBytesOf(int64_t pid) {
  std::ifstream file(pid == 0 ? "/proc/self/statm" : fmt::format("/proc/{}/statm", pid));
  uint64_t whole = 0;
  uint64_t resident = 0;
  file >> whole >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

namespace {

void PrintResult(const nlohmann::json& result, bool as_json) {
  if (as_json) {
    Print("{}\n", result.dump(2));
    return;
  }
  for (const auto& [key, value] : result.items()) {
    if (key == "servers") {
      for (const auto& server : value) {
        Print("{:<32}cpu {:.2f} s, memory {}\n", "server " + server["id"].get<std::string>(),
              server["cpu_seconds"].get<double>(), FormatSize(server["rss_bytes"].get<uint64_t>()));
      }
    } else if (value.is_number_float()) {
      Print("{:<32}{:.3f}\n", key, value.get<double>());
    } else if (value.is_array()) {
      std::string line;
      for (const auto& one : value) line += fmt::format("{:.3f}  ", one.get<double>());
      Print("{:<32}{}\n", key, line);
    } else {
      Print("{:<32}{}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

void AddReportFlags(CLI::App& command, ReportFlags* flags) {
  command.add_flag("--json", flags->json, "For programs");
  command.add_option("--plot", flags->plot, "Also draw what was measured into this file, as SVG")
      ->type_name("FILE.svg")
      ->each(
          [flags, &command](const std::string&) { flags->command = "sluice bench " + command.get_name(); });
}

absl::Status PrintReport(const nlohmann::json& result, const std::vector<Chart>& charts,
                         const ReportFlags& flags) {
  PrintResult(result, flags.json);
  RETURN_IF_ERROR(FlushOutput());
  if (flags.plot.empty()) return absl::OkStatus();
  errno = 0;
  std::ofstream file(flags.plot, std::ios::trunc);
  file << DrawPlot(flags.command, charts);
  file.close();
  if (!file) return absl::UnavailableError(fmt::format("cannot write {}: {}", flags.plot, strerror(errno)));
  return absl::OkStatus();
}

Chart RoundsChart(std::string title, std::string unit, std::vector<Series> series) {
  return {.title = std::move(title),
          .unit = std::move(unit),
          .kind = Chart::Kind::kRounds,
          .series = std::move(series)};
}

Chart LatencyChart(std::string title, std::vector<Series> series) {
  return {
      .title = std::move(title), .unit = "", .kind = Chart::Kind::kPercentiles, .series = std::move(series)};
}

}  // namespace sluice::app
