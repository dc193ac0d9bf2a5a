#include "client/stream_header.h"

#include <utility>

#include "sluice/blob.pb.h"
#include "wire/routing.h"

namespace sluice::client {

::sluice::ratis::common::RoutingTableProto RouteOf(BlobRoute route, const std::string& primary,
                                                   const std::vector<Member>& members) {
  wire::RoutingTable table{.primary = {primary}, .successors = {{PeerId{primary}, {}}}};
  PeerId last{primary};
  for (const Member& member : members) {
    if (member.id == primary || member.data_stream_address.empty()) continue;
    table.successors[route == BlobRoute::kChain ? last : table.primary].push_back({member.id});
    last = {member.id};
    table.successors.try_emplace(last);
  }
  return wire::ToProto(table);
}

::sluice::ratis::common::RoutingTableProto RouteOf(const RoutingTable& route, const std::string& primary,
                                                   const std::vector<Member>& members) {
  if (route.successors.empty()) {
    return RouteOf(route.shape == RoutingTable::Shape::kStar ? BlobRoute::kStar : BlobRoute::kChain, primary,
                   members);
  }
  wire::RoutingTable table{.primary = {primary}, .successors = route.successors};
  table.successors.try_emplace(table.primary);
  for (const auto& [from, to] : route.successors) {
    for (const PeerId& one : to) table.successors.try_emplace(one);
  }
  return wire::ToProto(table);
}

std::string SayWhomWeMean(std::string message, const ClusterId& cluster, const std::string& primary) {
  ::sluice::BlobHeader header;
  if (!header.ParseFromString(message)) return message;
  if (!cluster.IsZero()) header.set_cluster(std::string(cluster.AsBytes()));
  header.set_target_id(primary);
  return header.SerializeAsString();
}

::sluice::ratis::common::RaftClientRequestProto StreamHeader(const UploadId& stream, const GroupId& group,
                                                             const std::string& primary,
                                                             std::string message) {
  ::sluice::ratis::common::RaftClientRequestProto header;
  auto* rpc = header.mutable_rpc_request();
  rpc->set_requestor_id(std::string(stream.client.AsBytes()));
  rpc->set_reply_id(primary);
  rpc->mutable_raft_group_id()->set_id(std::string(group.AsBytes()));
  rpc->set_call_id(stream.call.value);
  header.mutable_message()->set_content(std::move(message));
  header.mutable_data_stream();
  return header;
}

}  // namespace sluice::client
