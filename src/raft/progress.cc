#include "raft/progress.h"

#include <algorithm>

namespace sluice::raft {

bool ReplicaProgress::CanSend(const Limits& limits) const {
  if (paused_ || state_ == State::kSnapshot) return false;
  if (inflight_.empty()) return true;
  return state_ == State::kReplicate && inflight_.size() < limits.appends && inflight_bytes_ < limits.bytes;
}

void ReplicaProgress::Sent(uint64_t call, Index previous, Index end, uint64_t bytes) {
  if (inflight_.empty()) since_advance = 0;
  inflight_.push_back({call, previous, end, bytes});
  inflight_bytes_ += bytes;
  last_call_ = call;
  // While probing, the same entries are offered again until the peer took them.
  if (state_ == State::kReplicate) next_ = end;
}

void ReplicaProgress::HeartbeatSent(uint64_t call, Index previous) {
  if (heartbeats_.size() >= kHeartbeatsMax) heartbeats_.pop_front();
  heartbeats_.push_back({call, previous, previous.Next(), 0});
}

void ReplicaProgress::Acknowledged(uint64_t call, Index next, Index match) {
  if (call < void_before_call_) return;
  while (!inflight_.empty() && inflight_.front().end <= next) {
    inflight_bytes_ -= inflight_.front().bytes;
    inflight_.pop_front();
  }
  since_advance = 0;
  hollow_ = !match.valid();
  known_ = std::max(known_, next.Prev());
  match_ = std::max(match_, match);
  next_ = std::max(next_, known_.Next());
  MaybeReplicate();
}

void ReplicaProgress::HeartbeatAcknowledged(uint64_t call, Index match) {
  const auto sent = std::find_if(heartbeats_.begin(), heartbeats_.end(),
                                 [&](const Inflight& heartbeat) { return heartbeat.call == call; });
  if (sent == heartbeats_.end()) return;
  const Index previous = sent->previous;
  heartbeats_.erase(heartbeats_.begin(), sent + 1);
  const Index proven = std::min(match, previous);
  if (proven.valid()) hollow_ = false;
  match_ = std::max(match_, proven);
  known_ = std::max(known_, previous);
  next_ = std::max(next_, known_.Next());
  MaybeReplicate();
}

// Only from a place that the peer has confirmed: where a pipeline breaks, it starts again at known().
void ReplicaProgress::MaybeReplicate() {
  if (state_ == State::kProbe && inflight_.empty() && next_ == known_.Next()) state_ = State::kReplicate;
}

bool ReplicaProgress::Mismatch(uint64_t call, Index hint) {
  std::optional<Inflight> request = Find(call);
  if (!request.has_value()) return false;
  const Index first = request->previous.Next();
  if (hint < first && request->previous <= known_) {
    // It had acknowledged that entry: it has lost part of its log since (wiped, F-20, or damaged, F-04).
    known_ = hint.Prev();
    match_ = std::min(match_, known_);
    void_before_call_ = std::max(last_call_, call) + 1;
  } else {
    hint = std::max(hint, known_.Next());
    // Offering the same entries again would be answered in the same way for ever. What the peer has confirmed
    // stays where it is, whatever it says now: there the same is offered again with the next sign of life.
    if (hint == first) hint = std::max(first.Prev(), known_.Next());
    if (hint == first) Pause();
  }
  Probe(hint);
  return true;
}

void ReplicaProgress::Probe(Index next) {
  state_ = State::kProbe;
  next_ = next;
  ClearInflight();
}

void ReplicaProgress::Retreat() {
  if (state_ == State::kSnapshot) return;
  Probe(state_ == State::kReplicate ? known_.Next() : next_);
}

void ReplicaProgress::SnapshotEnded(bool ok, uint32_t pause) {
  snapshot_pauses_ = ok ? 0 : std::clamp(2 * snapshot_pauses_, 1u, kSnapshotPausesMax);
  snapshot_wait = snapshot_pauses_ * pause;
}

void ReplicaProgress::AwaitSnapshot() {
  state_ = State::kSnapshot;
  ClearInflight();
}

std::optional<ReplicaProgress::Inflight> ReplicaProgress::Find(uint64_t call) const {
  for (const Inflight& heartbeat : heartbeats_) {
    if (heartbeat.call == call) return heartbeat;
  }
  for (const Inflight& append : inflight_) {
    if (append.call == call) return append;
  }
  return std::nullopt;
}

void ReplicaProgress::ClearInflight() {
  inflight_.clear();
  inflight_bytes_ = 0;
  heartbeats_.clear();
}

}  // namespace sluice::raft
