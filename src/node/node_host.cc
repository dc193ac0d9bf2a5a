#include "node/node_host.h"

#include <algorithm>
#include <future>

#include "base/check.h"
#include "base/log.h"
#include "base/server_id.h"

namespace sluice::node {
namespace {

// How long an orderly stop takes at most for what it could do without.
constexpr std::chrono::seconds kHandOverPatience{1};
constexpr std::chrono::seconds kCheckpointPatience{1};

ClientReply NoSuchGroup(const GroupId& group) {
  ClientReply reply;
  reply.code = ReplyCode::kNoSuchGroup;
  reply.error = absl::NotFoundError(fmt::format("group {} not found", group.ToString()));
  return reply;
}

constexpr char kTwoTimes[] = "one of them is from another time; restore both from one copy";

// They become the first entry of the group's log.
absl::Status CheckPeers(const GroupSpec& spec) {
  raft::Configuration first;
  first.voters = spec.peers;
  absl::Status status = raft::CheckConfiguration(first);
  for (const raft::Peer& peer : spec.peers) status.Update(CheckServerId(peer.id.value));
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      fmt::format("the peers of group {}: {}", spec.id.ToString(), Message(status)));
}

// The core takes them for what one like it has appended. A checksum vouches for the bytes, not for who wrote them.
absl::Status CheckConfigurations(const GroupSpec& spec, const log::GroupState& recovered,
                                 const std::string& dir) {
  Index index = recovered.compacted.index;
  const auto check = [&](const log::GroupState::Info& info) {
    index = index.Next();
    if (info.kind != raft::EntryKind::kConfiguration) return absl::OkStatus();
    absl::Status decoded = raft::DecodeConfiguration(info.configuration).status();
    if (decoded.ok()) return decoded;
    return absl::DataLossError(fmt::format(
        "group {}: entry {} of {}/log is no configuration with which a server could run ({}): put a copy of "
        "{} back. If there is none, remove it whole and start without --bootstrap: the server then follows, "
        "and does not vote (F-20); with it only if the cluster has never run",
        spec.id.ToString(), index.value, dir, Message(decoded), dir));
  };
  for (const log::GroupState::Info& info : recovered.entries) RETURN_IF_ERROR(check(info));
  for (const log::GroupState::Beyond& beyond : recovered.beyond) {
    // One that is damaged is put back from another server, which answers for what it sends.
    RETURN_IF_ERROR(check(beyond.intact ? beyond.info : log::GroupState::Info{}));
  }
  return absl::OkStatus();
}

// What the log says of itself.
absl::Status CheckRecovered(const GroupSpec& spec, const log::GroupState& recovered, const std::string& dir) {
  RETURN_IF_ERROR(CheckConfigurations(spec, recovered, dir));
  const Term last_term = recovered.entries.empty() ? recovered.compacted.term : recovered.entries.back().term;
  if (recovered.hard_state && recovered.hard_state->term < last_term) {
    return absl::FailedPreconditionError(
        fmt::format("group {}: the hard state under {}/log says term {}, the log holds entries of term {}: "
                    "{}, or let the "
                    "server follow without its votes: sluice repair as-learner {} --group {} (F-09)",
                    spec.id.ToString(), dir, recovered.hard_state->term.value, last_term.value, kTwoTimes,
                    dir, spec.id.ToString()));
  }
  if (recovered.promised_last && !recovered.damage_at_end && spec.peers.size() == 1) {
    return absl::DataLossError(fmt::format(
        "group {}: the log under {}/log is damaged after entry {}, entries follow, and there is no other "
        "server to repair it from; to give them up: sluice repair drop-damaged {} --group {}",
        spec.id.ToString(), dir,
        recovered.compacted.index.value + static_cast<int64_t>(recovered.entries.size()), dir,
        spec.id.ToString()));
  }
  return absl::OkStatus();
}

// The group whose first leader makes the cluster's id: all servers must choose the same one.
std::optional<GroupId> FounderOf(const std::vector<GroupSpec>& groups) {
  std::optional<GroupId> founder;
  for (const GroupSpec& spec : groups) {
    if (spec.mode != GroupMode::kSluice) continue;
    if (spec.id == kDefaultGroup) return spec.id;
    if (!founder || spec.id < *founder) founder = spec.id;
  }
  return founder;
}

ClusterId NewCluster(env::Random& random) {
  ClusterId id;
  while (id.IsZero()) {
    for (uint8_t& byte : id.bytes) byte = static_cast<uint8_t>(random.Next64());
  }
  return id;
}

// Of uploads that this server opens itself. Drawn anew for each group and each life, so that no id comes a
// second time, and nothing has to be written at a start (K23).
ClientId NewClient(env::Random& random) {
  ClientId id;
  for (uint8_t& byte : id.bytes) byte = static_cast<uint8_t>(random.Next64());
  return id;
}

// Snapshots that were on their way to or from another server. What is being installed (`in-`) stays.
absl::Status RemoveTransfers(env::Files& files, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(dir));
  for (const std::string& name : names) {
    if (name.rfind("out-", 0) == 0 || name.rfind("incoming-", 0) == 0) {
      RETURN_IF_ERROR(files.Remove(fmt::format("{}/{}", dir, name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Host>> Host::Open(HostOptions options, HostSeams seams) {
  auto host = std::make_unique<NodeHost>(std::move(options), seams);
  RETURN_IF_ERROR(host->Open());
  return host;
}

absl::Status NodeHost::Open() {
  const std::string& dir = options_.data_dir;
  RETURN_IF_ERROR(CheckServerId(options_.self.id.value));
  for (const GroupSpec& spec : options_.groups) RETURN_IF_ERROR(CheckPeers(spec));
  RETURN_IF_ERROR(seams_.files->MakeDirs(dir));
  ASSIGN_OR_RETURN(lock_, seams_.files->LockFile(dir + "/LOCK"));
  ASSIGN_OR_RETURN(identity_, OpenIdentity(*seams_.files, dir, options_.self.id, options_.bootstrap));
  cluster_ = std::make_unique<Cluster>(options_.self.id, seams_.clock, identity_.cluster);
  RETURN_IF_ERROR(seams_.files->MakeDirs(snapshot_dir()));
  RETURN_IF_ERROR(RemoveTransfers(*seams_.files, snapshot_dir()));
  ASSIGN_OR_RETURN(log_, log::Log::Open(*seams_.files, *seams_.executors, dir + "/log", options_.log));
  RETURN_IF_ERROR(CheckLogIsThere());
  ASSIGN_OR_RETURN(store_, blob::Store::Open(*seams_.files, *seams_.executors, *seams_.clock, dir + "/blobs",
                                             options_.blob));
  blob::IndexHooks hooks;
  hooks.before_durable = [store = store_.get()] { return store->SyncLinks(); };
  hooks.flush_at_random = seams_.random;
  const auto open_index = options_.map_index ? blob::OpenMapIndex : blob::OpenRocksIndex;
  ASSIGN_OR_RETURN(index_, open_index(*seams_.files, dir + "/index", options_.index, std::move(hooks)));
  for (uint32_t i = 0; i < std::max<uint32_t>(1, options_.shards); ++i) {
    shards_.push_back(seams_.executors->NewExecutor(fmt::format("shard-{}", i)));
  }
  apply_ = seams_.executors->NewExecutor("apply");
  disk_ = seams_.executors->NewExecutor("disk");
  room_ = std::make_unique<DiskRoom>(*seams_.files, *disk_, *seams_.clock, dir, options_.blob.reserve_bytes);
  snapshots_ = seams_.executors->NewExecutor("snapshot-state");
  const std::optional<GroupId> founder = FounderOf(options_.groups);
  for (size_t i = 0; i < options_.groups.size(); ++i) {
    const GroupSpec& spec = options_.groups[i];
    const ClusterId made = spec.id == founder ? NewCluster(*seams_.random) : ClusterId{};
    RETURN_IF_ERROR(OpenGroup(spec, i % shards_.size(), made));
  }
  for (const GroupId& group : log_->RecoveredGroups()) {
    if (!slots_.contains(group)) {
      LogWarn("the log holds group {}, which this server is not configured with; it stays as it is",
              group.ToString());
    }
  }
  return absl::OkStatus();
}

// The log says which cluster a server belongs to. One that is empty was taken away, and with it what the server has
// voted and acknowledged.
absl::Status NodeHost::CheckLogIsThere() const {
  if (identity_.cluster.IsZero() || !log_->RecoveredGroups().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "{}/log is empty, and server {} has written in it as a member of cluster {}: put that log back. If it "
      "is lost, "
      "remove {} whole and start without --bootstrap: the server then follows, and does not vote (F-20)",
      options_.data_dir, options_.self.id.value, identity_.cluster.ToString(), options_.data_dir));
}

absl::Status NodeHost::OpenGroup(const GroupSpec& spec, size_t shard, const ClusterId& new_cluster) {
  if (slots_.contains(spec.id)) {
    return absl::InvalidArgumentError(fmt::format("group {} is configured twice", spec.id.ToString()));
  }
  if (spec.mode == GroupMode::kRatis && spec.machine == "blob") {
    return absl::InvalidArgumentError(
        fmt::format("group {}: the machine blob needs sluice mode (D-01)", spec.id.ToString()));
  }
  log::GroupState recovered = log_->TakeRecovered(spec.id);
  RETURN_IF_ERROR(CheckRecovered(spec, recovered, options_.data_dir));
  Applier::Parts applier_parts;
  applier_parts.spec = spec;
  applier_parts.session_bytes_max = options_.session_bytes_max;
  applier_parts.session_keep_ms = options_.session_keep_ms;
  applier_parts.files = seams_.files;
  applier_parts.index = index_.get();
  applier_parts.store = store_.get();
  applier_parts.cluster = cluster_.get();
  applier_parts.snapshot_path = fmt::format("{}/in-{}", snapshot_dir(), sluice::ToHex(spec.id.AsBytes()));
  Applier::Start start;
  ASSIGN_OR_RETURN(auto applier, Applier::Open(std::move(applier_parts), &start));
  const bool is_blob = applier->is_blob();
  if (!start.cluster.IsZero()) LearnCluster(start.cluster);
  if (!start.interrupted && start.applied.index < recovered.compacted.index) {
    return absl::FailedPreconditionError(
        fmt::format("group {}: {}/index has applied up to entry {}, {}/log begins after entry {}: {} (F-09)",
                    spec.id.ToString(), options_.data_dir, start.applied.index.value, options_.data_dir,
                    recovered.compacted.index.value, kTwoTimes));
  }
  auto slot = std::make_unique<Slot>();
  Slot* raw = slot.get();
  slot->shard = shards_[shard].get();
  Group::Parts parts;
  parts.spec = spec;
  parts.options = &options_;
  parts.shard = slot->shard;
  parts.apply = apply_.get();
  parts.snapshots = snapshots_.get();
  parts.log = log_.get();
  parts.clock = seams_.clock;
  parts.room = room_.get();
  parts.cluster = cluster_.get();
  parts.new_cluster = new_cluster;
  parts.seed = seams_.random->Next64();
  parts.may_vote = identity_.may_vote;
  parts.snapshot_dir = snapshot_dir();
  parts.on_applied = [raw](const Applied& applied) {
    if (raw->lane) raw->lane->OnApplied(applied);
  };
  parts.on_cluster = [this](const ClusterId& cluster) { LearnCluster(cluster); };
  parts.on_role = [this, raw](bool was_leading) {
    if (raw->lane) raw->lane->OnRole();
    if (!was_leading || raw->group->leads()) return;
    for (auto& callback : on_leadership_lost_) callback(raw->group->spec().id);
  };
  auto missing = start.missing;
  slot->group =
      std::make_unique<Group>(std::move(parts), std::move(applier), std::move(start), std::move(recovered));
  if (is_blob) {
    Lane::Parts lane;
    lane.id = spec.id;
    lane.options = &options_;
    lane.client = NewClient(*seams_.random);
    lane.group = slot->group.get();
    lane.shard = slot->shard;
    lane.apply = apply_.get();
    lane.disk = disk_.get();
    lane.store = store_.get();
    lane.clock = seams_.clock;
    lane.missing = std::move(missing);
    slot->lane = std::make_unique<Lane>(std::move(lane));
  }
  slots_.emplace(spec.id, std::move(slot));
  return absl::OkStatus();
}

NodeHost::~NodeHost() { EndThreads(); }

void NodeHost::LearnCluster(const ClusterId& cluster) {
  if (!cluster_->Learn(cluster)) return;
  LogInfo("server {} belongs to cluster {}", options_.self.id.value, cluster.ToString());
  disk_->Post([this, cluster] {
    Identity known = identity_;
    known.cluster = cluster;
    // Nothing is lost if it fails: the log says it again at the next start.
    if (const auto saved = SaveIdentity(*seams_.files, options_.data_dir, known); !saved.ok()) {
      LogError("the identity of {} does not know its cluster yet: {}", options_.data_dir, Message(saved));
    }
  });
}

void NodeHost::Start(PeerTransport* peers, ByteTransport* bytes) {
  SLUICE_CHECK(!started_) << "Start twice";
  started_ = true;
  peers_ = peers;
  bytes_ = bytes;
  if (!identity_.may_vote) {
    LogWarn(
        "server {}: the folder {} was empty and was not bootstrapped: this server follows, but does not vote "
        "(F-20)",
        options_.self.id.value, options_.data_dir);
  }
  for (auto& [id, slot] : slots_) {
    // Before any thread uses it: relays are made on the threads of their callers.
    if (slot->lane) slot->lane->Start(bytes_);
    slot->shard->Post([this, slot = slot.get()] { slot->group->Start(peers_, bytes_); });
  }
  for (size_t i = 0; i < shards_.size(); ++i) Tick(i);
}

void NodeHost::Tick(size_t shard) {
  shards_[shard]->PostAfter(std::chrono::milliseconds(options_.tick_ms), [this, shard] {
    if (shard == 0) TellOfDamage();
    for (auto& [id, slot] : slots_) {
      if (slot->shard != shards_[shard].get()) continue;
      slot->group->Tick();
      if (slot->lane) slot->lane->Tick();
    }
    Tick(shard);
  });
}

// Damage is met by whoever reads, other servers too; the group of the content has it replaced (F-24).
void NodeHost::TellOfDamage() {
  for (const UploadId& damaged : store_->TakeDamaged()) {
    for (auto& [id, slot] : slots_) {
      if (!slot->lane) continue;
      slot->shard->Post([lane = slot->lane.get(), damaged] { lane->MarkDamaged(damaged); });
    }
  }
}

void NodeHost::OnShards(absl::FunctionRef<void(Slot&)> work) {
  for (const auto& shard : shards_) {
    std::promise<void> done;
    shard->Post([&] {
      for (auto& [id, slot] : slots_) {
        if (slot->shard == shard.get()) work(*slot);
      }
      done.set_value();
    });
    done.get_future().wait();
  }
}

// Looks after a tick, so that this thread waits and does not spin.
bool NodeHost::WaitsForHandOver() {
  std::promise<void> ticked;
  shards_[0]->PostAfter(std::chrono::milliseconds(options_.tick_ms), [&ticked] { ticked.set_value(); });
  ticked.get_future().wait();
  bool leading = false;
  OnShards([&leading](Slot& slot) {
    leading |= slot.group->leads() && slot.group->configuration().voters.size() > 1;
  });
  return leading;
}

void NodeHost::Stop() {
  if (stopped_.exchange(true) || !started_) return;
  // Leadership first, so that clients find a leader at once: up to a second (F-40).
  OnShards([](Slot& slot) { slot.group->HandOver(); });
  const auto until = std::chrono::steady_clock::now() + kHandOverPatience;
  while (WaitsForHandOver() && std::chrono::steady_clock::now() < until) {
  }
  OnShards([](Slot& slot) {
    if (slot.lane) slot.lane->Stop();
    slot.group->Stop();
  });
  // Last checkpoints make the next start short; nothing depends on them, so many groups are not waited for.
  std::promise<void> done;
  apply_->Post([this, &done] {
    const auto patience = std::chrono::steady_clock::now() + kCheckpointPatience;
    for (auto& [id, slot] : slots_) {
      if (std::chrono::steady_clock::now() >= patience) break;
      (void)slot->group->applier().Checkpoint();
    }
    done.set_value();
  });
  done.get_future().wait();
}

// Callers before whom they call: groups and lanes call the log, the store and the executors for blocking work,
// which answer to the shards. What comes too late finds a stopped executor, whose memory is the last to go.
void NodeHost::EndThreads() {
  for (const auto& shard : shards_) shard->Stop();
  if (apply_ != nullptr) apply_->Stop();
  if (disk_ != nullptr) disk_->Stop();
  if (snapshots_ != nullptr) snapshots_->Stop();
  if (index_ != nullptr) index_->Stop();  // it calls the store
  log_.reset();
  store_.reset();
}

NodeHost::Slot* NodeHost::Find(const GroupId& group) const {
  const auto it = slots_.find(group);
  return it == slots_.end() ? nullptr : it->second.get();
}

absl::StatusOr<NodeHost::Slot*> NodeHost::FindLane(const GroupId& group) const {
  Slot* slot = Find(group);
  if (slot == nullptr) return absl::NotFoundError(fmt::format("group {} not found", group.ToString()));
  if (!slot->lane) {
    return absl::FailedPreconditionError(fmt::format("group {} runs the machine {}, which stores no blobs",
                                                     group.ToString(), slot->group->spec().machine));
  }
  return slot;
}

std::vector<GroupId> NodeHost::Groups() const {
  std::vector<GroupId> groups;
  for (const auto& [id, slot] : slots_) groups.push_back(id);
  std::sort(groups.begin(), groups.end());
  return groups;
}

void NodeHost::OnLeadershipLost(absl::AnyInvocable<void(const GroupId&)> callback) {
  SLUICE_CHECK(!started_) << "OnLeadershipLost after Start";
  on_leadership_lost_.push_back(std::move(callback));
}

// --- Order lane --------------------------------------------------------------------------------------------

absl::Status NodeHost::Step(const GroupId& group, const PeerId& from, raft::Message message) {
  Slot* slot = Find(group);
  if (slot == nullptr) return absl::NotFoundError(fmt::format("group {} not found", group.ToString()));
  slot->shard->Post(
      [slot, from, message = std::move(message)]() mutable { slot->group->Step(from, std::move(message)); });
  return absl::OkStatus();
}

void NodeHost::Unreachable(const GroupId& group, const PeerId& peer) {
  if (Slot* slot = Find(group)) slot->shard->Post([slot, peer] { slot->group->Unreachable(peer); });
}

void NodeHost::WantsSnapshot(const GroupId& group, Term leader_term, TermIndex at, env::Executor* reply_on,
                             absl::AnyInvocable<void(absl::Status)> done) {
  Slot* slot = Find(group);
  if (slot == nullptr) {
    return reply_on->Post([done = std::move(done), group]() mutable {
      done(absl::NotFoundError(fmt::format("group {} not found", group.ToString())));
    });
  }
  slot->shard->Post([slot, leader_term, at, reply_on, done = std::move(done)]() mutable {
    slot->group->WantsSnapshot(leader_term, at, reply_on, std::move(done));
  });
}

void NodeHost::InstallSnapshot(const GroupId& group, const std::string& path, env::Executor* reply_on,
                               absl::AnyInvocable<void(absl::Status)> done) {
  Slot* slot = Find(group);
  if (slot == nullptr) {
    return reply_on->Post([done = std::move(done), group]() mutable {
      done(absl::NotFoundError(fmt::format("group {} not found", group.ToString())));
    });
  }
  slot->shard->Post([slot, path, reply_on, done = std::move(done)]() mutable {
    slot->group->InstallSnapshot(path, reply_on, std::move(done));
  });
}

void NodeHost::Recall(const GroupId& group, const PeerId& from, const raft::RecallRequest& request,
                      env::Executor* reply_on, Done<raft::RecallReply> done) {
  Slot* slot = Find(group);
  if (slot == nullptr) {
    return reply_on->Post(
        [done = std::move(done)]() mutable { done(absl::NotFoundError("the group is not here")); });
  }
  slot->shard->Post([slot, from, request, reply_on, done = std::move(done)]() mutable {
    slot->group->Recall(
        from, request, [reply_on, done = std::move(done)](absl::StatusOr<raft::RecallReply> reply) mutable {
          reply_on->Post(
              [done = std::move(done), reply = std::move(reply)]() mutable { done(std::move(reply)); });
        });
  });
}

void NodeHost::Submit(ClientRequest request, ReplyFn reply) {
  Slot* slot = Find(request.group);
  if (slot == nullptr) return reply(NoSuchGroup(request.group));
  slot->shard->Post([slot, request = std::move(request), reply = std::move(reply)]() mutable {
    if (request.kind == RequestKind::kForward && slot->lane) {
      return slot->lane->Forward(std::move(request), std::move(reply));
    }
    slot->group->Submit(std::move(request), std::move(reply));
  });
}

void NodeHost::Status(env::Executor* reply_on, absl::AnyInvocable<void(HostStatus)> done) {
  // Gathered shard by shard; the last one hands it on.
  struct Gathering {
    HostStatus status;
    std::vector<Slot*> slots;
    absl::AnyInvocable<void(HostStatus)> done;
  };
  auto gathering = std::make_shared<Gathering>();
  gathering->status.self = options_.self;
  gathering->status.cluster = cluster_->id();
  gathering->status.stopping = stopped_;
  gathering->done = std::move(done);
  for (const GroupId& id : Groups()) gathering->slots.push_back(Find(id));
  auto next = std::make_shared<std::function<void(size_t)>>();
  // It holds itself weakly, what it posts holds it: nothing is left over when a task is dropped.
  *next = [this, gathering, reply_on, weak = std::weak_ptr(next)](size_t i) {
    const auto step = weak.lock();
    if (i < gathering->slots.size()) {
      gathering->slots[i]->shard->Post([gathering, i, step] {
        Slot* slot = gathering->slots[i];
        GroupStatus status = slot->group->Status();
        status.bytes_complete = slot->lane ? slot->lane->bytes_complete() : status.applied;
        status.missing = slot->lane ? slot->lane->missing() : 0;
        gathering->status.groups.push_back(std::move(status));
        (*step)(i + 1);
      });
      return;
    }
    disk_->Post([this, gathering, reply_on] {
      for (const auto& stage : store_->Stages()) {
        gathering->status.uploads.push_back(fmt::format("{} {} bytes{}", stage->spec().id.ToHex(),
                                                        stage->length(), stage->sealed() ? ", sealed" : ""));
      }
      gathering->status.blobs = store_->stats();
      gathering->status.log = log_->stats();
      reply_on->Post([gathering] { gathering->done(std::move(gathering->status)); });
    });
  };
  (*next)(0);
}

void NodeHost::Serving(env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  // Each shard looks at its groups, one shard after another.
  auto answer = std::make_shared<absl::AnyInvocable<void(absl::Status)>>(std::move(done));
  auto look = std::make_shared<std::function<void(size_t)>>();
  *look = [this, reply_on, answer, weak = std::weak_ptr(look)](size_t shard) {
    const auto next = weak.lock();
    if (shard == shards_.size()) {
      return disk_->Post([this, reply_on, answer] {
        const uint64_t free = store_->stats().free_bytes;
        absl::Status room;
        if (free < options_.blob.reserve_bytes) {
          room = absl::ResourceExhaustedError(
              fmt::format("{} bytes are free on the disk, {} are kept for the log: uploads are refused", free,
                          options_.blob.reserve_bytes));
        }
        reply_on->Post([answer, room = std::move(room)] { (*answer)(room); });
      });
    }
    shards_[shard]->Post([this, reply_on, answer, shard, next] {
      for (const auto& [id, slot] : slots_) {
        if (slot->shard != shards_[shard].get()) continue;
        absl::Status serving = slot->group->Serving();
        if (serving.ok()) continue;
        return reply_on->Post([answer, id = id, serving] {
          (*answer)(
              absl::Status(serving.code(), fmt::format("group {}: {}", id.ToString(), Message(serving))));
        });
      }
      (*next)(shard + 1);
    });
  };
  (*look)(0);
}

// --- Byte lane ---------------------------------------------------------------------------------------------

std::shared_ptr<Relay> NodeHost::OpenRelay(StreamHeader header, env::Executor* home,
                                           absl::AnyInvocable<void(absl::Status)> opened) {
  const auto slot = FindLane(header.group);
  if (!slot.ok()) {
    home->Post([opened = std::move(opened), status = slot.status()]() mutable { opened(status); });
    return nullptr;
  }
  auto relay = (*slot)->lane->NewRelay(std::move(header), home);
  (*slot)->shard->Post([lane = (*slot)->lane.get(), relay, opened = std::move(opened)]() mutable {
    lane->OpenRelay(std::move(relay), std::move(opened));
  });
  return relay;
}

void NodeHost::Have(const GroupId& group, const UploadId& upload, env::Executor* reply_on,
                    Done<HaveReply> done) {
  const auto slot = FindLane(group);
  if (!slot.ok()) {
    return reply_on->Post([done = std::move(done), status = slot.status()]() mutable { done(status); });
  }
  (*slot)->lane->Have(upload, reply_on, std::move(done));
}

void NodeHost::OnSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                        absl::AnyInvocable<void(absl::Status)> done) {
  const auto slot = FindLane(group);
  if (!slot.ok()) {
    return reply_on->Post([done = std::move(done), status = slot.status()]() mutable { done(status); });
  }
  auto answer = [reply_on, done = std::move(done)](absl::Status status) mutable {
    reply_on->Post(
        [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
  };
  (*slot)->shard->Post(
      [lane = (*slot)->lane.get(), upload = std::move(upload), answer = std::move(answer)]() mutable {
        lane->OnSealed(std::move(upload), std::move(answer));
      });
}

void NodeHost::FetchSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                           Done<HaveReply> done) {
  const auto slot = FindLane(group);
  if (!slot.ok()) {
    return reply_on->Post([done = std::move(done), status = slot.status()]() mutable { done(status); });
  }
  (*slot)->shard->Post(
      [lane = (*slot)->lane.get(), upload = std::move(upload), reply_on, done = std::move(done)]() mutable {
        lane->Fetch(std::move(upload), false, reply_on, std::move(done));
      });
}

void NodeHost::Publish(PublishRequest request, ReplyFn reply) {
  const auto slot = FindLane(request.group);
  if (!slot.ok()) return reply(NoSuchGroup(request.group));
  (*slot)->shard->Post(
      [lane = (*slot)->lane.get(), request = std::move(request), reply = std::move(reply)]() mutable {
        lane->Publish(std::move(request), std::move(reply));
      });
}

void NodeHost::Remove(RemoveRequest request, ReplyFn reply) {
  const auto slot = FindLane(request.group);
  if (!slot.ok()) return reply(NoSuchGroup(request.group));
  (*slot)->shard->Post(
      [lane = (*slot)->lane.get(), request = std::move(request), reply = std::move(reply)]() mutable {
        lane->Remove(std::move(request), std::move(reply));
      });
}

}  // namespace sluice::node
