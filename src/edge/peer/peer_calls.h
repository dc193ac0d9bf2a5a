// Calls of sluice's own peer service to other servers:
// everything of node::ByteTransport that carries no payload.
//
//   PeerCalls calls(&wire);  calls.Have(peer, group, upload, &executor, done);  calls.Stop();
//
// Threading: any thread; results are posted to the executor that the caller names, exactly once each.
// Bounded: beyond the wire's kCallsMax calls under way, and after Stop, UNAVAILABLE at once. Failure: a status after the
// deadline at the latest.
#pragma once

#include "edge/peer_wire.h"
#include "env/executor.h"
#include "node/host.h"
#include "node/transports.h"

namespace sluice::edge::peer {

inline constexpr size_t kCallsMax = 1024;

class PeerCalls {
 public:
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  explicit PeerCalls(PeerWire* wire) : wire_(wire) {}
  ~PeerCalls() { Stop(); }

  // Whether `to` is a sluice server, and the one that is meant: FAILED_PRECONDITION if it answers and is not.
  void Hello(const raft::Peer& to, const PeerId& self, const ClusterId& cluster, env::Executor* reply_on,
             absl::AnyInvocable<void(absl::Status)> done);
  void Have(const raft::Peer& to, const GroupId& group, const UploadId& upload, env::Executor* reply_on,
            Done<node::HaveReply> done);
  void TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done);
  void OrderFetch(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, Done<node::HaveReply> done);
  void QueryWrite(const raft::Peer& to, const GroupId& group, const node::WriteKey& write,
                  env::Executor* reply_on, Done<node::WriteStatus> done);
  // `self`: who asks.
  void Recall(const raft::Peer& to, const GroupId& group, const PeerId& self,
              const raft::RecallRequest& request, env::Executor* reply_on, Done<raft::RecallReply> done);
  void Publish(const raft::Peer& to, const node::PublishRequest& request, env::Executor* reply_on,
               absl::AnyInvocable<void(node::ClientReply)> done);
  void Remove(const raft::Peer& to, const node::RemoveRequest& request, env::Executor* reply_on,
              absl::AnyInvocable<void(node::ClientReply)> done);
  // Cancels what is under way and waits for it.
  void Stop() { wire_->Stop(); }

 private:
  // `then` gets the reply or an error, on `reply_on`.
  template <typename Request, typename Reply, typename Then>
  void Call(const raft::Peer& to, const Method<Request, Reply>& method, int deadline_ms, Request request,
            env::Executor* reply_on, Then then);

  PeerWire* const wire_;
};

}  // namespace sluice::edge::peer
