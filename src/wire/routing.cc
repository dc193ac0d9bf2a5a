#include "wire/routing.h"

#include <set>

#include "base/status.h"
#include "wire/ratis.h"

namespace sluice::wire {
namespace {

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("routing table: {}", what));
}

// Every peer but one has one predecessor, so the edges are one fewer than the peers; if all peers can then be
// reached from that one, there is no loop.
absl::Status CheckReachable(const RoutingTable& table) {
  std::vector<const PeerId*> unvisited = {&table.primary};
  size_t reached = 0;
  while (!unvisited.empty()) {
    const PeerId* peer = unvisited.back();
    unvisited.pop_back();
    ++reached;
    for (const PeerId& next : table.SuccessorsOf(*peer)) unvisited.push_back(&next);
  }
  if (reached != table.successors.size()) return Invalid("has a loop apart from its start");
  return absl::OkStatus();
}

}  // namespace

const std::vector<PeerId>& RoutingTable::SuccessorsOf(const PeerId& peer) const {
  static const std::vector<PeerId> kNone;
  const auto found = successors.find(peer);
  return found == successors.end() ? kNone : found->second;
}

absl::StatusOr<RoutingTable> ParseRoutingTable(const ratis::common::RoutingTableProto& proto) {
  if (static_cast<size_t>(proto.routes_size()) > kMaxRoutedPeers) return Invalid("too many routes");
  RoutingTable table;
  std::set<PeerId> with_route;
  std::set<PeerId> with_predecessor;
  for (const ratis::common::RouteProto& route : proto.routes()) {
    ASSIGN_OR_RETURN(const PeerId peer, ParsePeerId(route.peer_id().id()));
    if (!with_route.insert(peer).second) return Invalid(fmt::format("two routes for {}", peer.value));
    table.successors.try_emplace(peer);
    for (const ratis::common::RaftPeerIdProto& next_proto : route.successors()) {
      ASSIGN_OR_RETURN(PeerId next, ParsePeerId(next_proto.id()));
      if (next == peer) return Invalid(fmt::format("{} succeeds itself", peer.value));
      if (!with_predecessor.insert(next).second)
        return Invalid(fmt::format("{} has two predecessors", next.value));
      table.successors.try_emplace(next);
      if (table.successors.size() > kMaxRoutedPeers) return Invalid("too many peers");
      table.successors[peer].push_back(std::move(next));
    }
  }
  for (const auto& [peer, next] : table.successors) {
    if (with_predecessor.count(peer) > 0) continue;
    if (!table.primary.empty())
      return Invalid(fmt::format("both {} and {} start it", table.primary.value, peer.value));
    table.primary = peer;
  }
  if (table.primary.empty()) return Invalid("no peer starts it");
  RETURN_IF_ERROR(CheckReachable(table));
  return table;
}

ratis::common::RoutingTableProto ToProto(const RoutingTable& table) {
  ratis::common::RoutingTableProto proto;
  for (const auto& [peer, next] : table.successors) {
    if (next.empty() && peer != table.primary) continue;
    ratis::common::RouteProto* route = proto.add_routes();
    route->mutable_peer_id()->set_id(peer.value);
    for (const PeerId& successor : next) route->add_successors()->set_id(successor.value);
  }
  return proto;
}

}  // namespace sluice::wire
