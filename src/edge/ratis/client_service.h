// RaftClientProtocolService: the two streams over which Ratis clients write, read and watch.
//
//   ClientService service(host, &loop);  builder.RegisterService(&service);
//   service.Stop();   // refuses new calls; running requests are answered, then calls end UNAVAILABLE
//
// Threading: gRPC's threads parse and submit; replies are written from the group's shard or from gRPC's
// threads, one at a time per call. Ownership: calls own themselves through OpenCalls; the service must live
// until the grpc::Server is shut down, the host's callbacks may come later. Bounds: kRequestsMax and
// kRequestBytesMax per call: reading pauses beyond them;
// an ordered call whose gap does not close within them ends with an error.
#pragma once

#include <memory>

#include "edge/open_calls.h"
#include "edge/ratis/client_request.h"
#include "edge/ratis/commit_board.h"
#include "edge/ratis/message_streams.h"
#include "sluice/ratis/grpc.grpc.pb.h"

namespace sluice::edge::ratis {

inline constexpr size_t kRequestsMax = 4096;
inline constexpr uint64_t kRequestBytesMax = 64u << 20;
inline constexpr size_t kClientCallsMax = 10'000;

class ClientCall;

class ClientService final : public ::sluice::ratis::grpc::RaftClientProtocolService::CallbackService {
 public:
  using Reactor = grpc::ServerBidiReactor<pb::RaftClientRequestProto, pb::RaftClientReplyProto>;

  ClientService(node::Host* host, env::Executor* executor);
  ~ClientService() override;

  Reactor* ordered(grpc::CallbackServerContext* context) override;
  Reactor* unordered(grpc::CallbackServerContext* context) override;
  void Stop();

 private:
  Reactor* Open(grpc::CallbackServerContext* context, bool ordered);

  node::Host* const host_;
  const std::shared_ptr<CommitBoard> board_;  // shared with calls whose replies are still due
  const std::shared_ptr<MessageStreams> messages_;
  // Shared with the host's leadership callback and the calls.
  const std::shared_ptr<OpenCalls<ClientCall>> calls_;
};

}  // namespace sluice::edge::ratis
