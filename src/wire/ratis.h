// Conventions of the Ratis protocol above its messages:
// ids, "no index", replies and exceptions that Java accepts.
//
//   ASSIGN_OR_RETURN(GroupId group, ParseGroupId(request.raft_group_id().id()));
//   call.Write(SuccessReply(request, self, message, index));
//   call.Write(StateMachineErrorReply(request, self, JavaClassOf(status), Message(status)));
//   call.Finish(INTERNAL, failure.message, {{kTrailerExceptionType, failure.exception_type}});
//
// Pure functions; any thread. Parsers answer INVALID_ARGUMENT. Builders never set success beside an
// exception, which Java cannot decode, and echo the ids of the request as they came.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "sluice/ratis/raft.pb.h"
#include "wire/datastream.h"

namespace sluice::wire {

// ---- Ids and numbers ----

// Sixteen bytes, not all zero (Java reserves that id and cannot decode it).
absl::StatusOr<GroupId> ParseGroupId(std::string_view raw);
absl::StatusOr<ClientId> ParseClientId(std::string_view raw);
// 1 to 255 bytes of UTF-8 without NUL.
absl::StatusOr<PeerId> ParsePeerId(std::string_view raw);

// "group-" and the last twelve hex digits in upper case, as Java prints it.
std::string ShortName(const GroupId& group);

// -1 travels as 2^64-1. Any other value above 2^63-1 is taken for "no index" too.
constexpr uint64_t ToWire(Index index) { return static_cast<uint64_t>(index.value); }
constexpr Index IndexFromWire(uint64_t value) {
  return value > INT64_MAX ? kNoIndex : Index{static_cast<int64_t>(value)};
}

// An int32 in big endian: what the counter machine answers.
std::string EncodeInt32(int32_t value);
absl::StatusOr<int32_t> DecodeInt32(std::string_view raw);

// ---- Exceptions ----

// A Java-serialised empty StackTraceElement[], which two exception messages must carry.
extern const std::string_view kEmptyJavaStackTrace;

inline constexpr std::string_view kAlreadyExistsException =
    "org.apache.ratis.protocol.exceptions.AlreadyExistsException";
inline constexpr std::string_view kGroupMismatchException =
    "org.apache.ratis.protocol.exceptions.GroupMismatchException";
inline constexpr std::string_view kReconfigurationInProgressException =
    "org.apache.ratis.protocol.exceptions.ReconfigurationInProgressException";
inline constexpr std::string_view kResourceUnavailableException =
    "org.apache.ratis.protocol.exceptions.ResourceUnavailableException";
inline constexpr std::string_view kServerNotReadyException =
    "org.apache.ratis.protocol.exceptions.ServerNotReadyException";
inline constexpr std::string_view kSetConfigurationException =
    "org.apache.ratis.protocol.exceptions.SetConfigurationException";
inline constexpr std::string_view kStaleReadException =
    "org.apache.ratis.protocol.exceptions.StaleReadException";
inline constexpr std::string_view kStreamException = "org.apache.ratis.protocol.exceptions.StreamException";
inline constexpr std::string_view kTimeoutIoException =
    "org.apache.ratis.protocol.exceptions.TimeoutIOException";
inline constexpr std::string_view kAlreadyClosedException =
    "org.apache.ratis.protocol.exceptions.AlreadyClosedException";
inline constexpr std::string_view kIllegalArgumentException = "java.lang.IllegalArgumentException";
inline constexpr std::string_view kIllegalStateException = "java.lang.IllegalStateException";
inline constexpr std::string_view kUnsupportedOperationException = "java.lang.UnsupportedOperationException";
inline constexpr std::string_view kIoException = "java.io.IOException";

// The Java class that tells a Java client best what a status means.
std::string_view JavaClassOf(const absl::Status& status);

// A call that ends with an error: status INTERNAL, this message (never empty) and this trailer.
struct CallFailure {
  std::string exception_type;
  std::string message;
};
CallFailure UnknownGroup(const PeerId& self, const GroupId& group);
CallFailure ToCallFailure(const absl::Status& status);

// Keys of trailers. The last two only between servers.
inline constexpr std::string_view kTrailerExceptionType = "exception-type";
inline constexpr std::string_view kTrailerExceptionObject = "exception-object-bin";
inline constexpr std::string_view kTrailerCallId = "call-id";
inline constexpr std::string_view kTrailerHeartbeat = "heartbeat";

// ---- Replies ----

using RpcRequest = ratis::common::RaftRpcRequestProto;
using RpcReply = ratis::common::RaftRpcReplyProto;
using ClientReply = ratis::common::RaftClientReplyProto;

// The exceptions of fields 8 to 12, which need nothing but the exact name of their class.
enum class Throwable { kDataStream, kLeaderSteppingDown, kTransferLeadership, kRead, kReadIndex };

RpcReply MakeRpcReply(const RpcRequest& request, const PeerId& self, bool success);
// An empty message and no index are left out.
ClientReply SuccessReply(const RpcRequest& request, const PeerId& self, const Bytes& message, Index index);
// success=false without an exception, which Java returns to its caller and does not throw.
ClientReply PlainFailureReply(const RpcRequest& request, const PeerId& self);
// `leader` null: unknown. `peers`: everybody in the current configuration, listeners too.
ClientReply NotLeaderReply(const RpcRequest& request, const PeerId& self,
                           const ratis::common::RaftPeerProto* leader,
                           std::span<const ratis::common::RaftPeerProto> peers);
ClientReply LeaderNotReadyReply(const RpcRequest& request, const PeerId& self);
ClientReply NotReplicatedReply(const RpcRequest& request, const PeerId& self,
                               ratis::common::ReplicationLevel level, Index index);
// `index`: of the entry, after a failed apply.
ClientReply StateMachineErrorReply(const RpcRequest& request, const PeerId& self, std::string_view java_class,
                                   std::string_view message, Index index = kNoIndex);
ClientReply AlreadyClosedReply(const RpcRequest& request, const PeerId& self, std::string_view message);
ClientReply ThrowableReply(const RpcRequest& request, const PeerId& self, Throwable kind,
                           std::string_view message);

// Failure of one DataStream packet, with the body that a Java client can decode. The code of the status is in
// its text, which has the form of Ratis: "CLASS from Server ID: INVALID_ARGUMENT: what is wrong".
DataStreamReply StreamFailure(const PacketHeader& packet, const GroupId& group, const PeerId& self,
                              const absl::Status& status);
// "INVALID_ARGUMENT: what is wrong" as a status; nullopt if it does not begin with a code.
std::optional<absl::Status> StatusFromText(std::string_view text);
// The status out of the text of a stream failure; ABORTED for a text without a code, as Java servers send it.
absl::Status StatusOfStreamFailure(std::string_view text);

}  // namespace sluice::wire
