// `sluice bench`: load against any running cluster, with what it cost.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "app/bench_report.h"
#include "app/commands.h"
#include "app/units.h"
#include "base/strings.h"
#include "client/connection.h"
#include "client/ratis_client.h"
#include "client/topology.h"
#include "env/random.h"
#include "sluice/blob.h"

namespace sluice::app {
namespace {

using Clock = BenchClock;

struct BenchFlags {
  ClientFlags client;
  std::string size = "1GiB";
  std::string seconds = "10s";
  BlobVia via = BlobVia::kDataStream;
  BlobRoute route = BlobRoute::kChain;
  bool no_digest = false;
  std::string name;  // get: what to read; empty: put one first
  uint32_t repeat = 1;
  std::string machine = "counter";
  uint32_t in_flight = 256;
  uint64_t count = 0;
  uint32_t transfers_in_flight = 1;
  bool keep = false;
  ReportFlags report;
};

// CPU and memory of this process and of the servers that run on this machine, as /proc tells them.
class Cost {
 public:
  explicit Cost(client::Connection& connection) {
    for (const std::string& address : connection.servers()) {
      const auto status = client::AskStatus(connection, address, std::chrono::seconds(2));
      if (status.ok()) pids_[status->self.id] = status->pid;
    }
    Learn(connection);
    for (const auto& [id, pid] : pids_) before_[id] = CpuSecondsOf(pid);
    own_before_ = OwnCpuSeconds();
  }
  nlohmann::json ToJson() const {
    nlohmann::json servers = nlohmann::json::array();
    double total = OwnCpuSeconds() - own_before_;
    for (const auto& [id, pid] : pids_) {
      const double cpu = CpuSecondsOf(pid) - before_.at(id);
      if (cpu < 0) continue;  // ended meanwhile, or elsewhere
      total += cpu;
      servers.push_back({{"id", id}, {"cpu_seconds", cpu}, {"rss_bytes", ResidentBytesOf(pid)}});
    }
    return {
        {"client_cpu_seconds", OwnCpuSeconds() - own_before_}, {"servers", servers}, {"cpu_seconds", total}};
  }

 private:
  // Members of the groups that the user did not name cost CPU too.
  void Learn(client::Connection& connection) {
    const auto any = client::AskAnyStatus(connection, {.contact = {}, .answer = {}});
    if (!any.ok()) return;
    for (const client::GroupView& group : any->groups) {
      for (const client::Member& member : group.voters) {
        if (pids_.contains(member.id)) continue;
        const auto status = client::AskStatus(connection, member.address, std::chrono::seconds(2));
        if (status.ok()) pids_[status->self.id] = status->pid;
      }
    }
  }
  std::map<std::string, int64_t> pids_;
  std::map<std::string, double> before_;
  double own_before_ = 0;
};

// Bytes that do not compress and cost nothing to make: one random block, again and again.
class RandomContent final : public BlobContent {
 public:
  explicit RandomContent(uint64_t length) : length_(length) {
    std::string block(kBlockBytes, '\0');
    for (size_t i = 0; i + 8 <= block.size(); i += 8) {
      const uint64_t word = env::RealRandom().Next64();
      std::copy_n(reinterpret_cast<const char*>(&word), 8, block.data() + i);
    }
    block_ = Bytes::Take(std::move(block));
  }
  uint64_t length() const override { return length_; }
  absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t count) override {
    Bytes data;
    while (count > 0) {
      const uint64_t at = offset % kBlockBytes;
      const uint64_t part = std::min(count, kBlockBytes - at);
      data.Append(block_.Slice(at, part));
      offset += part;
      count -= part;
    }
    return data;
  }

 private:
  static constexpr uint64_t kBlockBytes = 16u << 20;
  const uint64_t length_;
  Bytes block_;
};

absl::StatusOr<std::string> PutRandom(BlobClient& blobs, const BenchFlags& flags, RandomContent& content,
                                      const std::string& name) {
  PutOptions options;
  options.via = flags.via;
  options.route = flags.route;
  options.digest = !flags.no_digest;
  RETURN_IF_ERROR(blobs.Put(name, content, options).status());
  return name;
}

std::string NewName() { return fmt::format("bench/{:016x}", env::RealRandom().Next64()); }

nlohmann::json Transfer(const Cost& cost, uint64_t bytes, double seconds, const std::vector<double>& each) {
  nlohmann::json result = cost.ToJson();
  result.update(Latencies(each));
  const double gib = static_cast<double>(bytes) / (1ull << 30);
  result["bytes"] = bytes;
  result["seconds"] = seconds;
  result["mib_per_second"] = static_cast<double>(bytes) / (1 << 20) / seconds;
  result["cpu_seconds_per_gib"] = result["cpu_seconds"].get<double>() / gib;
  return result;
}

std::vector<Chart> TransferCharts(const std::string& what, uint64_t bytes_each,
                                  const std::vector<double>& each) {
  std::vector<double> rates;
  for (const double seconds : each) rates.push_back(static_cast<double>(bytes_each) / (1 << 20) / seconds);
  return {
      RoundsChart(fmt::format("{} of {}", what, FormatSize(bytes_each)), "MiB/s", {{"each transfer", rates}}),
      LatencyChart("Time of a transfer", {{"transfers", each}})};
}

// Transfers of one size by several threads; stops at the first error.
class PutLoad {
 public:
  PutLoad(BlobClient& blobs, const BenchFlags& flags, uint64_t size)
      : blobs_(blobs), flags_(flags), content_(size) {}

