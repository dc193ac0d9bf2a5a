// What a leader knows of one peer's log, and what it has under way to it.
//
//   if (progress.CanSend(limits)) progress.Sent(call, previous, end, bytes);
//   progress.Acknowledged(call, reply.next, reply.match);   progress.Mismatch(call, reply.next);
//   progress.Retreat();   // a call failed, or was not answered in time
//
// kProbe: one append in flight, looking for the last entry that both logs share. kReplicate: a pipeline of
// appends, bounded by count and bytes. kSnapshot: what the peer needs is compacted; only heartbeats until a
// snapshot arrived. Threading: lives on one shard with its Core.
// Replies that match nothing under way change nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

#include "base/ids.h"

namespace sluice::raft {

class ReplicaProgress {
 public:
  enum class State : uint8_t { kProbe, kReplicate, kSnapshot };
  struct Limits {
    uint32_t appends = 1;
    uint64_t bytes = 0;
  };

  explicit ReplicaProgress(Index next) : next_(next) {}

  State state() const { return state_; }
  // Durable at the peer: counts for the commit index.
  Index match() const { return match_; }
  // The peer said that its log agrees up to here. Beyond match() where it does not promise durability (F-20).
  Index known() const { return known_; }
  Index next() const { return next_; }
  // True once the peer accepted entries without promising to keep them: a server whose disk was lost (F-20).
  // It takes part in no majority.
  bool hollow() const { return hollow_; }
  size_t inflight() const { return inflight_.size(); }
  uint64_t inflight_bytes() const { return inflight_bytes_; }

  // True if one more append may be sent.
  bool CanSend(const Limits& limits) const;
  // An append of the entries (previous, end) left.
  void Sent(uint64_t call, Index previous, Index end, uint64_t bytes);
  // A heartbeat left, which names `previous`.
  void HeartbeatSent(uint64_t call, Index previous);
  // The peer accepted the append `call`.
  void Acknowledged(uint64_t call, Index next, Index match);
  // The peer accepted the heartbeat `call`: its log agrees up to what that named, and as far as `match` it
  // promises to keep it (kNoIndex: it promises nothing).
  void HeartbeatAcknowledged(uint64_t call, Index match);
  // The peer does not have what `call` named as previous; it suggests `hint`.
  // False: nothing under way has this call.
  bool Mismatch(uint64_t call, Index hint);

  // Back to looking for the shared end, starting at `next`.
  void Probe(Index next);
  // What is under way counts as lost, and is offered again. What was assumed of the peer's log stays: a call
  // that failed says nothing about it (K29).
  void Retreat();
  void AwaitSnapshot();
  // A snapshot did not arrive, or did (`ok`). The next one waits for `pause` ticks; twice as long after each
  // failure in a row, up to kSnapshotPausesMax times as long.
  static constexpr uint32_t kSnapshotPausesMax = 32;
  void SnapshotEnded(bool ok, uint32_t pause);
  // Sends wait for any sign of life.
  void Pause() { paused_ = true; }
  void Resume() { paused_ = false; }
  bool paused() const { return paused_; }

  // Time, in ticks, kept by the core.
  uint32_t since_heard = 0;      // any reply
  uint32_t since_sent = 0;       // any append or heartbeat
  uint32_t since_heartbeat = 0;  // a heartbeat
  uint32_t since_advance = 0;    // the oldest append in flight, or the last acknowledgement after it
  uint32_t snapshot_wait = 0;    // until a snapshot may be tried again
  // The highest call that the peer answered in this term; for reads.
  uint64_t answered_call = 0;
  Index commit = kNoIndex;       // as the peer last told
  Index commit_sent = kNoIndex;  // as it was last told

 private:
  struct Inflight {
    uint64_t call = 0;
    Index previous;
    Index end;
    uint64_t bytes = 0;
  };
  // What was sent as `call` and is not answered yet.
  std::optional<Inflight> Find(uint64_t call) const;
  void MaybeReplicate();
  void ClearInflight();

  State state_ = State::kProbe;
  Index match_ = kNoIndex;
  Index known_ = kNoIndex;
  Index next_;
  bool hollow_ = false;
  bool paused_ = false;
  uint32_t snapshot_pauses_ = 0;   // of the last wait; 0: the last transfer did not fail
  std::deque<Inflight> inflight_;  // by call, which is also by index
  uint64_t inflight_bytes_ = 0;
  // By call; the oldest are forgotten first. Several: on a slow link the next leaves before the answer comes.
  static constexpr size_t kHeartbeatsMax = 8;
  std::deque<Inflight> heartbeats_;
  uint64_t last_call_ = 0;
  // Acknowledgements of older calls are void: the peer has lost entries since.
  uint64_t void_before_call_ = 0;
};

}  // namespace sluice::raft
