// The leader's side of replication: proposals, sending, acknowledgements, commit.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {
namespace {

void AddTicks(uint32_t* counter, uint32_t ticks) {
  if (*counter < (1u << 30)) *counter += ticks;
}

}  // namespace

absl::Status Core::Impl::MayPropose() const {
  if (role_ != Role::kLeader) {
    return absl::FailedPreconditionError(
        leader_.empty() ? std::string("not the leader; no leader is known")
                        : fmt::format("not the leader; the leader is {}", leader_.value));
  }
  if (!transferee_.empty()) {
    return absl::UnavailableError(fmt::format("leadership is being transferred to {}", transferee_.value));
  }
  return absl::OkStatus();
}

absl::StatusOr<Index> Core::Impl::Propose(std::vector<Bytes> payloads) {
  RETURN_IF_ERROR(MayPropose());
  if (payloads.empty()) return absl::InvalidArgumentError("propose: no payloads");
  uint64_t bytes = 0;
  for (const Bytes& payload : payloads) bytes += payload.size();
  const auto uncommitted = static_cast<uint64_t>(log_.last().index - commit_);
  const bool idle = uncommitted == 0;
  if (!idle && (uncommitted_bytes_ + bytes > options_.uncommitted_bytes_max ||
                uncommitted + payloads.size() > options_.uncommitted_entries_max)) {
    return absl::ResourceExhaustedError(
        fmt::format("propose {} bytes: {} entries with {} bytes are uncommitted", bytes, uncommitted,
                    uncommitted_bytes_));
  }
  const Index first = log_.last().index.Next();
  uncommitted_bytes_ += bytes;
  for (Bytes& payload : payloads) {
    AppendOne({{hard_state_.term, log_.last().index.Next()}, EntryKind::kCommand, std::move(payload)},
              std::nullopt);
  }
  SendAppendsToAll();
  return first;
}

absl::StatusOr<Index> Core::Impl::ProposeConfiguration(const Configuration& configuration) {
  RETURN_IF_ERROR(MayPropose());
  RETURN_IF_ERROR(CheckConfiguration(configuration));
  if (configuration.voters.empty()) return absl::InvalidArgumentError("configuration: no voters");
  if (log_.configuration_index() > commit_) {
    return absl::FailedPreconditionError(
        fmt::format("configuration entry {} is not committed yet", log_.configuration_index().value));
  }
  const Index index = log_.last().index.Next();
  Entry entry{{hard_state_.term, index}, EntryKind::kConfiguration, EncodeConfiguration(configuration)};
  uncommitted_bytes_ += entry.payload.size();
  AppendOne(std::move(entry), configuration);
  SendAppendsToAll();
  return index;
}

void Core::Impl::RebuildProgress() {
  std::map<PeerId, ReplicaProgress> old = std::exchange(progress_, {});
  for (const Peer& peer : configuration().AllPeers()) {
    if (IsSelf(peer.id)) continue;
    auto known = old.find(peer.id);
    // A peer's own hint finds the shared end in one step, so that the guess may be high.
    progress_.emplace(peer.id,
                      known != old.end() ? known->second : ReplicaProgress(log_.last().index.Next()));
  }
}

void Core::Impl::SendAppendsToAll() {
  for (auto& [id, progress] : progress_) SendAppends(id, progress);
}

void Core::Impl::SendAppends(const PeerId& to, ReplicaProgress& progress) {
  const ReplicaProgress::Limits limits{options_.inflight_appends_max, options_.inflight_bytes_max};
  // Whoever is silent gets heartbeats only, until it answers one.
  if (progress.state() == ReplicaProgress::State::kProbe && !IsActive(progress)) return;
  while (progress.next() <= log_.last().index && progress.CanSend(limits)) {
    const Index previous = progress.next().Prev();
    std::optional<Term> previous_term = log_.TermAt(previous);
    if (!previous_term.has_value() || progress.next() <= unreadable_) {
      if (progress.snapshot_wait > 0) return;
      progress.AwaitSnapshot();
      effects_.send_snapshot.push_back(to);
      return;
    }
    uint64_t bytes = 0;
    const Index end = log_.BatchEnd(progress.next(), options_.append_batch_bytes_max, &bytes);
    AppendRequest request;
    request.call = NextCall();
    request.term = hard_state_.term;
    request.previous = {*previous_term, previous};
    request.commit = std::min(commit_, end.Prev());
    progress.since_sent = 0;
    progress.commit_sent = request.commit;
    const Index from = progress.next();
    progress.Sent(request.call, previous, end, bytes);
    Send({to, std::move(request), from, end});
  }
}

