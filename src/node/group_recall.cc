// Group after damage: asks the other servers about entries that were lost here, and answers them (F-04 to
// F-08). What follows from the answers is decided in raft/recall.h.
#include <algorithm>

#include "base/log.h"
#include "node/group.h"

namespace sluice::node {
namespace {

constexpr uint64_t kRecallBytesMax = 1u << 20;  // of payload in one answer; a larger entry travels alone

}  // namespace

raft::Damage Group::CurrentDamage() const {
  raft::Damage damage = damage_;
  // What lies behind the damage is gone as soon as the log has moved.
  if (damage.last != core_->last()) damage.beyond.clear();
  damage.last = core_->last();
  if (core_->promised_last()) damage.promised = *core_->promised_last();
  return damage;
}

// A leader repairs what is lost here, by sending it, and says how far that may have been; without one, the
// servers tell each other.
void Group::MaybeRecall() {
  const bool asks_all = core_->forgetful() || !core_->HearsLeader();
  const bool repairs = core_->repairing() && (asks_all || core_->promised_last()->index == raft::kEndUnknown);
  if ((!repairs && !core_->forgetful()) || bytes_ == nullptr || !failed_.ok() || core_rests_ || mending_)
    return;
  const env::Instant now = parts_.clock->MonotonicNow();
  if (now < next_recall_) return;
  if (recall_round_ > 0 && asks_all) TellWaits();
  next_recall_ = now + std::chrono::milliseconds(parts_.options->election_timeout_min_ms);
  raft::RecallRequest request{core_->last().index.Next(), Term{0}};
  if (std::exchange(wants_fence_, false) && asks_all) request.fence = damage_.acknowledged_in.Next();
  recalled_.clear();
  asked_about_ = core_->last();
  const uint64_t round = ++recall_round_;
  bool asked = false;
  for (const raft::Peer& peer : core_->configuration().AllPeers()) {
    if (peer.id == parts_.options->self.id || !core_->configuration().IsVoter(peer.id)) continue;
    asked = true;
    if (!asks_all && peer.id != core_->leader()) continue;
    bytes_->Recall(peer, parts_.spec.id, request, parts_.shard,
                   [this, alive = alive_, round, id = peer.id](absl::StatusOr<raft::RecallReply> reply) {
                     // An error is no answer: also that of a foreign peer, which knows no such call.
                     if (*alive && !stopped_ && round == recall_round_ && reply.ok())
                       OnRecalled(id, *std::move(reply));
                   });
  }
  if (!asked && core_->forgetful()) OnAllTold();
}

void Group::OnRecalled(const PeerId& peer, raft::RecallReply reply) {
  recalled_.insert_or_assign(peer, std::move(reply));
  if (core_->forgetful()) OnAllTold();
  const std::optional<TermIndex> end = raft::LeadersEnd(recalled_[peer]);
  if (end && core_->LeaderEndsAt(*end)) {
    LogInfo("group {}: what was lost here went no further than entry {}, the last of the leader",
            parts_.spec.id.ToString(), end->index.value);
    parts_.log->LowerPromise(parts_.spec.id, *end);
  }
  // What follows the log's end is told; a log that has moved since has another end.
  const bool as_asked = core_->last() == asked_about_;
  if (core_->repairing() && !core_->HearsLeader() && as_asked && failed_.ok() && !core_rests_ && !mending_)
    ConcludeRecall();
  Pump();
}

// A vote that this server gave and forgot was asked for by a server that had gone to its term before.
void Group::OnAllTold() {
  Term highest = core_->term();
  for (const raft::Peer& peer : core_->configuration().AllPeers()) {
    if (peer.id == parts_.options->self.id || !core_->configuration().IsVoter(peer.id)) continue;
    const auto reply = recalled_.find(peer.id);
    if (reply == recalled_.end() || !reply->second.voting) return;
    highest = std::max(highest, reply->second.term);
  }
  core_->OthersTold(highest);
  if (core_->forgetful()) return;  // the others are many terms ahead: the next round goes on
  LogWarn(
      "group {}: the hard state was lost; no vote of this server reached beyond term {}, it votes again "
      "after it",
      parts_.spec.id.ToString(), highest.value);
  damage_.acknowledged_in = std::max(core_->term(), highest);
  parts_.log->LowerPromise(parts_.spec.id, {damage_.acknowledged_in, raft::kEndUnknown});
}

void Group::ConcludeRecall() {
  const Index first = core_->last().index.Next();
  raft::RecallStep step =
      raft::Conclude(core_->configuration(), parts_.options->self.id, CurrentDamage(), recalled_);
  if (!step.mend.empty()) {
    LogInfo("group {}: entries {} to {} were lost here, another server has them", parts_.spec.id.ToString(),
            first.value, step.mend.back().at.index.value);
    mending_ = true;
    return parts_.log->Mend(parts_.spec.id, std::move(step.mend), parts_.shard,
                            [this, alive = alive_](const absl::Status& status) {
                              if (*alive && !stopped_) OnMended(status);
                            });
  }
  if (step.cut) {
    LogWarn("group {}: what was lost here from entry {} on was never committed: it is cut",
            parts_.spec.id.ToString(), first.value);
    parts_.log->GiveUp(parts_.spec.id);
    core_->GiveUpLost();
    waits_for_.clear();
    return;
  }
  wants_fence_ = step.fence;
}

// Once a round has had its time: whom it lacked.
void Group::TellWaits() {
  std::vector<PeerId> waits_for;
  if (core_->forgetful()) {
    for (const raft::Peer& peer : core_->configuration().AllPeers()) {
      const auto reply = recalled_.find(peer.id);
      const bool told = reply != recalled_.end() && reply->second.voting;
      if (core_->configuration().IsVoter(peer.id) && peer.id != parts_.options->self.id && !told)
        waits_for.push_back(peer.id);
    }
  } else {
    waits_for =
        raft::Conclude(core_->configuration(), parts_.options->self.id, CurrentDamage(), recalled_).waits_for;
  }
  if (waits_for == waits_for_) return;
  waits_for_ = std::move(waits_for);
  if (!waits_for_.empty()) LogWarn("group {}: {}", parts_.spec.id.ToString(), Message(Waits()));
}

// Not ok while this server waits for what others know of something that was lost here.
absl::Status Group::Waits() const {
  const bool lost = core_->repairing() && !core_->HearsLeader();
  if (waits_for_.empty() || !(lost || core_->forgetful())) return absl::OkStatus();
  std::string names;
  for (const PeerId& id : waits_for_) names += " " + Printable(id.value);
  if (core_->forgetful()) {
    return absl::UnavailableError(fmt::format(
        "the hard state was lost here; to vote again this server has to hear the terms of{}", names));
  }
  return absl::UnavailableError(
      fmt::format("entry {} was lost here, it may be committed, and nobody who answers has it; waits for{}",
                  core_->last().index.Next().value, names));
}

void Group::OnMended(const absl::Status& status) {
  mending_ = false;
  if (!status.ok()) {
    LogWarn("group {}: lost entries could not be put back: {}", parts_.spec.id.ToString(), Message(status));
    return;  // the next round tries again
  }
  const Index first = core_->last().index.Next();
  std::vector<raft::EntryInfo> entries;
  const bool as_it_was = damage_.last == core_->last();
  for (auto& info : parts_.log->TakeMended(parts_.spec.id)) {
    entries.push_back({info.term, info.kind, info.bytes, std::move(info.configuration)});
  }
  const size_t count = std::min(entries.size(), damage_.beyond.size());
  core_->Restored(first, std::move(entries));
  if (as_it_was)
    damage_.beyond.erase(damage_.beyond.begin(), damage_.beyond.begin() + static_cast<ptrdiff_t>(count));
  damage_.last = core_->last();
  next_recall_ = {};
  Pump();
}

// --- The server that is asked ------------------------------------------------------------------------------

void Group::Recall(const PeerId& from, const raft::RecallRequest& request, RecallDone done) {
  if (stopped_ || !failed_.ok() || core_rests_) {
    return done(absl::UnavailableError(fmt::format("group {} does not run here", parts_.spec.id.ToString())));
  }
  if (core_->configuration().IsVoter(from)) core_->Fence(request.fence);
  Pump();
  // The term that is told must be durable.
  if (hard_state_persisted_ < hard_state_version_) {
    if (asked_.size() >= kAskedMax)
      return done(absl::UnavailableError("too many wait for this group's disk"));
    return asked_.push_back({request, std::move(done)});
  }
  AnswerRecall(request, std::move(done));
}

void Group::AnswerAsked() {
  if (asked_.empty() || hard_state_persisted_ < hard_state_version_) return;
  for (Asked& asked : std::exchange(asked_, {})) AnswerRecall(asked.request, std::move(asked.done));
}

void Group::AnswerRecall(const raft::RecallRequest& request, RecallDone done) {
  const raft::Damage damage = CurrentDamage();
  raft::RecallReply reply = raft::AnswerRecall(*core_, &damage, request);
  const auto lost = std::ranges::find_if(reply.entries, [](const auto& entry) { return !entry.intact; });
  if (lost == reply.entries.begin()) {
    if (!reply.entries.empty()) reply.entries.resize(1);
    return done(std::move(reply));
  }
  const Index first = std::max(request.from, reply.base.Next());
  const Index end = first + static_cast<int64_t>(lost - reply.entries.begin());
  const TermIndex last = core_->last();
  parts_.log->Read(parts_.spec.id, first, end, kRecallBytesMax, parts_.shard,
                   [this, alive = alive_, first, last, reply = std::move(reply),
                    done = std::move(done)](absl::StatusOr<std::vector<raft::Entry>> read) mutable {
                     // More at its end changes nothing: at a leader there is always more.
                     if (!*alive || stopped_ || core_->TermAt(last.index) != last.term) {
                       return done(absl::UnavailableError("the log has moved"));
                     }
                     FillRecall(first, read.ok() ? *std::move(read) : std::vector<raft::Entry>(), reply);
                     done(std::move(reply));
                   });
}

// As many as could be read; behind them one that could not, if there is one: without payload it is "damaged".
void Group::FillRecall(Index first, std::vector<raft::Entry> read, raft::RecallReply& reply) {
  size_t filled = 0;
  for (raft::Entry& entry : read) {
    raft::Recalled& told = reply.entries[filled];
    if (entry.at != TermIndex{told.term, first + static_cast<int64_t>(filled)}) break;
    told.kind = entry.kind;
    told.payload = std::move(entry.payload);
    ++filled;
  }
  if (reply.entries.size() > filled) {
    reply.entries.resize(filled + 1);
    reply.entries[filled].intact = false;
  }
}

}  // namespace sluice::node
