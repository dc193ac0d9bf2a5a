// What the tests of named faults share: a running cluster, its clients, and a look at the servers' disks.
//
//   TEST_F(ClusterFault, F34_...) { Make(); ... ExpectWhole(); }
//
// Violations that the cluster collected fail the test at its end. Threading: the world's thread.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "log/segment_scan.h"
#include "sim/cluster/clients.h"

namespace sluice::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ClusterFault : public testing::Test {
 protected:
  ClusterFault() {
    spdlog::set_level(std::getenv("SLUICE_LOG") != nullptr ? spdlog::level::debug : spdlog::level::off);
  }
  ~ClusterFault() override {
    if (cluster_ != nullptr) {
      EXPECT_THAT(cluster_->violations(), testing::IsEmpty());
    }
  }

  void Make(ClusterOptions options = {}, uint64_t seed = 11) {
    cluster_ = std::make_unique<Cluster>(seed, std::move(options));
    clients_ = std::make_unique<Clients>(*cluster_);
    cluster_->StartAll();
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
    if (cluster_->options().counter) {
      ASSERT_TRUE(cluster_->AwaitLeader(kCounter)) << cluster_->Describe();
    }
  }
  // A log that keeps little: who misses a few entries needs a snapshot.
  static ClusterOptions LittleLog(uint32_t checkpoint_ms = 300) {
    ClusterOptions options;
    options.host.compact_keep_entries = 5;
    options.host.checkpoint_ms = checkpoint_ms;
    return options;
  }
  // Increments at `leader` until such a log no longer reaches back to where it was.
  void WriteBeyondLog(size_t leader) {
    for (int i = 0; i < 60; ++i) ASSERT_EQ(clients_->IncrementNow(leader), Outcome::kAcknowledged);
    cluster_->RunFor(std::chrono::seconds(1));
  }
  size_t LeaderOf(const GroupId& group) {
    const auto leader = cluster_->AwaitLeader(group);
    EXPECT_TRUE(leader.has_value()) << cluster_->Describe();
    return leader.value_or(0);
  }
  size_t FollowerOf(const GroupId& group) { return (LeaderOf(group) + 1) % cluster_->size(); }
  std::vector<PeerId> AllBut(size_t server) {
    std::vector<PeerId> others;
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (i != server) others.push_back(cluster_->id(i));
    }
    return others;
  }
  void Restart(size_t server) {
    const absl::Status started = cluster_->Start(server);
    ASSERT_TRUE(started.ok()) << started;
  }
  // Everything is as it should be, everywhere.
  void ExpectWhole() {
    ASSERT_TRUE(clients_->Drain());
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    const absl::Status checked = clients_->Check();
    EXPECT_TRUE(checked.ok()) << checked;
  }
  // Streams `content` and seals it everywhere, without telling the leader to enter it.
  UploadId SealOnly(size_t server, const std::string& name, const std::string& content) {
    const UploadId upload{ClientId{{9}}, CallId{++last_upload_}};
    EXPECT_EQ(clients_->PutNow({.server = server,
                                .name = name,
                                .content = content,
                                .via = PutVia::kChain,
                                .vanish_sealed = true,
                                .upload = upload}),
              Outcome::kRefused);
    return upload;
  }
  // What a client sends when its stream is sealed: give it its name.
  static node::ClientRequest ForwardOf(const UploadId& upload, const std::string& name) {
    node::ClientRequest request;
    request.group = kBlobs;
    request.kind = node::RequestKind::kForward;
    request.client = upload.client;
    request.call = upload.call;
    request.upload = upload;
    request.header.name = name;
    return request;
  }
  std::optional<node::HaveReply> Have(size_t server, const UploadId& upload) {
    auto reply = std::make_shared<std::optional<node::HaveReply>>();
    cluster_->host(server).Have(kBlobs, upload, cluster_->lane(server),
                                [reply](absl::StatusOr<node::HaveReply> have) {
                                  if (have.ok()) *reply = *have;
                                });
    cluster_->RunUntil([&] { return reply->has_value(); }, seconds(2));
    return *reply;
  }
  // A read that nobody judges, for content that is lost: all of it, or one piece.
  absl::StatusOr<node::Reading> OpenNow(size_t server, const std::string& name) {
    auto reading = std::make_shared<std::optional<absl::StatusOr<node::Reading>>>();
    cluster_->host(server).OpenRead(kBlobs, name, {}, cluster_->lane(server),
                                    [reading](absl::StatusOr<node::Reading> opened) { *reading = opened; });
    cluster_->RunUntil([&] { return reading->has_value(); }, seconds(10));
    return reading->value_or(absl::UnknownError("no answer"));
  }
  absl::StatusOr<std::string> ReadNow(size_t server, blob::Source& source, uint64_t offset, uint64_t count) {
    auto piece = std::make_shared<std::optional<absl::StatusOr<Bytes>>>();
    source.Read(offset, count, cluster_->lane(server),
                [piece](absl::StatusOr<Bytes> read) { *piece = std::move(read); });
    cluster_->RunUntil([&] { return piece->has_value(); }, seconds(30));
    ASSIGN_OR_RETURN(const Bytes bytes, piece->value_or(absl::UnknownError("no answer")));
    return bytes.ToString();
  }
  absl::StatusOr<std::string> ReadNow(size_t server, const std::string& name) {
    ASSIGN_OR_RETURN(const node::Reading reading, OpenNow(server, name));
    return ReadNow(server, *reading.source, 0, reading.info.length);
  }
  // Paths of everything that starts with `prefix` in a folder of the server's disk.
  std::vector<std::string> Paths(size_t server, const std::string& folder, const std::string& prefix) {
    std::vector<std::string> paths;
    const auto names = cluster_->disk(server).List(folder);
    for (const std::string& name : names.value_or(std::vector<std::string>{})) {
      if (name.starts_with(prefix)) paths.push_back(fmt::format("{}/{}", folder, name));
    }
    return paths;
  }
  // The bytes of linked contents, without stages and side files.
  std::vector<std::string> Contents(size_t server) {
    std::vector<std::string> paths;
    for (const std::string& folder : Paths(server, "/data/blobs/blobs", "")) {
      for (const std::string& path : Paths(server, folder, "")) {
        if (path.size() - path.rfind('/') == 49) paths.push_back(path);
      }
    }
    return paths;
  }
  // A server that does not lead hears of a commit with the next append, or a tick later.
  void AwaitContent(size_t server) {
    cluster_->RunUntil([&] { return !Contents(server).empty(); }, std::chrono::milliseconds(50));
  }
  // Damages the server's copy of `text` in its log; the server must be down.
  bool DamageInLog(size_t server, const std::string& text) {
    SimFiles& disk = cluster_->disk(server);
    bool found = false;
    for (const std::string& path : Paths(server, "/data/log", "segment-")) {
      const auto content = env::ReadWholeFile(disk, path, 1u << 30);
      if (!content.ok()) continue;
      const auto generation = log::ParseGeneration(path.substr(path.rfind('/') + 1), "segment-");
      const auto segment = log::JudgeSegment(*content, path, generation.value_or(0), 4096, {});
      if (!segment.ok()) continue;
      // Without the stamps of the sectors that it goes over.
      const std::string& data = segment->data;
      for (size_t at = data.find(text); at != std::string::npos; at = data.find(text, at + 1)) {
        const size_t bit_at = at % log::kSectorBytes < log::kStampBytes ? at + log::kStampBytes : at;
        EXPECT_TRUE(disk.FlipBit(path, bit_at, 3).ok());
        found = true;
      }
    }
    return found;
  }
  // The header of the last block that the server wrote to its log; the server must be down.
  bool DamageLastBlock(size_t server) {
    SimFiles& disk = cluster_->disk(server);
    std::string last;
    uint64_t sequence = 0;
    uint64_t offset = 0;
    for (const std::string& path : Paths(server, "/data/log", "segment-")) {
      const auto content = env::ReadWholeFile(disk, path, 1u << 30);
      if (!content.ok()) continue;
      const auto generation = log::ParseGeneration(path.substr(path.rfind('/') + 1), "segment-");
      const auto segment = log::JudgeSegment(*content, path, generation.value_or(0), 4096, {});
      if (!segment.ok() || !segment->first_sequence) continue;
      for (uint64_t number = 1; number < segment->blocks.size(); ++number) {
        if (segment->blocks[number] != log::BlockState::kValid || segment->sequence_of(number) < sequence)
          continue;
        last = path;
        sequence = segment->sequence_of(number);
        offset = number * segment->block_bytes;
      }
    }
    return !last.empty() && disk.FlipBit(last, offset + 20).ok();
  }
  // The server's disk takes no more than `bytes` beyond what it holds.
  void FillDisk(size_t server, uint64_t bytes) {
    constexpr uint64_t kPlenty = SimFiles::kUnlimitedBytes;
    SimFiles& disk = cluster_->disk(server);
    disk.SetCapacity(kPlenty);
    const auto free = disk.FreeBytes("/data");
    ASSERT_TRUE(free.ok());
    disk.SetCapacity(kPlenty - *free + bytes);
  }
  static ClusterOptions NoCheckpoints() {
    ClusterOptions options;
    options.counter = false;
    options.host.checkpoint_ms = 1'000'000;  // so that a restart needs the log
    return options;
  }

  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Clients> clients_;
  uint64_t last_upload_ = 0;
};

}  // namespace sluice::sim
