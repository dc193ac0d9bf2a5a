// What sluice's servers and clients say of themselves, beside the messages of the protocols that they speak: keys
// of gRPC metadata, which other programs ignore. A DataStream header carries the same in sluice.BlobHeader.
//
// Constants.
#pragma once

namespace sluice::wire {

// Sixteen bytes: the cluster that a server belongs to, or that a client believes it talks to.
inline constexpr char kClusterKey[] = "sluice-cluster-bin";
// The id of the server that the caller believes it talks to.
inline constexpr char kTargetKey[] = "sluice-target-bin";

}  // namespace sluice::wire