  absl::Status Run() {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < flags_.transfers_in_flight; ++i) threads.emplace_back([this] { PutMany(); });
    for (std::thread& thread : threads) thread.join();
    return status_;
  }
  absl::Status RemoveAll() {
    for (const std::string& name : names_) RETURN_IF_ERROR(blobs_.Remove(name));
    return absl::OkStatus();
  }
  const std::vector<double>& latencies() const { return latencies_; }

 private:
  void PutMany() {
    RandomContent content = content_;
    std::unique_lock lock(mutex_);
    while (status_.ok() && started_ < flags_.repeat) {
      ++started_;
      lock.unlock();
      const Clock::time_point begin = Clock::now();
      const absl::StatusOr<std::string> name = PutRandom(blobs_, flags_, content, NewName());
      const double seconds = Seconds(Clock::now() - begin);
      lock.lock();
      if (name.ok()) {
        names_.push_back(*name);
        latencies_.push_back(seconds);
      } else if (status_.ok()) {
        status_ = name.status();
      }
    }
  }

  BlobClient& blobs_;
  const BenchFlags& flags_;
  const RandomContent content_;
  std::mutex mutex_;
  uint32_t started_ = 0;  // guarded by mutex_, as are the next three
  std::vector<std::string> names_;
  std::vector<double> latencies_;
  absl::Status status_;
};

absl::Status BenchPut(const BenchFlags& flags) {
  ASSIGN_OR_RETURN(const uint64_t size, ParseSize(flags.size));
  ASSIGN_OR_RETURN(const auto blobs,
                   BlobClient::Create({.servers = flags.client.servers, .group = flags.client.group}));
  client::Connection connection(flags.client.servers);
  PutLoad load(*blobs, flags, size);
  const Cost cost(connection);
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(load.Run());
  const double seconds = Seconds(Clock::now() - start);
  absl::Status status = PrintReport(Transfer(cost, size * flags.repeat, seconds, load.latencies()),
                                    TransferCharts("Puts", size, load.latencies()), flags.report);
  if (!flags.keep) status.Update(load.RemoveAll());
  return status;
}

absl::Status BenchGet(const BenchFlags& flags) {
  ASSIGN_OR_RETURN(const uint64_t size, ParseSize(flags.size));
  ASSIGN_OR_RETURN(const auto blobs,
                   BlobClient::Create({.servers = flags.client.servers, .group = flags.client.group}));
  std::string name = flags.name;
  if (name.empty()) {
    RandomContent content(size);
    ASSIGN_OR_RETURN(name, PutRandom(*blobs, flags, content, NewName()));
  }
  client::Connection connection(flags.client.servers);
  const Cost cost(connection);
  GetOptions options;
  options.verify = !flags.no_digest;
  std::vector<double> each;
  uint64_t bytes = 0;
  const Clock::time_point start = Clock::now();
  for (uint32_t i = 0; i < flags.repeat; ++i) {
    const Clock::time_point begin = Clock::now();
    ASSIGN_OR_RETURN(const BlobFacts facts,
                     blobs->Get(
                         name, [](const Bytes&) { return absl::OkStatus(); }, options));
    each.push_back(Seconds(Clock::now() - begin));
    bytes += facts.length;
  }
  absl::Status status = PrintReport(Transfer(cost, bytes, Seconds(Clock::now() - start), each),
                                    TransferCharts("Gets", bytes / flags.repeat, each), flags.report);
  if (flags.name.empty()) status.Update(blobs->Remove(name));
  return status;
}

// INCREMENTs with a fixed number in flight; stops at the first error.
class LogLoad {
 public:
  LogLoad(client::RatisClient& client, const BenchFlags& flags, Clock::time_point end)
      : client_(client), flags_(flags), end_(end) {}

  absl::Status Run() {
    std::unique_lock lock(mutex_);
    while (status_.ok() && More()) {
      if (in_flight_ >= flags_.in_flight) {
        changed_.wait(lock);
        continue;
      }
      ++in_flight_;
      ++sent_;
      lock.unlock();
      SendOne();
      lock.lock();
    }
    changed_.wait(lock, [&] { return in_flight_ == 0; });
    return status_;
  }
  const std::vector<double>& latencies() const { return latencies_; }

 private:
  bool More() const { return flags_.count > 0 ? sent_ < flags_.count : Clock::now() < end_; }
  void SendOne() {
    const Clock::time_point begin = Clock::now();
    client_.Send({.kind = client::RatisCall::Kind::kWrite, .message = Bytes::Copy("INCREMENT")},
                 [this, begin](absl::StatusOr<client::RatisClient::Reply> reply) {
                   std::lock_guard lock(mutex_);
                   --in_flight_;
                   if (reply.ok()) {
                     latencies_.push_back(Seconds(Clock::now() - begin));
                   } else if (status_.ok()) {
                     status_ = reply.status();
                   }
                   changed_.notify_one();
                 });
  }

