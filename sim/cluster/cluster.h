// A group of whole sluice servers in one thread: virtual time, simulated disks and network, one seed.
//
//   Cluster cluster(seed, {.servers = 3});
//   cluster.StartAll();
//   ASSERT_TRUE(cluster.AwaitLeader(kBlobs));
//   cluster.PowerLoss(0);  cluster.Start(0);
//   ASSERT_TRUE(cluster.AwaitConverged()) << cluster.Describe();
//   EXPECT_THAT(cluster.violations(), testing::IsEmpty());
//
// Every server is a node::Host with a map index on a SimFiles, started anew after each crash. While the world
// runs, statuses are collected and invariants checked: one leader a term, commit and applied never go back
// within a life, the same command at the same index of the counter group everywhere. Threading: the world's
// thread. Failure: what is wrong is collected in violations().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/cluster/sim_transports.h"
#include "sim/oracle.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"

namespace sluice::sim {

inline constexpr GroupId kBlobs = kDefaultGroup;
inline constexpr GroupId kCounter{{'c'}};
// The first is kBlobs, or kCounter.
GroupId BlobGroup(size_t number);
GroupId CounterGroup(size_t number);
// How the oracle calls them.
std::string NameOf(const GroupId& group);
std::string CallName(const ClientId& client, CallId call);
// What the counter machine answered.
int64_t CounterValue(const Bytes& reply);

struct ClusterOptions {
  size_t servers = 3;
  bool blobs = true;
  bool counter = true;
  // Further groups of the same kinds.
  size_t more_blob_groups = 0;
  size_t more_counters = 0;
  uint32_t sector_bytes = 512;  // what the disks write whole when power fails
  // Timeouts, windows, time-to-live; ids, folders and groups are filled in.
  node::HostOptions host = SmallHostOptions();

  // Changes what one server is started with, for tests of wrong settings.
  std::function<void(size_t server, node::HostOptions&)> adjust = nullptr;

  // Short times and small files, so that a run of seconds sees elections, checkpoints,
  // snapshots and reclaiming.
  static node::HostOptions SmallHostOptions();
};

class Cluster {
 public:
  explicit Cluster(uint64_t seed, ClusterOptions options = {});
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  World& world() { return world_; }
  SeededRandom& random() { return random_; }
  PacketNetwork& network() { return network_; }
  Oracle& oracle() { return oracle_; }
  const ClusterOptions& options() const { return options_; }
  size_t size() const { return servers_.size(); }
  PeerId id(size_t server) const { return servers_[server]->peer.id; }

  // --- Lives
  absl::Status Start(size_t server);  // fine if it runs
  void StartAll();                    // CHECKs that each starts
  void Kill(size_t server);           // kill -9: the machine stays up
  void PowerLoss(size_t server);      // and unsynced data is kept, cut or lost by seed
  // Each task of the server's executors whose names begin so ("apply", "disk", "log-") starts so much later, in
  // this life and the next ones; 0 ends it.
  void SlowDown(size_t server, const std::string& executor, env::Duration by);
  // The power of these fails at once, each in the middle of its next file operation if it comes soon enough.
  void PowerLossInWrite(const std::vector<size_t>& servers);
  void Wipe(size_t server);  // and the disk is empty afterwards; such a server starts without --bootstrap
  // The machine is gone for good: nothing waits for it any more, and it cannot be started.
  void Lose(size_t server);
  bool lost(size_t server) const { return servers_[server]->lost; }
  // They do nothing for a while, in this life; "" is the whole process (SIGSTOP). Resume ends this and SlowDown.
  void Pause(size_t server, const std::string& executors, env::Duration time);
  void Resume(size_t server);
  bool up(size_t server) const { return servers_[server]->host != nullptr; }
  // Changes with each start and end of the server's process.
  uint64_t life(size_t server) const { return servers_[server]->life; }
  SimFiles& disk(size_t server) { return *servers_[server]->disk; }
  // Of a server that is up.
  node::Host& host(size_t server) { return *servers_[server]->host; }
  env::Executor* lane(size_t server) { return servers_[server]->lane.get(); }
  SimTransports& transports(size_t server) { return *servers_[server]->transports; }

  // --- Seeing
  // The last status that the server gave in this life; nullptr if there is none.
  const node::GroupStatus* status(size_t server, const GroupId& group) const;
  const node::HostStatus* status(size_t server) const;
  // The ready leader of the highest term among servers that are up.
  std::optional<size_t> Leader(const GroupId& group) const;
  std::string Describe() const;
  const std::vector<std::string>& violations() const { return violations_; }
  void Violation(std::string text);

  // --- Running
  void RunFor(env::Duration duration);
  bool RunUntil(absl::FunctionRef<bool()> done, env::Duration limit);
  std::optional<size_t> AwaitLeader(const GroupId& group, env::Duration limit = std::chrono::seconds(20));
  // Every server is up, follows one leader, has applied the same, lacks no bytes.
  bool AwaitConverged(env::Duration limit = std::chrono::seconds(60));
  bool Converged() const;
  // No stage is left anywhere.
  bool AwaitNoStages(env::Duration limit = std::chrono::seconds(60));
  // Contents and trash on a server's disk that no name refers to. Waits for what is being freed. (Data of a
  // stage whose side file a power loss took alone was promised to nobody, and stays: docs/formats/blob.md.)
  std::vector<std::string> LostSpace(size_t server);

  // What a counter machine of a server applied, told by the machine itself.
  void OnCounterApplied(size_t server, const GroupId& group, const sluice::Command& command,
                        const std::string& reply);
  // Every group there is.
  std::vector<GroupId> groups() const;

 private:
  struct Server {
    raft::Peer peer;
    std::unique_ptr<SimFiles> disk;
    bool wiped = false;
    std::map<std::string, env::Duration> slow;
    bool lost = false;
    uint64_t life = 0;
    std::unique_ptr<Process> process;
    std::unique_ptr<SimExecutors> executors;
    std::unique_ptr<SeededRandom> random;
    std::unique_ptr<env::Executor> lane;
    std::unique_ptr<env::Executor> snapshots;
    std::unique_ptr<node::Host> host;
    std::unique_ptr<SimTransports> transports;
    std::optional<node::HostStatus> status;
  };

  void EndProcess(Server& server);
  node::HostOptions OptionsOf(size_t server);
  void PollStatus();
  void CheckStatus(size_t server, const node::HostStatus& status);

  const ClusterOptions options_;
  World world_;
  SeededRandom random_;
  PacketNetwork network_;
  SimSwitch switch_;
  Oracle oracle_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::string> violations_;
  std::map<std::pair<GroupId, uint64_t>, PeerId> leaders_;  // by term
};

}  // namespace sluice::sim
