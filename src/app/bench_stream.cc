// `sluice bench stream` and `stream-server`: how fast messages go through streams, beside plain TCP.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/bench_report.h"
#include "app/commands.h"
#include "app/echo_server.h"
#include "app/output.h"
#include "app/plain_tcp.h"
#include "app/stream_target.h"
#include "app/units.h"

namespace sluice::app {
namespace {

constexpr double kMB = 1e6;
constexpr double kMiB = 1 << 20;
constexpr double kGiB = 1 << 30;
constexpr uint64_t kDefaultBytes = 2ull << 30;
constexpr uint64_t kDefaultMessages = 8'000'000;

struct StreamFlags {
  std::string server;
  std::string message = "64KiB";
  uint32_t streams = 1;
  std::string window = "2MiB";
  std::string bytes;
  std::string seconds;
  uint32_t connections = 1;
  uint32_t writers = 1;
  uint32_t rounds = 3;
  ReportFlags report;
};

struct Rounds {
  std::vector<double> rates, limits, ratios;  // bytes per second
  double seconds = 0;
  double client_cpu = 0;
  double limit_cpu = 0;
  uint64_t stalls = 0;
};

absl::StatusOr<double> RunOnce(StreamTarget& target, const SinkOptions& options, Rounds* rounds) {
  const double cpu_before = OwnCpuSeconds();
  ASSIGN_OR_RETURN(const auto sinks, SinkStreams::Open(target, options));
  ASSIGN_OR_RETURN(const double seconds, sinks->Run());
  rounds->client_cpu += OwnCpuSeconds() - cpu_before;
  rounds->stalls += sinks->Stalls();
  rounds->seconds += seconds;
  return seconds;
}

uint64_t BytesOf(const SinkOptions& options) {
  return options.message_bytes * options.messages_each * options.streams;
}

void SetBytes(double bytes, SinkOptions* options) {
  const double messages = bytes / static_cast<double>(options->message_bytes) / options->streams;
  options->messages_each = std::max<uint64_t>(1, static_cast<uint64_t>(messages));
}

absl::StatusOr<SinkOptions> SinkOptionsOf(const StreamFlags& flags) {
  SinkOptions options;
  options.streams = flags.streams;
  options.writers = std::min(flags.writers, flags.streams);
  ASSIGN_OR_RETURN(options.message_bytes, ParseSize(flags.message));
  if (options.message_bytes == 0 || options.message_bytes > (256u << 20)) {
    return WrongUsage("--message: between 1 byte and 256MiB");
  }
  ASSIGN_OR_RETURN(const uint64_t window, ParseSize(flags.window));
  options.window_bytes = static_cast<int64_t>(window);
  uint64_t bytes = std::min(kDefaultBytes, kDefaultMessages * options.message_bytes);
  if (!flags.bytes.empty()) {
    ASSIGN_OR_RETURN(bytes, ParseSize(flags.bytes));
  }
  SetBytes(static_cast<double>(bytes), &options);
  return options;
}

absl::Status WarmUp(StreamTarget& target, const StreamFlags& flags, SinkOptions* options) {
  SinkOptions warm = *options;
  Rounds ignored;
  SetBytes(static_cast<double>(BytesOf(*options)) / 8, &warm);
  ASSIGN_OR_RETURN(const double seconds, RunOnce(target, warm, &ignored));
  if (flags.seconds.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t milliseconds, ParseMilliseconds(flags.seconds));
  SetBytes(static_cast<double>(BytesOf(warm)) / seconds * static_cast<double>(milliseconds) / 1e3, options);
  return absl::OkStatus();
}

std::vector<double> InMB(std::vector<double> rates) {
  for (double& rate : rates) rate /= kMB;
  return rates;
}

nlohmann::json Report(const SinkOptions& options, const Rounds& rounds, double server_cpu,
                      uint64_t server_resident) {
  const double bytes = static_cast<double>(BytesOf(options)) * static_cast<double>(rounds.rates.size());
  const double rate = Median(rounds.rates);
  const uint64_t resident = ResidentBytesOf(0);  // before memcpy takes its buffers
  return {{"message_bytes", options.message_bytes},
          {"streams", options.streams},
          {"bytes", BytesOf(options)},
          {"seconds", rounds.seconds},
          {"mb_per_second", rate / kMB},
          {"mib_per_second", rate / kMiB},
          {"messages_per_second", rate / static_cast<double>(options.message_bytes)},
          {"limit_mb_per_second", Median(rounds.limits) / kMB},
          {"rounds_mb_per_second", InMB(rounds.rates)},
          {"rounds_limit_mb_per_second", InMB(rounds.limits)},
          {"ratio", Median(rounds.ratios)},
          {"memcpy_mb_per_second", MemcpyRate() / kMB},
          {"client_cpu_seconds_per_gib", rounds.client_cpu / (bytes / kGiB)},
          {"server_cpu_seconds_per_gib", server_cpu / (bytes / kGiB)},
          {"cpu_seconds_per_gib", (rounds.client_cpu + server_cpu) / (bytes / kGiB)},
          {"limit_cpu_seconds_per_gib", rounds.limit_cpu / (bytes / kGiB)},
          {"client_resident_bytes", resident},
          {"server_resident_bytes", server_resident},
          {"stalls", rounds.stalls}};
}

absl::Status BenchStream(const StreamFlags& flags) {
  ASSIGN_OR_RETURN(SinkOptions options, SinkOptionsOf(flags));
  ASSIGN_OR_RETURN(const auto plain, PlainSink::Start());
  ASSIGN_OR_RETURN(const auto target, StreamTarget::Open(flags.server, flags.connections));
  RETURN_IF_ERROR(WarmUp(*target, flags, &options));
  const auto bytes = static_cast<double>(BytesOf(options));
  RETURN_IF_ERROR(plain->Send(BytesOf(options) / 8).status());
  Rounds rounds;
  ASSIGN_OR_RETURN(const StreamTarget::Cost before, target->Stat());
  for (uint32_t i = 0; i < flags.rounds; ++i) {
    ASSIGN_OR_RETURN(const PlainSink::Sent limit, plain->Send(BytesOf(options)));
    ASSIGN_OR_RETURN(const double seconds, RunOnce(*target, options, &rounds));
    rounds.limit_cpu += limit.cpu_seconds;
    rounds.rates.push_back(bytes / seconds);
    rounds.limits.push_back(bytes / limit.seconds);
    rounds.ratios.push_back(limit.seconds / seconds);
  }
  ASSIGN_OR_RETURN(const StreamTarget::Cost after, target->Stat());
  return PrintReport(
      Report(options, rounds, after.cpu_seconds - before.cpu_seconds, after.resident_bytes),
      {RoundsChart(
          fmt::format("{} of messages of {}",
                      options.streams == 1 ? "One stream" : fmt::format("{} streams", options.streams),
                      FormatSize(options.message_bytes)),
          "MB/s", {{"streams", InMB(rounds.rates)}, {"plain TCP", InMB(rounds.limits)}})},
      flags.report);
}

// TERM and INT are read by this thread and interrupt no other.
absl::Status ServeStreams(const std::string& listen) {
  if (!listen.ends_with(":0") && !MovePort(listen, 0).ok()) {
    return WrongUsage(fmt::format("--listen: \"{}\" is no HOST:PORT", listen));
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);  // before any thread starts
  ASSIGN_OR_RETURN(const auto server, EchoServer::Start(listen));
  Print("listening on {}:{}\n", listen.substr(0, listen.rfind(':')), server->port());
  RETURN_IF_ERROR(FlushOutput());
  int signal = 0;
  sigwait(&set, &signal);
  return absl::OkStatus();
}

}  // namespace

void AddStreamBench(CLI::App& bench, Chosen* chosen) {
  auto flags = std::make_shared<StreamFlags>();
  CLI::App* stream = NewCommand(bench, "stream", "Sends messages through streams, beside plain TCP",
                                "sluice bench stream --message 64KiB --streams 8 --json", chosen,
                                [flags] { return BenchStream(*flags); });
  stream->add_option("--server", flags->server,
                     "A stream-server, HOST:PORT; without it one is started for the time of the run");
  stream->add_option("--message", flags->message, "Bytes of each message")->capture_default_str();
  stream->add_option("--streams", flags->streams, "Streams at a time")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  stream->add_option("--window", flags->window, "Bytes under way in each stream; 0: no limit")
      ->capture_default_str();
  stream->add_option("--bytes", flags->bytes,
                     "Of each round, all streams together (default 2GiB, or 8 million messages)");
  stream->add_option("--seconds", flags->seconds, "Instead of --bytes: about so long for each round, as 10s");
  stream->add_option("--connections", flags->connections, "Connections that the streams are spread over")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  stream->add_option("--writers", flags->writers, "Threads that write")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  stream->add_option("--rounds", flags->rounds, "Rounds, each beside its limit")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  AddReportFlags(*stream, &flags->report);

  auto listen = std::make_shared<std::string>("127.0.0.1:7402");
  CLI::App* server =
      NewCommand(bench, "stream-server", "The server that the stream benches load: example.EchoService",
                 "sluice bench stream-server --listen 127.0.0.1:7402", chosen,
                 [listen] { return ServeStreams(*listen); });
  server->add_option("--listen", *listen, "HOST:PORT; port 0 takes a free one")->capture_default_str();
}

}  // namespace sluice::app
