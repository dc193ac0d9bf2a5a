// sluice/data_stream.h on one StreamConnection and one RatisClient.
//
//   ASSIGN_OR_RETURN(auto stream, OpenDataStream(connection, raft, group, header_message, route));
//
// Threading and failure: those of DataStreamOutput. Ownership: `raft` must outlive the stream.
#pragma once

#include <memory>
#include <string>

#include "client/connection.h"
#include "client/ratis_client.h"
#include "sluice/data_stream.h"

namespace sluice::client {

absl::StatusOr<std::unique_ptr<DataStreamOutput>> OpenDataStream(Connection& connection, RatisClient& raft,
                                                                 const GroupId& group,
                                                                 std::string header_message,
                                                                 const RoutingTable& route);

}  // namespace sluice::client
