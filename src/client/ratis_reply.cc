#include "client/ratis_reply.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "wire/ratis.h"

namespace sluice::client {
namespace {

namespace pb = ::ratis::common;

absl::Status FromJava(const std::string& java_class, const std::string& message) {
  std::string text = message.empty() ? java_class : message;
  if (java_class == wire::kAlreadyExistsException) return absl::AlreadyExistsError(text);
  if (java_class == wire::kIllegalArgumentException) return absl::InvalidArgumentError(text);
  if (java_class == wire::kGroupMismatchException) return absl::NotFoundError(text);
  if (java_class == wire::kResourceUnavailableException) return absl::ResourceExhaustedError(text);
  if (java_class == wire::kTimeoutIoException) return absl::DeadlineExceededError(text);
  if (java_class == wire::kUnsupportedOperationException) return absl::UnimplementedError(text);
  if (java_class == wire::kServerNotReadyException) return absl::UnavailableError(text);
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
      return absl::AbortedError(reply.data_stream_exception().error_message());
    case pb::RaftClientReplyProto::EXCEPTION_DETAILS_NOT_SET:
      return absl::UnknownError(fmt::format("{} refused without a reason", reply.rpc_reply().reply_id()));
  }
  return absl::UnknownError("a reply of an unknown kind");
}

}  // namespace sluice::client
