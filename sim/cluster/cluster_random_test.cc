// Whole clusters under random faults, then without: they must elect, converge, and hold every acknowledged write.
//
//   cluster_test --gtest_filter='*Random*'      200 seeds, or SLUICE_SEEDS=2000, from SLUICE_SEED_FIRST on
//   SLUICE_SEED=17 ...                          one of them
//   SLUICE_HISTORIES=folder ...                 what the clients saw goes into folder/SEED.jsonl, for
//                                               tests/linearizability

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "sim/cluster/clients.h"

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr uint64_t kShards = 4;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

template <typename T, size_t n>
T OneOf(SeededRandom& random, const T (&values)[n]) {
  return values[random.Below(n)];
}

// One seed: what happens to the servers, and what the clients do meanwhile.
class RandomRun {
 public:
  explicit RandomRun(uint64_t seed)
      : seed_(seed),
        random_(seed * 0x9e3779b97f4a7c15 + 1),
        cluster_(seed, OptionsOf(random_)),
        clients_(cluster_),
        errors_at_start_(cluster_.size(), 0) {
    victim_ = random_.Below(cluster_.size());
    may_lose_ = cluster_.size() >= 3 && random_.Chance(0.15) ? (cluster_.size() - 1) / 2 : 0;
  }

  void Run() {
    Say();
    cluster_.StartAll();
    if (random_.Chance(0.8)) {
      ASSERT_TRUE(cluster_.AwaitLeader(kBlobs)) << cluster_.Describe();
    }
    Faults(seconds(random_.Between(8, 25)));
    Calm();
    if (!testing::Test::HasFailure()) Verify();
    WriteHistory();
  }
  uint64_t steps() { return cluster_.world().steps(); }

 private:
  static ClusterOptions OptionsOf(SeededRandom& random) {
    ClusterOptions options;
    options.servers = OneOf<size_t>(random, {1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, 7});
    options.sector_bytes = random.Chance(0.7) ? 512 : 4096;
    if (random.Chance(0.3)) options.more_counters = random.Between(1, 3);
    if (random.Chance(0.2)) options.more_blob_groups = 1;
    node::HostOptions& host = options.host;
    host.shards = static_cast<uint32_t>(random.Between(1, 2));
    host.compact_keep_entries = OneOf<uint64_t>(random, {0, 5, 30, 30, 1000});
    host.checkpoint_ms = OneOf<uint32_t>(random, {200, 1000, 1000, 4000});
    host.log_bytes_checkpoint = OneOf<uint64_t>(random, {64u << 10, 256u << 20});
    host.inflight_appends_max = OneOf<uint32_t>(random, {1, 8, 128});
    host.pending_writes_max = OneOf<uint32_t>(random, {4, 4096});
    host.upload_window_bytes = OneOf<uint64_t>(random, {256u << 10, 1u << 20, 8u << 20});
    host.log.segment_bytes = OneOf<uint64_t>(random, {64u << 10, 128u << 10, 256u << 10, 1u << 20});
    host.log.batch_bytes_max = OneOf<uint64_t>(random, {8u << 10, 64u << 10});
    host.log.cache_bytes_max = OneOf<uint64_t>(random, {0, 4u << 10, 64u << 20});
    host.log.spare_segments = static_cast<uint32_t>(random.Between(0, 2));
    host.blob.direct_run_bytes = OneOf<uint32_t>(random, {0, 64u << 10, 1u << 20});
    return options;
  }
  void Say() {
    const ClusterOptions& options = cluster_.options();
    LogInfo(
        "seed {}: {} servers, sectors of {}, {} more counters, {} more blob groups, keeps {}, checkpoints {} "
        "ms, "
        "segments {}, log cache {}, {} appends in flight, may lose {}",
        seed_, options.servers, options.sector_bytes, options.more_counters, options.more_blob_groups,
        options.host.compact_keep_entries, options.host.checkpoint_ms, options.host.log.segment_bytes,
        options.host.log.cache_bytes_max, options.host.inflight_appends_max, may_lose_);
  }
  size_t Any() { return random_.Below(cluster_.size()); }
  size_t AnyUp() {
    for (;;) {
      const size_t server = Any();
      if (cluster_.up(server)) return server;
    }
  }
  GroupId AnyBlobs() { return BlobGroup(random_.Below(cluster_.options().more_blob_groups + 1)); }
  GroupId AnyCounter() { return CounterGroup(random_.Below(cluster_.options().more_counters + 1)); }

