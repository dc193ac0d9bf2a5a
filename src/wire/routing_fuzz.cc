// Fuzzes the routing table. Checked beside the sanitizers:
// an accepted table is a tree that survives a round trip.
#include "wire/routing.h"

#include <cstdlib>
#include <set>

namespace sluice::wire {
namespace {

void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  ratis::common::RoutingTableProto proto;
  if (size > 65'536 || !proto.ParseFromArray(bytes, static_cast<int>(size))) return 0;
  absl::StatusOr<RoutingTable> table = ParseRoutingTable(proto);
  if (!table.ok()) return 0;
  Require(table->successors.size() <= kMaxRoutedPeers && table->Contains(table->primary));

  std::set<PeerId> reached;
  std::vector<PeerId> unvisited = {table->primary};
  while (!unvisited.empty()) {
    const PeerId peer = unvisited.back();
    unvisited.pop_back();
    Require(reached.insert(peer).second);
    for (const PeerId& next : table->SuccessorsOf(peer)) unvisited.push_back(next);
  }
  Require(reached.size() == table->successors.size());

  absl::StatusOr<RoutingTable> again = ParseRoutingTable(ToProto(*table));
  Require(again.ok() && again->primary == table->primary && again->successors == table->successors);
  return 0;
}

}  // namespace sluice::wire
