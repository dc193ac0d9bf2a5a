// The route of a stream: who forwards its packets to whom.
//
//   ASSIGN_OR_RETURN(RoutingTable table, ParseRoutingTable(request.rpc_request().routing_table()));
//   for (const PeerId& next : table.SuccessorsOf(self)) Forward(next);
//
// A valid table is a tree: one peer starts it (the primary), every other has one predecessor, all are
// reachable. Whether its peers exist is for the caller to judge against the group's configuration; members
// that it leaves out are allowed and fetch the bytes later. Immutable once parsed; any thread.
#pragma once

#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::wire {

// More servers than any group has.
inline constexpr size_t kMaxRoutedPeers = 256;

struct RoutingTable {
  PeerId primary;
  // Every peer of the table; leaves have no successors.
  std::map<PeerId, std::vector<PeerId>> successors;

  // Empty for a leaf and for a peer that is not in the table.
  const std::vector<PeerId>& SuccessorsOf(const PeerId& peer) const;
  bool Contains(const PeerId& peer) const { return successors.count(peer) > 0; }
};

// INVALID_ARGUMENT for anything but a tree, an illegal peer id, a peer with two routes, or too many peers.
absl::StatusOr<RoutingTable> ParseRoutingTable(const ratis::common::RoutingTableProto& proto);
// Leaves get no route of their own, as in Java.
ratis::common::RoutingTableProto ToProto(const RoutingTable& table);

}  // namespace sluice::wire
