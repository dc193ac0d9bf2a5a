#include "sim/cluster/cluster.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/log.h"
#include "node/counter_machine.h"

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
constexpr char kDataDir[] = "/data";
constexpr env::Duration kStatusEvery = milliseconds(50);
constexpr size_t kViolationsMax = 20;

// The counter that says what it is given.
class WatchedCounter final : public StateMachine {
 public:
  WatchedCounter(Cluster* cluster, size_t server, GroupId group)
      : cluster_(cluster), server_(server), group_(group) {}
  absl::StatusOr<Bytes> Apply(const Command& command, State& state) override {
    auto reply = counter_.Apply(command, state);
    cluster_->OnCounterApplied(server_, group_, command,
                               reply.ok() ? std::to_string(CounterValue(*reply)) : reply.status().ToString());
    return reply;
  }
  absl::StatusOr<Bytes> Query(const Bytes& request, const State& state) override {
    return counter_.Query(request, state);
  }
  absl::Status Admit(const Bytes& message) override { return counter_.Admit(message); }
  absl::Status CheckRecord(std::string_view key, std::string_view value) const override {
    return counter_.CheckRecord(key, value);
  }

 private:
  Cluster* const cluster_;
  const size_t server_;
  const GroupId group_;
  node::CounterMachine counter_;
};

}  // namespace

GroupId BlobGroup(size_t number) {
  GroupId group = kBlobs;
  if (number > 0) group = {{'b', static_cast<uint8_t>(number)}};
  return group;
}

GroupId CounterGroup(size_t number) {
  GroupId group = kCounter;
  group.bytes[1] = static_cast<uint8_t>(number);
  return group;
}

std::string NameOf(const GroupId& group) {
  for (size_t i = 0; i < 8; ++i) {
    if (group == BlobGroup(i)) return fmt::format("blobs{}", i);
    if (group == CounterGroup(i)) return fmt::format("counter{}", i);
  }
  return group.ToString();
}

