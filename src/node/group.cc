#include "node/group.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "base/metrics.h"

namespace sluice::node {
namespace {

uint32_t Ticks(uint32_t ms, uint32_t tick_ms) {
  return std::max<uint32_t>(1, ms / std::max<uint32_t>(1, tick_ms));
}

Gauge& RememberedBytes() {
  static Gauge& gauge =
      NewGauge("sluice_node_replies_bytes", "Memory of the replies that are remembered for retries");
  return gauge;
}

raft::CoreOptions CoreOptionsOf(const HostOptions& options, GroupMode mode, uint64_t seed, bool may_vote) {
  raft::CoreOptions core;
  core.self = options.self.id;
  core.election_ticks_min = Ticks(options.election_timeout_min_ms, options.tick_ms);
  core.election_ticks_max = Ticks(options.election_timeout_max_ms, options.tick_ms);
  core.heartbeat_ticks = Ticks(options.heartbeat_ms, options.tick_ms);
  core.inflight_appends_max = options.inflight_appends_max;
  core.seed = seed;
  core.may_vote = may_vote;
  core.trust_empty_voters = mode == GroupMode::kSluice;
  return core;
}

}  // namespace

Group::Group(Parts parts, std::unique_ptr<Applier> applier, Applier::Start start, log::GroupState recovered)
    : parts_(std::move(parts)), applier_(std::move(applier)) {
  raft::InitialState state;
  if (recovered.hard_state) state.hard_state = *recovered.hard_state;
  state.configuration.voters = parts_.spec.peers;
  if (start.configuration) state.configuration = *start.configuration;
  state.promised_last = recovered.promised_last;
  const Index log_last = recovered.compacted.index + static_cast<int64_t>(recovered.entries.size());
  // A snapshot was installed and the log did not follow yet, being shorter or of another history: it starts
  // again behind the snapshot.
  const int64_t behind = start.applied.index - recovered.compacted.index;
  const bool other_history = behind > 0 && start.applied.index <= log_last &&
                             recovered.entries[static_cast<size_t>(behind - 1)].term != start.applied.term;
  const bool restarts = start.applied.index > log_last || other_history;
  if (restarts) {
    state.snapshot = start.applied;
    parts_.log->Restart(parts_.spec.id, start.applied, parts_.shard, [](absl::Status) {});
  } else {
    state.snapshot = recovered.compacted;
    for (auto& info : recovered.entries) {
      state.entries.push_back({info.term, info.kind, info.bytes, std::move(info.configuration)});
    }
  }
  state.commit = start.applied.index;
  applied_ = start.applied;
  facts_known_ = start.facts_known;
  checkpointed_ = start.applied.index;
  interrupted_ = start.interrupted;
  const bool alone = state.configuration.voters.size() == 1;
  if (alone && state.promised_last) {
    LogWarn("group {}: the unreadable end of the log after entry {} was cut: there is no peer to ask",
            parts_.spec.id.ToString(), log_last.value);
    state.promised_last.reset();
    parts_.log->GiveUp(parts_.spec.id);
  }
  const TermIndex last =
      state.entries.empty() ? state.snapshot : TermIndex{state.entries.back().term, log_last};
  // Entries without a hard state: its file is gone (F-08).
  const bool state_lost = recovered.hard_state_lost || (!recovered.hard_state && last.term > Term{0});
  if (state_lost) {
    state.hard_state.silent_upto = raft::kEveryTerm;
    LogError(
        "group {}: the hard state is lost: this server neither votes nor counts until every other voter has "
        "told its term (F-08)",
        parts_.spec.id.ToString());
  }
  damage_ = {.last = last,
             .beyond = {},
             .promised = {},
             .acknowledged_in = std::max(state.hard_state.term, last.term)};
  // A promise that was made in a term that is forgotten can be cut by nobody.
  if (state.hard_state.silent_upto > damage_.acknowledged_in)
    damage_.acknowledged_in = state.hard_state.silent_upto;
  if (restarts) recovered.beyond.clear();  // with the old log
  for (auto& [info, intact] : recovered.beyond) {
    damage_.beyond.push_back({{info.term, info.kind, info.bytes, std::move(info.configuration)}, intact});
  }
  sessions_ = std::move(start.replies);
  clock_ms_ = start.clock_ms;
  core_ = std::make_unique<raft::Core>(
      CoreOptionsOf(*parts_.options, parts_.spec.mode, parts_.seed, parts_.may_vote), std::move(state));
  // A hard state that is older than the log has forgotten terms, too (F-09).
  if (core_->forgetful()) damage_.acknowledged_in = raft::kEveryTerm;
  core_->Applied(std::min(applied_.index, core_->commit()));
}

Group::~Group() {
  *alive_ = false;
  RememberedBytes().Decrement(static_cast<double>(replies_told_));
}

void Group::Start(PeerTransport* peers, ByteTransport* bytes) {
  peers_ = peers;
  bytes_ = bytes;
  role_since_ = leader_heard_ = last_checkpoint_ = commit_moved_at_ = parts_.clock->MonotonicNow();
  const auto& voters = core_->configuration().voters;
  if (interrupted_) {
    GoOnInstalling();
  } else if (voters.size() == 1 && voters[0].id == parts_.options->self.id) {
    core_->Campaign();
  }
  Pump();
  FindCluster();
}

void Group::Stop() {
  if (stopped_) return;
  stopped_ = true;
  ClientReply unavailable;
  unavailable.code = ReplyCode::kUnavailable;
  unavailable.error = absl::UnavailableError("the server is stopping");
  auto inbox = std::exchange(inbox_, {});
  for (Proposal& proposal : inbox) proposal.reply(unavailable);
  auto waiting = std::exchange(waiting_, {});
  for (auto& [key, entry] : waiting) Refuse(std::move(entry), unavailable);
  auto watches = std::exchange(watches_, {});
  for (Watch& watch : watches) watch.reply(unavailable);
  auto reads = std::exchange(reads_, {});
  for (auto& [token, read] : reads) read.done(ReplyCode::kUnavailable, unavailable.error);
  auto lookups = std::exchange(lookups_, {});
  for (auto& [token, lookup] : lookups) lookup.refuse(unavailable.error);
  proposed_.clear();
  for (Asked& asked : std::exchange(asked_, {})) asked.done(unavailable.error);
}

void Group::Tick() {
  if (stopped_) return;
  if (!core_rests_) core_->Tick();
  MaybeRecall();
  Pump();
  if (log_full_) WriteOut();
  CheckFitness();
  // A group of one: nobody else leads.
  if (!apply_hangs_.ok()) AnswerInDoubt(ReplyCode::kUnavailable, apply_hangs_);
  CheckCommit();
  const env::Instant now = parts_.clock->MonotonicNow();
  for (auto it = reads_.begin(); it != reads_.end();) {
    if (it->second.deadline > now) {
      ++it;
      continue;
    }
    auto done = std::move(it->second.done);
    const bool released = it->second.index.valid();
    it = reads_.erase(it);
    done(released ? ReplyCode::kReadTimeout : ReplyCode::kReadIndex,
         absl::UnavailableError(fmt::format("no read index within {} ms", parts_.options->read_timeout_ms)));
  }
  CheckWatches();
  MaybeCheckpoint();
  TickSnapshots(now);
}

void Group::Step(const PeerId& from, raft::Message message) {
  if (stopped_ || core_rests_) return;
  if (from == core_->leader()) leader_heard_ = parts_.clock->MonotonicNow();
  core_->Step(from, std::move(message));
  Pump();
}

void Group::Unreachable(const PeerId& peer) {
  if (stopped_) return;
  core_->Unreachable(peer);
  Pump();
}

void Group::HandOver() {
  if (stopped_ || !leads()) return;
  const auto progress = core_->Progress();
  const auto best = std::max_element(progress.begin(), progress.end(), [](const auto& a, const auto& b) {
    return std::pair(a.active && !a.learner, a.match) < std::pair(b.active && !b.learner, b.match);
  });
  if (best == progress.end() || !best->active || best->learner) return;
  (void)core_->TransferTo(best->id);
  Pump();
}

bool Group::ready() const {
  return core_->ready() && applied_.index >= core_->own_first() &&
         (facts_known_ || parts_.spec.mode == GroupMode::kRatis);
}

// --- Effects -----------------------------------------------------------------------------------------------

void Group::Pump() {
  if (pumping_) return;
  pumping_ = true;
  while (core_->HasEffects()) {
    raft::Effects effects = core_->TakeEffects();
    if (effects.truncated_from) FailProposalsFrom(*effects.truncated_from);
    Persist(effects);
    for (raft::Outgoing& outgoing : effects.send_now) Send(std::move(outgoing));
    for (raft::OutgoingAfter& after : effects.send_after) {
      unsent_.push_back({std::move(after.outgoing), after.entry, after.hard_state_version});
    }
    SendReady();
    for (const raft::ReadReleased& released : effects.reads) {
      const auto it = reads_.find(released.token);
      if (it == reads_.end()) continue;
      if (released.ok) {
        it->second.index = std::max(released.index, it->second.at_least);
      } else {
        auto done = std::move(it->second.done);
        reads_.erase(it);
        done(ReplyCode::kReadIndex, absl::UnavailableError("no leader could confirm a read index"));
      }
    }
    for (const PeerId& peer : effects.send_snapshot) SendSnapshot(peer);
    if (effects.role) OnRole(*effects.role);
    if (!effects.reads.empty()) ReleaseReads();
  }
  pumping_ = false;
  MaybeApply();
  if (!watches_.empty()) CheckWatches();
}

void Group::Persist(raft::Effects& effects) {
  if (!effects.hard_state && effects.append.empty()) return;
  if (effects.hard_state) {
    unwritten_hard_state_ = std::move(effects.hard_state);
    hard_state_version_ = effects.hard_state_version;
  }
  if (!effects.append.empty()) {
    SayCluster(effects.append);
    for (const raft::Entry& entry : effects.append) log_bytes_since_checkpoint_ += entry.payload.size() + 64;
    DropUnwrittenFrom(effects.append.front().at.index);  // the core has truncated there
    unwritten_.push_back(std::move(effects.append));
  }
  WriteOut();
}

// What waits is always the end of the core's log, without a gap.
void Group::DropUnwrittenFrom(Index from) {
  while (!unwritten_.empty() && unwritten_.back().back().at.index >= from) {
    unwritten_.back().pop_back();
    if (unwritten_.back().empty()) unwritten_.pop_back();
  }
}

void Group::WriteOut() {
  if (!failed_.ok()) return;
  // By itself: a vote needs no room for entries, and an older entry may follow a newer term (F-13).
  if (unwritten_hard_state_) {
    log::AppendBatch batch{parts_.spec.id, unwritten_hard_state_, {}};
    if (TryWrite(batch)) unwritten_hard_state_.reset();
  }
  while (!unwritten_.empty()) {
    log::AppendBatch batch{parts_.spec.id, std::nullopt, std::move(unwritten_.front())};
    if (TryWrite(batch)) {
      unwritten_.pop_front();
      continue;
    }
    if (!std::exchange(log_full_, true)) {
      LogWarn("group {}: the log has no room; writes wait, or are refused", parts_.spec.id.ToString());
    }
    unwritten_.front() = std::move(batch.entries);
    return;
  }
  if (unwritten_hard_state_) {
    log_full_ = true;  // tried again at the next tick
    return;
  }
  if (std::exchange(log_full_, false)) {
    LogInfo("group {}: the log has room again", parts_.spec.id.ToString());
  }
}

bool Group::TryWrite(log::AppendBatch& batch) {
  const TermIndex last = batch.entries.empty() ? TermIndex{Term{0}, kNoIndex} : batch.entries.back().at;
  const uint64_t version = batch.hard_state ? hard_state_version_ : 0;
  log::Log::Done done = [this, alive = alive_, last, version](absl::Status status) {
    if (*alive) OnPersisted(last, version, std::move(status));
  };
  return parts_.log->TryAppend(batch, parts_.shard, done);
}

void Group::OnPersisted(TermIndex upto, uint64_t hard_state_version, absl::Status status) {
  if (!status.ok()) return Fail(std::move(status));
  if (hard_state_version > 0) {
    hard_state_persisted_ = std::max(hard_state_persisted_, hard_state_version);
    core_->HardStatePersisted(hard_state_version);
  }
  if (upto.index.valid()) core_->Persisted(upto);
  SendReady();
  AnswerAsked();
  Pump();
  if (log_full_) WriteOut();
}

void Group::SendReady() {
  // In order: a later message never overtakes one that still waits.
  while (!unsent_.empty()) {
    UnsentAfter& first = unsent_.front();
    if (first.hard_state_version > hard_state_persisted_) return;
    // The entry is durable, or is gone because it was truncated: then the message no longer says anything
    // wrong about it that the receiver could rely on, since its term has passed.
    if (first.entry.index.valid() && first.entry.index > core_->durable() &&
        core_->TermAt(first.entry.index) == first.entry.term) {
      return;
    }
    const bool lost = first.entry.index.valid() && core_->TermAt(first.entry.index).has_value() &&
                      core_->TermAt(first.entry.index) != first.entry.term;
    raft::Outgoing outgoing = std::move(first.outgoing);
    unsent_.pop_front();
    if (!lost) Send(std::move(outgoing));
  }
}

void Group::Send(raft::Outgoing outgoing) {
  if (peers_ == nullptr) return;
  if (outgoing.entries_end > outgoing.entries_from) return SendEntries(std::move(outgoing));
  const raft::Peer* peer = core_->configuration().Find(outgoing.to);
  raft::Peer stranger;
  if (peer == nullptr) {  // an answer to somebody who is not in the configuration
    stranger.id = outgoing.to;
    peer = &stranger;
  }
  peers_->Send(parts_.spec.id, *peer, std::move(outgoing.message));
}

void Group::SendEntries(raft::Outgoing outgoing) {
  const raft::Peer* peer = core_->configuration().Find(outgoing.to);
  const Term term = core_->term();
  if (peer == nullptr || std::get<raft::AppendRequest>(outgoing.message).term != term) return;
  // What the log has not taken yet (F-12): there it may still hold what the core has truncated.
  const Index end = outgoing.entries_end;
  const Index waiting = unwritten_.empty() ? end : std::min(end, unwritten_.front().front().at.index);
  std::vector<raft::Entry> tail;
  for (const auto& batch : unwritten_) {
    for (const raft::Entry& entry : batch) {
      if (entry.at.index >= outgoing.entries_from && entry.at.index < end) tail.push_back(entry);
    }
  }
  const Index from = outgoing.entries_from;
  const uint64_t bytes_max = 64u << 20;  // the core has bounded the range already
  std::vector<raft::Entry> entries;
  if (from < waiting) entries = parts_.log->ReadCached(parts_.spec.id, from, waiting, bytes_max);
  if (entries.size() + tail.size() == static_cast<size_t>(end - from)) {
    return SendWith(std::move(outgoing), *peer, std::move(entries), std::move(tail));
  }
  parts_.log->Read(parts_.spec.id, from, waiting, bytes_max, parts_.shard,
                   [this, alive = alive_, outgoing = std::move(outgoing), to = *peer, term,
                    tail = std::move(tail)](absl::StatusOr<std::vector<raft::Entry>> read) mutable {
                     if (!*alive || stopped_ || core_->term() != term) return;
                     if (!read.ok()) {
                       OnUnreadable(outgoing.entries_from, outgoing.entries_end, read.status());
                       read = std::vector<raft::Entry>();
                     }
                     SendWith(std::move(outgoing), to, std::move(*read), std::move(tail));
                     Pump();
                   });
}

// Only what the core means: its log is the truth, whatever was read.
void Group::SendWith(raft::Outgoing outgoing, const raft::Peer& peer, std::vector<raft::Entry> entries,
                     std::vector<raft::Entry> tail) {
  std::move(tail.begin(), tail.end(), std::back_inserter(entries));
  bool whole = entries.size() == static_cast<size_t>(outgoing.entries_end - outgoing.entries_from);
  Index index = outgoing.entries_from;
  for (const raft::Entry& entry : entries) {
    whole = whole && entry.at.index == index && core_->TermAt(index) == entry.at.term;
    index = index.Next();
  }
  if (!whole) return core_->Unreachable(peer.id);  // probed again, from wherever it then is
  std::get<raft::AppendRequest>(outgoing.message).entries = std::move(entries);
  peers_->Send(parts_.spec.id, peer, std::move(outgoing.message));
}

void Group::OnRole(const raft::RoleChange& change) {
  const bool leading = change.role == raft::Role::kLeader;
  const bool was_leading = std::exchange(was_leader_, leading);
  role_since_ = parts_.clock->MonotonicNow();
  if (!leading) leader_heard_ = role_since_;
  LogInfo("group {}: {} in term {}, leader {}{}", parts_.spec.id.ToString(), leading ? "leads" : "follows",
          change.term.value, change.leader.empty() ? std::string("unknown") : Printable(change.leader.value),
          leading && change.ready ? ", ready" : "");
  if (was_leading && !leading) {
    again_.clear();
    again_proposed_.clear();
    auto watches = std::exchange(watches_, {});
    for (Watch& watch : watches) watch.reply(NotLeader());
    // Proposals stay: they may still be committed, and are answered when they are applied or truncated; who
    // waits is told at once that this server does not lead.
    auto waiting = std::exchange(waiting_, {});
    proposed_.clear();
    pending_bytes_ = 0;
    for (auto& [key, entry] : waiting) Refuse(std::move(entry), NotLeader());
  }
  if (parts_.on_role) parts_.on_role(was_leading);
}

void Group::Fail(absl::Status status) {
  if (!failed_.ok()) return;
  failed_ = std::move(status);
  LogError("group {}: stopped: {}; this server neither votes nor acknowledges any more",
           parts_.spec.id.ToString(), Message(failed_));
  unwritten_hard_state_.reset();
  unwritten_.clear();
  core_->StorageFailed();
  Pump();
  auto waiting = std::exchange(waiting_, {});
  proposed_.clear();
  pending_bytes_ = 0;
  for (auto& [key, entry] : waiting) Refuse(std::move(entry), Stopped());
  ReleaseReads();
}

ClientReply Group::Stopped() const {
  ClientReply reply;
  reply.code = ReplyCode::kUnavailable;
  reply.error = absl::UnavailableError(fmt::format("the group stopped here: {}", Message(failed_)));
  return reply;
}

// --- Applying ----------------------------------------------------------------------------------------------

void Group::MaybeApply() {
  if (applying_ || replacing_ || stopped_ || !failed_.ok()) return;
  // Never beyond what is durable here: the applied index must not get ahead of the log after a crash.
  const Index end = std::min(core_->commit(), core_->durable()).Next();
  const Index from = applied_.index.Next();
  if (from >= end) {
    ReleaseReads();
    return MaybeWriteFacts();
  }
  applying_ = true;
  applying_since_ = parts_.clock->MonotonicNow();
  constexpr uint64_t kApplyBytesMax = 4u << 20;
  auto entries = parts_.log->ReadCached(parts_.spec.id, from, end, kApplyBytesMax);
  if (!entries.empty()) return ApplyBatch(std::move(entries));
  parts_.log->Read(parts_.spec.id, from, end, kApplyBytesMax, parts_.shard,
                   [this, alive = alive_](absl::StatusOr<std::vector<raft::Entry>> read) {
                     if (!*alive) return;
                     if (!read.ok()) {
                       applying_ = false;
                       return Fail(read.status());
                     }
                     ApplyBatch(std::move(*read));
                   });
}

// The first leader, once it has applied all there is, says what the group is; clients wait for that.
void Group::MaybeWriteFacts() {
  if (facts_known_ || parts_.spec.mode == GroupMode::kRatis || !core_->ready() ||
      applied_.index != core_->commit() || facts_proposed_ == core_->term()) {
    return;
  }
  GroupFacts facts{parts_.spec.mode, parts_.spec.machine, parts_.cluster->id()};
  if (facts.cluster.IsZero()) facts.cluster = parts_.new_cluster;
  if (!core_->Propose({EncodeFactsEntry(facts)}).ok()) return;
  facts_proposed_ = core_->term();
  Pump();
}

// A log that was written before the server ended may say the cluster, although nothing of it is applied.
void Group::FindCluster() {
  const Index first = core_->first_index();
  const Index end = core_->last().index.Next();
  if (facts_known_ || first >= end) return;
  constexpr uint64_t kBytesMax = 1u << 20;  // the facts are the first command
  parts_.log->Read(parts_.spec.id, first, end, kBytesMax, parts_.shard,
                   [this, alive = alive_](absl::StatusOr<std::vector<raft::Entry>> read) {
                     if (*alive && read.ok()) SayCluster(*read);
                   });
}

void Group::SayCluster(const std::vector<raft::Entry>& entries) {
  if (facts_known_) return;
  for (const raft::Entry& entry : entries) {
    if (entry.kind != raft::EntryKind::kCommand) continue;
    const auto command = DecodeCommand(entry.payload);
    if (!command.ok()) continue;
    const auto facts = FactsOf(*command);
    if (facts.ok() && *facts && !(*facts)->cluster.IsZero()) parts_.cluster->Said((*facts)->cluster);
  }
}

void Group::ApplyBatch(std::vector<raft::Entry> entries) {
  parts_.apply->Post([this, alive = alive_, entries = std::move(entries)]() mutable {
    auto applied = std::make_shared<absl::StatusOr<Applied>>(applier_->Apply(entries));
    const bool full = absl::IsResourceExhausted(applied->status());
    if (!full) entries.clear();
    parts_.shard->Post([this, alive, applied, full, entries = std::move(entries)]() mutable {
      if (!*alive || stopped_) return;
      if (!full) {
        apply_refused_since_.reset();
        return OnApplied(std::move(*applied));
      }
      // The disk is full: the same again, until it is not (F-12).
      LogWarn("group {}: {}", parts_.spec.id.ToString(), Message(applied->status()));
      if (!apply_refused_since_) apply_refused_since_ = parts_.clock->MonotonicNow();
      ReleaseReads();
      parts_.shard->PostAfter(kFullDiskRetry, [this, alive, entries = std::move(entries)]() mutable {
        if (*alive && !stopped_) ApplyBatch(std::move(entries));
      });
    });
  });
}

// --- Whether this server can serve -------------------------------------------------------------------------

// Whoever cannot apply for an election timeout, or whose log takes nothing for as long, answers nobody, and
// lets another one lead.
absl::Status Group::Fit() const {
  const env::Instant now = parts_.clock->MonotonicNow();
  const auto patience = std::chrono::milliseconds(parts_.options->election_timeout_max_ms);
  const std::string& self = parts_.options->self.id.value;
  if (apply_refused_since_ && now - *apply_refused_since_ >= patience) return ApplyBlocked();
  if (core_->disk_stalled() && log_full_) {
    return absl::UnavailableError(
        fmt::format("the log of server {} has no room: its disk is full; make room on it", self));
  }
  if (core_->disk_stalled()) {
    return absl::UnavailableError(fmt::format("the log's disk of server {} does not answer", self));
  }
  return apply_hangs_;
}

absl::Status Group::ApplyHangs() const {
  const env::Instant now = parts_.clock->MonotonicNow();
  // Twice as long: where the syncs of a checkpoint are slow, every server has to wait for them.
  const auto patience = 2 * std::chrono::milliseconds(parts_.options->election_timeout_max_ms);
  const auto asked = ApplyAskedAt();
  if (!asked || now - *asked < patience) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("server {} cannot apply: its index has not answered for {} ms",
                                            parts_.options->self.id.value,
                                            (now - *asked) / std::chrono::milliseconds(1)));
}

