// Ratis messages to and from the plain values of raft and node.
//
//   ASSIGN_OR_RETURN(raft::AppendRequest append, FromProto(request, token));
//   ToProto(configuration, entry->mutable_configuration_entry());
//
// Everything that comes from the wire is checked here: INVALID_ARGUMENT for what cannot be right,
// UNIMPLEMENTED for what only Java servers understand. "No index" travels as 2^64-1.
// Pure functions; any thread.
#pragma once

#include <string_view>

#include "node/request.h"
#include "raft/types.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::edge::ratis {

namespace pb = ::sluice::ratis::common;

inline constexpr size_t kPeerIdBytesMax = 255;
inline constexpr size_t kAddressBytesMax = 1024;
inline constexpr int kPeersMax = 256;  // of one configuration list

uint64_t ToWire(Index index);
absl::StatusOr<Index> IndexFromWire(uint64_t value);
absl::StatusOr<GroupId> GroupFromProto(const pb::RaftGroupIdProto& group);
absl::StatusOr<PeerId> PeerIdFromWire(std::string_view raw);

// `learner` is Ratis' startup role LISTENER.
void ToProto(const raft::Peer& peer, bool learner, pb::RaftPeerProto* out);
absl::StatusOr<raft::Peer> FromProto(const pb::RaftPeerProto& peer);
void ToProto(const raft::Configuration& configuration, pb::RaftConfigurationProto* out);
absl::StatusOr<raft::Configuration> FromProto(const pb::RaftConfigurationProto& configuration);

absl::Status ToProto(const raft::Entry& entry, pb::LogEntryProto* out);
// Takes the payload out of `entry`.
absl::StatusOr<raft::Entry> TakeEntry(pb::LogEntryProto& entry);

// Header of what servers say to each other.
struct ServerHeader {
  PeerId from;
  GroupId group;
  uint64_t call = 0;
};
absl::StatusOr<ServerHeader> FromProto(const pb::RaftRpcRequestProto& header);
void ToProto(const ServerHeader& header, const PeerId& to, pb::RaftRpcRequestProto* out);
// The reply to `request`, given by `self`.
void ReplyHeader(const ServerHeader& request, const PeerId& self, bool success, pb::RaftRpcReplyProto* out);

// Requests between servers. FromProto does not read the header; `call` is the caller's token. The payload of
// entries is taken out of an append.
void ToProto(const raft::VoteRequest& vote, pb::RequestVoteRequestProto* out);
absl::StatusOr<raft::VoteRequest> FromProto(const pb::RequestVoteRequestProto& vote, uint64_t call);
absl::Status ToProto(const raft::AppendRequest& append, pb::AppendEntriesRequestProto* out);
absl::StatusOr<raft::AppendRequest> TakeAppend(pb::AppendEntriesRequestProto& append, uint64_t call);
void ToProto(const raft::TimeoutNow& request, pb::StartLeaderElectionRequestProto* out);
// nullopt: the request names no last entry, which is answered with success=false.
absl::StatusOr<std::optional<raft::TimeoutNow>> FromProto(const pb::StartLeaderElectionRequestProto& request,
                                                          uint64_t call);

// Replies. ToProto fills everything but the header; FromProto reads `success` from it.
void ToProto(const raft::VoteReply& reply, pb::RequestVoteReplyProto* out);
absl::StatusOr<raft::VoteReply> FromProto(const pb::RequestVoteReplyProto& reply,
                                          const raft::VoteRequest& request);
void ToProto(const raft::AppendReply& reply, pb::AppendEntriesReplyProto* out);
absl::StatusOr<raft::AppendReply> FromProto(const pb::AppendEntriesReplyProto& reply);
void ToProto(const raft::ReadIndexReply& reply, pb::ReadIndexReplyProto* out);
absl::StatusOr<raft::ReadIndexReply> FromProto(const pb::ReadIndexReplyProto& reply, uint64_t call);

// sluice.BlobHeader (D-12, D-17): the name is checked, a name that is a digest promises it.
absl::StatusOr<node::BlobHeader> BlobHeaderFromWire(std::string_view bytes);
std::string ToWire(const node::BlobHeader& header);

}  // namespace sluice::edge::ratis
