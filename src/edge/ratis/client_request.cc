#include "edge/ratis/client_request.h"

#include <utility>

#include "node/command.h"

namespace sluice::edge::ratis {
namespace {

using node::RequestKind;

// What one log entry may hold (Ratis' appender buffer); a machine refuses earlier if it wants.
constexpr int kForwardedBytesMax = 4 << 20;

bool IsBlobGroup(const node::Host& host, const GroupId& group) {
  for (const node::GroupSpec& spec : host.options().groups) {
    if (spec.id == group) return spec.machine == "blob";
  }
  return false;
}

std::optional<CallFailure> ReplicationFrom(pb::ReplicationLevel level, ParsedRequest* out) {
  if (level < pb::MAJORITY || level > pb::ALL_COMMITTED) {
    return IllegalArgument(fmt::format("unknown replication level {}", static_cast<int>(level)));
  }
  out->request.replication = static_cast<node::Replication>(level);
  out->context.replication = out->request.replication;
  return std::nullopt;
}

std::optional<CallFailure> IndexFrom(uint64_t value, ParsedRequest* out) {
  auto index = IndexFromWire(value);
  if (!index.ok()) return IllegalArgument(std::string(Message(index.status())));
  out->request.min_index = *index;
  out->context.asked = *index;
  return std::nullopt;
}

// FORWARD carries the header of a finished stream: the outer ids are those of the request, the inner ones
// name the stream. An inner write is a write.
std::optional<CallFailure> TakeForward(const node::Host& host, ParsedRequest* out) {
  const std::string content = out->request.message.ToString();
  pb::RaftClientRequestProto inner;
  if (content.size() > kForwardedBytesMax || !inner.ParseFromString(content)) {
    return IllegalArgument("forward without the request of a stream");
  }
  out->request.message = Bytes::Take(std::move(*inner.mutable_message()->mutable_content()));
  if (inner.has_write()) {
    out->request.kind = RequestKind::kWrite;
    return std::nullopt;
  }
  if (!inner.has_data_stream())
    return IllegalArgument("forward of a request that is neither write nor stream");
  const auto client = ClientId::FromBytes(inner.rpc_request().requestor_id());
  if (!client) return IllegalArgument("forwarded stream without a client id");
  if (client->IsZero() || *client == node::kSystemClient) return IllegalArgument("reserved client id");
  out->request.kind = RequestKind::kForward;
  out->request.upload = {*client, CallId{inner.rpc_request().call_id()}};
  if (!IsBlobGroup(host, out->request.group)) return std::nullopt;
  auto header = BlobHeaderFromWire(out->request.message.ToString());
  if (!header.ok()) return IllegalArgument(std::string(Message(header.status())));
  out->request.header = *std::move(header);
  return std::nullopt;
}

std::optional<CallFailure> TakeType(const node::Host& host, const pb::RaftClientRequestProto& proto,
                                    ParsedRequest* out) {
  node::ClientRequest& request = out->request;
  switch (proto.type_case()) {
    case pb::RaftClientRequestProto::kWrite:
      request.kind = RequestKind::kWrite;
      return ReplicationFrom(proto.write().replication(), out);
    case pb::RaftClientRequestProto::kRead:
      // 3.3's dummy read asks only whether this server leads: that is what a watch of index 0 answers.
      request.kind = proto.read().dummy() ? RequestKind::kWatch : RequestKind::kRead;
      if (proto.read().dummy()) request.min_index = Index{0};
      request.linearizable = !proto.read().prefer_non_linearizable();
      request.after_writes = proto.read().read_after_write_consistent();
      return std::nullopt;
    case pb::RaftClientRequestProto::kStaleRead:
      request.kind = RequestKind::kStaleRead;
      return IndexFrom(proto.stale_read().min_index(), out);
    case pb::RaftClientRequestProto::kWatch:
      request.kind = RequestKind::kWatch;
      if (auto failure = IndexFrom(proto.watch().index(), out)) return failure;
      return ReplicationFrom(proto.watch().replication(), out);
    case pb::RaftClientRequestProto::kForward:
      return TakeForward(host, out);
    case pb::RaftClientRequestProto::kMessageStream:
      request.kind = RequestKind::kWatch;
      request.min_index = Index{0};
      out->part = {.stream = proto.message_stream().stream_id(),
                   .number = proto.message_stream().message_id(),
                   .last = proto.message_stream().end_of_request()};
      return std::nullopt;
    case pb::RaftClientRequestProto::kDataStream:
      return IllegalState("a data stream does not start over gRPC: use the data stream port");
    case pb::RaftClientRequestProto::TYPE_NOT_SET:
      break;
  }
  return IllegalArgument("request without a type");
}

}  // namespace

std::optional<CallFailure> TakeClientRequest(const node::Host& host, pb::RaftClientRequestProto& proto,
                                             ParsedRequest* out) {
  const pb::RaftRpcRequestProto& header = proto.rpc_request();
  const auto client = ClientId::FromBytes(header.requestor_id());
  if (!client)
    return IllegalState(fmt::format("client id of {} bytes: 16 expected", header.requestor_id().size()));
  if (client->IsZero() || *client == node::kSystemClient) return IllegalArgument("reserved client id");
  const auto group = GroupId::FromBytes(header.raft_group_id().id());
  if (!group)
    return IllegalState(fmt::format("group id of {} bytes: 16 expected", header.raft_group_id().id().size()));

  out->request.group = *group;
  out->request.client = *client;
  out->request.call = CallId{header.call_id()};
  out->context.self = host.options().self.id;
  out->context.client = *client;
  out->context.group = *group;
  out->context.call = header.call_id();
  if (!host.HasGroup(*group)) return GroupMismatch(out->context.self, *group);

  out->in_window = header.has_sliding_window_entry();
  out->seq = header.sliding_window_entry().seq_num();
  out->is_first = header.sliding_window_entry().is_first();
  if (proto.has_message())
    out->request.message = Bytes::Take(std::move(*proto.mutable_message()->mutable_content()));
  out->bytes = out->request.message.size();
  if (auto failure = TakeType(host, proto, out)) return failure;
  out->context.kind = out->request.kind;
  return std::nullopt;
}

}  // namespace sluice::edge::ratis