// Since when the apply executor owes an answer.
std::optional<env::Instant> Group::ApplyAskedAt() const {
  std::optional<env::Instant> oldest = probe_since_;
  const auto also = [&oldest](env::Instant at) { oldest = std::min(at, oldest.value_or(at)); };
  if (applying_ && !apply_refused_since_) also(applying_since_);
  if (!lookups_.empty()) also(lookups_.begin()->second.begun);
  return oldest;
}

// Why what is committed is not applied soon.
absl::Status Group::ApplyBlocked() const {
  if (apply_refused_since_) {
    return absl::UnavailableError(
        fmt::format("applied entries wait for room on the disk of server {}", parts_.options->self.id.value));
  }
  return apply_hangs_;
}

// Why what a read waits for is not applied soon.
absl::Status Group::ReadBlocked(const Read& read) const {
  if (!failed_.ok()) return Stopped().error;
  if (core_->disk_stalled() && read.index > core_->durable()) return unfit_;
  return ApplyBlocked();
}

void Group::CheckFitness() {
  const bool apply_turned = CheckApply();
  absl::Status fit = failed_.ok() ? Fit() : absl::OkStatus();
  const bool turned = fit.ok() != unfit_.ok();
  unfit_ = std::move(fit);
  if (turned && unfit_.ok()) {
    LogInfo("group {}: server {} serves again", parts_.spec.id.ToString(), parts_.options->self.id.value);
  } else if (turned) {
    LogWarn("group {}: {}", parts_.spec.id.ToString(), Message(unfit_));
  }
  const bool alone = core_->configuration().voters.size() < 2;
  if (turned) core_->SetMayLead(unfit_.ok() || alone);
  if (turned || apply_turned) ReleaseReads();
  if (turned) Pump();
}

