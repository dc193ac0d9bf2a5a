#include "wire/ratis.h"

#include "base/names.h"
#include "base/status.h"
#include "base/strings.h"

namespace sluice::wire {
namespace {

constexpr size_t kMaxPeerIdBytes = 255;

// Written in parts, because \x takes as many hex digits as follow.
constexpr char kStackTraceBytes[] =
    "\xac\xed\x00\x05\x75\x72\x00\x1e"
    "[Ljava.lang.StackTraceElement;"
    "\x02\x46\x2a\x3c\x3c\xfd\x22\x39\x02\x00\x00\x78\x70\x00\x00\x00\x00";

template <typename Id>
absl::StatusOr<Id> ParseUuid(std::string_view raw, std::string_view what) {
  const std::optional<Id> id = Id::FromBytes(raw);
  if (!id) return absl::InvalidArgumentError(fmt::format("{} id of {} bytes: must be 16", what, raw.size()));
  if (id->IsZero()) return absl::InvalidArgumentError(fmt::format("{} id is all zero", what));
  return *id;
}

uint64_t LogIndexField(Index index) { return index.valid() ? ToWire(index) : 0; }

template <typename ExceptionProto>
void FillSerialized(ExceptionProto* proto, std::string_view java_class, std::string_view message) {
  proto->set_exception_class_name(std::string(java_class));
  proto->set_error_msg(std::string(message));
  proto->set_stacktrace(std::string(kEmptyJavaStackTrace));
}

std::string_view ClassOf(Throwable kind) {
  switch (kind) {
    case Throwable::kDataStream:
      return "org.apache.ratis.protocol.exceptions.DataStreamException";
    case Throwable::kLeaderSteppingDown:
      return "org.apache.ratis.protocol.exceptions.LeaderSteppingDownException";
    case Throwable::kTransferLeadership:
      return "org.apache.ratis.protocol.exceptions.TransferLeadershipException";
    case Throwable::kRead:
      return "org.apache.ratis.protocol.exceptions.ReadException";
    case Throwable::kReadIndex:
      break;
  }
  return "org.apache.ratis.protocol.exceptions.ReadIndexException";
}

ratis::common::ThrowableProto* MutableThrowable(ClientReply& reply, Throwable kind) {
  switch (kind) {
    case Throwable::kDataStream:
      return reply.mutable_data_stream_exception();
    case Throwable::kLeaderSteppingDown:
      return reply.mutable_leader_stepping_down_exception();
    case Throwable::kTransferLeadership:
      return reply.mutable_transfer_leadership_exception();
    case Throwable::kRead:
      return reply.mutable_read_exception();
    case Throwable::kReadIndex:
      break;
  }
  return reply.mutable_read_index_exception();
}

}  // namespace

const std::string_view kEmptyJavaStackTrace(kStackTraceBytes, sizeof(kStackTraceBytes) - 1);

absl::StatusOr<GroupId> ParseGroupId(std::string_view raw) { return ParseUuid<GroupId>(raw, "group"); }
absl::StatusOr<ClientId> ParseClientId(std::string_view raw) { return ParseUuid<ClientId>(raw, "client"); }

absl::StatusOr<PeerId> ParsePeerId(std::string_view raw) {
  if (raw.empty() || raw.size() > kMaxPeerIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("peer id of {} bytes: 1 to {}", raw.size(), kMaxPeerIdBytes));
  }
  if (raw.find('\0') != std::string_view::npos || !IsValidUtf8(raw)) {
    return absl::InvalidArgumentError("peer id is not UTF-8 text");
  }
  return PeerId{std::string(raw)};
}

std::string ShortName(const GroupId& group) {
  std::string name = "group-";
  for (size_t i = 10; i < 16; ++i) name += fmt::format("{:02X}", group.bytes[i]);
  return name;
}

std::string EncodeInt32(int32_t value) {
  const auto bits = static_cast<uint32_t>(value);
  std::string raw;
  for (int shift = 24; shift >= 0; shift -= 8) raw.push_back(static_cast<char>(bits >> shift));
  return raw;
}

absl::StatusOr<int32_t> DecodeInt32(std::string_view raw) {
  if (raw.size() != 4) return absl::InvalidArgumentError(fmt::format("int32 of {} bytes", raw.size()));
  uint32_t bits = 0;
  for (char c : raw) bits = bits << 8 | static_cast<uint8_t>(c);
  return static_cast<int32_t>(bits);
}

std::string_view JavaClassOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kIllegalArgumentException;
    case absl::StatusCode::kFailedPrecondition:
      return kIllegalStateException;
    case absl::StatusCode::kUnimplemented:
      return kUnsupportedOperationException;
    case absl::StatusCode::kAlreadyExists:
      return kAlreadyExistsException;
    case absl::StatusCode::kResourceExhausted:
      return kResourceUnavailableException;
    case absl::StatusCode::kDeadlineExceeded:
      return kTimeoutIoException;
    case absl::StatusCode::kNotFound:
      return "java.io.FileNotFoundException";
    default:
      return kIoException;
  }
}

CallFailure UnknownGroup(const PeerId& self, const GroupId& group) {
  return {std::string(kGroupMismatchException),
          fmt::format("{}: {} not found.", self.value, ShortName(group))};
}

