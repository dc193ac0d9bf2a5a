// The DataStream port: uploads of clients, and of the servers before this one in a chain.
//
//   DataStreamOptions options{.listen = "..."};
//   server->Add(std::make_unique<DataStreamServer>(host, LanesOf(*server), options));
//
// Threading: made, started and stopped on the server's thread. Connections are dealt to the lanes in turn; a
// connection, its streams and their relays live on one lane. Ownership: host and lanes must outlive Stop().
// Failure: Start names the address that cannot be had. A bad packet is answered and the connection lives;
// lost framing, silence and a reader that does not read end the connection (F-58…F-63). Bounds: connections,
// half-open ones per address (both are closed at once when full), streams per connection, unanswered bytes
// per stream (the host's window) and per connection; beyond, reading stops.
#pragma once

#include <memory>
#include <string>
#include <unordered_set>
#include <utility>  // before asio
#include <vector>

#include <asio/ip/tcp.hpp>

#include "edge/datastream/connection.h"
#include "edge/server.h"

namespace sluice::edge::datastream {

// All lanes of a server, in the form that parts take.
std::vector<env::Loop*> LanesOf(Server& server);

class DataStreamServer final : public Part {
 public:
  DataStreamServer(node::Host* host, std::vector<env::Loop*> lanes, DataStreamOptions options);
  ~DataStreamServer() override;

  absl::Status Start() override;
  void Drain() override;
  void Stop() override;
  // The port that was bound.
  int port() const { return port_; }

 private:
  void Accept();
  // Null, and the socket closed, if a limit is reached.
  std::shared_ptr<Connection> Admit(asio::ip::tcp::socket socket, size_t lane);

  const std::vector<env::Loop*> lanes_;
  const std::shared_ptr<ConnectionContext> context_;   // shared with connections that are being closed
  std::unique_ptr<asio::ip::tcp::acceptor> acceptor_;  // lane 0
  size_t next_lane_ = 0;                               // lane 0
  env::TimerId retry_ = env::TimerId::kNone;           // lane 0
  std::vector<std::unordered_set<std::shared_ptr<Connection>>> connections_;  // each on its lane
  int64_t next_refusal_log_ = 0;                                              // lane 0
  int port_ = 0;
  bool started_ = false;
};

}  // namespace sluice::edge::datastream
