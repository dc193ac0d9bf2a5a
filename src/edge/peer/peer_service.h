// sluice.peer.Peer: what other sluice servers ask of this one (D-03).
//
//   PeerService service(host, &loop);  builder.RegisterService(&service);
//
// Threading: gRPC's threads; answers come over `executor`. A call of another cluster, or one that means another
// server (an address that was reused must not answer for its predecessor), is refused with FAILED_PRECONDITION.
#pragma once

#include "env/executor.h"
#include "node/host.h"
#include "sluice/peer.grpc.pb.h"

namespace sluice::edge::peer {

inline constexpr uint32_t kFormatVersion = 1;

class PeerService final : public ::sluice::peer::Peer::CallbackService {
 public:
  PeerService(node::Host* host, env::Executor* executor);

  grpc::ServerUnaryReactor* Hello(grpc::CallbackServerContext* context,
                                  const ::sluice::peer::HelloRequest* request,
                                  ::sluice::peer::HelloReply* reply) override;
  grpc::ServerUnaryReactor* Have(grpc::CallbackServerContext* context,
                                 const ::sluice::peer::HaveRequest* request,
                                 ::sluice::peer::HaveReply* reply) override;
  grpc::ServerUnaryReactor* Sealed(grpc::CallbackServerContext* context,
                                   const ::sluice::peer::SealedRequest* request,
                                   ::sluice::peer::SealedReply* reply) override;
  grpc::ServerUnaryReactor* OrderFetch(grpc::CallbackServerContext* context,
                                       const ::sluice::peer::OrderFetchRequest* request,
                                       ::sluice::peer::HaveReply* reply) override;
  grpc::ServerUnaryReactor* Recall(grpc::CallbackServerContext* context,
                                   const ::sluice::peer::RecallRequest* request,
                                   ::sluice::peer::RecallReply* reply) override;
  grpc::ServerUnaryReactor* QueryWrite(grpc::CallbackServerContext* context,
                                       const ::sluice::peer::QueryWriteRequest* request,
                                       ::sluice::peer::QueryWriteReply* reply) override;
  grpc::ServerUnaryReactor* Publish(grpc::CallbackServerContext* context,
                                    const ::sluice::peer::PublishRequest* request,
                                    ::sluice::peer::Outcome* reply) override;
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const ::sluice::peer::RemoveRequest* request,
                                   ::sluice::peer::Outcome* reply) override;

 private:
  absl::Status CheckCall(const grpc::CallbackServerContext& context,
                         const absl::StatusOr<GroupId>& group) const;

  node::Host* const host_;
  env::Executor* const executor_;
  const uint64_t incarnation_;  // the time of the start: raised at every start
};

}  // namespace sluice::edge::peer
