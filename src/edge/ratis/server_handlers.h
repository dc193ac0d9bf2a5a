// What other servers of a group ask of this one, without the network: gRPC's ServerService and the simulator
// bring requests here and carry answers back.
//
//   ServerHandlers handlers(host, &replies);
//   handlers.RequestVote(says, request, &reply, [](std::optional<CallFailure> failure) { ... });
//   class Call final : public AppendIntake { ... };    // one per append stream
//   replies.Answer(token, message);                    // the core's answers come through PeerTransport::Send
//
// Threading: any thread; answers come from the group's shard, or in the call. Request and reply of a unary call
// live until its answer. Failure: what cannot be right ends the call and reaches no group. Bounds: kAppendsMax
// unanswered requests per append stream (reading pauses).
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "edge/handshake.h"
#include "edge/ratis/errors.h"
#include "edge/ratis/methods.h"
#include "edge/ratis/reply_table.h"
#include "node/host.h"

namespace sluice::edge::ratis {

inline constexpr size_t kAppendsMax = 256;

class ServerHandlers {
 public:
  // Why the call fails; nullopt: it does not.
  using Finish = absl::AnyInvocable<void(std::optional<CallFailure>)>;

  ServerHandlers(node::Host* host, ReplyTable* replies) : host_(host), replies_(replies) {}

  void RequestVote(const CallerSays& says, const pb::RequestVoteRequestProto& request,
                   pb::RequestVoteReplyProto* reply, Finish finish);
  void StartLeaderElection(const CallerSays& says, const pb::StartLeaderElectionRequestProto& request,
                           pb::StartLeaderElectionReplyProto* reply, Finish finish);
  void ReadIndex(const CallerSays& says, const pb::ReadIndexRequestProto& request,
                 pb::ReadIndexReplyProto* reply, Finish finish);

  // visit(method, handler) for each of them.
  template <typename Visit>
  static void ForEach(Visit visit) {
    visit(kRequestVote, &ServerHandlers::RequestVote);
    visit(kStartLeaderElection, &ServerHandlers::StartLeaderElection);
    visit(kReadIndex, &ServerHandlers::ReadIndex);
  }

 private:
  // Steps `message`; `fill` writes the answer, or gives false for one of another kind.
  template <typename Message, typename Fill>
  void Step(const ServerHeader& header, Message message, Finish finish, Fill fill);

  node::Host* const host_;
  ReplyTable* const replies_;
};

// The append stream of one leader to one group, or of its heartbeats.
class AppendIntake : public std::enable_shared_from_this<AppendIntake> {
 public:
  AppendIntake(CallerSays says, node::Host* host, ReplyTable* replies)
      : says_(std::move(says)), host_(host), replies_(replies) {}
  virtual ~AppendIntake() = default;

 protected:
  // The stream's own.
  virtual void ReadNext() = 0;
  // What a leader does not read it loses, and times out.
  virtual void Reply(pb::AppendEntriesReplyProto reply) = 0;
  virtual void EndWith(std::optional<CallFailure> failure) = 0;

  // To be told. Payloads are taken out of the request.
  void OnRequest(pb::AppendEntriesRequestProto& request);
  void OnHalfClosed();
  void OnGone() { replies_->Forget(this); }

 private:
  std::optional<CallFailure> Step(const ServerHeader& header, pb::AppendEntriesRequestProto& request);
  void OnReply(const ServerHeader& header, bool heartbeat, std::optional<raft::Message> reply);
  void ReadOn(bool only_if_paused);
  void EndIfDone();
  void Fail(CallFailure failure);

  const CallerSays says_;
  node::Host* const host_;
  ReplyTable* const replies_;

  std::mutex mutex_;  // guards all below
  size_t waiting_ = 0;
  bool paused_ = false;
  bool half_closed_ = false;
  bool ended_ = false;
};

}  // namespace sluice::edge::ratis
