// What a Ratis reply, or the end of a Ratis call, means to a caller: a status, and what to do next.
//
//   absl::Status status = StatusOf(reply);            // OK only for success
//   if (NextAfter(reply) == Next::kAnswer) done(status);
//
// Pure; any thread. A request that is sent again keeps its call id, so that it takes effect once.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "sluice/ratis/raft.pb.h"

namespace grpc {
class ClientContext;
class Status;
}  // namespace grpc

namespace sluice::client {

absl::Status StatusOf(const ::sluice::ratis::common::RaftClientReplyProto& reply);
// Of a call that ended: the Java class of its trailer says more than the code of gRPC.
absl::Status StatusOfCall(const grpc::Status& status, const grpc::ClientContext& context);
absl::Status StatusOfCall(std::string_view java_class, const absl::Status& ended);

enum class Next : uint8_t {
  kAnswer,       // the caller gets the status
  kSameServer,   // later: it leads, and cannot serve yet
  kOtherServer,  // the suggested leader, else whoever comes next
};
Next NextAfter(const ::sluice::ratis::common::RaftClientReplyProto& reply);
// After the end of a call; the class is empty if there was none.
Next NextAfterCall(std::string_view java_class);

}  // namespace sluice::client
