// Cores that talk to each other in one thread, each with a disk in memory; for the tests of this room.
//
//   Cluster cluster(options, configuration);  cluster.Start("n0");  cluster.at("n0").core->Campaign();
//   cluster.Settle();                         // does effects, persists, delivers, until nothing is left
//
// A node's appends become durable only when its batch is persisted; a crash keeps what was persisted. Every
// entry that is appended or applied anywhere is compared with all others: one leader a term, log matching,
// and what is committed never changes; and each read sees what was committed before it. Violations are
// collected in `violations`. Threading: one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "raft/core.h"

namespace sluice::raft {

inline Peer PeerNamed(const std::string& id, uint32_t priority = 0) {
  Peer peer;
  peer.id.value = id;
  peer.priority = priority;
  return peer;
}

struct Disk {
  HardState hard_state;
  TermIndex base{Term{0}, kNoIndex};
  Configuration base_configuration;
  std::vector<Entry> entries;

  Index last() const { return base.index + static_cast<int64_t>(entries.size()); }
  void Append(const std::vector<Entry>& more) {
    if (more.empty()) return;
    if (more.front().at.index <= last()) {
      entries.resize(static_cast<size_t>(more.front().at.index - base.index - 1));
    }
    entries.insert(entries.end(), more.begin(), more.end());
  }
  const Entry& At(Index index) const { return entries.at(static_cast<size_t>(index - base.index - 1)); }
  void CompactTo(Index upto, const Configuration& configuration) {
    if (upto <= base.index) return;
    const TermIndex at = At(upto).at;
    entries.erase(entries.begin(), entries.begin() + (upto - base.index));
    base = at;
    base_configuration = configuration;
  }
};

struct Batch {
  Effects effects;  // hard_state, append, send_after are still to be done
};

struct Node {
  PeerId id;
  CoreOptions options;
  std::unique_ptr<Core> core;  // null while it is down
  Disk disk;                   // durable
  Disk log;                    // what the core believes: durable and under way
  std::vector<Batch> batches;  // under way to the disk, in order
  bool hold_disk = false;      // batches wait for PersistOne
  Index applied = kNoIndex;
  Configuration applied_configuration;
};

struct Packet {
  PeerId from;
  PeerId to;
  Message message;
};

class Cluster {
 public:
  using Print = std::function<void(const std::string&)>;

  explicit Cluster(
      Configuration bootstrap, Print print = [](const std::string&) {})
      : bootstrap_(std::move(bootstrap)), print_(std::move(print)) {}

  // Adds a node with an empty disk, or starts one that is down from its disk.
  Node& Start(const CoreOptions& options, std::optional<TermIndex> promised_last = std::nullopt) {
    auto [it, fresh] = nodes_.try_emplace(options.self);
    Node& node = it->second;
    if (fresh) {
      node.id = options.self;
      node.disk.base_configuration = bootstrap_;
    }
    node.options = options;
    node.log = node.disk;
    node.batches.clear();
    InitialState state;
    state.hard_state = node.disk.hard_state;
    state.snapshot = node.disk.base;
    state.configuration = node.disk.base_configuration;
    state.commit = node.disk.base.index;
    state.promised_last = promised_last;
    for (const Entry& entry : node.disk.entries) {
      const bool keep = entry.kind == EntryKind::kConfiguration;
      state.entries.push_back(
          {entry.at.term, entry.kind, entry.payload.size(), keep ? entry.payload : Bytes()});
    }
    node.applied = node.disk.base.index;
    node.applied_configuration = node.disk.base_configuration;
    node.core = std::make_unique<Core>(options, std::move(state));
    DoEffects(node);
    return node;
  }

  // The first `kept` batches under way still reach the disk;
  // the rest is lost, and so are the messages to the node.
  void Crash(const PeerId& id, size_t kept = 0) {
    Node& node = at(id);
    for (size_t i = 0; i < std::min(kept, node.batches.size()); ++i) Write(node, node.batches[i].effects);
    node.core.reset();
    node.batches.clear();
    std::erase_if(packets, [&](const Packet& packet) { return packet.to == id; });
    std::erase_if(snapshots, [&](const auto& wanted) { return wanted.first == id; });
  }

  Node& at(const PeerId& id) { return nodes_.at(id); }
  std::map<PeerId, Node>& nodes() { return nodes_; }