  client::RatisClient& client_;
  const BenchFlags& flags_;
  const Clock::time_point end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t in_flight_ = 0;  // guarded by mutex_, as are the next three
  uint64_t sent_ = 0;
  std::vector<double> latencies_;
  absl::Status status_;
};

absl::Status BenchLog(const BenchFlags& flags) {
  if (flags.seconds.empty()) return absl::InvalidArgumentError("--seconds is empty: write 10s");
  // A bare number is what the option's name says.
  ASSIGN_OR_RETURN(
      const uint64_t milliseconds,
      ParseMilliseconds(std::isdigit(flags.seconds.back()) ? flags.seconds + "s" : flags.seconds));
  auto connection = std::make_shared<client::Connection>(flags.client.servers);
  ASSIGN_OR_RETURN(const client::ServerStatus status, client::AskAnyStatus(*connection));
  const auto group = std::find_if(status.groups.begin(), status.groups.end(),
                                  [&](const auto& one) { return one.machine == flags.machine; });
  if (group == status.groups.end()) {
    return absl::NotFoundError(
        fmt::format("{} runs no group with the machine {}: start servers with --group UUID=counter",
                    status.self.id, flags.machine));
  }
  client::RatisClient client(connection, {.group = *GroupId::Parse(group->id)});
  // The way to the leader is not part of the figures.
  RETURN_IF_ERROR(
      client.SendAndWait({.kind = client::RatisCall::Kind::kWrite, .message = Bytes::Copy("INCREMENT")})
          .status());
  const Cost cost(*connection);
  const Clock::time_point start = Clock::now();
  LogLoad load(client, flags, start + std::chrono::milliseconds(milliseconds));
  RETURN_IF_ERROR(load.Run());
  const double seconds = Seconds(Clock::now() - start);
  nlohmann::json result = cost.ToJson();
  result.update(Latencies(load.latencies()));
  result["writes"] = load.latencies().size();
  result["in_flight"] = flags.in_flight;
  result["seconds"] = seconds;
  result["writes_per_second"] = static_cast<double>(load.latencies().size()) / seconds;
  return PrintReport(
      result,
      {LatencyChart(fmt::format("Writes, {} in flight", flags.in_flight), {{"writes", load.latencies()}})},
      flags.report);
}

void AddTransferFlags(CLI::App& command, BenchFlags* flags) {
  command.add_option("--size", flags->size, "Bytes of each transfer")->capture_default_str();
  command.add_option("--repeat", flags->repeat, "How many transfers")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_flag("--no-digest", flags->no_digest, "Without SHA-256");
  AddWayFlags(command, &flags->via, &flags->route);
}

void AddCommonFlags(CLI::App& command, BenchFlags* flags) {
  AddReportFlags(command, &flags->report);
  AddClientFlags(command, &flags->client);
}

}  // namespace

void AddBench(CLI::App& app, Chosen* chosen) {
  CLI::App* bench = app.add_subcommand("bench", "Load against servers, and what it cost");
  bench->require_subcommand(1);
  bench->footer("\nExample:\n  sluice bench put --size 1GiB --no-digest");

  auto put_flags = std::make_shared<BenchFlags>();
  CLI::App* put =
      NewCommand(*bench, "put", "Puts random bytes and removes them", "sluice bench put --size 1GiB --json",
                 chosen, [put_flags] { return BenchPut(*put_flags); });
  AddTransferFlags(*put, put_flags.get());
  put->add_option("--in-flight", put_flags->transfers_in_flight, "Transfers under way at a time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  put->add_flag("--keep", put_flags->keep, "Leave what was put under bench/");
  AddCommonFlags(*put, put_flags.get());

  auto get_flags = std::make_shared<BenchFlags>();
  CLI::App* get =
      NewCommand(*bench, "get", "Reads a blob without keeping it", "sluice bench get --name tools/git",
                 chosen, [get_flags] { return BenchGet(*get_flags); });
  AddTransferFlags(*get, get_flags.get());
  get->add_option("--name", get_flags->name, "What to read; without it, random bytes are put first");
  AddCommonFlags(*get, get_flags.get());

  auto log_flags = std::make_shared<BenchFlags>();
  CLI::App* log = NewCommand(*bench, "log", "Writes small commands to a group",
                             "sluice bench log --machine counter --in-flight 256 --seconds 10s", chosen,
                             [log_flags] { return BenchLog(*log_flags); });
  log->add_option("--machine", log_flags->machine, "Machine of the group")->capture_default_str();
  log->add_option("--in-flight", log_flags->in_flight, "Writes under way at a time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  log->add_option("--count", log_flags->count, "How many; 0: as many as the time allows")
      ->capture_default_str();
  log->add_option("--seconds", log_flags->seconds, "How long")->capture_default_str();
  AddCommonFlags(*log, log_flags.get());

  AddStreamBench(*bench, chosen);
  AddEchoBench(*bench, chosen);
  AddOpenBench(*bench, chosen);
}

}  // namespace sluice::app
