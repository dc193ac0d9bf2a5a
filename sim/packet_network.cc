#include "sim/packet_network.h"

#include <algorithm>

namespace sluice::sim {
namespace {

// How often a connection tries again over a cut link, and how long a lost segment takes to be sent again.
constexpr env::Duration kRetryAfter = std::chrono::milliseconds(200);
constexpr double kRetransmitChanceMax = 0.9;

}  // namespace

void PacketNetwork::Send(const PeerId& from, const PeerId& to, Deliver deliver) {
  const LinkOptions& link = Link(from, to);
  ++counts_.sent;
  if (!CanReach(from, to) || random_.Chance(link.loss)) {
    ++counts_.dropped;
    return;
  }
  if (random_.Chance(link.duplicate)) SendOnce(from, to, link, deliver);
  SendOnce(from, to, link, deliver);
}

void PacketNetwork::SendOnce(const PeerId& from, const PeerId& to, const LinkOptions& link,
                             const Deliver& deliver) {
  env::Duration delay = DelayOn(link);
  if (random_.Chance(link.reorder)) {
    delay += env::Duration(random_.Between(0, static_cast<uint64_t>(link.reorder_by.count())));
  }
  world_.After(delay, [this, from, to, deliver, life = LifeOf(to)] {
    const bool arrives = CanReach(from, to) && LifeOf(to) == life;
    ++(arrives ? counts_.delivered : counts_.dropped);
    if (arrives) deliver();
  });
}

std::shared_ptr<Connection> PacketNetwork::Connect(const PeerId& from, const PeerId& to) {
  auto connection = std::make_shared<Connection>(*this, from, to);
  connections_.erase(
      std::remove_if(connections_.begin(), connections_.end(), [](const auto& c) { return c.expired(); }),
      connections_.end());
  connections_.push_back(connection);
  connection->Send(Connection::Side::kOpener, [] {});  // the handshake: finds out whether anybody is there
  return connection;
}

void PacketNetwork::CutBothWays(const PeerId& a, const PeerId& b) {
  Cut(a, b);
  Cut(b, a);
}

void PacketNetwork::Partition(const std::vector<std::vector<PeerId>>& groups) {
  part_of_.clear();
  for (size_t i = 0; i < groups.size(); ++i) {
    for (const PeerId& peer : groups[i]) part_of_[peer] = i;
  }
}

void PacketNetwork::Heal() {
  default_link_ = {};
  links_.clear();
  cuts_.clear();
  isolated_.clear();
  part_of_.clear();
}

void PacketNetwork::Down(const PeerId& peer) {
  if (!down_.insert(peer).second) return;
  ++lives_[peer];
  const auto connections = connections_;  // a break may open others
  for (const auto& weak : connections) {
    const auto connection = weak.lock();
    if (connection != nullptr && (connection->opener_ == peer || connection->acceptor_ == peer))
      connection->BreakNow();
  }
}

bool PacketNetwork::CanReach(const PeerId& from, const PeerId& to) const {
  if (down_.count(from) > 0 || down_.count(to) > 0) return false;
  if (from == to) return true;
  if (isolated_.count(from) > 0 || isolated_.count(to) > 0 || cuts_.count({from, to}) > 0) return false;
  const auto a = part_of_.find(from), b = part_of_.find(to);
  return a == part_of_.end() || b == part_of_.end() || a->second == b->second;
}

const LinkOptions& PacketNetwork::Link(const PeerId& from, const PeerId& to) const {
  const auto link = links_.find({from, to});
  return link == links_.end() ? default_link_ : link->second;
}

env::Duration PacketNetwork::DelayOn(const LinkOptions& link) {
  return env::Duration(
      random_.Between(static_cast<uint64_t>(link.delay_min.count()),
                      static_cast<uint64_t>(std::max(link.delay_min, link.delay_max).count())));
}

uint64_t PacketNetwork::LifeOf(const PeerId& peer) const {
  const auto life = lives_.find(peer);
  return life == lives_.end() ? 0 : life->second;
}

Connection::Connection(PacketNetwork& network, PeerId opener, PeerId acceptor)
    : network_(network),
      opener_(std::move(opener)),
      acceptor_(std::move(acceptor)),
      lives_{network.LifeOf(opener_), network.LifeOf(acceptor_)} {}

void Connection::Send(Side from, PacketNetwork::Deliver deliver) {
  if (broken_) return;
  Lane& lane = lanes_[static_cast<size_t>(from)];
  lane.waiting.push_back(std::move(deliver));
  const Side to = from == Side::kOpener ? Side::kAcceptor : Side::kOpener;
  const LinkOptions& link = network_.Link(peer(from), peer(to));
  env::Duration delay = network_.DelayOn(link);
  while (network_.random_.Chance(std::min(link.loss, kRetransmitChanceMax))) delay += kRetryAfter;
  if (network_.random_.Chance(link.reorder)) {
    delay += env::Duration(network_.random_.Between(0, static_cast<uint64_t>(link.reorder_by.count())));
  }
  lane.last_arrival = std::max(lane.last_arrival, network_.world_.MonotonicNow() + delay);
  network_.world_.At(lane.last_arrival, [weak = weak_from_this(), from] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    Lane& arrived_on = self->lanes_[static_cast<size_t>(from)];
    ++arrived_on.arrived;
    if (!arrived_on.stuck) self->Deliver(from);
  });
}