  // Does what the core asks for. With hold_disk, batches wait.
  void DoEffects(Node& node) {
    while (node.core && node.core->HasEffects()) {
      Effects effects = node.core->TakeEffects();
      Note(node, effects);
      node.log.Append(effects.append);
      for (const Entry& entry : effects.append) CheckAppended(node, entry);
      for (Outgoing& out : effects.send_now) SendOut(node, std::move(out));
      const std::optional<Index> commit = effects.commit;
      for (const ReadReleased& read : effects.reads) CheckRead(node, read);
      for (const PeerId& peer : effects.send_snapshot) snapshots.insert({node.id, peer});
      // A message that waits finds its entries as they are now, not as they are when it leaves.
      if (effects.hard_state || !effects.append.empty() || !effects.send_after.empty()) {
        node.batches.push_back({std::move(effects)});
      }
      if (commit) Apply(node, *commit);
      while (!node.hold_disk && node.core && !node.batches.empty()) PersistOne(node);
    }
  }

  // A read must see all that anybody had applied when it was asked for.
  void RequestRead(Node& node, uint64_t token) {
    read_floors_[token] = committed.empty() ? kNoIndex : committed.rbegin()->first;
    node.core->RequestRead(token);
    DoEffects(node);
  }

  bool PersistOne(Node& node) {
    if (node.batches.empty()) return false;
    Batch batch = std::move(node.batches.front());
    node.batches.erase(node.batches.begin());
    Write(node, batch.effects);
    for (OutgoingAfter& after : batch.effects.send_after) SendOut(node, std::move(after.outgoing));
    if (batch.effects.hard_state) node.core->HardStatePersisted(batch.effects.hard_state_version);
    if (!batch.effects.append.empty()) node.core->Persisted(batch.effects.append.back().at);
    DoEffects(node);
    return true;
  }

  void Deliver(size_t index) {
    Packet packet = std::move(packets.at(index));
    packets.erase(packets.begin() + static_cast<ptrdiff_t>(index));
    auto it = nodes_.find(packet.to);
    if (it == nodes_.end() || !it->second.core) return;
    if (cut.contains({packet.from, packet.to})) return;
    it->second.core->Step(packet.from, std::move(packet.message));
    DoEffects(it->second);
  }

  // Delivers until nothing is under way.
  void Settle(size_t messages_max = 100000) {
    for (size_t i = 0; i < messages_max && !packets.empty(); ++i) Deliver(0);
    if (!packets.empty()) violations.push_back("messages without end");
  }

  void Tick(Node& node, uint32_t ticks = 1) {
    if (!node.core) return;
    node.core->Tick(ticks);
    DoEffects(node);
  }

  void Compact(Node& node, Index upto) {
    node.core->Compact(upto);
    const Index base = node.core->first_index().Prev();
    node.log.CompactTo(base, node.applied_configuration);
    node.disk.CompactTo(base, node.applied_configuration);
  }

  // Brings the snapshot that `from` has at its applied index to `to`, or reports that this failed.
  void TransferSnapshot(const PeerId& from, const PeerId& to, bool ok) {
    snapshots.erase({from, to});
    Node& source = at(from);
    if (!source.core) return;
    Node* target = nodes_.contains(to) && at(to).core ? &at(to) : nullptr;
    const TermIndex snapshot{source.core->TermAt(source.applied).value_or(Term{0}), source.applied};
    if (ok && target != nullptr && target->core->WantsSnapshot(snapshot)) {
      while (!target->batches.empty()) PersistOne(*target);
      target->disk.base = snapshot;
      target->disk.base_configuration = source.applied_configuration;
      target->disk.entries.clear();
      target->log = target->disk;
      target->applied = snapshot.index;
      target->applied_configuration = source.applied_configuration;
      target->core->SnapshotInstalled(snapshot, source.applied_configuration);
      DoEffects(*target);
    }
    source.core->SnapshotDone(to, ok && target != nullptr, snapshot.index);
    DoEffects(source);
  }

  Node* Leader() {
    Node* leader = nullptr;
    for (auto& [id, node] : nodes_) {
      if (!node.core || node.core->role() != Role::kLeader) continue;
      if (leader == nullptr || leader->core->term() < node.core->term()) leader = &node;
    }
    return leader;
  }

  std::vector<Packet> packets;
  std::set<std::pair<PeerId, PeerId>> cut;        // one way
  std::set<std::pair<PeerId, PeerId>> snapshots;  // wanted: from, to
  std::map<Index, Entry> committed;
  std::vector<std::string> violations;
  size_t reads_served = 0;

