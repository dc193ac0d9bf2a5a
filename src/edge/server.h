// Everything of one server that faces the network: the gRPC services on one port,
// and the transports to other servers.
//
//   ASSIGN_OR_RETURN(auto host, node::Host::Open(...));
//   ASSIGN_OR_RETURN(auto server, edge::Server::Create(host.get(), options));
//   server->Add(std::make_unique<SomePart>(...));          // further services and listeners
//   host->Start(&server->peers(), &server->bytes());
//   RETURN_IF_ERROR(server->Listen());
//   ... server->Drain();  host->Stop();  server->Stop(std::chrono::seconds(2));
//   server->EndThreads();  host->EndThreads();             // then the memory of both, the host's first
//
// Threading: Add before Listen, on one thread; the rest from any thread. Ownership: either may be called by
// the other's threads until both have ended theirs, so neither is destroyed before. Failure: Listen names the address that cannot be had;
// Stop never fails, cuts what does not end in time, and may be called again.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "edge/byte_lane.h"
#include "edge/grpc_listener.h"
#include "edge/grpc_wire.h"
#include "edge/health.h"
#include "edge/peer/peer_calls.h"
#include "edge/peer_links.h"
#include "edge/ratis/peer_transport.h"
#include "edge/ratis/reply_table.h"
#include "env/files.h"
#include "env/loop.h"
#include "node/host.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace sluice::edge {

struct ServerOptions {
  std::string listen;              // "host:port" of all gRPC services
  std::string data_stream_listen;  // "host:port" of the DataStream part
  int message_bytes_max = 65 << 20;
  uint32_t lane_loops = 2;
  env::Files* files = &env::RealFiles();
};

// A protocol that joins the server: services on the gRPC port, a listener of its own, or both. Made, started
// and stopped on the server's thread; stopped in reverse order, before the lanes end.
class Part {
 public:
  virtual ~Part() = default;
  virtual std::vector<grpc::Service*> services() { return {}; }
  virtual absl::Status Start() { return absl::OkStatus(); }
  // Refuses new clients; what runs may go on.
  virtual void Drain() {}
  // Also without Start, or after one that failed.
  virtual void Stop() {}
};

class Server {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Create(node::Host* host, ServerOptions options);
  ~Server();  // Stop() and EndThreads()

  void Add(std::unique_ptr<Part> part);
  absl::Status Listen();
  // Refuses new clients and lets running requests end; other servers are still served, so that the host can
  // hand over its leadership.
  void Drain();
  void Stop(std::chrono::milliseconds grace);
  // After Stop: ends the lanes and the thread for snapshots, after what was given to them. The lanes may still
  // be answered to, in vain, until the server is destroyed. Idempotent.
  void EndThreads();

  node::PeerTransport& peers();
  ByteLane& bytes() { return byte_lane_; }
  PeerLinks& links() { return links_; }
  const ServerOptions& options() const { return options_; }
  // Lanes: the loops on which connections of the byte lane live.
  size_t lanes() const { return lanes_.size(); }
  env::Loop& lane(size_t i) { return *lanes_[i % lanes_.size()]; }
  // Why this server does not serve; ok: it does, in all its groups. What health checks are told.
  absl::Status Serving() const { return health_->Now(); }
  // The gRPC port that was bound (of interest when `listen` asks for port 0).
  int port() const { return port_; }

 private:
  struct Services;

  Server(node::Host* host, ServerOptions options);

  node::Host* const host_;
  const ServerOptions options_;
  std::vector<std::unique_ptr<env::Loop>> lanes_;
  std::unique_ptr<env::Executor> disk_;  // snapshots: may block
  PeerLinks links_;
  ratis::ReplyTable replies_;
  GrpcWire peer_wire_, raft_calls_, raft_streams_;
  peer::PeerCalls peer_calls_;
  ratis::PeerTransport peers_;
  ByteLane byte_lane_;
  std::unique_ptr<Services> services_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::unique_ptr<GrpcListener> listener_;
  std::shared_ptr<Health> health_;  // shared with what it posted
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  bool drained_ = false;
  bool stopped_ = false;
};

}  // namespace sluice::edge
