// What servers of a group call of each other, by the names of Ratis' service.
//
// Constants.
#pragma once

#include "edge/peer_wire.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::edge::ratis {

namespace pb = ::sluice::ratis::common;

inline constexpr Method<pb::RequestVoteRequestProto, pb::RequestVoteReplyProto> kRequestVote{
    "/ratis.grpc.RaftServerProtocolService/requestVote"};
inline constexpr Method<pb::StartLeaderElectionRequestProto, pb::StartLeaderElectionReplyProto>
    kStartLeaderElection{"/ratis.grpc.RaftServerProtocolService/startLeaderElection"};
inline constexpr Method<pb::ReadIndexRequestProto, pb::ReadIndexReplyProto> kReadIndex{
    "/ratis.grpc.RaftServerProtocolService/readIndex"};
inline constexpr Method<pb::AppendEntriesRequestProto, pb::AppendEntriesReplyProto> kAppendEntries{
    "/ratis.grpc.RaftServerProtocolService/appendEntries"};
inline constexpr Method<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto> kInstallSnapshot{
    "/ratis.grpc.RaftServerProtocolService/installSnapshot"};

}  // namespace sluice::edge::ratis
