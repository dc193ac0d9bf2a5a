// DataStream's sockets between simulated servers: bytes on an ordered connection, read and written in pieces of
// random size.
//
//   SimSocket::Ports ports = {world, network, [&](auto& address) { return PortAt(address); }};
//   auto socket = std::make_unique<SimSocket>(ports, self, &lane);            // to be connected
//   port.accept = [&](std::unique_ptr<ByteSocket> accepted) { ... };          // what a server does with one
//
// Threading: the world's thread; what is called back runs on the executor that was given. Ownership: a socket may
// outlive the life of its server, and then does nothing. Failure: a connection that breaks, or whose other end is
// closed, gives an error to what reads; a port that is not there refuses.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "edge/datastream/socket.h"
#include "env/executor.h"
#include "sim/packet_network.h"

namespace sluice::sim {

// Something that belongs to one life of a server and must let go of its objects when that life ends.
class OwnedByLife {
 public:
  virtual ~OwnedByLife() = default;
  virtual void Drop() = 0;
};

// Where sockets of a server are made, and those of others arrive.
class SocketPort {
 public:
  virtual ~SocketPort() = default;
  virtual const PeerId& self() const = 0;
  virtual env::Executor* lane() = 0;
  virtual void Accept(std::unique_ptr<edge::datastream::ByteSocket> socket) = 0;
  virtual void Own(std::weak_ptr<OwnedByLife> owned) = 0;
};

struct SocketNet {
  World& world;
  PacketNetwork& network;
  std::function<SocketPort*(const std::string& address)> find;
};

std::unique_ptr<edge::datastream::ByteSocket> NewSimSocket(std::shared_ptr<SocketNet> net, SocketPort* port);

}  // namespace sluice::sim
