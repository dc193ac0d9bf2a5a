// A server inside the user's own process: his state machines, sluice's log, disks and network.
//
//   ASSIGN_OR_RETURN(auto server, sluice::Server::Start({
//       .listen = "127.0.0.1:7400",
//       .data_dir = "./data",
//       .groups = {{.id = group,
//                   .machine = "tickets",
//                   .factory = [] { return std::make_unique<Tickets>(); }}}}));
//   ...
//   server->Stop();
//
// The blob group (kDefaultGroup) is always there. Ports: gRPC at `listen`, DataStream at its port + 1,
// Streaming RPC where `stream_listen` says. Threading: Start and Stop block; any one thread; address() any
// thread. Ownership: the server owns everything; machines live until Stop. Errors: Start gives UNAVAILABLE
// for a folder or an address that cannot be had, INVALID_ARGUMENT for options that cannot be, names what is
// wrong and leaves nothing running; Stop never fails, hands leadership over if it can, and may be called
// again. Protocols: those of `sluice serve`, so Java Ratis clients and `sluice put` reach it too.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

namespace sluice {

class StateMachine;  // sluice/state_machine.h

// A group that this server is a member of.
struct ServerGroup {
  GroupId id = kDefaultGroup;
  std::string machine = "blob";                            // "blob", "counter", or any name beside a factory
  std::function<std::unique_ptr<StateMachine>()> factory;  // makes the user's machine; called once a start
};

// A member at the very first start: it has the port of its address and the next one to itself.
struct ServerPeer {
  std::string id;
  std::string address;  // "host:port" of its gRPC
};

struct ServerOptions {
  std::string id = "n0";
  std::string listen = "127.0.0.1:7400";  // port 0: two free ones, for a group of one only
  std::string advertise;      // "host:port" as others reach it; empty: `listen`, or that of `peers`
  std::string stream_listen;  // Streaming RPC (sluice.FileService), "host:port"; empty: none;
                              // port 0: a free one
  std::string data_dir = "./sluice-data";
  std::vector<ServerPeer> peers;  // empty: a group of one
  bool bootstrap = false;         // very first start of a group of several: an empty folder may vote
  std::vector<ServerGroup> groups;
};

class Server {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);
  virtual ~Server() = default;  // stops
  virtual void Stop() = 0;
  // "host:port" of gRPC: what clients are given.
  virtual const std::string& address() const = 0;
  // "host:port" of Streaming RPC; empty: none.
  virtual const std::string& stream_address() const = 0;
};

}  // namespace sluice
