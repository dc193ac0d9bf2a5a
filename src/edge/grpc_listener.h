// The gRPC port. Connections are accepted here and handed to gRPC: its own listener (seen in gRPC 1.51) never
// accepts again after one accept that failed, as it does when the process is out of descriptors (F-14).
//
//   ASSIGN_OR_RETURN(auto listener, GrpcListener::Bind(lane, "0.0.0.0:7400"));
//   listener->Attach(builder);  auto server = builder.BuildAndStart();
//   listener->Start();
//   ... listener->Stop();  server->Shutdown(...);
//
// Threading: Bind, Attach, Start and Stop on one thread that is not the loop's. Ownership: the loop must
// outlive Stop(), which the destructor calls; after it no connection is handed over. Failure: Bind names the
// address that cannot be had; an accept that fails is tried again; a connection that would take a descriptor
// of the reserve is closed and counted. A connection whose other machine is gone ends, as on the DataStream port.
#pragma once

#include <memory>
#include <string>
#include <utility>  // before asio
#include <vector>

#include <asio/ip/tcp.hpp>

#include "base/metrics.h"
#include "base/status.h"
#include "env/loop.h"

namespace grpc {
class ServerBuilder;
namespace experimental {
class ExternalConnectionAcceptor;
}
}  // namespace grpc

namespace sluice::edge {

class GrpcListener {
 public:
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Bind(env::Loop& loop, const std::string& address);
  ~GrpcListener();

  void Attach(grpc::ServerBuilder& builder);
  void Start();
  void Stop();
  int port() const { return port_; }

 private:
  using Tcp = asio::ip::tcp;

  explicit GrpcListener(env::Loop& loop);
  std::error_code BindAll(const std::string& host, const std::string& port);
  // On the loop.
  void Accept(size_t acceptor);
  void HandOver(Tcp::socket socket, int listener);

  env::Loop& loop_;
  std::vector<std::unique_ptr<Tcp::acceptor>> acceptors_;  // one an address; the loop's
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc_;
  Counter& refused_ = NewCounter("sluice_grpc_connections_refused_total",
                                 "gRPC connections closed because only the reserve of descriptors was left");
  // Tasks of the loop that may come after Stop look here first.
  std::shared_ptr<bool> running_ = std::make_shared<bool>(true);
  int port_ = 0;
};

}  // namespace sluice::edge
