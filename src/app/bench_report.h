// What every `sluice bench` command reports with: seconds, percentiles, CPU and memory of processes, and the
// result as text, JSON and a plot.
//
//   nlohmann::json result = Latencies(seconds);   result["rate"] = 7.0;
//   return PrintReport(result, {RoundsChart("Rate", "MB/s", {{"stream", rates}})}, flags.report);
//
// Reads of /proc, and functions without state; any thread. What /proc does not tell is 0.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/plot.h"
#include "base/status.h"

namespace CLI {
class App;
}

namespace sluice::app {

struct Chosen;

using BenchClock = std::chrono::steady_clock;

double Seconds(BenchClock::duration duration);
double SecondsSince(BenchClock::time_point begin);
double Median(std::vector<double> values);
double Percentile(const std::vector<double>& sorted, double share);
// p50_ms, p99_ms and p999_ms.
nlohmann::json Latencies(std::vector<double> seconds);

double OwnCpuSeconds();  // all threads of this process
double CpuSecondsOf(int64_t pid);
uint64_t ResidentBytesOf(int64_t pid);  // 0: this process

// --json and --plot, as every bench command has them.
struct ReportFlags {
  std::string command;  // title of the plot
  bool json = false;
  std::string plot;
};
// `flags` must outlive the parse.
void AddReportFlags(CLI::App& command, ReportFlags* flags);
// To standard output; then the plot, if one is asked for, into its file.
absl::Status PrintReport(const nlohmann::json& result, const std::vector<Chart>& charts,
                         const ReportFlags& flags);
Chart RoundsChart(std::string title, std::string unit, std::vector<Series> series);
Chart LatencyChart(std::string title, std::vector<Series> series);

// Each adds its commands to `bench`.
void AddStreamBench(CLI::App& bench, Chosen* chosen);  // stream, stream-server
void AddEchoBench(CLI::App& bench, Chosen* chosen);    // echo
void AddOpenBench(CLI::App& bench, Chosen* chosen);    // open, idle

}  // namespace sluice::app
