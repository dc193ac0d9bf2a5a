// What one simulated server says to others and hears of them: the edge's own transports over a simulated network.
//
//   SimSwitch all(world, network);
//   SimTransports transports(all, {.self = id, .host = host, .lane = lane, ...});
//   host->Start(&transports.peers(), &transports.bytes());
//   ... transports.Drop();        // the process is dead: before its host is destroyed
//
// Messages, calls and snapshots: edge::ratis::PeerTransport and edge::peer::PeerCalls over a SimWire, answered by a
// SimServer. Streams of uploads are connections. Threading: the world's thread. Ownership: parts outlive Drop().
// Failure: callbacks run once, on the executor that the caller named, and never after Drop().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "edge/byte_lane.h"
#include "edge/ratis/peer_transport.h"
#include "node/host.h"
#include "sim/cluster/sim_server.h"
#include "sim/cluster/sim_wire.h"

namespace sluice::sim {

// Something that belongs to one life of a server and must let go of its objects when that life ends.
class OwnedByLife {
 public:
  virtual ~OwnedByLife() = default;
  virtual void Drop() = 0;
};

class SimTransports final : public edge::SinkFactory, public edge::Fetcher {
 public:
  struct Parts {
    raft::Peer self;
    node::Host* host = nullptr;
    env::Executor* lane = nullptr;  // where incoming streams and calls live
    env::Executor* disk = nullptr;  // where snapshots are read and written
    env::Files* files = nullptr;
    env::Random* random = nullptr;
  };
  template <typename T>
  using Answer = std::function<void(absl::StatusOr<T>)>;

  SimTransports(SimSwitch& all, Parts parts);
  ~SimTransports() override { Drop(); }
  void Drop();

  node::PeerTransport& peers() { return peers_; }
  node::ByteTransport& bytes() { return bytes_; }
  SimServer& server() { return server_; }

  // `owned` is told to let go when this life ends.
  void Own(std::weak_ptr<OwnedByLife> owned);
  const Parts& parts() const { return parts_; }
  // Calls made since this life began.
  uint64_t fetches() const { return fetches_; }
  uint64_t ordered_fetches() const { return wire_.calls(edge::peer::kOrderFetch.path); }
  SimSwitch& all() { return all_; }

  // --- edge::SinkFactory, edge::Fetcher
  template <typename T>
  using Done = node::ByteTransport::Done<T>;
  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override;
  void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, Done<Bytes> done) override;

 private:
  // Runs `ask` at `to` with a function that carries the answer back;
  // the first answer, or the deadline, ends it.
  template <typename Reply>
  void Call(const raft::Peer& to, env::Duration deadline, env::Executor* reply_on,
            std::function<void(SimTransports& there, Answer<Reply>)> ask, Done<Reply> done);

  SimSwitch& all_;
  const Parts parts_;
  SimWire wire_;
  edge::ratis::ReplyTable replies_;
  edge::peer::PeerCalls calls_;
  edge::ratis::PeerTransport peers_;
  edge::ByteLane bytes_;
  SimServer server_;
  std::vector<std::weak_ptr<OwnedByLife>> owned_;
  uint64_t fetches_ = 0;
  bool dropped_ = false;
};

}  // namespace sluice::sim
