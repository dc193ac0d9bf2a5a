// node::PeerTransport over Ratis' server protocol: append streams, unary votes, snapshots in chunks.
//
//   PeerTransport peers(host, {.calls = &wire, ...});   host->Start(&peers, ...);   peers.Stop();
//
// Threading: Send from any thread, never blocks. Ownership: the parts must outlive Stop(), which cancels every
// call under way and waits for its end. Failure: what cannot be sent is dropped
// and reported by Host::Unreachable, so that the core probes.
#pragma once

#include <memory>
#include <mutex>
#include <tuple>

#include "edge/peer/peer_calls.h"
#include "edge/peer_wire.h"
#include "edge/ratis/append_sender.h"
#include "edge/ratis/reply_table.h"
#include "edge/recent_table.h"
#include "env/files.h"
#include "node/host.h"
#include "node/transports.h"

namespace sluice::edge::ratis {

inline constexpr size_t kCallsMax = 4096;
// Append streams: two to each follower of each group that is led here. A server that leads more than that
// keeps those that it has, and says so.
inline constexpr size_t kSendersMax = 16'384;
inline constexpr env::Duration kSenderKept = std::chrono::seconds(30);

class PeerTransport final : public node::PeerTransport {
 public:
  struct Parts {
    PeerWire* calls;    // at most kCallsMax at a time
    PeerWire* streams;  // at most kSendersMax; apart: votes do not wait for streams, nor the other way round
    peer::PeerCalls* peer_calls;
    ReplyTable* replies;
    env::Executor* disk;  // may block
    env::Files* files;
    TimeSeams time;
  };
  PeerTransport(node::Host* host, Parts parts);
  ~PeerTransport() override;

  void Send(const GroupId& group, const raft::Peer& to, raft::Message message) override;
  void SendSnapshot(const node::SnapshotOffer& offer, const raft::Peer& to, env::Executor* reply_on,
                    absl::AnyInvocable<void(absl::Status)> done) override;
  void Stop();

 private:
  void SendAppend(const GroupId& group, const raft::Peer& to, const raft::AppendRequest& append);
  void SendVote(const GroupId& group, const raft::Peer& to, const raft::VoteRequest& vote);
  void SendReadIndex(const GroupId& group, const raft::Peer& to, const raft::ReadIndexRequest& request);
  void SendTimeoutNow(const GroupId& group, const raft::Peer& to, const raft::TimeoutNow& request);
  void Step(const GroupId& group, const PeerId& from, absl::StatusOr<raft::Message> reply);
  // Null if there are too many.
  std::shared_ptr<AppendSender> Sender(const GroupId& group, const raft::Peer& to, bool heartbeats);
  // A unary call; `then` makes the message of the reply.
  template <typename Request, typename Reply, typename Then>
  void Call(const GroupId& group, const raft::Peer& to, const Method<Request, Reply>& method, int deadline_ms,
            Request request, Then then);

  node::Host* const host_;
  const Parts parts_;
  std::mutex mutex_;  // guards the next
  env::Instant next_refusal_log_{};
  // By address too: a peer that moved gets new streams. Shared with the streams that are open.
  RecentTable<std::tuple<GroupId, PeerId, std::string, bool>, std::shared_ptr<AppendSender>> senders_{
      kSendersMax, kSenderKept};
};

}  // namespace sluice::edge::ratis
