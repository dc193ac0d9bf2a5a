#include "edge/ratis/errors.h"

#include <utility>

namespace sluice::edge::ratis {
namespace {

using node::ReplyCode;

#define RATIS_EXCEPTION(name) "org.apache.ratis.protocol.exceptions." name

// One row a code, in the order of the enumeration.
constexpr ErrorRow kTable[] = {
    {ReplyCode::kOk, Carrier::kSuccess, ""},
    {ReplyCode::kNotLeader, Carrier::kNotLeader, RATIS_EXCEPTION("NotLeaderException")},
    {ReplyCode::kLeaderNotReady, Carrier::kNotReady, RATIS_EXCEPTION("LeaderNotReadyException")},
    {ReplyCode::kSteppingDown, Carrier::kThrowable, RATIS_EXCEPTION("LeaderSteppingDownException")},
    {ReplyCode::kStateMachine, Carrier::kStateMachine, RATIS_EXCEPTION("StateMachineException")},
    {ReplyCode::kNotReplicated, Carrier::kNotReplicated, RATIS_EXCEPTION("NotReplicatedException")},
    {ReplyCode::kReadIndex, Carrier::kThrowable, RATIS_EXCEPTION("ReadIndexException")},
    {ReplyCode::kReadTimeout, Carrier::kThrowable, RATIS_EXCEPTION("ReadException")},
    {ReplyCode::kNoSuchGroup, Carrier::kCallStatus, RATIS_EXCEPTION("GroupMismatchException"),
     grpc::StatusCode::INTERNAL},
    {ReplyCode::kResource, Carrier::kCallStatus, RATIS_EXCEPTION("ResourceUnavailableException"),
     grpc::StatusCode::INTERNAL},
    {ReplyCode::kDataStream, Carrier::kThrowable, RATIS_EXCEPTION("DataStreamException")},
    // No trailer: the client takes it for a lost connection and tries another server.
    {ReplyCode::kUnavailable, Carrier::kCallStatus, "", grpc::StatusCode::UNAVAILABLE},
};

const ErrorRow& RowOf(ReplyCode code) {
  for (const ErrorRow& row : kTable) {
    if (row.code == code) return row;
  }
  return kTable[std::size(kTable) - 1];
}

constexpr std::string_view kIoException = "java.io.IOException";

// The class that a Java client names for an error of the state machine.
std::string_view JavaClassOf(absl::StatusCode code, node::RequestKind kind) {
  if (kind == node::RequestKind::kStaleRead &&
      (code == absl::StatusCode::kOutOfRange || code == absl::StatusCode::kFailedPrecondition)) {
    return RATIS_EXCEPTION("StaleReadException");
  }
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "java.lang.IllegalArgumentException";
    case absl::StatusCode::kOutOfRange:
      return "java.lang.IllegalArgumentException";
    case absl::StatusCode::kFailedPrecondition:
      return "java.lang.IllegalStateException";
    case absl::StatusCode::kUnimplemented:
      return "java.lang.UnsupportedOperationException";
    case absl::StatusCode::kNotFound:
      return "java.io.FileNotFoundException";
    case absl::StatusCode::kAlreadyExists:
      return RATIS_EXCEPTION("AlreadyExistsException");
    case absl::StatusCode::kAborted:
      return RATIS_EXCEPTION("StreamException");
    case absl::StatusCode::kResourceExhausted:
      return "org.apache.ratis.server.raftlog.RaftLogIOException";
    default:
      return kIoException;
  }
}

// Codes that have no class of their own travel in the text.
std::string StateMachineText(std::string_view java_class, const absl::Status& status) {
  if (java_class != kIoException) return std::string(Message(status));
  return fmt::format("{}: {}", std::string(absl::StatusCodeToString(status.code())), Message(status));
}

std::string Text(const absl::Status& status) { return std::string(Message(status)); }

pb::ThrowableProto* ThrowableOf(ReplyCode code, pb::RaftClientReplyProto* out) {
  switch (code) {
    case ReplyCode::kSteppingDown:
      return out->mutable_leader_stepping_down_exception();
    case ReplyCode::kReadIndex:
      return out->mutable_read_index_exception();
    case ReplyCode::kReadTimeout:
      return out->mutable_read_exception();
    default:
      return out->mutable_data_stream_exception();
  }
}

void FillNotLeader(const ReplyContext& context, const node::ClientReply& reply,
                   pb::RaftClientReplyProto* out) {
  pb::NotLeaderExceptionProto* exception = out->mutable_not_leader_exception();
  if (reply.leader && reply.leader->id != context.self) {
    ToProto(*reply.leader, false, exception->mutable_suggested_leader());
  }
  for (const raft::Peer& peer : reply.peers) ToProto(peer, false, exception->add_peers_in_conf());
}

void FillException(const ErrorRow& row, const ReplyContext& context, const node::ClientReply& reply,
                   pb::RaftClientReplyProto* out) {
  switch (row.carrier) {
    case Carrier::kNotLeader:
      return FillNotLeader(context, reply, out);
    case Carrier::kNotReady: {
      pb::RaftGroupMemberIdProto* server = out->mutable_leader_not_ready_exception()->mutable_server_id();
      server->set_peer_id(context.self.value);
      server->mutable_group_id()->set_id(context.group.AsBytes().data(), context.group.AsBytes().size());
      return;
    }
    case Carrier::kStateMachine: {
      pb::StateMachineExceptionProto* exception = out->mutable_state_machine_exception();
      const std::string_view java_class = JavaClassOf(reply.error.code(), context.kind);
      exception->set_exception_class_name(std::string(java_class));
      exception->set_error_msg(StateMachineText(java_class, reply.error));
      exception->set_stacktrace(std::string(EmptyStackTrace()));
      return;
    }
    case Carrier::kNotReplicated: {
      pb::NotReplicatedExceptionProto* exception = out->mutable_not_replicated_exception();
      const Index asked = context.kind == node::RequestKind::kWatch ? context.asked : reply.log_index;
      exception->set_call_id(context.call);
      exception->set_replication(static_cast<pb::ReplicationLevel>(context.replication));
      exception->set_log_index(ToWire(asked));
      out->set_log_index(ToWire(asked));
      return;
    }
    case Carrier::kThrowable: {
      pb::ThrowableProto* throwable = ThrowableOf(row.code, out);
      throwable->set_class_name(std::string(row.exception));
      throwable->set_error_message(Text(reply.error));
      return;
    }
    case Carrier::kSuccess:
    case Carrier::kCallStatus:
      return;
  }
}

CallFailure WithClass(std::string_view exception, std::string description) {
  return {grpc::StatusCode::INTERNAL, std::string(exception), std::move(description)};
}

// A description must be there and must be text: a header of HTTP/2 carries it.
std::string Describe(std::string description) {
  constexpr size_t kDescriptionMax = 1024;
  if (description.empty()) return "no description";
  if (description.size() > kDescriptionMax) description.resize(kDescriptionMax);
  for (char& c : description) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return description;
}

}  // namespace

