// Read index: a read is served at the commit index of its arrival, once a majority has confirmed that this
// server still led after the arrival. Every answer to an append that was sent after it confirms it,
// so that reads share rounds.
#include <algorithm>
#include <limits>

#include "raft/core_impl.h"

namespace sluice::raft {

void Core::Impl::RequestRead(uint64_t token) {
  if (role_ == Role::kLeader) return AddRead(token, PeerId(), 0);
  if (failed_ || leader_.empty() || forwarded_.size() >= options_.reads_max) {
    effects_.reads.push_back({token, false, kNoIndex});
    return;
  }
  forwarded_.push_back({token});
  ForwardReads();
}

// One request at a time is on its way to the leader; reads that come meanwhile share the next one.
void Core::Impl::ForwardReads() {
  const bool under_way =
      std::any_of(forwarded_.begin(), forwarded_.end(), [](const auto& r) { return r.call != 0; });
  if (under_way || forwarded_.empty() || leader_.empty()) return;
  const uint64_t call = NextCall();
  for (ForwardedRead& read : forwarded_) read.call = call;
  Send(leader_, ReadIndexRequest{call});
}

void Core::Impl::Handle(const PeerId& from, ReadIndexRequest& request) {
  if (role_ != Role::kLeader || configuration().Find(from) == nullptr) {
    Send(from, ReadIndexReply{request.call, false, kNoIndex});
    return;
  }
  AddRead(0, from, request.call);
}

void Core::Impl::Handle(const PeerId& from, ReadIndexReply& reply) {
  if (from != leader_ || reply.call == 0) return;
  while (!forwarded_.empty() && forwarded_.front().call == reply.call) {
    effects_.reads.push_back({forwarded_.front().token, reply.ok, reply.ok ? reply.index : kNoIndex});
    forwarded_.pop_front();
  }
  ForwardReads();
}

void Core::Impl::AddRead(uint64_t token, const PeerId& peer, uint64_t peer_call) {
  if (reads_.size() >= options_.reads_max) return AnswerRead(token, peer, peer_call, kNoIndex);
  // Before an entry of its own term is committed, a leader does not know what is.
  reads_.push_back({token, peer, peer_call, next_call_, ready() ? commit_ : kNoIndex});
  ConfirmReads();
}

void Core::Impl::StartWaitingReads() {
  for (PendingRead& read : reads_) {
    read.index = commit_;
    read.after_call = next_call_;
  }
  read_round_call_ = 0;
  ConfirmReads();
}

void Core::Impl::ConfirmReads() {
  if (reads_.empty() || !ready()) return;
  // The newest call that a majority has answered. A server that may have forgotten its votes confirms
  // nothing: only one that has acknowledged entries does.
  const Index answered = CommittedIndex(configuration(), [&](const PeerId& id) {
    if (IsSelf(id)) return Index{std::numeric_limits<int64_t>::max()};
    auto it = progress_.find(id);
    const bool counts = it != progress_.end() && !it->second.hollow() && it->second.match().valid();
    return counts ? Index{static_cast<int64_t>(it->second.answered_call)} : kNoIndex;
  });
  while (!reads_.empty() && static_cast<int64_t>(reads_.front().after_call) <= answered.value) {
    const PendingRead read = reads_.front();
    reads_.pop_front();
    AnswerRead(read.token, read.peer, read.peer_call, read.index);
  }
  const bool round_under_way =
      read_round_call_ != 0 && static_cast<int64_t>(read_round_call_) > answered.value;
  if (reads_.empty() || round_under_way) return;
  read_round_call_ = next_call_;
  SendHeartbeatToAll();
}

void Core::Impl::AnswerRead(uint64_t token, const PeerId& peer, uint64_t peer_call, Index index) {
  if (peer.empty()) {
    effects_.reads.push_back({token, index.valid(), index});
  } else {
    Send(peer, ReadIndexReply{peer_call, index.valid(), index});
  }
}

void Core::Impl::FailReads() {
  for (const PendingRead& read : reads_) AnswerRead(read.token, read.peer, read.peer_call, kNoIndex);
  for (const ForwardedRead& read : forwarded_) effects_.reads.push_back({read.token, false, kNoIndex});
  reads_.clear();
  forwarded_.clear();
  read_round_call_ = 0;
}

void Core::Impl::TickReads(uint32_t ticks) {
  for (ForwardedRead& read : forwarded_) read.age += ticks;
  bool expired = false;
  while (!forwarded_.empty() && forwarded_.front().age >= options_.election_ticks_max) {
    effects_.reads.push_back({forwarded_.front().token, false, kNoIndex});
    forwarded_.pop_front();
    expired = true;
  }
  if (expired) ForwardReads();
}

}  // namespace sluice::raft
