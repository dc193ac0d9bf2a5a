// What other sluice servers ask of this one (D-03), without the network: gRPC's PeerService and the simulator
// bring requests here and carry replies back.
//
//   PeerHandlers handlers(host, &loop, &clock);
//   handlers.Have(says, request, &reply, [](absl::Status status) { ... });   // `reply` is filled if ok
//
// Threading: any thread; answers come over `executor`, or in the call. Request and reply live until the answer. A
// call of another cluster, or one that means another server (an address that was reused must not answer for its
// predecessor), is refused with FAILED_PRECONDITION.
#pragma once

#include "absl/functional/any_invocable.h"
#include "edge/handshake.h"
#include "edge/peer/methods.h"
#include "env/clock.h"
#include "env/executor.h"
#include "node/host.h"

namespace sluice::edge::peer {

class PeerHandlers {
 public:
  using Finish = absl::AnyInvocable<void(absl::Status)>;

  PeerHandlers(node::Host* host, env::Executor* executor, const env::Clock* clock);

  void Hello(const CallerSays& says, const pb::HelloRequest& request, pb::HelloReply* reply, Finish finish);
  void Have(const CallerSays& says, const pb::HaveRequest& request, pb::HaveReply* reply, Finish finish);
  void Sealed(const CallerSays& says, const pb::SealedRequest& request, pb::SealedReply* reply,
              Finish finish);
  void OrderFetch(const CallerSays& says, const pb::OrderFetchRequest& request, pb::HaveReply* reply,
                  Finish finish);
  void Recall(const CallerSays& says, const pb::RecallRequest& request, pb::RecallReply* reply,
              Finish finish);
  void QueryWrite(const CallerSays& says, const pb::QueryWriteRequest& request, pb::QueryWriteReply* reply,
                  Finish finish);
  void Publish(const CallerSays& says, const pb::PublishRequest& request, pb::Outcome* reply, Finish finish);
  void Remove(const CallerSays& says, const pb::RemoveRequest& request, pb::Outcome* reply, Finish finish);

  // visit(method, handler) for each of them.
  template <typename Visit>
  static void ForEach(Visit visit) {
    visit(kHello, &PeerHandlers::Hello);
    visit(kHave, &PeerHandlers::Have);
    visit(kSealed, &PeerHandlers::Sealed);
    visit(kOrderFetch, &PeerHandlers::OrderFetch);
    visit(kRecall, &PeerHandlers::Recall);
    visit(kQueryWrite, &PeerHandlers::QueryWrite);
    visit(kPublish, &PeerHandlers::Publish);
    visit(kRemove, &PeerHandlers::Remove);
  }

 private:
  absl::Status CheckCall(const CallerSays& says, const absl::StatusOr<GroupId>& group) const;

  node::Host* const host_;
  env::Executor* const executor_;
  const uint64_t incarnation_;  // the time of the start: raised at every start
};

}  // namespace sluice::edge::peer