  void Faults(env::Duration time) {
    const env::Instant end = cluster_.world().MonotonicNow() + time;
    while (cluster_.world().MonotonicNow() < end) {
      if (random_.Chance(0.85)) Operation();
      if (random_.Chance(0.06)) NetworkFault();
      if (random_.Chance(0.06)) ServerFault();
      if (random_.Chance(0.04)) Slowness();
      if (random_.Chance(0.03)) DiskFault();
      cluster_.RunFor(milliseconds(random_.Between(2, 80)));
      Revive();
    }
  }

  void Operation() {
    const size_t server = Any();
    const std::string shared = fmt::format("shared-{}", random_.Below(6));
    switch (random_.Below(11)) {
      case 0:
      case 1:
        return clients_.Put({.server = server,
                             .group = AnyBlobs(),
                             .name = shared,
                             .content = MakeContent(random_.Below(6000), random_.Below(3)),
                             .via = PutVia::kInline});
      case 2:
      case 3:
      case 4:
        return Stream(server, shared);
      case 5:
        return clients_.Remove(server, shared, {}, AnyBlobs());
      case 6:
      case 7:
        return clients_.Get(server, shared, {}, AnyBlobs());
      case 8:
        return clients_.Count(server, {}, AnyCounter());
      default:
        return clients_.Increment(server, {}, AnyCounter());
    }
  }

