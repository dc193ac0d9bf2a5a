// `sluice bench echo`: round trips of small messages on a stream, beside plain TCP, and beside a stream of
// the same connection that sends large ones.
#include <errno.h>
#include <fmt/format.h>
#include <string.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/synchronization/notification.h"
#include "app/bench_report.h"
#include "app/commands.h"
#include "app/plain_tcp.h"
#include "app/stream_target.h"
#include "app/units.h"

namespace sluice::app {
namespace {

constexpr uint64_t kWarmUps = 1'000;
constexpr uint64_t kEchoesMax = 10'000'000;

struct EchoFlags {
  std::string server;
  std::string message = "64";
  uint32_t in_flight = 1;
  uint64_t count = 20'000;
  std::string beside;
  std::string beside_window = "64MiB";
  std::string beside_bytes = "4GiB";
  uint32_t rounds = 3;
  ReportFlags report;
};

// Keeps messages under way on one stream: each that comes back sends the next, from inside the handler.
class Pinger final : public StreamInputHandler {
 public:
  // Ends after `count` echoes, or when told to.
  static absl::StatusOr<std::unique_ptr<Pinger>> Start(StreamTarget& target, uint64_t message_bytes,
                                                       uint32_t in_flight, uint64_t count) {
    std::unique_ptr<Pinger> pinger(new Pinger(message_bytes, in_flight, count));
    StreamOptions options;
    options.handler = pinger.get();
    Controller controller;
    if (StreamCreate(&pinger->id_, controller, &options) != 0) {
      pinger->closed_.Notify();
      return absl::InternalError("no stream could be made");
    }
    RETURN_IF_ERROR(target.Call(target.channel(0), controller, "echo"));
    for (uint32_t i = 0; i < in_flight; ++i) pinger->Ping(i);
    return pinger;
  }
  ~Pinger() override {
    StreamClose(id_);
    closed_.WaitForNotification();
  }

  void Stop() { stopping_ = true; }
  // Seconds of each echo, after the end.
  absl::StatusOr<std::vector<double>> Await() {
    if (!done_.WaitForNotificationWithTimeout(kBenchPatience * 2)) {
      return absl::DeadlineExceededError("echoes stay away");
    }
    if (failed_) return absl::UnavailableError("the stream ended between echoes");
    return seconds_;
  }

  int on_received_messages(StreamId, Bytes* const*, size_t size) override {
    const BenchClock::time_point now = BenchClock::now();
    for (size_t i = 0; i < size; ++i) {
      seconds_.push_back(Seconds(now - sent_at_[received_ % sent_at_.size()]));
      ++received_;
      if (sent_ < count_ && !stopping_) {
        Ping(sent_++);
      } else if (received_ == sent_) {
        Finish();
      }
    }
    return 0;
  }
  void on_closed(StreamId) override {
    if (!finished_) failed_ = true;
    Finish();
    closed_.Notify();
  }

 private:
  Pinger(uint64_t message_bytes, uint32_t in_flight, uint64_t count)
      : count_(std::max<uint64_t>(count, in_flight)),
        message_(Bytes::Take(std::string(message_bytes, 'x'))),
        sent_at_(in_flight),
        sent_(in_flight) {
    seconds_.reserve(std::min(count_, kEchoesMax));
  }
  void Ping(uint64_t number) {
    sent_at_[number % sent_at_.size()] = BenchClock::now();
    while (StreamWrite(id_, message_) == EAGAIN) {
      if (WaitWithPatience(id_) != 0) return;  // on_closed tells
    }
  }
  void Finish() {
    if (!std::exchange(finished_, true)) done_.Notify();
  }

