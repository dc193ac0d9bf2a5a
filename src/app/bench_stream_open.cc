// `sluice bench open` and `idle`: what opening and closing streams costs, and what one that is open costs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/synchronization/mutex.h"
#include "app/bench_report.h"
#include "app/commands.h"
#include "app/echo_message.h"
#include "app/stream_target.h"

namespace sluice::app {
namespace {

constexpr uint32_t kBatchMax = 1'024;
constexpr uint32_t kIdleBatch = 100;
constexpr uint64_t kStreamsMax = 60'000;  // of one connection; servers take 65,536

struct OpenFlags {
  std::string server;
  uint32_t at_once = 32;
  uint32_t batch = 1;
  uint64_t count = 0;
  uint32_t streams = 10'000;
  uint32_t rounds = 3;
  ReportFlags report;
};

// Opens streams by calls under way at a time, and closes each as soon as it is open.
class OpenLoad {
 public:
  OpenLoad(StreamTarget& target, uint32_t batch, uint64_t calls)
      : target_(target), batch_(batch), calls_(calls) {}

  absl::Status Run(uint32_t at_once) {
    for (uint32_t i = 0; i < at_once; ++i) StartOne();
    uint64_t streams = 0;
    {
      absl::MutexLock lock(&mutex_);
      const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return under_way_ == 0; };
      mutex_.Await(absl::Condition(&over));  // every call has its deadline
      streams = started_ * batch_;
    }
    tally_.AwaitClosed(streams);
    absl::MutexLock lock(&mutex_);
    return failure_;
  }

 private:
  struct Opening {
    Controller controller;
    Bytes answer;
    StreamIds ids;
  };

  void StartOne() {
    {
      absl::MutexLock lock(&mutex_);
      if (started_ == calls_ || !failure_.ok()) return;
      ++started_;
      ++under_way_;
    }
    auto* opening = new Opening;  // freed by its answer
    StreamOptions options;
    options.handler = &tally_;
    StreamCreate(opening->ids, static_cast<int>(batch_), opening->controller, &options);
    target_.channel(0).Call(kEchoService, kEchoMethod, opening->controller, request_, &opening->answer,
                            [this, opening] { OnAnswer(std::unique_ptr<Opening>(opening)); });
  }
  void OnAnswer(std::unique_ptr<Opening> opening) {
    for (const StreamId id : opening->ids) StreamClose(id);
    if (opening->controller.Failed()) {
      absl::MutexLock lock(&mutex_);
      failure_.Update(absl::UnavailableError(fmt::format("the server opens no streams: {} (error {})",
                                                         opening->controller.ErrorText(),
                                                         opening->controller.ErrorCode())));
    }
    StartOne();
    absl::MutexLock lock(&mutex_);
    --under_way_;
  }

  StreamTarget& target_;
  const uint32_t batch_;
  const uint64_t calls_;
  const Bytes request_ = PackEcho("echo");
  StreamTally tally_;
  absl::Mutex mutex_;
  uint64_t started_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<double> OpenRate(StreamTarget& target, const OpenFlags& flags, uint64_t calls) {
  OpenLoad load(target, flags.batch, calls);
  const BenchClock::time_point begin = BenchClock::now();
  RETURN_IF_ERROR(load.Run(flags.at_once));
  RETURN_IF_ERROR(target.Stat().status());  // behind the last CLOSE: the server has seen them all
  return static_cast<double>(calls * flags.batch) / SecondsSince(begin);
}

absl::Status BenchOpen(const OpenFlags& flags) {
  if (uint64_t{flags.at_once} * flags.batch > kStreamsMax) {
    return WrongUsage(fmt::format("--at-once times --batch: at most {} streams may be open", kStreamsMax));
  }
  const uint64_t streams = flags.count > 0 ? flags.count : flags.batch > 1 ? 1'000'000 : 60'000;
  const uint64_t calls = std::max<uint64_t>(1, streams / flags.batch);
  ASSIGN_OR_RETURN(const auto target, StreamTarget::Open(flags.server, 1));
  RETURN_IF_ERROR(OpenRate(*target, flags, std::max<uint64_t>(1, calls / 8)).status());
  ASSIGN_OR_RETURN(const StreamTarget::Cost before, target->Stat());
  const double cpu_before = OwnCpuSeconds();
  std::vector<double> rates;
  for (uint32_t i = 0; i < flags.rounds; ++i) {
    ASSIGN_OR_RETURN(const double rate, OpenRate(*target, flags, calls));
    rates.push_back(rate);
  }
  const double client_cpu = OwnCpuSeconds() - cpu_before;
  ASSIGN_OR_RETURN(const StreamTarget::Cost after, target->Stat());
  const auto all = static_cast<double>(calls * flags.batch * flags.rounds);
  return PrintReport({{"at_once", flags.at_once},
                      {"batch", flags.batch},
                      {"streams", calls * flags.batch},
                      {"opened_and_closed_per_second", Median(rates)},
                      {"rounds_per_second", rates},
                      {"client_cpu_us_each", client_cpu / all * 1e6},
                      {"server_cpu_us_each", (after.cpu_seconds - before.cpu_seconds) / all * 1e6}},
                     {RoundsChart("Opened and closed", "streams/s", {{"streams", rates}})}, flags.report);
}

// Open streams that nobody uses; they close with their object.
class IdleStreams {
 public:
  ~IdleStreams() {
    for (const StreamId id : ids_) StreamClose(id);
    tally_.AwaitClosed(ids_.size());
  }
  absl::Status Open(StreamTarget& target, uint32_t count) {
    ids_.reserve(ids_.size() + count);
    StreamOptions options;
    options.handler = &tally_;
    for (uint32_t left = count; left > 0;) {
      const uint32_t batch = std::min(left, kIdleBatch);
      Controller controller;
      StreamIds ids;
      if (StreamCreate(ids, static_cast<int>(batch), controller, &options) != 0) {
        return absl::InternalError("no streams could be made");
      }
      ids_.insert(ids_.end(), ids.begin(), ids.end());
      RETURN_IF_ERROR(target.Call(target.channel(0), controller, "echo"));
      left -= batch;
    }
    return absl::OkStatus();
  }

