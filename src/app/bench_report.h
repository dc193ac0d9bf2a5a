// What every `sluice bench` command reports with: seconds, percentiles, CPU and memory of processes, and the
// result as text or JSON.
//
//   nlohmann::json result = Latencies(seconds);   result["rate"] = 7.0;   PrintReport(result, as_json);
//
// Pure functions and reads of /proc; any thread. What /proc does not tell is 0.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

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

void PrintReport(const nlohmann::json& result, bool as_json);

// Each adds its commands to `bench`.
void AddStreamBench(CLI::App& bench, Chosen* chosen);  // stream, stream-server
void AddEchoBench(CLI::App& bench, Chosen* chosen);    // echo
void AddOpenBench(CLI::App& bench, Chosen* chosen);    // open, idle

}  // namespace sluice::app