// True if the apply executor began to hang now, or to answer again.
bool Group::CheckApply() {
  absl::Status hangs = ApplyHangs();
  const bool turned = hangs.ok() != apply_hangs_.ok();
  apply_hangs_ = std::move(hangs);
  if (!turned || apply_hangs_.ok()) return turned;
  // When this comes back, everything before it has.
  probe_since_ = ApplyAskedAt();
  parts_.apply->Post([this, alive = alive_, shard = parts_.shard] {
    shard->Post([this, alive] {
      if (*alive) probe_since_.reset();
    });
  });
  auto lookups = std::exchange(lookups_, {});
  for (auto& [token, lookup] : lookups) lookup.refuse(apply_hangs_);
  return true;
}

// Entries that a full or slow majority does not take: who waits is told, and nobody new begins to wait.
void Group::CheckCommit() {
  const env::Instant now = parts_.clock->MonotonicNow();
  const bool waits = leads() && core_->last().index > core_->commit();
  if (!waits || core_->commit() != commit_seen_) {
    commit_seen_ = core_->commit();
    commit_moved_at_ = now;
    commit_stalls_ = false;
    return;
  }
  if (now - commit_moved_at_ < 2 * std::chrono::milliseconds(parts_.options->election_timeout_max_ms)) return;
  if (!std::exchange(commit_stalls_, true)) {
    LogWarn("group {}: {}", parts_.spec.id.ToString(), Message(NotTaken()));
  }
  AnswerInDoubt(ReplyCode::kNotReplicated, absl::UnavailableError(NotTaken().message()));
}