// A heartbeat names what the peer should have: one that lost it says so, also in an idle group (F-20).
void Core::Impl::SendHeartbeat(const PeerId& to, ReplicaProgress& progress) {
  Index previous = kNoIndex;
  if (progress.state() == ReplicaProgress::State::kReplicate) previous = progress.known();
  if (progress.state() == ReplicaProgress::State::kProbe) previous = progress.next().Prev();
  std::optional<Term> previous_term = log_.TermAt(previous);
  if (!previous_term.has_value()) previous = kNoIndex;
  AppendRequest request;
  request.call = NextCall();
  request.term = hard_state_.term;
  request.previous = {previous.valid() ? *previous_term : Term{0}, previous};
  request.commit = std::min(commit_, previous);
  progress.since_sent = 0;
  progress.since_heartbeat = 0;
  progress.commit_sent = request.commit;
  progress.HeartbeatSent(request.call, previous);
  Send(to, std::move(request));
}

void Core::Impl::SendHeartbeatToAll() {
  for (auto& [id, progress] : progress_) SendHeartbeat(id, progress);
}

void Core::Impl::AnnounceCommit(const PeerId& to, ReplicaProgress& progress) {
  if (progress.state() != ReplicaProgress::State::kReplicate || progress.inflight() != 0) return;
  // A heartbeat that cannot name what the peer has, because that is compacted, tells nothing.
  if (!log_.TermAt(progress.known()).has_value()) return;
  if (progress.commit_sent < std::min(commit_, progress.known())) SendHeartbeat(to, progress);
}

void Core::Impl::Handle(const PeerId& from, AppendReply& reply) {
  if (reply.term > hard_state_.term) {
    if (configuration().Find(from) != nullptr) BecomeFollower(reply.term, PeerId());
    return;
  }
  auto it = progress_.find(from);
  if (role_ != Role::kLeader || reply.term < hard_state_.term || it == progress_.end()) return;
  ReplicaProgress& progress = it->second;
  const Index last = log_.last().index;
  const bool accepted = reply.result == AppendResult::kSuccess && !reply.heartbeat;
  const bool beyond_ours = accepted
                               ? reply.next > last.Next() || reply.match >= reply.next
                               : reply.result == AppendResult::kInconsistency && reply.next > last.Next();
  if (reply.call >= next_call_ || beyond_ours || reply.result == AppendResult::kNotLeader) {
    ++impossible_;
    return;
  }
  progress.since_heard = 0;
  progress.Resume();
  progress.answered_call = std::max(progress.answered_call, reply.call);
  progress.commit = std::min(reply.commit, last);
  if (reply.result == AppendResult::kSuccess) {
    Accepted(from, progress, reply);
  } else {
    progress.Mismatch(reply.call, reply.next);
  }
  MaybeCommit();
  if (role_ != Role::kLeader) return;
  ConfirmReads();
  SendAppends(from, progress);
  MaybeFinishTransfer();
}

void Core::Impl::Accepted(const PeerId&, ReplicaProgress& progress, const AppendReply& reply) {
  if (!reply.heartbeat) {
    progress.Acknowledged(reply.call, reply.next, reply.match);
  } else {
    progress.HeartbeatAcknowledged(reply.call, reply.match);
  }
  if (progress.state() != ReplicaProgress::State::kSnapshot) return;
  // It has what it needs by another way, or the report of the transfer was lost.
  const Index its_next = std::min(reply.next, log_.last().index.Next());
  const bool has_it = its_next >= log_.first() && its_next > unreadable_;
  if (has_it) progress.Probe(std::max(its_next, progress.known().Next()));
}

