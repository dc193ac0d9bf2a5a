// The appendEntries stream to one peer of one group, for entries or for heartbeats: opened when needed,
// reopened with a growing pause, bounded.
//
//   sender->Send(append);        // false: dropped; the core must probe
//
// Threading: any thread; replies step the host from gRPC's threads. Ownership: shared by
// the table of senders and the call that is open. Failure: a broken or silent stream loses what it carried,
// says Unreachable once, and is not reopened before its pause is over.
#pragma once

#include <memory>
#include <mutex>

#include "edge/in_flight.h"
#include "edge/ratis/convert.h"
#include "env/clock.h"
#include "env/random.h"
#include "node/host.h"
#include "sluice/ratis/grpc.grpc.pb.h"

namespace sluice::edge::ratis {

inline constexpr uint64_t kAppendQueueBytesMax = 32u << 20;

class AppendSender : public std::enable_shared_from_this<AppendSender> {
 public:
  using Stub = ::sluice::ratis::grpc::RaftServerProtocolService::Stub;

  AppendSender(node::Host* host, GroupId group, PeerId peer, std::shared_ptr<Stub> stub, InFlight* in_flight);
  ~AppendSender();

  bool Send(const raft::AppendRequest& append);
  // Cancels a stream whose peer has left requests unanswered for too long.
  void CheckSilence();
  // Cancels what is open: nobody will send here for a while.
  void Close();

 private:
  class Call;
  // With the lock held; nullptr while the pause after a failure lasts, or when the server is stopping.
  std::shared_ptr<Call> OpenCall();
  // A stream that was opened before this server's cluster was known, to be cancelled without the lock.
  std::shared_ptr<Call> TakeStale();
  void OnReply(const pb::AppendEntriesReplyProto& reply);
  void OnCallEnded(const Call* call, const grpc::Status& status);

  node::Host* const host_;
  const GroupId group_;
  const PeerId peer_;
  const std::shared_ptr<Stub> stub_;  // shared with all senders to the peer
  InFlight* const in_flight_;

  std::mutex mutex_;  // guards all below
  std::shared_ptr<Call> call_;
  ClusterId said_;  // when the call was opened
  env::Instant retry_at_{};
  env::Duration pause_{};
  uint64_t unanswered_ = 0;
  env::Instant progress_at_{};  // last reply, or first request after none was unanswered
};

}  // namespace sluice::edge::ratis
