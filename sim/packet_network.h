// The network between simulated servers: packets that are lost, doubled, delayed and reordered; ordered
// connections that deliver or break; links that are cut one way or both.
//
//   sim::PacketNetwork network(world);
//   network.SetAllLinks({.loss = 0.1, .duplicate = 0.05, .reorder = 0.3});
//   network.Send(a, b, [&servers, b, message] { if (servers[b]) servers[b]->Receive(message); });
//   network.Isolate(a);  ...  network.Heal();
//
// A message is a callback that delivers it: it runs in the world, outside every executor, and may run twice
// (duplicates), so it must not consume what it carries. Nothing is delivered to a server that is down or has
// been restarted since the message was sent. One thread, the world's. Must outlive the connections' use;
// World must outlive it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "sim/world.h"

namespace sluice::sim {

// How one direction between two servers treats what it carries.
struct LinkOptions {
  double loss = 0;       // of packets; connections are delayed instead, as by a retransmission
  double duplicate = 0;  // of packets
  double reorder =
      0;  // share of packets held back by up to `reorder_by`; on a connection others wait behind them
  env::Duration delay_min = std::chrono::microseconds(100);
  env::Duration delay_max = std::chrono::microseconds(500);
  env::Duration reorder_by = std::chrono::milliseconds(10);
};

class Connection;

class PacketNetwork {
 public:
  using Deliver = std::function<void()>;
  using Break = std::function<void()>;

  // A connection that cannot deliver for this long breaks.
  static constexpr env::Duration kConnectionTimeout = std::chrono::seconds(3);

  explicit PacketNetwork(World& world) : world_(world), random_(world.random().Fork()) {}
  PacketNetwork(const PacketNetwork&) = delete;
  PacketNetwork& operator=(const PacketNetwork&) = delete;

  // --- Traffic ---
  void Send(const PeerId& from, const PeerId& to, Deliver deliver);
  // An ordered connection, open at once. If `to` is down or unreachable it breaks after the timeout.
  std::shared_ptr<Connection> Connect(const PeerId& from, const PeerId& to);

  // --- Faults ---
  void SetLink(const PeerId& from, const PeerId& to, const LinkOptions& options) {
    links_[{from, to}] = options;
  }
  // Every link without options of its own.
  void SetAllLinks(const LinkOptions& options) { default_link_ = options; }
  // Drops what is and will be underway in this one direction.
  void Cut(const PeerId& from, const PeerId& to) { cuts_.insert({from, to}); }
  void CutBothWays(const PeerId& a, const PeerId& b);
  void Mend(const PeerId& from, const PeerId& to) { cuts_.erase({from, to}); }
  // Cuts the server off from everyone, known or not.
  void Isolate(const PeerId& peer) { isolated_.insert(peer); }
  void Rejoin(const PeerId& peer) { isolated_.erase(peer); }
  // Servers in different groups cannot talk; servers in no group talk to all.
  void Partition(const std::vector<std::vector<PeerId>>& groups);
  // All links perfect and whole again; servers stay up or down as they are.
  void Heal();

  // --- Servers ---
  // A server that went down: nothing sent to it before it is Up again is delivered, its connections break.
  void Down(const PeerId& peer);
  void Up(const PeerId& peer) { down_.erase(peer); }

  bool CanReach(const PeerId& from, const PeerId& to) const;
  struct Counts {
    uint64_t sent = 0;
    uint64_t delivered = 0;  // duplicates count
    uint64_t dropped = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  friend class Connection;
  const LinkOptions& Link(const PeerId& from, const PeerId& to) const;
  env::Duration DelayOn(const LinkOptions& link);
  uint64_t LifeOf(const PeerId& peer) const;
  void SendOnce(const PeerId& from, const PeerId& to, const LinkOptions& link, const Deliver& deliver);

  World& world_;
  SeededRandom random_;
  LinkOptions default_link_;
  std::map<std::pair<PeerId, PeerId>, LinkOptions> links_;
  std::set<std::pair<PeerId, PeerId>> cuts_;
  std::set<PeerId> isolated_;
  std::map<PeerId, size_t> part_of_;
  std::set<PeerId> down_;
  std::map<PeerId, uint64_t> lives_;  // how often a server went down
  std::vector<std::weak_ptr<Connection>> connections_;
  Counts counts_;
};

// An ordered byte lane between two servers, as a TCP connection: what one side sends arrives in order, once,
// or the connection breaks. Where one direction is cut, what goes the other way arrives until the sender has
// waited too long for an acknowledgement; a new connection needs both. Kept alive by its users; dropping the last
// reference closes it silently.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class Side : uint8_t { kOpener = 0, kAcceptor = 1 };

  // Only PacketNetwork::Connect makes one.
  Connection(PacketNetwork& network, PeerId opener, PeerId acceptor);

  // Ignored after a break. `deliver` runs once, on the other side.
  void Send(Side from, PacketNetwork::Deliver deliver);
  // Runs once when this side learns that the connection broke; at once if it knows already.
  void OnBreak(Side side, PacketNetwork::Break callback);
  // Closes it: undelivered messages are lost, both sides learn of it (a dead server does not).
  void BreakNow();
  bool broken() const { return broken_; }

 private:
  friend class PacketNetwork;
  struct Lane {
    std::deque<PacketNetwork::Deliver> waiting;
    size_t arrived = 0;           // of those, from the front; they wait for the link only
    env::Instant last_arrival{};  // nothing overtakes
    bool stuck = false;
    env::Instant stuck_since{};
    bool unacknowledged = false;  // something arrived while the way back is cut
    env::Instant unacknowledged_since{};
  };
  const PeerId& peer(Side side) const { return side == Side::kOpener ? opener_ : acceptor_; }
  void Deliver(Side from);
  void AwaitAcknowledgement(Side from);
  void Retransmit(Side from);
  void LearnOfBreak(Side side);

  PacketNetwork& network_;
  const PeerId opener_;
  const PeerId acceptor_;
  uint64_t lives_[2];
  Lane lanes_[2];  // by sending side
  PacketNetwork::Break on_break_[2];
  bool established_ = false;
  bool broken_ = false;
  bool knows_[2] = {false, false};
};

}  // namespace sluice::sim