  const uint64_t count_;
  const Bytes message_;
  std::vector<BenchClock::time_point> sent_at_;  // of those under way, in order: so they come back
  StreamId id_ = kInvalidStreamId;
  std::atomic<bool> stopping_ = false;
  // Of the callbacks, until done_:
  uint64_t sent_;
  uint64_t received_ = 0;
  std::vector<double> seconds_;
  bool finished_ = false;
  bool failed_ = false;
  absl::Notification done_, closed_;
};

struct Echoes {
  std::vector<double> alone, limit, beside;  // seconds of each echo of all rounds
  std::vector<double> ratios;                // of medians, by round
  std::vector<double> bulk, bulk_alone;      // bytes per second, by round
};

struct Beside {
  SinkOptions sink;
  double bytes = 0;
};

absl::StatusOr<double> BulkRate(StreamTarget& target, const Beside& beside) {
  ASSIGN_OR_RETURN(const auto sinks, SinkStreams::Open(target, beside.sink));
  ASSIGN_OR_RETURN(const double seconds, sinks->Run());
  return beside.bytes / seconds;
}

void Append(const std::vector<double>& more, std::vector<double>* to) {
  to->insert(to->end(), more.begin(), more.end());
}

absl::Status RoundBeside(StreamTarget& target, uint64_t message_bytes, uint32_t in_flight,
                         const Beside& beside, Echoes* echoes) {
  ASSIGN_OR_RETURN(const double alone, BulkRate(target, beside));
  ASSIGN_OR_RETURN(const auto pinger, Pinger::Start(target, message_bytes, in_flight, kEchoesMax));
  ASSIGN_OR_RETURN(const double rate, BulkRate(target, beside));
  pinger->Stop();
  ASSIGN_OR_RETURN(const std::vector<double> seconds, pinger->Await());
  Append(seconds, &echoes->beside);
  echoes->bulk.push_back(rate);
  echoes->bulk_alone.push_back(alone);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> EchoAlone(StreamTarget& target, uint64_t message_bytes,
                                              uint32_t in_flight, uint64_t count) {
  ASSIGN_OR_RETURN(const auto pinger, Pinger::Start(target, message_bytes, in_flight, count));
  return pinger->Await();
}

absl::Status Round(StreamTarget& target, const EchoFlags& flags, uint64_t message_bytes, Echoes* echoes) {
  ASSIGN_OR_RETURN(std::vector<double> limit, PlainEcho(message_bytes, flags.count));
  ASSIGN_OR_RETURN(std::vector<double> alone, EchoAlone(target, message_bytes, flags.in_flight, flags.count));
  Append(limit, &echoes->limit);
  Append(alone, &echoes->alone);
  echoes->ratios.push_back(Median(std::move(alone)) / Median(std::move(limit)));
  return absl::OkStatus();
}

nlohmann::json Report(const EchoFlags& flags, uint64_t message_bytes, const Echoes& echoes) {
  nlohmann::json result = Latencies(echoes.alone);
  const auto add = [&result](const std::string& prefix, const std::vector<double>& seconds) {
    const nlohmann::json named = Latencies(seconds);
    for (const auto& [key, value] : named.items()) result[prefix + key] = value;
  };
  add("limit_", echoes.limit);
  result["message_bytes"] = message_bytes;
  result["in_flight"] = flags.in_flight;
  result["echoes"] = echoes.alone.size();
  result["ratio"] = Median(echoes.ratios);
  if (flags.beside.empty()) return result;
  add("beside_", echoes.beside);
  std::vector<double> ratios;
  for (size_t i = 0; i < echoes.bulk.size(); ++i) ratios.push_back(echoes.bulk[i] / echoes.bulk_alone[i]);
  result["beside_echoes"] = echoes.beside.size();
  result["bulk_mb_per_second"] = Median(echoes.bulk) / 1e6;
  result["bulk_alone_mb_per_second"] = Median(echoes.bulk_alone) / 1e6;
  result["bulk_ratio"] = Median(ratios);
  result["rounds_bulk_ratio"] = ratios;
  return result;
}

absl::StatusOr<Beside> BesideOf(const EchoFlags& flags) {
  Beside beside;
  if (flags.beside.empty()) return beside;
  ASSIGN_OR_RETURN(beside.sink.message_bytes, ParseSize(flags.beside));
  ASSIGN_OR_RETURN(const uint64_t window, ParseSize(flags.beside_window));
  ASSIGN_OR_RETURN(const uint64_t bytes, ParseSize(flags.beside_bytes));
  if (beside.sink.message_bytes == 0 || beside.sink.message_bytes > (256u << 20)) {
    return WrongUsage("--beside: between 1 byte and 256MiB");
  }
  beside.sink.window_bytes = static_cast<int64_t>(window);
  beside.sink.messages_each = std::max<uint64_t>(1, bytes / beside.sink.message_bytes);
  beside.bytes = static_cast<double>(beside.sink.message_bytes * beside.sink.messages_each);
  return beside;
}

absl::Status BenchEcho(const EchoFlags& flags) {
  ASSIGN_OR_RETURN(const uint64_t message_bytes, ParseSize(flags.message));
  if (message_bytes == 0 || message_bytes > (16u << 20)) {
    return WrongUsage("--message: between 1 byte and 16MiB");
  }
  ASSIGN_OR_RETURN(const Beside beside, BesideOf(flags));
  ASSIGN_OR_RETURN(const auto target, StreamTarget::Open(flags.server, 1));
  Echoes warm_up;
  EchoFlags few = flags;
  few.count = std::min(flags.count, kWarmUps);
  RETURN_IF_ERROR(Round(*target, few, message_bytes, &warm_up));
  Echoes echoes;
  for (uint32_t i = 0; i < flags.rounds; ++i) {
    RETURN_IF_ERROR(Round(*target, flags, message_bytes, &echoes));
    if (flags.beside.empty()) continue;
    RETURN_IF_ERROR(RoundBeside(*target, message_bytes, flags.in_flight, beside, &echoes));
  }
  const auto in_mb = [](std::vector<double> rates) {
    for (double& rate : rates) rate /= 1e6;
    return rates;
  };
  return PrintReport(
      Report(flags, message_bytes, echoes),
      {LatencyChart("Round trips",
                    {{"stream", echoes.alone}, {"plain TCP", echoes.limit}, {"beside large", echoes.beside}}),
       RoundsChart("Large messages", "MB/s",
                   {{"beside echoes", in_mb(echoes.bulk)}, {"alone", in_mb(echoes.bulk_alone)}})},
      flags.report);
}

}  // namespace

void AddEchoBench(CLI::App& bench, Chosen* chosen) {
  auto flags = std::make_shared<EchoFlags>();
  CLI::App* echo = NewCommand(bench, "echo", "Round trips of small messages on a stream, beside plain TCP",
                              "sluice bench echo --message 64 --beside 16MiB --beside-window 64MiB", chosen,
                              [flags] { return BenchEcho(*flags); });
  echo->add_option("--server", flags->server,
                   "A stream-server, HOST:PORT; without it one is started for the time of the run");
  echo->add_option("--message", flags->message, "Bytes of each message")->capture_default_str();
  echo->add_option("--in-flight", flags->in_flight, "Messages under way at a time")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  echo->add_option("--count", flags->count, "Echoes of each round")
      ->check(CLI::Range(uint64_t{1}, kEchoesMax))
      ->capture_default_str();
  echo->add_option("--beside", flags->beside,
                   "Also beside a stream of the same connection that sends messages of so many bytes");
  echo->add_option("--beside-window", flags->beside_window, "Bytes under way in that stream; 0: no limit")
      ->capture_default_str();
  echo->add_option("--beside-bytes", flags->beside_bytes, "What that stream sends in each round")
      ->capture_default_str();
  echo->add_option("--rounds", flags->rounds, "Rounds, each beside its limit")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  AddReportFlags(*echo, &flags->report);
}

}  // namespace sluice::app