// They stay in the log, and may be executed yet: the pending calls stay too, for their retries.
void Group::AnswerInDoubt(ReplyCode code, const absl::Status& why) {
  for (auto& [key, waiting] : waiting_) {
    auto replies = std::exchange(waiting.replies, {});
    for (auto& [done, replication] : replies) {
      ClientReply reply;
      reply.code = code;
      reply.error = why;
      reply.log_index = waiting.index;
      done(std::move(reply));
    }
  }
}

absl::Status Group::NotTaken() const {
  std::string who;
  for (const auto& peer : core_->Progress()) {
    if (peer.match < core_->last().index && !peer.learner) who += fmt::format(" {}", peer.id.value);
  }
  return absl::ResourceExhaustedError(
      fmt::format("entry {} waits for a majority for {} ms: these servers do not take it, is there room on "
                  "their disks?{}",
                  core_->commit().Next().value,
                  (parts_.clock->MonotonicNow() - commit_moved_at_) / std::chrono::milliseconds(1), who));
}

absl::Status Group::Serving() const {
  const std::string& self = parts_.options->self.id.value;
  if (stopped_) return absl::UnavailableError("the server is stopping");
  if (!failed_.ok()) return Stopped().error;
  if (!unfit_.ok()) return unfit_;
  if (auto blocked = ApplyBlocked(); !blocked.ok()) return blocked;
  if (core_rests_) return absl::UnavailableError("a snapshot is being installed");
  if (leads() && commit_stalls_) return NotTaken();
  if (leads() && !ready()) {
    return absl::UnavailableError(fmt::format("server {} was elected, and has not applied all yet", self));
  }
  if (core_->leader().empty()) {
    const absl::Status waits = Waits();
    return waits.ok() ? absl::UnavailableError("there is no leader, or none that is heard") : waits;
  }
  if (auto room = parts_.log->HasRoom(0); !room.ok()) return room;
  return absl::OkStatus();
}

