// What one simulated server says to others and hears of them: the edge's own transports over a simulated network.
//
//   SimSwitch all(world, network);
//   SimTransports transports(all, {.self = peer, .host = host, .lane = lane, ...});
//   host->Start(&transports.peers(), &transports.bytes());
//   ... transports.Drop();        // the process is dead: before its host is destroyed
//
// What edge::Server puts together, put together again: PeerTransport, PeerCalls and ByteStreamFetcher over SimWire,
// answered by a SimServer; streams of uploads by datastream::SinkPool and datastream::Connection over SimSocket.
// Threading: the world's thread. Ownership: parts outlive Drop(). Failure: callbacks run once, on the executor that
// the caller named, and never after Drop().
#pragma once

#include <memory>
#include <unordered_set>
#include <vector>

#include "edge/byte_lane.h"
#include "edge/bytestream/fetch.h"
#include "edge/bytestream/target.h"
#include "edge/datastream/connection.h"
#include "edge/datastream/sink.h"
#include "edge/ratis/peer_transport.h"
#include "node/host.h"
#include "sim/cluster/sim_server.h"
#include "sim/cluster/sim_socket.h"
#include "sim/cluster/sim_wire.h"

namespace sluice::sim {

class SimTransports final : public SocketPort {
 public:
  struct Parts {
    raft::Peer self;
    node::Host* host = nullptr;
    env::Executor* lane = nullptr;  // where incoming streams and calls live
    env::Executor* disk = nullptr;  // where snapshots are read and written
    env::Files* files = nullptr;
    env::Random* random = nullptr;
  };

  SimTransports(SimSwitch& all, Parts parts);
  ~SimTransports() override { Drop(); }
  void Drop();

  node::PeerTransport& peers() { return peers_; }
  node::ByteTransport& bytes() { return bytes_; }
  SimServer& server() { return server_; }

  const PeerId& self() const override { return parts_.self.id; }
  env::Executor* lane() override { return parts_.lane; }
  void Accept(std::unique_ptr<edge::datastream::ByteSocket> socket) override;
  // `owned` is told to let go when this life ends.
  void Own(std::weak_ptr<OwnedByLife> owned) override;

  // Calls made since this life began.
  uint64_t fetches() const { return fetch_wire_->calls(edge::bytestream::kReadPath); }
  uint64_t ordered_fetches() const { return wire_.calls(edge::peer::kOrderFetch.path); }

 private:
  SimSwitch& all_;
  const Parts parts_;
  std::vector<std::weak_ptr<OwnedByLife>> owned_;
  SimWire wire_;
  edge::ratis::ReplyTable replies_;
  edge::peer::PeerCalls calls_;
  edge::ratis::PeerTransport peers_;
  edge::datastream::SinkPool sinks_;
  SimWire* const fetch_wire_;  // of the next
  edge::bytestream::ByteStreamFetcher fetcher_;
  edge::ByteLane bytes_;
  SimServer server_;
  const std::shared_ptr<edge::datastream::ConnectionContext> streams_;  // shared with its connections
  std::unordered_set<std::shared_ptr<edge::datastream::Connection>>
      accepted_;  // shared with what is due on them
  bool dropped_ = false;
};

}  // namespace sluice::sim