 private:
  StreamTally tally_;
  StreamIds ids_;
};

struct Idle {
  std::vector<double> client, server;  // resident bytes of each stream, by round
};

absl::Status IdleRound(StreamTarget& target, uint32_t count, Idle* idle) {
  IdleStreams streams;
  RETURN_IF_ERROR(streams.Open(target, kIdleBatch));  // what the first ones cost is not theirs
  ASSIGN_OR_RETURN(const StreamTarget::Cost before, target.Stat());
  const uint64_t own_before = ResidentBytesOf(0);
  RETURN_IF_ERROR(streams.Open(target, count));
  const uint64_t own_after = ResidentBytesOf(0);
  ASSIGN_OR_RETURN(const StreamTarget::Cost after, target.Stat());
  const auto each = [count](uint64_t from, uint64_t to) {
    return (static_cast<double>(to) - static_cast<double>(from)) / count;
  };
  idle->client.push_back(each(own_before, own_after));
  idle->server.push_back(each(before.resident_bytes, after.resident_bytes));
  return absl::OkStatus();
}

absl::Status BenchIdle(const OpenFlags& flags) {
  Idle idle;
  for (uint32_t i = 0; i < flags.rounds; ++i) {
    // Memory that a round gave back would hide what the next one takes: each has a server of its own, and the
    // client's figure is the largest.
    ASSIGN_OR_RETURN(const auto target, StreamTarget::Open(flags.server, 1));
    RETURN_IF_ERROR(IdleRound(*target, flags.streams, &idle));
  }
  return PrintReport(
      {{"streams", flags.streams},
       {"client_bytes_per_stream", *std::max_element(idle.client.begin(), idle.client.end())},
       {"server_bytes_per_stream", *std::max_element(idle.server.begin(), idle.server.end())}},
      {RoundsChart("Open stream", "bytes each", {{"client", idle.client}, {"server", idle.server}})},
      flags.report);
}

}  // namespace

void AddOpenBench(CLI::App& bench, Chosen* chosen) {
  auto flags = std::make_shared<OpenFlags>();
  CLI::App* open =
      NewCommand(bench, "open", "Opens and closes streams", "sluice bench open --at-once 32 --batch 100",
                 chosen, [flags] { return BenchOpen(*flags); });
  open->add_option("--at-once", flags->at_once, "Calls under way at a time")
      ->check(CLI::Range(1, 4'096))
      ->capture_default_str();
  open->add_option("--batch", flags->batch, "Streams that each call opens")
      ->check(CLI::Range(1u, kBatchMax))
      ->capture_default_str();
  open->add_option("--count", flags->count, "Streams of each round; 0: 60,000, or a million in batches")
      ->capture_default_str();
  CLI::App* idle =
      NewCommand(bench, "idle", "Memory of open streams that nobody uses, at each side",
                 "sluice bench idle --streams 10000", chosen, [flags] { return BenchIdle(*flags); });
  idle->add_option("--streams", flags->streams, "How many, on one connection")
      ->check(CLI::Range(uint64_t{1}, kStreamsMax))
      ->capture_default_str();
  for (CLI::App* command : {open, idle}) {
    command->add_option("--rounds", flags->rounds, "Rounds")
        ->check(CLI::Range(1, 1'000))
        ->capture_default_str();
    command->add_option("--server", flags->server,
                        "A stream-server, HOST:PORT; without it one is started for the time of the run");
    AddReportFlags(*command, &flags->report);
  }
}

}  // namespace sluice::app