// --- Applying, again ---------------------------------------------------------------------------------------

void Group::OnApplied(absl::StatusOr<Applied> applied) {
  applying_ = false;
  if (stopped_) return;
  if (!applied.ok()) return Fail(applied.status());
  applied_ = applied->upto;
  facts_known_ = applied->facts_known;
  clock_ms_ = applied->clock_ms;
  if (parts_.on_cluster && !applied->cluster.IsZero()) parts_.on_cluster(applied->cluster);
  core_->Applied(applied_.index);
  for (const Outcome& outcome : applied->outcomes) {
    const StoredReply& stored = outcome.stored;
    const auto it = waiting_.find(outcome.key);
    if (it != waiting_.end() && stored.entry() == stored.index) {
      Waiting waiting = std::move(it->second);
      waiting_.erase(it);
      proposed_.erase(waiting.index);
      pending_bytes_ -= waiting.bytes;
      const ClientReply reply = FromStored(stored);
      for (auto& [done, replication] : waiting.replies) {
        AnswerWrite(std::move(done), replication, outcome.key.call, reply);
      }
    }
    again_proposed_.erase(stored.entry());
    sessions_->Record(outcome.key, stored);
  }
  std::erase_if(again_proposed_, [&](const auto& one) { return one.second < applied->first_kept; });
  sessions_->ForgetBefore(applied->first_kept);
  RememberedBytes().Increment(static_cast<double>(sessions_->bytes()) -
                              static_cast<double>(std::exchange(replies_told_, sessions_->bytes())));
  if (parts_.on_applied) parts_.on_applied(*applied);
  ReleaseReads();
  Pump();
  MaybeApply();
}