 private:
  void SendOut(Node& node, Outgoing out) {
    if (auto* append = std::get_if<AppendRequest>(&out.message);
        append && out.entries_from < out.entries_end) {
      for (Index i = out.entries_from; i < out.entries_end; i = i.Next()) {
        if (i <= node.log.base.index || i > node.log.last()) return;  // compacted or truncated meanwhile
        append->entries.push_back(node.log.At(i));
      }
      // Truncated and written again meanwhile: no longer what this leader meant.
      if (append->term != node.core->term()) return;
    }
    packets.push_back({node.id, out.to, std::move(out.message)});
  }

  void Write(Node& node, const Effects& effects) {
    if (effects.hard_state) node.disk.hard_state = *effects.hard_state;
    node.disk.Append(effects.append);
  }

  void Apply(Node& node, Index upto) {
    for (Index i = node.applied.Next(); i <= upto; i = i.Next()) {
      const Entry& entry = node.log.At(i);
      auto [it, fresh] = committed.emplace(i, entry);
      if (!fresh && (it->second.at != entry.at || !(it->second.payload == entry.payload))) {
        violations.push_back(fmt::format("{} applies another entry at {}: term {} instead of {}",
                                         node.id.value, i.value, entry.at.term.value,
                                         it->second.at.term.value));
      }
      if (entry.kind == EntryKind::kConfiguration)
        node.applied_configuration = *DecodeConfiguration(entry.payload);
      node.applied = i;
    }
    node.core->Applied(upto);
  }

  void CheckRead(const Node& node, const ReadReleased& read) {
    if (!read.ok) return;
    ++reads_served;
    auto floor = read_floors_.find(read.token);
    if (floor == read_floors_.end() || read.index >= floor->second) return;
    violations.push_back(fmt::format("{} reads at {} what was at {} before", node.id.value, read.index.value,
                                     floor->second.value));
  }

  void CheckAppended(const Node& node, const Entry& entry) {
    const Index previous = entry.at.index.Prev();
    const Term before = previous > node.log.base.index ? node.log.At(previous).at.term : node.log.base.term;
    auto [it, fresh] = appended_.emplace(entry.at, std::pair(before, entry.payload));
    if (!fresh && (it->second.first != before || !(it->second.second == entry.payload))) {
      violations.push_back(fmt::format("{} has another entry {}@{} or another one before it", node.id.value,
                                       entry.at.index.value, entry.at.term.value));
    }
  }

  void Note(Node& node, const Effects& effects) {
    const std::string& id = node.id.value;
    if (effects.role) {
      static constexpr const char* kRoles[] = {"follower", "candidate", "leader", "learner"};
      const RoleChange& role = *effects.role;
      print_(fmt::format("  {}: {} term={} leader={}{}", id, kRoles[static_cast<int>(role.role)],
                         role.term.value, role.leader.empty() ? "?" : role.leader.value,
                         role.ready ? " ready" : ""));
      if (role.role == Role::kLeader) {
        auto [it, fresh] = leaders_.emplace(role.term, node.id);
        if (!fresh && it->second != node.id)
          violations.push_back(fmt::format("two leaders in term {}", role.term.value));
      }
    }
    if (effects.hard_state) {
      const PeerId& vote = effects.hard_state->voted_for;
      print_(fmt::format("  {}: persist term={} vote={}", id, effects.hard_state->term.value,
                         vote.empty() ? "none" : vote.value));
    }
    if (effects.truncated_from)
      print_(fmt::format("  {}: truncate from {}", id, effects.truncated_from->value));
    if (!effects.append.empty()) {
      const Entry& first = effects.append.front();
      const Entry& last = effects.append.back();
      print_(fmt::format("  {}: persist entries {}@{}..{}@{}", id, first.at.index.value, first.at.term.value,
                         last.at.index.value, last.at.term.value));
    }
    if (effects.commit) print_(fmt::format("  {}: commit {}", id, effects.commit->value));
    for (const ReadReleased& read : effects.reads) {
      print_(read.ok ? fmt::format("  {}: read {} at {}", id, read.token, read.index.value)
                     : fmt::format("  {}: read {} failed", id, read.token));
    }
    for (const PeerId& peer : effects.send_snapshot)
      print_(fmt::format("  {}: snapshot for {}", id, peer.value));
  }

  Configuration bootstrap_;
  Print print_;
  std::map<PeerId, Node> nodes_;
  std::map<TermIndex, std::pair<Term, Bytes>> appended_;
  std::map<Term, PeerId> leaders_;
  std::map<uint64_t, Index> read_floors_;
};

}  // namespace sluice::raft