int64_t CounterValue(const Bytes& reply) {
  int64_t value = 0;
  for (const char byte : reply.ToString()) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

std::string CallName(const ClientId& client, CallId call) {
  return fmt::format("{}/{}", client.ToString(), call.value);
}

node::HostOptions ClusterOptions::SmallHostOptions() {
  node::HostOptions host;
  host.map_index = true;
  host.tick_ms = 20;
  host.election_timeout_min_ms = 300;
  host.election_timeout_max_ms = 600;
  host.heartbeat_ms = 80;
  host.inline_upload_bytes_max = 8u << 10;
  host.upload_window_bytes = 1u << 20;
  host.upload_idle_ttl_ms = 4000;
  host.successor_silence_ms = 500;
  host.read_timeout_ms = 3000;
  host.checkpoint_ms = 1000;
  host.compact_keep_entries = 30;
  host.log.segment_bytes = 256u << 10;
  host.log.batch_bytes_max = 64u << 10;
  host.blob.reserve_bytes = 0;
  return host;
}

Cluster::Cluster(uint64_t seed, ClusterOptions options)
    : options_(std::move(options)),
      world_(seed),
      random_(world_.random().Fork()),
      network_(world_),
      switch_{world_, network_} {
  for (size_t i = 0; i < options_.servers; ++i) {
    auto server = std::make_unique<Server>();
    server->peer.id = {fmt::format("n{}", i)};
    server->peer.address = fmt::format("n{}:9000", i);
    server->peer.data_stream_address = fmt::format("n{}:9001", i);
    server->disk = std::make_unique<SimFiles>();
    servers_.push_back(std::move(server));
  }
  PollStatus();
}

Cluster::~Cluster() {
  for (auto& server : servers_) EndProcess(*server);
}

// --- Lives -------------------------------------------------------------------------------------------------

node::HostOptions Cluster::OptionsOf(size_t index) {
  const Server& server = *servers_[index];
  node::HostOptions host = options_.host;
  host.self = server.peer;
  host.data_dir = kDataDir;
  host.bootstrap = !server.wiped;
  std::vector<raft::Peer> peers;
  for (const auto& each : servers_) peers.push_back(each->peer);
  for (const GroupId& group : groups()) {
    if (group.bytes[0] == kCounter.bytes[0]) {
      host.groups.push_back({group, "counter", peers, [this, index, group] {
                               return std::make_unique<WatchedCounter>(this, index, group);
                             }});
    } else {
      host.groups.push_back({group, "blob", peers, nullptr});
    }
  }
  if (options_.adjust) options_.adjust(index, host);
  return host;
}

absl::Status Cluster::Start(size_t index) {
  Server& server = *servers_[index];
  if (server.host != nullptr) return absl::OkStatus();
  if (server.lost) return absl::FailedPreconditionError("the machine is gone for good");
  LogInfo("{} starts", server.peer.id.value);
  ++server.life;
  server.process = std::make_unique<Process>();
  for (const auto& [executor, by] : server.slow) server.process->SlowDown(executor, by);
  server.executors = std::make_unique<SimExecutors>(world_, *server.process);
  server.random = std::make_unique<SeededRandom>(random_.Fork());
  auto host = node::Host::Open(OptionsOf(index),
                               {server.disk.get(), server.executors.get(), &world_, server.random.get()});
  if (!host.ok()) {
    EndProcess(server);
    server.disk->KillProcess();
    return host.status();
  }
  server.host = std::move(*host);
  server.lane = server.executors->NewExecutor("lane");
  server.snapshots = server.executors->NewExecutor("snapshots");
  server.transports =
      std::make_unique<SimTransports>(switch_, SimTransports::Parts{.self = server.peer,
                                                                    .host = server.host.get(),
                                                                    .lane = server.lane.get(),
                                                                    .disk = server.snapshots.get(),
                                                                    .files = server.disk.get(),
                                                                    .random = server.random.get()});
  network_.Up(server.peer.id);
  server.host->Start(&server.transports->peers(), &server.transports->bytes());
  return absl::OkStatus();
}

void Cluster::StartAll() {
  for (size_t i = 0; i < size(); ++i) {
    const absl::Status started = Start(i);
    SLUICE_CHECK(started.ok()) << "server " << i << ": " << Message(started);
  }
}

void Cluster::EndProcess(Server& server) {
  ++server.life;
  if (server.process != nullptr) server.process->Kill();
  network_.Down(server.peer.id);
  server.disk->Halt();
  if (server.transports != nullptr) server.transports->Drop();
  server.host.reset();
  server.transports.reset();
  server.lane.reset();
  server.snapshots.reset();
  server.executors.reset();
  server.process.reset();
  server.status.reset();
}

void Cluster::Kill(size_t server) {
  LogInfo("{} is killed", id(server).value);
  EndProcess(*servers_[server]);
  disk(server).KillProcess();
}

void Cluster::PowerLoss(size_t server) {
  LogInfo("{} loses power", id(server).value);
  EndProcess(*servers_[server]);
  disk(server).Crash(random_.Next64(), {.sector_bytes = options_.sector_bytes});
}

void Cluster::PowerLossInWrite(const std::vector<size_t>& servers) {
  for (const size_t server : servers) disk(server).HaltAt(disk(server).operations() + 1);
  RunUntil([&] { return std::ranges::all_of(servers, [&](size_t i) { return disk(i).halted(); }); },
           milliseconds(200));
  for (const size_t server : servers) PowerLoss(server);
}

void Cluster::SlowDown(size_t index, const std::string& executor, env::Duration by) {
  Server& server = *servers_[index];
  server.slow[executor] = by;
  if (server.process != nullptr) server.process->SlowDown(executor, by);
}

void Cluster::Lose(size_t server) {
  LogInfo("{} is lost for good", id(server).value);
  EndProcess(*servers_[server]);
  servers_[server]->lost = true;
}

void Cluster::Pause(size_t server, const std::string& executors, env::Duration time) {
  LogInfo("{} pauses '{}'", id(server).value, executors);
  servers_[server]->process->Pause(executors, world_.MonotonicNow() + time);
}

void Cluster::Resume(size_t server) {
  servers_[server]->slow.clear();
  if (servers_[server]->process != nullptr) servers_[server]->process->Resume();
}

void Cluster::Wipe(size_t server) {
  EndProcess(*servers_[server]);
  servers_[server]->disk = std::make_unique<SimFiles>();
  servers_[server]->wiped = true;
}

// --- Seeing ------------------------------------------------------------------------------------------------

void Cluster::Violation(std::string text) {
  if (violations_.size() < kViolationsMax) violations_.push_back(std::move(text));
}

void Cluster::PollStatus() {
  for (size_t i = 0; i < size(); ++i) {
    if (!up(i)) continue;
    host(i).Status(lane(i), [this, i, life = life(i)](const node::HostStatus& status) {
      if (life != this->life(i)) return;
      CheckStatus(i, status);
      servers_[i]->status = status;
    });
  }
  world_.After(kStatusEvery, [this] { PollStatus(); });
}

void Cluster::CheckStatus(size_t server, const node::HostStatus& status) {
  for (const node::GroupStatus& group : status.groups) {
    if (group.role == raft::Role::kLeader) {
      const auto [leader, fresh] = leaders_.try_emplace({group.id, group.term.value}, id(server));
      if (!fresh && leader->second != id(server)) {
        Violation(fmt::format("two leaders in term {}: {} and {}", group.term.value, leader->second.value,
                              id(server).value));
      }
    }
    if (group.applied > group.commit) {
      Violation(fmt::format("{} applied {} and knows only {} as committed", id(server).value,
                            group.applied.value, group.commit.value));
    }
    const node::GroupStatus* before = this->status(server, group.id);
    if (before == nullptr) continue;
    if (group.term < before->term || group.commit < before->commit || group.applied < before->applied) {
      Violation(fmt::format("{} went back: term {} to {}, commit {} to {}, applied {} to {}",
                            id(server).value, before->term.value, group.term.value, before->commit.value,
                            group.commit.value, before->applied.value, group.applied.value));
    }
  }
}

void Cluster::OnCounterApplied(size_t server, const GroupId& group, const sluice::Command& command,
                               const std::string& reply) {
  const absl::Status judged =
      oracle_.Executed(NameOf(group), command.at.index.value, CallName(command.client, command.call), reply);
  if (!judged.ok()) Violation(fmt::format("{}: {}", id(server).value, Message(judged)));
}

std::vector<GroupId> Cluster::groups() const {
  std::vector<GroupId> groups;
  for (size_t i = 0; options_.blobs && i <= options_.more_blob_groups; ++i) groups.push_back(BlobGroup(i));
  for (size_t i = 0; options_.counter && i <= options_.more_counters; ++i) groups.push_back(CounterGroup(i));
  return groups;
}

const node::HostStatus* Cluster::status(size_t server) const {
  const auto& status = servers_[server]->status;
  return status ? &*status : nullptr;
}

const node::GroupStatus* Cluster::status(size_t server, const GroupId& group) const {
  const node::HostStatus* all = status(server);
  if (all == nullptr) return nullptr;
  for (const node::GroupStatus& each : all->groups) {
    if (each.id == group) return &each;
  }
  return nullptr;
}

std::optional<size_t> Cluster::Leader(const GroupId& group) const {
  std::optional<size_t> leader;
  Term term;
  for (size_t i = 0; i < size(); ++i) {
    const node::GroupStatus* each = status(i, group);
    if (each == nullptr || each->role != raft::Role::kLeader || !each->ready || each->term < term) continue;
    leader = i;
    term = each->term;
  }
  return leader;
}

std::string Cluster::Describe() const {
  std::string text;
  for (size_t i = 0; i < size(); ++i) {
    text += fmt::format("{}: {}\n", id(i).value, up(i) ? "up" : lost(i) ? "lost" : "down");
    const node::HostStatus* all = status(i);
    if (all == nullptr) continue;
    for (const auto& group : all->groups) {
      text += fmt::format(
          "  {} {}{} term {} leader '{}' last {} commit {} applied {} complete {} missing {}{}{} {}\n",
          group.machine, group.role == raft::Role::kLeader ? "leads" : "follows", group.ready ? " ready" : "",
          group.term.value, group.leader.value, group.last.index.value, group.commit.value,
          group.applied.value, group.bytes_complete.value, group.missing, group.repairing ? " repairing" : "",
          group.voting ? "" : " not voting", group.storage.ok() ? "" : group.storage.ToString());
    }
    for (const std::string& upload : all->uploads) text += "  stage " + upload + "\n";
  }
  return text;
}

// --- Running -----------------------------------------------------------------------------------------------

void Cluster::RunFor(env::Duration duration) { world_.RunFor(duration); }

bool Cluster::RunUntil(absl::FunctionRef<bool()> done, env::Duration limit) {
  // Asked now and then: what the tests wait for changes with the statuses.
  const env::Instant end = world_.MonotonicNow() + limit;
  while (!done()) {
    if (world_.MonotonicNow() >= end) return false;
    world_.RunFor(milliseconds(5));
  }
  return true;
}

std::optional<size_t> Cluster::AwaitLeader(const GroupId& group, env::Duration limit) {
  RunUntil([&] { return Leader(group).has_value(); }, limit);
  return Leader(group);
}

bool Cluster::Converged() const {
  for (const GroupId& group : groups()) {
    const auto leader = Leader(group);
    if (!leader) return false;
    const node::GroupStatus* leading = status(*leader, group);
    for (size_t i = 0; i < size(); ++i) {
      if (lost(i)) continue;
      const node::GroupStatus* each = status(i, group);
      if (each == nullptr || each->term != leading->term || each->leader != id(*leader) ||
          each->applied != leading->last.index || each->last != leading->last || each->missing > 0 ||
          each->bytes_complete != each->applied) {
        return false;
      }
    }
  }
  return true;
}

bool Cluster::AwaitConverged(env::Duration limit) {
  world_.RunFor(2 * kStatusEvery);  // what is known now may be older than what the caller knows
  return RunUntil([&] { return Converged(); }, limit);
}

bool Cluster::AwaitNoStages(env::Duration limit) {
  world_.RunFor(2 * kStatusEvery);
  return RunUntil(
      [&] {
        for (size_t i = 0; i < size(); ++i) {
          if (!up(i)) continue;
          const node::HostStatus* each = status(i);
          if (each == nullptr || !each->uploads.empty()) return false;
        }
        return true;
      },
      limit);
}

std::vector<std::string> Cluster::LostSpace(size_t server) {
  // By their file names: one page of 100,000 names holds all that a test writes.
  const auto known = std::make_shared<std::set<std::string>>();
  const auto unanswered = std::make_shared<size_t>(0);
  for (size_t i = 0; i <= options_.more_blob_groups; ++i) {
    ++*unanswered;
    host(server).List(BlobGroup(i), "", "", 100'000, lane(server),
                      [known, unanswered](absl::StatusOr<std::vector<node::BlobInfo>> infos) {
                        if (!infos.ok()) return;
                        --*unanswered;
                        for (const node::BlobInfo& info : *infos) known->insert(info.content.ToHex());
                      });
  }
  if (!RunUntil([&] { return *unanswered == 0; }, std::chrono::seconds(10))) return {"a list has no answer"};
  std::vector<std::string> lost;
  const std::string root = fmt::format("{}/blobs", kDataDir);
  const auto look = [&] {
    lost.clear();
    const auto add = [&](const std::string& folder, bool all) {
      for (const std::string& name : disk(server).List(folder).value_or(std::vector<std::string>{})) {
        if (!name.ends_with(".stage") && (all || !known->contains(name))) {
          lost.push_back(fmt::format("{}/{}", folder, name));
        }
      }
    };
    for (const std::string& folder :
         disk(server).List(root + "/blobs").value_or(std::vector<std::string>{})) {
      add(fmt::format("{}/blobs/{}", root, folder), false);
    }
    add(root + "/trash", true);
    return lost.empty();
  };
  RunUntil(look, std::chrono::seconds(5));
  return lost;
}

}  // namespace sluice::sim
