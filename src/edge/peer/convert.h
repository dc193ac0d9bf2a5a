// sluice's own messages between servers, to and from the plain values of node.
//
// What comes from the wire is checked: INVALID_ARGUMENT for what cannot be right. Pure functions; any thread.
#pragma once

#include "node/request.h"
#include "node/transports.h"
#include "sluice/peer.pb.h"

namespace sluice::edge::peer {

namespace pb = ::sluice::peer;

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr int kHoldersMax = 256;
inline constexpr size_t kInlineBytesMax = 1u << 20;

void ToProto(const raft::Peer& peer, pb::Server* out);
absl::StatusOr<raft::Peer> FromProto(const pb::Server& server);

void ToProto(const UploadId& upload, pb::UploadId* out);
absl::StatusOr<UploadId> FromProto(const pb::UploadId& upload);
absl::StatusOr<GroupId> GroupFrom(const std::string& raw);

void ToProto(const node::HaveReply& reply, pb::HaveReply* out);
absl::StatusOr<node::HaveReply> FromProto(const pb::HaveReply& reply);

void ToProto(const raft::RecallReply& reply, pb::RecallReply* out);
absl::StatusOr<raft::RecallReply> FromProto(const pb::RecallReply& reply);
absl::StatusOr<raft::RecallRequest> FromProto(const pb::RecallRequest& request);

// Without `found` it is NOT_FOUND.
void ToProto(const node::WriteStatus& status, pb::QueryWriteReply* out);
absl::StatusOr<node::WriteStatus> FromProto(const pb::QueryWriteReply& reply);

void ToProto(const node::SealedUpload& upload, pb::SealedUpload* out);
absl::StatusOr<node::SealedUpload> FromProto(const pb::SealedUpload& upload);

void ToProto(const node::PublishRequest& request, pb::PublishRequest* out);
absl::StatusOr<node::PublishRequest> FromProto(const pb::PublishRequest& request);
void ToProto(const node::RemoveRequest& request, pb::RemoveRequest* out);
absl::StatusOr<node::RemoveRequest> FromProto(const pb::RemoveRequest& request);

void ToProto(const node::ClientReply& reply, pb::Outcome* out);
absl::StatusOr<node::ClientReply> FromProto(const pb::Outcome& outcome);

}  // namespace sluice::edge::peer
