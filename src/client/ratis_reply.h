// What a Ratis reply means to a caller: its exception as a status.
//
//   absl::Status status = StatusOf(reply);   // OK only for success
//
// Pure; any thread. UNAVAILABLE: another server, or the same one later, may answer the same request.
#pragma once

#include "absl/status/status.h"
#include "ratis/raft.pb.h"

namespace sluice::client {

absl::Status StatusOf(const ::ratis::common::RaftClientReplyProto& reply);

}  // namespace sluice::client
