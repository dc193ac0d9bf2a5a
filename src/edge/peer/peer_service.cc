#include "edge/peer/peer_service.h"

#include <grpcpp/server_context.h>

#include "edge/status.h"

namespace sluice::edge::peer {
namespace {

template <typename Request, typename Reply>
grpc::ServerUnaryReactor* Serve(PeerHandlers& handlers, grpc::CallbackServerContext* context,
                                const Request* request, Reply* reply,
                                void (PeerHandlers::*handler)(const CallerSays&, const Request&, Reply*,
                                                              PeerHandlers::Finish)) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (handlers.*handler)(SaidIn(*context), *request, reply,
                      [reactor](const absl::Status& status) { reactor->Finish(ToGrpc(status)); });
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* PeerService::Hello(grpc::CallbackServerContext* context,
                                             const pb::HelloRequest* request, pb::HelloReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Hello);
}
grpc::ServerUnaryReactor* PeerService::Have(grpc::CallbackServerContext* context,
                                            const pb::HaveRequest* request, pb::HaveReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Have);
}
grpc::ServerUnaryReactor* PeerService::Sealed(grpc::CallbackServerContext* context,
                                              const pb::SealedRequest* request, pb::SealedReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Sealed);
}
grpc::ServerUnaryReactor* PeerService::OrderFetch(grpc::CallbackServerContext* context,
                                                  const pb::OrderFetchRequest* request,
                                                  pb::HaveReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::OrderFetch);
}
grpc::ServerUnaryReactor* PeerService::Recall(grpc::CallbackServerContext* context,
                                              const pb::RecallRequest* request, pb::RecallReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Recall);
}
grpc::ServerUnaryReactor* PeerService::QueryWrite(grpc::CallbackServerContext* context,
                                                  const pb::QueryWriteRequest* request,
                                                  pb::QueryWriteReply* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::QueryWrite);
}
grpc::ServerUnaryReactor* PeerService::Publish(grpc::CallbackServerContext* context,
                                               const pb::PublishRequest* request, pb::Outcome* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Publish);
}
grpc::ServerUnaryReactor* PeerService::Remove(grpc::CallbackServerContext* context,
                                              const pb::RemoveRequest* request, pb::Outcome* reply) {
  return Serve(handlers_, context, request, reply, &PeerHandlers::Remove);
}

}  // namespace sluice::edge::peer