void Group::MaybeCheckpoint() {
  const env::Instant now = parts_.clock->MonotonicNow();
  env::Duration every = std::chrono::milliseconds(parts_.options->checkpoint_ms);
  // A life that is short must not leave less room to the next one than it found.
  if (ShortOfRoom()) every = std::min<env::Duration>(every, std::chrono::milliseconds(500));
  const bool due =
      now - last_checkpoint_ >= every || log_bytes_since_checkpoint_ >= parts_.options->log_bytes_checkpoint;
  if (!due || checkpointing_ || replacing_ || !failed_.ok()) return;
  last_checkpoint_ = now;
  if (applied_.index <= checkpointed_) return CompactLog();  // somebody may need less of it than before
  checkpointing_ = true;
  log_bytes_since_checkpoint_ = 0;
  parts_.apply->Post([this, alive = alive_] {
    auto covered = std::make_shared<absl::StatusOr<TermIndex>>(applier_->Checkpoint());
    parts_.shard->Post([this, alive, covered] {
      if (!*alive) return;
      checkpointing_ = false;
      if (stopped_) return;
      if (absl::IsResourceExhausted(covered->status())) {
        // A full disk is no broken one: the log keeps its entries, and the next turn tries again (F-12).
        LogWarn("group {}: no checkpoint: {}", parts_.spec.id.ToString(), Message(covered->status()));
        return;
      }
      if (!covered->ok()) return Fail(covered->status());
      checkpointed_ = (*covered)->index;
      CompactLog();
      Pump();
    });
  });
}

}  // namespace sluice::node
