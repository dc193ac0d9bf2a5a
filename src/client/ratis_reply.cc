#include "client/ratis_reply.h"

#include <fmt/format.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "base/strings.h"
#include "client/connection.h"
#include "wire/ratis.h"

namespace sluice::client {
namespace {

namespace pb = ::sluice::ratis::common;

absl::Status FromJava(std::string_view java_class, std::string_view message) {
  const std::string text(message.empty() ? java_class : message);
  if (java_class == wire::kAlreadyExistsException) return absl::AlreadyExistsError(text);
  if (java_class == wire::kIllegalArgumentException) return absl::InvalidArgumentError(text);
  if (java_class == wire::kGroupMismatchException) return absl::NotFoundError(text);
  if (java_class == "java.io.FileNotFoundException") return absl::NotFoundError(text);
  if (java_class == "org.apache.ratis.server.raftlog.RaftLogIOException")
    return absl::ResourceExhaustedError(text);
  if (java_class == wire::kResourceUnavailableException) return absl::ResourceExhaustedError(text);
  if (java_class == wire::kTimeoutIoException) return absl::DeadlineExceededError(text);
  if (java_class == wire::kUnsupportedOperationException) return absl::UnimplementedError(text);
  if (java_class == wire::kServerNotReadyException) return absl::UnavailableError(text);
  if (java_class == wire::kStreamException) return absl::AbortedError(text);
  if (java_class == wire::kIllegalStateException) return absl::FailedPreconditionError(text);
  if (java_class == wire::kIoException) {
    if (auto status = wire::StatusFromText(message)) return *std::move(status);
  }
  return absl::FailedPreconditionError(
      fmt::format("{}: {}", java_class.substr(java_class.rfind('.') + 1), message));
}

}  // namespace

absl::Status StatusOf(const pb::RaftClientReplyProto& reply) {
  if (reply.rpc_reply().success()) return absl::OkStatus();
  switch (reply.exception_details_case()) {
    case pb::RaftClientReplyProto::kNotLeaderException:
      return absl::UnavailableError(fmt::format("{} does not lead", reply.rpc_reply().reply_id()));
    case pb::RaftClientReplyProto::kLeaderNotReadyException:
      return absl::UnavailableError(
          fmt::format("{} leads but is not ready yet", reply.rpc_reply().reply_id()));
    case pb::RaftClientReplyProto::kLeaderSteppingDownException:
      return absl::UnavailableError(reply.leader_stepping_down_exception().error_message());
    case pb::RaftClientReplyProto::kTransferLeadershipException:
      return absl::UnavailableError(reply.transfer_leadership_exception().error_message());
    case pb::RaftClientReplyProto::kReadIndexException:
      return absl::UnavailableError(reply.read_index_exception().error_message());
    case pb::RaftClientReplyProto::kReadException:
      return absl::UnavailableError(reply.read_exception().error_message());
    case pb::RaftClientReplyProto::kNotReplicatedException:
      return absl::DeadlineExceededError(
          fmt::format("entry {} is not replicated as asked", reply.not_replicated_exception().log_index()));
    case pb::RaftClientReplyProto::kStateMachineException:
      return FromJava(reply.state_machine_exception().exception_class_name(),
                      reply.state_machine_exception().error_msg());
    case pb::RaftClientReplyProto::kAlreadyClosedException:
      return absl::UnavailableError(reply.already_closed_exception().error_msg());
    case pb::RaftClientReplyProto::kDataStreamException:
      return wire::StatusOfStreamFailure(reply.data_stream_exception().error_message());
    case pb::RaftClientReplyProto::EXCEPTION_DETAILS_NOT_SET:
      return absl::UnknownError(fmt::format("{} refused without a reason", reply.rpc_reply().reply_id()));
  }
  return absl::UnknownError("a reply of an unknown kind");
}

absl::Status StatusOfCall(std::string_view java_class, const absl::Status& ended) {
  if (ended.ok() || java_class.empty()) return ended;
  return FromJava(java_class, Message(ended));
}

absl::Status StatusOfCall(const grpc::Status& status, const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto type = trailers.find(std::string(wire::kTrailerExceptionType));
  if (status.error_code() != grpc::INTERNAL || type == trailers.end()) return FromGrpc(status);
  return StatusOfCall({type->second.data(), type->second.size()}, FromGrpc(status));
}

Next NextAfter(const pb::RaftClientReplyProto& reply) {
  if (reply.rpc_reply().success()) return Next::kAnswer;
  switch (reply.exception_details_case()) {
    case pb::RaftClientReplyProto::kLeaderNotReadyException:
      return Next::kSameServer;
    // Neither was executed. Java gives the last two to the application; here a client goes on by itself.
    case pb::RaftClientReplyProto::kNotLeaderException:
    case pb::RaftClientReplyProto::kReadIndexException:
    case pb::RaftClientReplyProto::kReadException:
    case pb::RaftClientReplyProto::kLeaderSteppingDownException:
    case pb::RaftClientReplyProto::kAlreadyClosedException:
      return Next::kOtherServer;
    default:
      return Next::kAnswer;
  }
}

Next NextAfterCall(std::string_view java_class) {
  // The server is there and short of something: what Java waits for at the same server.
  if (java_class == wire::kResourceUnavailableException || java_class == wire::kServerNotReadyException ||
      java_class == wire::kTimeoutIoException) {
    return Next::kSameServer;
  }
  // A broken connection, or an error that is not of the request.
  if (java_class.empty() || java_class == wire::kIoException || java_class == wire::kAlreadyClosedException) {
    return Next::kOtherServer;
  }
  for (const std::string_view one : {"NotLeaderException", "LeaderNotReadyException",
                                     "LeaderSteppingDownException", "ReadException", "ReadIndexException"}) {
    if (java_class.substr(java_class.rfind('.') + 1) == one) return Next::kOtherServer;
  }
  return Next::kAnswer;  // the server judged a request: another one would say the same
}

}  // namespace sluice::client