// Without a message Java cannot build the exception and retries.
CallFailure ToCallFailure(const absl::Status& status) {
  std::string message(Message(status));
  if (message.empty()) message = absl::StatusCodeToString(status.code());
  return {std::string(JavaClassOf(status)), std::move(message)};
}

RpcReply MakeRpcReply(const RpcRequest& request, const PeerId& self, bool success) {
  RpcReply reply;
  reply.set_requestor_id(request.requestor_id());
  reply.set_reply_id(self.value);
  if (request.has_raft_group_id()) *reply.mutable_raft_group_id() = request.raft_group_id();
  reply.set_call_id(request.call_id());
  reply.set_success(success);
  return reply;
}

ClientReply PlainFailureReply(const RpcRequest& request, const PeerId& self) {
  ClientReply reply;
  *reply.mutable_rpc_reply() = MakeRpcReply(request, self, false);
  return reply;
}

ClientReply SuccessReply(const RpcRequest& request, const PeerId& self, const Bytes& message, Index index) {
  ClientReply reply;
  *reply.mutable_rpc_reply() = MakeRpcReply(request, self, true);
  if (!message.empty()) reply.mutable_message()->set_content(message.ToString());
  reply.set_log_index(LogIndexField(index));
  return reply;
}

ClientReply NotLeaderReply(const RpcRequest& request, const PeerId& self,
                           const ratis::common::RaftPeerProto* leader,
                           std::span<const ratis::common::RaftPeerProto> peers) {
  ClientReply reply = PlainFailureReply(request, self);
  auto* exception = reply.mutable_not_leader_exception();
  // Suggesting itself would send the client round in a circle.
  if (leader != nullptr && leader->id() != self.value) *exception->mutable_suggested_leader() = *leader;
  for (const ratis::common::RaftPeerProto& peer : peers) *exception->add_peers_in_conf() = peer;
  return reply;
}

ClientReply LeaderNotReadyReply(const RpcRequest& request, const PeerId& self) {
  ClientReply reply = PlainFailureReply(request, self);
  auto* server = reply.mutable_leader_not_ready_exception()->mutable_server_id();
  server->set_peer_id(self.value);
  *server->mutable_group_id() = request.raft_group_id();
  return reply;
}

ClientReply NotReplicatedReply(const RpcRequest& request, const PeerId& self,
                               ratis::common::ReplicationLevel level, Index index) {
  ClientReply reply = PlainFailureReply(request, self);
  auto* exception = reply.mutable_not_replicated_exception();
  exception->set_call_id(request.call_id());
  exception->set_replication(level);
  exception->set_log_index(LogIndexField(index));
  reply.set_log_index(LogIndexField(index));
  return reply;
}

ClientReply StateMachineErrorReply(const RpcRequest& request, const PeerId& self, std::string_view java_class,
                                   std::string_view message, Index index) {
  ClientReply reply = PlainFailureReply(request, self);
  FillSerialized(reply.mutable_state_machine_exception(), java_class, message);
  reply.set_log_index(LogIndexField(index));
  return reply;
}

ClientReply AlreadyClosedReply(const RpcRequest& request, const PeerId& self, std::string_view message) {
  ClientReply reply = PlainFailureReply(request, self);
  FillSerialized(reply.mutable_already_closed_exception(), kAlreadyClosedException, message);
  return reply;
}

ClientReply ThrowableReply(const RpcRequest& request, const PeerId& self, Throwable kind,
                           std::string_view message) {
  ClientReply reply = PlainFailureReply(request, self);
  ratis::common::ThrowableProto* throwable = MutableThrowable(reply, kind);
  throwable->set_class_name(std::string(ClassOf(kind)));
  throwable->set_error_message(std::string(message));
  return reply;
}

DataStreamReply StreamFailure(const PacketHeader& packet, const GroupId& group, const PeerId& self,
                              const absl::Status& status) {
  RpcRequest request;
  request.set_requestor_id(std::string(packet.client.AsBytes()));
  request.mutable_raft_group_id()->set_id(std::string(group.AsBytes()));
  request.set_call_id(packet.stream.value);
  const std::string text = fmt::format("{} from Server {}: {}: {}", JavaClassOf(status), self.value,
                                       std::string(absl::StatusCodeToString(status.code())), Message(status));
  DataStreamReply reply;
  reply.header = packet;
  reply.body = Bytes::Take(ThrowableReply(request, self, Throwable::kDataStream, text).SerializeAsString());
  return reply;
}

std::optional<absl::Status> StatusFromText(std::string_view text) {
  for (int raw = 1; raw <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++raw) {
    const auto code = static_cast<absl::StatusCode>(raw);
    const std::string name = absl::StatusCodeToString(code) + ": ";
    if (text.substr(0, name.size()) == name) return absl::Status(code, ToAbsl(text.substr(name.size())));
  }
  return std::nullopt;
}

absl::Status StatusOfStreamFailure(std::string_view text) {
  constexpr std::string_view kServer = " from Server ";
  const size_t server = text.find(kServer);
  const size_t code = server == std::string_view::npos ? server : text.find(": ", server + kServer.size());
  if (code != std::string_view::npos) {
    if (auto status = StatusFromText(text.substr(code + 2))) return *std::move(status);
  }
  return absl::AbortedError(ToAbsl(text));
}

}  // namespace sluice::wire
