// How the errors of a request travel to a Ratis client: one table, in a reply or as the end of the call.
//
//   if (auto failure = FillReply(context, std::move(reply), &proto)) Finish(EndCall(context_, *failure));
//
// The 55-byte constant, the class names and the rule "INTERNAL, description, trailer exception-type" are what
// a Java client decodes; anything else it takes for a broken connection and retries.
// Pure functions; any thread.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "edge/ratis/convert.h"
#include "node/request.h"

namespace sluice::edge::ratis {

// An empty StackTraceElement[] as Java serialises it.
std::string_view EmptyStackTrace();

// What is needed of a request to answer it.
struct ReplyContext {
  PeerId self;
  ClientId client;
  GroupId group;
  uint64_t call = 0;
  node::RequestKind kind = node::RequestKind::kWrite;
  node::Replication replication = node::Replication::kMajority;
  Index asked = kNoIndex;  // of a watch
};

enum class Carrier : uint8_t {
  kSuccess,
  kNotLeader,
  kNotReady,
  kStateMachine,
  kNotReplicated,
  kThrowable,   // a ThrowableProto in the field that belongs to the class
  kCallStatus,  // ends the call
};
struct ErrorRow {
  node::ReplyCode code;
  Carrier carrier;
  std::string_view exception;  // full Java class name; empty for a bare status
  grpc::StatusCode status = grpc::StatusCode::OK;
};
std::span<const ErrorRow> ErrorTable();

// Why a whole call ends.
struct CallFailure {
  grpc::StatusCode code = grpc::StatusCode::INTERNAL;
  std::string exception;  // Java class for the trailer; empty: none
  std::string description;
  std::vector<std::pair<std::string, std::string>> trailers = {};  // further ones
};
CallFailure GroupMismatch(const PeerId& self, const GroupId& group);
CallFailure IllegalState(std::string description);     // java.lang.IllegalStateException
CallFailure IllegalArgument(std::string description);  // java.lang.IllegalArgumentException
CallFailure Unsupported(std::string description);      // java.lang.UnsupportedOperationException
CallFailure ResourceUnavailable(std::string description);
CallFailure Refused(
    const absl::Status& why);  // with its own code, which a Java client takes for a broken call
CallFailure Stopping();        // UNAVAILABLE: the client goes to another server

grpc::Status StatusOf(const CallFailure& failure);
// Adds the trailers and gives the status to finish with.
grpc::Status EndCall(grpc::CallbackServerContext& context, const CallFailure& failure);

// Writes header and outcome (commitInfos are the caller's); or says why the call must end instead.
std::optional<CallFailure> FillReply(const ReplyContext& context, node::ClientReply reply,
                                     pb::RaftClientReplyProto* out);
void FillHeader(const ReplyContext& context, bool success, pb::RaftRpcReplyProto* out);
// The answer to an ordered request that can no longer be processed (rule 7).
void FillAlreadyClosed(const ReplyContext& context, pb::RaftClientReplyProto* out);

}  // namespace sluice::edge::ratis
