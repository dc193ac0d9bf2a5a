#include "edge/datastream/header.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "edge/ratis/convert.h"
#include "node/command.h"
#include "sluice/blob.pb.h"
#include "sluice/ratis/raft.pb.h"
#include "wire/ratis.h"
#include "wire/routing.h"

namespace sluice::edge::datastream {
namespace {

absl::StatusOr<node::Route> DecodeRoute(const ::sluice::ratis::common::RaftRpcRequestProto& request) {
  node::Route route;
  ASSIGN_OR_RETURN(route.primary, wire::ParsePeerId(request.reply_id()));
  if (!request.has_routing_table()) return route;
  ASSIGN_OR_RETURN(wire::RoutingTable table, wire::ParseRoutingTable(request.routing_table()));
  if (table.primary != route.primary) {
    return absl::InvalidArgumentError(fmt::format("route starts at {}, but the stream is addressed to {}",
                                                  Printable(table.primary.value),
                                                  Printable(route.primary.value)));
  }
  route.given = true;
  for (auto& [from, to] : table.successors) route.successors.emplace_back(from, to);
  return route;
}

}  // namespace

absl::StatusOr<node::StreamHeader> DecodeStreamHeader(const wire::PacketHeader& packet, Bytes raw) {
  ::sluice::ratis::common::RaftClientRequestProto proto;
  if (!proto.ParseFromString(raw.ToString())) {
    return absl::InvalidArgumentError("the header of the stream is no RaftClientRequestProto");
  }
  const auto& request = proto.rpc_request();
  node::StreamHeader header;
  ASSIGN_OR_RETURN(const ClientId client, wire::ParseClientId(request.requestor_id()));
  if (client == node::kSystemClient) return absl::InvalidArgumentError("reserved client id");
  ASSIGN_OR_RETURN(header.group, wire::ParseGroupId(request.raft_group_id().id()));
  if (client != packet.client || request.call_id() != packet.stream.value) {
    return absl::InvalidArgumentError(
        fmt::format("stream {} of client {} carries the request {} of client {}", packet.stream.value,
                    packet.client.ToString(), request.call_id(), client.ToString()));
  }
  header.upload = packet.upload();
  ASSIGN_OR_RETURN(header.route, DecodeRoute(request));
  ASSIGN_OR_RETURN(header.blob, ratis::BlobHeaderFromWire(proto.message().content()));
  sluice::BlobHeader blob;
  if (blob.ParseFromString(proto.message().content())) {
    if (blob.has_take_over()) header.take_over = blob.take_over();
    header.cluster = ClusterId::FromBytes(blob.cluster()).value_or(ClusterId{});
    header.target = {blob.target_id()};
  }
  header.raw = std::move(raw);
  return header;
}

namespace {

// The client's header, with what the server that passes it on says.
Bytes WithOwnWords(::sluice::ratis::common::RaftClientRequestProto proto, const node::StreamHeader& header) {
  sluice::BlobHeader blob;
  if (blob.ParseFromString(proto.message().content())) {
    if (header.take_over) blob.set_take_over(*header.take_over);
    blob.set_cluster(header.cluster.IsZero() ? std::string() : std::string(header.cluster.AsBytes()));
    blob.set_target_id(header.target.value);
    proto.mutable_message()->set_content(blob.SerializeAsString());
  }
  return Bytes::Take(proto.SerializeAsString());
}

}  // namespace

Bytes EncodeStreamHeader(const node::StreamHeader& header) {
  ::sluice::ratis::common::RaftClientRequestProto proto;
  if (!header.raw.empty()) {
    const bool adds = header.take_over || !header.cluster.IsZero() || !header.target.empty();
    if (!adds || !proto.ParseFromString(header.raw.ToString())) return header.raw;
    return WithOwnWords(std::move(proto), header);
  }
  auto& request = *proto.mutable_rpc_request();
  request.set_requestor_id(std::string(header.upload.client.AsBytes()));
  request.set_reply_id(header.route.primary.value);
  request.mutable_raft_group_id()->set_id(std::string(header.group.AsBytes()));
  request.set_call_id(header.upload.call.value);
  if (header.route.given) {
    wire::RoutingTable table{.primary = header.route.primary, .successors = {}};
    for (const auto& [from, to] : header.route.successors) table.successors[from] = to;
    *request.mutable_routing_table() = wire::ToProto(table);
  }
  proto.mutable_message()->set_content(ratis::ToWire(header.blob));
  proto.mutable_data_stream();
  return WithOwnWords(std::move(proto), header);
}

Bytes EncodeHeld(const blob::Sealed& sealed) {
  std::string body;
  for (int shift = 56; shift >= 0; shift -= 8) body.push_back(static_cast<char>(sealed.length >> shift));
  for (int shift = 24; shift >= 0; shift -= 8) body.push_back(static_cast<char>(sealed.checksum >> shift));
  return Bytes::Take(std::move(body));
}

absl::StatusOr<blob::Sealed> DecodeHeld(const Bytes& body) {
  constexpr size_t kHeldBytes = 12;
  if (body.size() != kHeldBytes) {
    return absl::InternalError(
        fmt::format("a sealed upload told in {} bytes, not {}", body.size(), kHeldBytes));
  }
  blob::Sealed sealed;
  const std::string raw = body.ToString();
  for (size_t i = 0; i < 8; ++i) sealed.length = sealed.length << 8 | static_cast<uint8_t>(raw[i]);
  for (size_t i = 8; i < kHeldBytes; ++i) {
    sealed.checksum = sealed.checksum << 8 | static_cast<uint8_t>(raw[i]);
  }
  return sealed;
}

}  // namespace sluice::edge::datastream