  void Stream(size_t server, const std::string& shared) {
    Put put;
    put.server = server;
    put.group = AnyBlobs();
    put.via = OneOf<PutVia>(random_, {PutVia::kChain, PutVia::kStar, PutVia::kWrite});
    // Two writers that resume one name cannot be told apart (D-20).
    put.name = put.via == PutVia::kWrite ? fmt::format("written-{}", ++last_name_) : shared;
    const size_t bytes = OneOf<size_t>(random_, {0, 1, 20'000, 65'536, 200'000, 300'000, 700'000});
    put.content = MakeContent(bytes, random_.Below(4));
    put.piece_bytes = random_.Between(10'000, 262'144);
    put.digest = random_.Chance(0.3);
    if (random_.Chance(0.1)) put.vanish_at = random_.Below(put.content.size() + 1);
    if (random_.Chance(0.1)) put.vanish_sealed = put.via != PutVia::kWrite;
    if (put.via == PutVia::kWrite && random_.Chance(0.4))
      put.interrupt_at = random_.Below(put.content.size() + 1);
    clients_.Put(std::move(put));
  }

  void NetworkFault() {
    PacketNetwork& network = cluster_.network();
    const PeerId a = cluster_.id(Any()), b = cluster_.id(Any());
    switch (random_.Below(9)) {
      case 0:
        return network.SetAllLinks({.loss = 0.1,
                                    .duplicate = 0.1,
                                    .reorder = 0.3,
                                    .delay_max = milliseconds(random_.Between(1, 20))});
      case 1:
        return network.SetLink(a, b,
                               {.loss = 0.3, .delay_min = milliseconds(30), .delay_max = milliseconds(100)});
      case 2:
        return network.Isolate(a);
      case 3:
        return network.Cut(a, b);
      case 4:
        return Halve(/*bridged=*/false);
      case 5:
        return Halve(/*bridged=*/true);
      case 6:
        return OneWayRing();
      default:
        return network.Heal();
    }
  }
  // Two parts, and perhaps one server that both can talk to.
  void Halve(bool bridged) {
    std::vector<std::vector<PeerId>> parts(2);
    const size_t bridge = bridged ? Any() : cluster_.size();
    for (size_t i = 0; i < cluster_.size(); ++i) {
      if (i != bridge) parts[random_.Below(2)].push_back(cluster_.id(i));
    }
    cluster_.network().Partition(parts);
  }
  // Each is heard by the next one only (F-45).
  void OneWayRing() {
    const size_t count = cluster_.size();
    for (size_t from = 0; from < count; ++from) {
      for (size_t to = 0; to < count; ++to) {
        if (to != from && to != (from + 1) % count)
          cluster_.network().Cut(cluster_.id(from), cluster_.id(to));
      }
    }
  }

  void ServerFault() {
    const size_t server = Any();
    switch (random_.Below(9)) {
      case 0:
      case 1:
        return Kill(server);
      case 2:
      case 3:
        return PowerLoss(server);
      case 4:
        return TearSoon(server);
      case 5:
        for (size_t i = 0; i < cluster_.size(); ++i) PowerLoss(i);
        return;
      case 6:  // several at once
        if (random_.Chance(0.5)) return PowerLossInWrite();
        for (size_t i = 0; i < cluster_.size(); ++i) {
          if (random_.Chance(0.7)) TearSoon(i);
        }
        return;
      case 7:
        if (random_.Chance(0.5)) return Lose(server);
        return DamageBlob();
      default:
        return DamageLog();
    }
  }
  void Kill(size_t server) {
    if (cluster_.up(server)) cluster_.Kill(server);
  }
  void PowerLoss(size_t server) {
    if (cluster_.up(server)) cluster_.PowerLoss(server);
  }
  // A sync or a write has failed in this life: what it made of that is final (F-10).
  bool Sick(size_t server) {
    return cluster_.up(server) && cluster_.disk(server).counts().device_errors > errors_at_start_[server];
  }
  // Power fails in the middle of a file operation.
  void TearSoon(size_t server) {
    if (!cluster_.up(server)) return;
    cluster_.disk(server).HaltAt(cluster_.disk(server).operations() + random_.Between(1, 20));
  }
  void PowerLossInWrite() {
    std::vector<size_t> running;
    for (size_t i = 0; i < cluster_.size(); ++i) {
      if (cluster_.up(i) && !cluster_.disk(i).halted()) running.push_back(i);
    }
    cluster_.PowerLossInWrite(running);
  }
  // For good, and never a majority together.
  void Lose(size_t server) {
    if (may_lose_ == 0 || cluster_.lost(server)) return;
    --may_lose_;
    lost_some_ = true;
    cluster_.Lose(server);
  }

  // A paused process, or threads that are stuck or slow for a while.
  void Slowness() {
    const size_t server = Any();
    if (!cluster_.up(server)) return;
    if (random_.Chance(0.3)) return cluster_.Pause(server, "", milliseconds(random_.Between(100, 5000)));
    const char* const executors = OneOf<const char*>(
        random_,
        {"apply", "log-write", "log-io", "blob-", "blob-read", "blob-hash", "disk", "shard-", "lane"});
    switch (random_.Below(3)) {
      case 0:
        return cluster_.Pause(server, executors, milliseconds(random_.Between(100, 4000)));
      case 1:
        return cluster_.SlowDown(server, executors, milliseconds(random_.Between(1, 60)));
      default:
        return cluster_.Resume(server);
    }
  }

  // Syncs and writes that fail, and disks that are full. A server with a failed disk is started again sooner or
  // later (F-10).
  void DiskFault() {
    const size_t server = Any();
    if (!cluster_.up(server)) return;
    SimFiles& disk = cluster_.disk(server);
    const uint64_t kind = random_.Below(5);
    const std::string where = OneOf<const char*>(random_, {"", "/log/", "/blobs/"});
    LogInfo("{}: fault {} of its disk, in '{}'", cluster_.id(server).value, kind, where);
    if (kind == 0) disk.FailNextSync(where);
    if (kind == 1) disk.FailNextWrite(where);
    if (kind == 2) FillUp(disk, random_.Below(300'000));
    if (kind >= 3) disk.ClearFaults();
  }
  static void FillUp(SimFiles& disk, uint64_t left) {
    const auto free = disk.FreeBytes("/data");
    if (free.ok()) disk.SetCapacity(SimFiles::kUnlimitedBytes - *free + left);
  }

  // Of one server only, so that an intact copy remains everywhere else.
  bool MayDamage() const { return cluster_.size() >= 3 && may_lose_ == 0 && !lost_some_; }
  void DamageBlob() {
    if (!MayDamage()) return;
    SimFiles& disk = cluster_.disk(victim_);
    if (disk.halted()) return;
    std::vector<std::string> contents;
    const auto folders = disk.List("/data/blobs/blobs");
    if (!folders.ok()) return;
    for (const std::string& folder : *folders) {
      const auto names = disk.List("/data/blobs/blobs/" + folder);
      if (!names.ok()) continue;
      for (const std::string& name : *names) {
        if (name.size() == 48) contents.push_back(fmt::format("/data/blobs/blobs/{}/{}", folder, name));
      }
    }
    if (!contents.empty()) Flip(disk, contents[random_.Below(contents.size())]);
  }
  void DamageLog() {
    if (!MayDamage()) return;
    PowerLoss(victim_);
    SimFiles& disk = cluster_.disk(victim_);
    const auto names = disk.List("/data/log");
    if (!names.ok()) return;
    std::vector<std::string> segments;
    for (const std::string& name : *names) {
      if (name.starts_with("segment-")) segments.push_back("/data/log/" + name);
    }
    if (!segments.empty()) Flip(disk, segments[random_.Below(segments.size())]);
  }
  void Flip(SimFiles& disk, const std::string& path) {
    const auto file = disk.Open(path, {.read_only = true});
    if (!file.ok()) return;
    const auto size = (*file)->Size();
    LogInfo("FLIP {} {}", path, cluster_.id(victim_).value);
    if (size.ok() && *size > 0)
      (void)disk.FlipBit(path, random_.Below(*size), static_cast<uint32_t>(random_.Below(8)));
  }

  // Servers that lost power notice it; those that are down, or whose disk failed, come back, sooner or later.
  void Revive() {
    for (size_t i = 0; i < cluster_.size(); ++i) {
      if (cluster_.up(i) && cluster_.disk(i).halted()) PowerLoss(i);
      if (Sick(i) && random_.Chance(0.02)) Kill(i);
      if (!cluster_.up(i) && !cluster_.lost(i) && random_.Chance(0.15)) MustStart(i);
    }
  }
  void MustStart(size_t server) {
    errors_at_start_[server] = cluster_.disk(server).counts().device_errors;
    const absl::Status started = cluster_.Start(server);
    // A device that fails during a start ends it; a full one does not (K23).
    if (cluster_.disk(server).counts().device_errors > errors_at_start_[server]) return;
    EXPECT_TRUE(started.ok()) << cluster_.id(server).value << ": " << started;
  }

  void Calm() {
    cluster_.network().Heal();
    for (size_t i = 0; i < cluster_.size(); ++i) {
      if (cluster_.up(i) && cluster_.disk(i).halted()) PowerLoss(i);
      cluster_.disk(i).HaltAt(0);
      cluster_.disk(i).ClearFaults();
      cluster_.Resume(i);
      if (Sick(i)) Kill(i);
      if (!cluster_.lost(i)) MustStart(i);
    }
    ASSERT_TRUE(clients_.Drain()) << "operations that never end\n" << cluster_.Describe();
    ASSERT_TRUE(cluster_.AwaitConverged()) << "no convergence\n" << cluster_.Describe();
  }

  void Verify() {
    // It serves.
    for (size_t i = 0; i <= cluster_.options().more_counters; ++i) {
      EXPECT_EQ(clients_.IncrementNow(AnyUp(), CounterGroup(i)), Outcome::kAcknowledged);
    }
    absl::Status status;
    EXPECT_EQ(clients_.PutNow({.server = AnyUp(), .name = "last", .content = "the last one"}, &status),
              Outcome::kAcknowledged)
        << status;
    EXPECT_EQ(clients_.PutNow({.server = AnyUp(),
                               .name = "last stream",
                               .content = MakeContent(300'000, 5),
                               .via = PutVia::kChain},
                              &status),
              Outcome::kAcknowledged)
        << status;
    const absl::Status checked = clients_.Check();
    EXPECT_TRUE(checked.ok()) << checked;
    // What the reads found damaged is repaired, and what never was entered is gone.
    EXPECT_TRUE(cluster_.AwaitConverged()) << "after the repairs\n" << cluster_.Describe();
    EXPECT_TRUE(cluster_.AwaitNoStages()) << "stages stay\n" << cluster_.Describe();
    for (size_t i = 0; i < cluster_.size(); ++i) {
      if (!cluster_.up(i)) continue;  // of a minority that is lost for ever
      EXPECT_THAT(cluster_.LostSpace(i), testing::IsEmpty()) << cluster_.id(i).value;
    }
    EXPECT_THAT(cluster_.violations(), testing::IsEmpty());
  }

  void WriteHistory() {
    const char* folder = std::getenv("SLUICE_HISTORIES");
    if (folder == nullptr) return;
    std::filesystem::create_directories(folder);
    std::ofstream file(fmt::format("{}/{}.jsonl", folder, seed_));
    file << cluster_.oracle().History();
    file.close();
    EXPECT_TRUE(file.good()) << "cannot write the history to " << folder;
  }

  const uint64_t seed_;
  SeededRandom random_;
  Cluster cluster_;
  Clients clients_;
  std::vector<uint64_t> errors_at_start_;  // of the device, before the life of each server
  size_t victim_ = 0;
  size_t may_lose_ = 0;
  bool lost_some_ = false;
  uint64_t last_name_ = 0;
};

class ClusterRandom : public testing::TestWithParam<uint64_t> {
 protected:
  // Simulated files come and go by the megabyte: their memory is kept, or a sixth of the time goes to the kernel.
  static void SetUpTestSuite() {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
  }
};

TEST_P(ClusterRandom, HoldsEveryAcknowledgedWriteThroughFaults) {
  spdlog::set_level(std::getenv("SLUICE_LOG") != nullptr ? spdlog::level::debug : spdlog::level::off);
  const uint64_t seeds = FromEnvironment("SLUICE_SEEDS", 200);
  const uint64_t only = FromEnvironment("SLUICE_SEED", 0);
  const uint64_t first = FromEnvironment("SLUICE_SEED_FIRST", 1);
  for (uint64_t seed = first + GetParam(); seed < std::max(first + seeds, only + 1); seed += kShards) {
    if (only != 0 && seed != only) continue;
    RandomRun(seed).Run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed << "; run it alone with SLUICE_SEED=" << seed;
  }
}

// Nothing but the seed decides a run: neither addresses nor hash tables.
TEST(ClusterReplay, OneSeedIsOneRun) {
  spdlog::set_level(spdlog::level::off);
  for (const uint64_t seed : {17u, 21u, 35u}) {
    std::vector<uint64_t> steps;
    std::vector<std::string> other_addresses;
    for (int run = 0; run < 3; ++run) {
      other_addresses.emplace_back(100'000, 'x');
      RandomRun random(seed);
      random.Run();
      steps.push_back(random.steps());
    }
    EXPECT_EQ(steps[0], steps[1]) << "seed " << seed;
    EXPECT_EQ(steps[0], steps[2]) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Shard, ClusterRandom, testing::Range<uint64_t>(0, kShards));

}  // namespace
}  // namespace sluice::sim
