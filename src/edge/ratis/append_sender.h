// The appendEntries stream to one peer of one group, for entries or for heartbeats: opened when needed,
// reopened with a growing pause, bounded.
//
//   sender->Send(append);        // false: dropped; the core must probe
//
// Threading: any thread; replies step the host from threads of the wire. Ownership: shared by
// the table of senders and the stream that is open. Failure: a broken or silent stream loses what it carried,
// says Unreachable once, and is not reopened before its pause is over.
#pragma once

#include <memory>
#include <mutex>

#include "edge/peer_wire.h"
#include "edge/ratis/convert.h"
#include "env/clock.h"
#include "env/random.h"
#include "node/host.h"

namespace sluice::edge::ratis {

inline constexpr uint64_t kAppendQueueBytesMax = 32u << 20;

// Time and chance: the real ones, or the simulator's.
struct TimeSeams {
  const env::Clock* clock;
  env::Random* random;
};

class AppendSender : public std::enable_shared_from_this<AppendSender> {
 public:
  AppendSender(node::Host* host, GroupId group, WireTo to, PeerWire* wire, TimeSeams time);
  ~AppendSender();

  bool Send(const raft::AppendRequest& append);
  // Cancels a stream whose peer has left requests unanswered for too long.
  void CheckSilence();
  // Cancels what is open: nobody will send here for a while.
  void Close();

 private:
  // With the lock held; nullptr while the pause after a failure lasts, or when the server is stopping.
  std::shared_ptr<OutgoingStream> OpenStream();
  // A stream that was opened before this server's cluster was known, to be cancelled without the lock.
  std::shared_ptr<OutgoingStream> TakeStale();
  void OnReply(const pb::AppendEntriesReplyProto& reply);
  void OnStreamEnded(uint64_t number, const absl::Status& status);

  node::Host* const host_;
  const GroupId group_;
  const WireTo to_;
  PeerWire* const wire_;
  const TimeSeams time_;

  std::mutex mutex_;                        // guards all below
  std::shared_ptr<OutgoingStream> stream_;  // shared with the wire
  uint64_t streams_ = 0;                    // opened so far: the number of the last one
  ClusterId said_;                          // when the stream was opened
  env::Instant retry_at_{};
  env::Duration pause_{};
  uint64_t unanswered_ = 0;
  env::Instant progress_at_{};  // last reply, or first request after none was unanswered
};

}  // namespace sluice::edge::ratis
