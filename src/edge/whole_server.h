// A host with every edge that it serves, started in the right order and ended in the right order.
//
//   ASSIGN_OR_RETURN(auto server, WholeServer::Start({.host = options, .listen = "127.0.0.1:7400", ...}));
//   ... server->Drain();  server->Stop();
//
// Threading: Start, Drain and Stop on one thread, blocking. Ownership: owns host, services and listeners.
// Failure: Start names the folder or the address that cannot be had and leaves nothing running; Stop hands
// leadership over if it can, never fails, ends every thread, and may be called again.
#pragma once

#include <memory>
#include <string>

#include "edge/limits.h"
#include "edge/server.h"
#include "node/host.h"

namespace sluice::edge {

namespace files {
class FilesPart;
}

struct WholeServerOptions {
  node::HostOptions host;
  std::string listen;              // gRPC, "host:port"
  std::string data_stream_listen;  // DataStream; empty: none
  std::string stream_listen;       // Streaming RPC; empty: none
  std::string http_listen;         // /metrics; empty: none
  uint32_t lane_loops = 2;
  EdgeLimits limits;
};

class WholeServer {
 public:
  static absl::StatusOr<std::unique_ptr<WholeServer>> Start(WholeServerOptions options);
  ~WholeServer();  // Stop()

  // Refuses new clients; what runs may end.
  void Drain();
  void Stop();
  node::Host& host() { return *host_; }
  int port() const { return server_->port(); }
  int stream_port() const;  // 0: none

 private:
  WholeServer() = default;
  void AddParts(const WholeServerOptions& options);

  std::unique_ptr<Server> server_;
  std::unique_ptr<node::Host> host_;  // goes first: what it holds may know the server's lanes and transports
  const files::FilesPart* files_ = nullptr;  // the server's
  bool stopped_ = false;
};

}  // namespace sluice::edge
