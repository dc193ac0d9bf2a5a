// sluice.peer.Peer over gRPC: carries what PeerHandlers says.
//
//   PeerService service(host, &loop);  builder.RegisterService(&service);
//
// Threading: gRPC's threads.
#pragma once

#include "edge/peer/peer_handlers.h"
#include "sluice/peer.grpc.pb.h"

namespace sluice::edge::peer {

class PeerService final : public ::sluice::peer::Peer::CallbackService {
 public:
  PeerService(node::Host* host, env::Executor* executor) : handlers_(host, executor, &env::RealClock()) {}

  grpc::ServerUnaryReactor* Hello(grpc::CallbackServerContext* context, const pb::HelloRequest* request,
                                  pb::HelloReply* reply) override;
  grpc::ServerUnaryReactor* Have(grpc::CallbackServerContext* context, const pb::HaveRequest* request,
                                 pb::HaveReply* reply) override;
  grpc::ServerUnaryReactor* Sealed(grpc::CallbackServerContext* context, const pb::SealedRequest* request,
                                   pb::SealedReply* reply) override;
  grpc::ServerUnaryReactor* OrderFetch(grpc::CallbackServerContext* context,
                                       const pb::OrderFetchRequest* request, pb::HaveReply* reply) override;
  grpc::ServerUnaryReactor* Recall(grpc::CallbackServerContext* context, const pb::RecallRequest* request,
                                   pb::RecallReply* reply) override;
  grpc::ServerUnaryReactor* QueryWrite(grpc::CallbackServerContext* context,
                                       const pb::QueryWriteRequest* request,
                                       pb::QueryWriteReply* reply) override;
  grpc::ServerUnaryReactor* Publish(grpc::CallbackServerContext* context, const pb::PublishRequest* request,
                                    pb::Outcome* reply) override;
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context, const pb::RemoveRequest* request,
                                   pb::Outcome* reply) override;

 private:
  PeerHandlers handlers_;
};

}  // namespace sluice::edge::peer