void Core::Impl::MaybeCommit() {
  if (role_ != Role::kLeader) return;
  Index index = CommittedIndex(configuration(), [&](const PeerId& id) {
    if (IsSelf(id)) return durable_;  // not merely appended (F-36)
    auto it = progress_.find(id);
    return it == progress_.end() ? kNoIndex : it->second.match();
  });
#ifdef SLUICE_BREAK_COMMIT_EARLY
  index = std::min(index.Next(), log_.last().index);
#endif
  // Entries of earlier terms are committed only together with one of this term.
  if (index <= commit_ || log_.TermAt(index) != hard_state_.term) return;
  const bool was_ready = ready();
  SetCommit(index);
  if (log_.configuration_index() <= commit_ && !configuration().IsVoter(options_.self)) {
    for (auto& [id, progress] : progress_) AnnounceCommit(id, progress);
    StepDown();
    return;
  }
  if (!was_ready && ready()) StartWaitingReads();
}

void Core::Impl::Unreachable(const PeerId& peer) {
  auto it = progress_.find(peer);
  if (it == progress_.end()) return;
  it->second.Retreat();
  it->second.Pause();
}

void Core::Impl::Unreadable(Index index) {
  unreadable_ = std::max(unreadable_, index);
  if (index <= applied_ || role_ != Role::kLeader) return;
  // No snapshot of ours stands for this entry: another server has it, as far as it counts.
  StepDown();
}

void Core::Impl::SnapshotDone(const PeerId& peer, bool ok, Index at) {
  auto it = progress_.find(peer);
  if (it == progress_.end()) return;
  ReplicaProgress& progress = it->second;
  progress.SnapshotEnded(ok, options_.election_ticks_min);
  if (progress.state() == ReplicaProgress::State::kReplicate) return;
  if (ok) {
    // Also where it was probed meanwhile: a server that installs answers nothing, and seems to be away.
    progress.since_heard = 0;
    progress.Resume();
    progress.Probe(std::max(std::min(at, log_.last().index).Next(), progress.known().Next()));
    SendAppends(peer, progress);
    if (progress.inflight() == 0) SendHeartbeat(peer, progress);
  } else if (progress.state() == ReplicaProgress::State::kSnapshot) {
    progress.Probe(std::min(progress.next(), log_.last().index.Next()));
    progress.Pause();  // the next sign of life, and the end of snapshot_wait, start the next try
  }
}

bool Core::Impl::IsActive(const ReplicaProgress& progress) const {
  return progress.since_heard < options_.election_ticks_max;
}

bool Core::Impl::QuorumIsActive() const {
  return IsQuorum(configuration(), [&](const PeerId& id) {
    if (IsSelf(id)) return true;
    auto it = progress_.find(id);
    return it != progress_.end() && !it->second.hollow() && IsActive(it->second);
  });
}

void Core::Impl::TickLeader(uint32_t ticks) {
  for (auto& [id, progress] : progress_) {
    for (uint32_t* counter :
         {&progress.since_heard, &progress.since_sent, &progress.since_heartbeat, &progress.since_advance}) {
      AddTicks(counter, ticks);
    }
    progress.snapshot_wait -= std::min(progress.snapshot_wait, ticks);
  }
  if (!QuorumIsActive() || DiskStalled()) return StepDown();
  if (!transferee_.empty() && (transfer_elapsed_ += ticks) >= options_.election_ticks_max)
    transferee_ = PeerId();
  for (auto& [id, progress] : progress_) {
    // Lost on the way, or the peer's disk is slow: find out by offering the same again.
    const bool overdue = progress.inflight() > 0 && progress.since_advance >= options_.election_ticks_min;
    if (overdue) progress.Retreat();
    if (progress.state() == ReplicaProgress::State::kSnapshot && !IsActive(progress)) {
      progress.Probe(std::min(progress.next(), log_.last().index.Next()));
    }
    SendAppends(id, progress);
    // Answers to appends wait for the peer's disk, so that heartbeats go on beside them when there are none.
    const bool quiet = progress.since_sent >= options_.heartbeat_ticks;
    const bool unheard = progress.since_heard >= 2 * options_.heartbeat_ticks &&
                         progress.since_heartbeat >= options_.heartbeat_ticks;
    if (quiet || unheard) SendHeartbeat(id, progress);
    AnnounceCommit(id, progress);
  }
}

}  // namespace sluice::raft
