// The first packet of a stream: who receives the bytes first, who passes them on to whom, and what they are.
//
//   ratis::common::RaftClientRequestProto header = StreamHeader(stream, group, primary, message);
//
// Pure functions; any thread. The same message, byte for byte, is the content of FORWARD.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "client/topology.h"
#include "sluice/blob.h"
#include "sluice/data_stream.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::client {

// Chain: the primary first, then the others in the group's order. Star: all others after the primary. Members
// without a data-stream address are left out; they fetch the bytes later.
::sluice::ratis::common::RoutingTableProto RouteOf(BlobRoute route, const std::string& primary,
                                                   const std::vector<Member>& members);
// The same for sluice/data_stream.h: its successors as they are, if it has any.
::sluice::ratis::common::RoutingTableProto RouteOf(const RoutingTable& route, const std::string& primary,
                                                   const std::vector<Member>& members);

// The message of a stream to a `blob` group, which is a sluice.BlobHeader, with the cluster and the server that the
// client means (K20): whoever listens at the address that was told, and is another one, takes no byte. Any other
// message stays as it is.
std::string SayWhomWeMean(std::string message, const ClusterId& cluster, const std::string& primary);

::sluice::ratis::common::RaftClientRequestProto StreamHeader(const UploadId& stream, const GroupId& group,
                                                             const std::string& primary, std::string message);

}  // namespace sluice::client