void Connection::Deliver(Side from) {
  Lane& lane = lanes_[static_cast<size_t>(from)];
  const Side to = from == Side::kOpener ? Side::kAcceptor : Side::kOpener;
  while (lane.arrived > 0 && !broken_) {
    const bool forth = network_.CanReach(peer(from), peer(to));
    const bool back = network_.CanReach(peer(to), peer(from));
    if (!forth || (!back && !established_)) {
      const env::Instant now = network_.world_.MonotonicNow();
      if (!std::exchange(lane.stuck, true)) lane.stuck_since = now;
      if (now - lane.stuck_since >= PacketNetwork::kConnectionTimeout) return BreakNow();
      network_.world_.After(kRetryAfter, [weak = weak_from_this(), from] {
        if (const auto self = weak.lock()) self->Deliver(from);
      });
      return;
    }
    established_ = true;
    lane.stuck = false;
    --lane.arrived;
    if (!back) AwaitAcknowledgement(from);
    const auto deliver = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    deliver();
  }
}

// It arrived, and the sender does not hear of it: for so long only.
void Connection::AwaitAcknowledgement(Side from) {
  Lane& lane = lanes_[static_cast<size_t>(from)];
  if (lane.unacknowledged) return;
  lane.unacknowledged = true;
  lane.unacknowledged_since = network_.world_.MonotonicNow();
  network_.world_.After(kRetryAfter, [weak = weak_from_this(), from] {
    if (const auto self = weak.lock()) self->Retransmit(from);
  });
}

void Connection::Retransmit(Side from) {
  if (broken_) return;
  Lane& lane = lanes_[static_cast<size_t>(from)];
  const Side to = from == Side::kOpener ? Side::kAcceptor : Side::kOpener;
  lane.unacknowledged = !network_.CanReach(peer(from), peer(to)) || !network_.CanReach(peer(to), peer(from));
  if (!lane.unacknowledged) return;
  const env::Instant now = network_.world_.MonotonicNow();
  if (now - lane.unacknowledged_since >= PacketNetwork::kConnectionTimeout) return BreakNow();
  network_.world_.After(kRetryAfter, [weak = weak_from_this(), from] {
    if (const auto self = weak.lock()) self->Retransmit(from);
  });
}

void Connection::BreakNow() {
  if (std::exchange(broken_, true)) return;
  for (Lane& lane : lanes_) {
    lane.arrived = 0;
    lane.waiting.clear();
  }
  for (const Side side : {Side::kOpener, Side::kAcceptor}) {
    network_.world_.After(network_.DelayOn(network_.default_link_),
                          [self = shared_from_this(), side] { self->LearnOfBreak(side); });
  }
}

void Connection::LearnOfBreak(Side side) {
  const size_t i = static_cast<size_t>(side);
  knows_[i] = true;
  const auto callback = std::exchange(on_break_[i], nullptr);
  const bool lives = network_.LifeOf(peer(side)) == lives_[i];
  if (callback && lives) callback();
}

void Connection::OnBreak(Side side, PacketNetwork::Break callback) {
  const size_t i = static_cast<size_t>(side);
  on_break_[i] = std::move(callback);
  if (knows_[i]) LearnOfBreak(side);
}

}  // namespace sluice::sim