std::string_view EmptyStackTrace() {
  static constexpr char kBytes[] =
      "\xac\xed\x00\x05\x75\x72\x00\x1e[Ljava.lang.StackTraceElement;"
      "\x02\x46\x2a\x3c\x3c\xfd\x22\x39\x02\x00\x00\x78\x70"
      "\x00\x00\x00\x00";
  return {kBytes, sizeof(kBytes) - 1};
}

std::span<const ErrorRow> ErrorTable() { return kTable; }

CallFailure GroupMismatch(const PeerId& self, const GroupId& group) {
  std::string tail = ToHex(group.AsBytes().substr(10));
  for (char& c : tail) c = static_cast<char>(c >= 'a' ? c - 'a' + 'A' : c);
  return WithClass(RATIS_EXCEPTION("GroupMismatchException"),
                   fmt::format("{}: group-{} not found.", self.value, tail));
}
CallFailure IllegalState(std::string description) {
  return WithClass("java.lang.IllegalStateException", std::move(description));
}
CallFailure IllegalArgument(std::string description) {
  return WithClass("java.lang.IllegalArgumentException", std::move(description));
}
CallFailure Unsupported(std::string description) {
  return WithClass("java.lang.UnsupportedOperationException", std::move(description));
}
CallFailure ResourceUnavailable(std::string description) {
  return WithClass(RATIS_EXCEPTION("ResourceUnavailableException"), std::move(description));
}
CallFailure Refused(const absl::Status& why) {
  return {static_cast<grpc::StatusCode>(why.raw_code()), "", std::string(Message(why))};
}
CallFailure Stopping() { return {grpc::StatusCode::UNAVAILABLE, "", "the server is stopping"}; }

grpc::Status StatusOf(const CallFailure& failure) { return {failure.code, Describe(failure.description)}; }

grpc::Status EndCall(grpc::CallbackServerContext& context, const CallFailure& failure) {
  if (!failure.exception.empty()) context.AddTrailingMetadata("exception-type", failure.exception);
  for (const auto& [key, value] : failure.trailers) context.AddTrailingMetadata(key, value);
  return StatusOf(failure);
}

void FillHeader(const ReplyContext& context, bool success, pb::RaftRpcReplyProto* out) {
  out->set_requestor_id(context.client.AsBytes().data(), context.client.AsBytes().size());
  out->set_reply_id(context.self.value);
  out->mutable_raft_group_id()->set_id(context.group.AsBytes().data(), context.group.AsBytes().size());
  out->set_call_id(context.call);
  out->set_success(success);
}

std::optional<CallFailure> FillReply(const ReplyContext& context, node::ClientReply reply,
                                     pb::RaftClientReplyProto* out) {
  const ErrorRow& row = RowOf(reply.code);
  if (row.code == ReplyCode::kNoSuchGroup) return GroupMismatch(context.self, context.group);
  if (row.carrier == Carrier::kCallStatus) {
    return CallFailure{row.status, std::string(row.exception), Text(reply.error)};
  }
  FillHeader(context, row.carrier == Carrier::kSuccess, out->mutable_rpc_reply());
  if (reply.log_index.valid()) out->set_log_index(ToWire(reply.log_index));
  if (row.carrier != Carrier::kSuccess) {
    FillException(row, context, reply, out);
    // A write that was applied keeps its reply although the level it asked for was not reached.
    if (row.carrier != Carrier::kNotReplicated || reply.message.empty()) return std::nullopt;
  }
  std::string* content = out->mutable_message()->mutable_content();
  content->reserve(reply.message.size());
  reply.message.ForEachChunk([content](std::string_view chunk) { content->append(chunk); });
  return std::nullopt;
}

void FillAlreadyClosed(const ReplyContext& context, pb::RaftClientReplyProto* out) {
  FillHeader(context, false, out->mutable_rpc_reply());
  pb::AlreadyClosedExceptionProto* exception = out->mutable_already_closed_exception();
  exception->set_exception_class_name(RATIS_EXCEPTION("AlreadyClosedException"));
  exception->set_error_msg(
      fmt::format("{}: the call was closed before request {}", context.self.value, context.call));
  exception->set_stacktrace(std::string(EmptyStackTrace()));
}

}  // namespace sluice::edge::ratis
