// One attempt to put content through DataStream: header, packets, CLOSE, and FORWARD to the leader.
//
//   ASSIGN_OR_RETURN(BlobFacts facts, PutStream(connection, address, {...}, content));
//
// Blocks; any thread. No byte is sent before the server at the told address has taken the header, which says
// which cluster and server are meant. A server that is frozen is left after about three seconds, one that is slow
// is not. Once CLOSE is answered, only the FORWARD is repeated, for `silence`. A failed attempt
// leaves an unfinished stage at the servers, which they reclaim; the next attempt starts at 0 with another
// stream id, because a DataStream has no way to go on (D-20).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "client/connection.h"
#include "client/stream_connection.h"
#include "sluice/blob.h"

namespace sluice::client {

struct PutStreamRequest {
  GroupId group;
  std::string name;
  const PutOptions* options = nullptr;
  StreamConnectionOptions stream;
  Duration attempt = kCallTimeout;  // until the server has said that it can serve
};

// `address` is the gRPC address of the server that shall receive the bytes.
absl::StatusOr<BlobFacts> PutStream(std::shared_ptr<Connection> connection, const std::string& address,
                                    const PutStreamRequest& request, BlobContent& content);

}  // namespace sluice::client
