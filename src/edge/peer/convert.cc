#include "edge/peer/convert.h"

#include <limits>
#include <utility>

#include "base/names.h"
#include "edge/ratis/convert.h"
#include "node/command.h"

namespace sluice::edge::peer {
namespace {

// Beyond these no honest peer gets.
constexpr uint64_t kTermEnd = uint64_t{1} << 62;
constexpr int64_t kIndexEnd = int64_t{1} << 62;

void SetId(std::string_view bytes, std::string* out) { out->assign(bytes); }

void SetBytes(const Bytes& bytes, std::string* out) {
  out->clear();
  out->reserve(bytes.size());
  bytes.ForEachChunk([out](std::string_view chunk) { out->append(chunk); });
}

absl::StatusOr<std::optional<Sha256>> DigestFrom(const std::string& raw) {
  if (raw.empty()) return std::nullopt;
  const auto digest = Sha256::FromBytes(raw);
  if (!digest) return absl::InvalidArgumentError(fmt::format("digest of {} bytes: 32 expected", raw.size()));
  return digest;
}

absl::Status CheckAddress(const std::string& text) {
  if (text.size() <= ratis::kAddressBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("address of {} bytes", text.size()));
}

}  // namespace

void ToProto(const raft::Peer& peer, pb::Server* out) {
  out->set_id(peer.id.value);
  out->set_address(peer.address);
  out->set_data_stream_address(peer.data_stream_address);
  out->set_client_address(peer.client_address);
  out->set_admin_address(peer.admin_address);
  out->set_priority(peer.priority);
}

absl::StatusOr<raft::Peer> FromProto(const pb::Server& server) {
  raft::Peer out;
  ASSIGN_OR_RETURN(out.id, ratis::PeerIdFromWire(server.id()));
  for (const std::string* text : {&server.address(), &server.data_stream_address(), &server.client_address(),
                                  &server.admin_address()}) {
    RETURN_IF_ERROR(CheckAddress(*text));
  }
  out.address = server.address();
  out.data_stream_address = server.data_stream_address();
  out.client_address = server.client_address();
  out.admin_address = server.admin_address();
  out.priority = server.priority();
  return out;
}

void ToProto(const UploadId& upload, pb::UploadId* out) {
  SetId(upload.client.AsBytes(), out->mutable_client_id());
  out->set_call_id(upload.call.value);
}

absl::StatusOr<UploadId> FromProto(const pb::UploadId& upload) {
  const auto client = ClientId::FromBytes(upload.client_id());
  if (!client)
    return absl::InvalidArgumentError(fmt::format("client id of {} bytes", upload.client_id().size()));
  return UploadId{*client, CallId{upload.call_id()}};
}

absl::StatusOr<GroupId> GroupFrom(const std::string& raw) {
  const auto group = GroupId::FromBytes(raw);
  if (!group) return absl::InvalidArgumentError(fmt::format("group id of {} bytes: 16 expected", raw.size()));
  return *group;
}

void ToProto(const raft::RecallReply& reply, pb::RecallReply* out) {
  out->set_term(reply.term.value);
  out->set_voting(reply.voting);
  out->set_hears_leader(reply.hears_leader);
  out->set_leads(reply.leads);
  out->set_base(reply.base.value);
  out->set_previous_term(reply.previous_term.value);
  out->set_end(reply.end.value);
  for (const raft::Recalled& entry : reply.entries) {
    pb::RecallReply::Entry* told = out->add_entries();
    told->set_term(entry.term.value);
    told->set_intact(entry.intact);
    told->set_kind(static_cast<uint32_t>(entry.kind));
    if (entry.intact) SetBytes(entry.payload, told->mutable_payload());
  }
}

absl::StatusOr<raft::RecallReply> FromProto(const pb::RecallReply& reply) {
  const bool possible = reply.term() < kTermEnd && reply.base() >= -1 && reply.base() < kIndexEnd &&
                        reply.end() >= 0 && reply.previous_term() < kTermEnd &&
                        reply.entries_size() <= static_cast<int>(raft::kRecalledMax);
  if (!possible) return absl::InvalidArgumentError("an answer about lost entries that cannot be right");
  raft::RecallReply out{.term = Term{reply.term()},
                        .voting = reply.voting(),
                        .hears_leader = reply.hears_leader(),
                        .leads = reply.leads(),
                        .base = Index{reply.base()},
                        .entries = {},
                        .previous_term = Term{reply.previous_term()},
                        .end = Index{reply.end()}};
  for (const pb::RecallReply::Entry& entry : reply.entries()) {
    if (entry.term() >= kTermEnd || entry.kind() > static_cast<uint32_t>(raft::EntryKind::kMetadata)) {
      return absl::InvalidArgumentError(
          fmt::format("a lost entry of term {} and kind {}", entry.term(), entry.kind()));
    }
    const auto kind = static_cast<raft::EntryKind>(entry.kind());
    const Bytes payload = Bytes::Copy(entry.payload());
    // Consensus reads these, and they were decoded before they were appended anywhere.
    if (entry.intact() && kind == raft::EntryKind::kConfiguration) {
      RETURN_IF_ERROR(raft::DecodeConfiguration(payload).status());
    }
    out.entries.push_back({Term{entry.term()}, entry.intact(), kind, payload});
  }
  return out;
}

absl::StatusOr<raft::RecallRequest> FromProto(const pb::RecallRequest& request) {
  if (request.from() < -1 || request.from() >= kIndexEnd || request.fence() >= kTermEnd) {
    return absl::InvalidArgumentError(
        fmt::format("a question about entries from {} on, fence {}", request.from(), request.fence()));
  }
  return raft::RecallRequest{Index{request.from()}, Term{request.fence()}};
}

void ToProto(const node::HaveReply& reply, pb::HaveReply* out) {
  out->set_state(static_cast<pb::HaveReply::State>(reply.state));
  out->set_length(reply.sealed.length);
  out->set_checksum(reply.sealed.checksum);
  out->set_durable_length(reply.durable_length);
  if (reply.sealed.digest) SetId(reply.sealed.digest->AsBytes(), out->mutable_digest());
  out->set_entered(reply.entered);
  out->set_abandoned(reply.abandoned);
}

absl::StatusOr<node::HaveReply> FromProto(const pb::HaveReply& reply) {
  if (reply.state() < 0 || reply.state() > 2) {
    return absl::InvalidArgumentError(fmt::format("upload in state {}", static_cast<int>(reply.state())));
  }
  node::HaveReply out;
  out.state = static_cast<node::HoldState>(reply.state());
  out.durable_length = reply.durable_length();
  out.entered = reply.entered();
  out.abandoned = reply.abandoned();
  out.sealed.length = reply.length();
  out.sealed.checksum = reply.checksum();
  ASSIGN_OR_RETURN(out.sealed.digest, DigestFrom(reply.digest()));
  return out;
}

void ToProto(const node::WriteStatus& status, pb::QueryWriteReply* out) {
  out->set_found(true);
  out->set_committed(status.committed);
  out->set_complete(status.complete);
}

absl::StatusOr<node::WriteStatus> FromProto(const pb::QueryWriteReply& reply) {
  if (!reply.found()) return absl::NotFoundError("neither being written nor stored there");
  // ByteStream tells it as an int64.
  if (reply.committed() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(fmt::format("a committed size of {} bytes", reply.committed()));
  }
  return node::WriteStatus{reply.committed(), reply.complete()};
}

void ToProto(const node::SealedUpload& upload, pb::SealedUpload* out) {
  ToProto(upload.upload, out->mutable_upload());
  out->mutable_header()->ParseFromString(ratis::ToWire(upload.header));
  out->set_length(upload.sealed.length);
  out->set_checksum(upload.sealed.checksum);
  if (upload.sealed.digest) SetId(upload.sealed.digest->AsBytes(), out->mutable_digest());
  for (const PeerId& holder : upload.holders) out->add_holders(holder.value);
}

absl::StatusOr<node::SealedUpload> FromProto(const pb::SealedUpload& upload) {
  node::SealedUpload out;
  ASSIGN_OR_RETURN(out.upload, FromProto(upload.upload()));
  ASSIGN_OR_RETURN(out.header, ratis::BlobHeaderFromWire(upload.header().SerializeAsString()));
  out.sealed.length = upload.length();
  out.sealed.checksum = upload.checksum();
  ASSIGN_OR_RETURN(out.sealed.digest, DigestFrom(upload.digest()));
  if (upload.holders_size() > kHoldersMax) {
    return absl::InvalidArgumentError(fmt::format("upload with {} holders", upload.holders_size()));
  }
  for (const std::string& holder : upload.holders()) {
    ASSIGN_OR_RETURN(PeerId id, ratis::PeerIdFromWire(holder));
    out.holders.push_back(std::move(id));
  }
  return out;
}

void ToProto(const node::PublishRequest& request, pb::PublishRequest* out) {
  SetId(request.group.AsBytes(), out->mutable_group());
  ToProto(request.upload, out->mutable_upload());
  if (request.inline_bytes) SetBytes(*request.inline_bytes, out->mutable_inline_data());
  out->set_abandon(request.abandon);
}

absl::StatusOr<node::PublishRequest> FromProto(const pb::PublishRequest& request) {
  node::PublishRequest out;
  ASSIGN_OR_RETURN(out.group, GroupFrom(request.group()));
  ASSIGN_OR_RETURN(out.upload, FromProto(request.upload()));
  if (out.upload.upload.client == node::kSystemClient)
    return absl::InvalidArgumentError("reserved client id");
  out.abandon = request.abandon();
  if (request.has_inline_data()) {
    if (request.inline_data().size() > kInlineBytesMax) {
      return absl::InvalidArgumentError(
          fmt::format("{} bytes are too many for the log", request.inline_data().size()));
    }
    out.inline_bytes = Bytes::Copy(request.inline_data());
  }
  return out;
}

void ToProto(const node::RemoveRequest& request, pb::RemoveRequest* out) {
  SetId(request.group.AsBytes(), out->mutable_group());
  out->set_name(request.name);
  SetId(request.client.AsBytes(), out->mutable_client_id());
  out->set_call_id(request.call.value);
}

absl::StatusOr<node::RemoveRequest> FromProto(const pb::RemoveRequest& request) {
  node::RemoveRequest out;
  ASSIGN_OR_RETURN(out.group, GroupFrom(request.group()));
  RETURN_IF_ERROR(CheckName(request.name()));
  out.name = request.name();
  const auto client = ClientId::FromBytes(request.client_id());
  if (!client)
    return absl::InvalidArgumentError(fmt::format("client id of {} bytes", request.client_id().size()));
  // What the servers themselves write is not to be had by asking.
  if (*client == node::kSystemClient) return absl::InvalidArgumentError("reserved client id");
  out.client = *client;
  out.call = CallId{request.call_id()};
  return out;
}

void ToProto(const node::ClientReply& reply, pb::Outcome* out) {
  out->set_code(static_cast<pb::Outcome::Code>(reply.code));
  out->set_status(reply.error.raw_code());
  out->set_error(std::string(Message(reply.error)));
  SetBytes(reply.message, out->mutable_message());
  out->set_log_index(reply.log_index.value);
  if (reply.leader) ToProto(*reply.leader, out->mutable_leader());
  for (const raft::Peer& peer : reply.peers) ToProto(peer, out->add_peers());
}

absl::StatusOr<node::ClientReply> FromProto(const pb::Outcome& outcome) {
  if (outcome.code() < 0 || outcome.code() > pb::Outcome::UNAVAILABLE) {
    return absl::InvalidArgumentError(fmt::format("outcome {}", static_cast<int>(outcome.code())));
  }
  if (outcome.peers_size() > kHoldersMax || outcome.log_index() < -1) {
    return absl::InvalidArgumentError("outcome with too many peers or an impossible index");
  }
  node::ClientReply out;
  out.code = static_cast<node::ReplyCode>(outcome.code());
  if (out.code != node::ReplyCode::kOk) {
    const bool known = outcome.status() > 0 && outcome.status() <= 16;
    out.error =
        absl::Status(known ? static_cast<absl::StatusCode>(outcome.status()) : absl::StatusCode::kUnknown,
                     outcome.error());
  }
  out.message = Bytes::Copy(outcome.message());
  out.log_index = Index{outcome.log_index()};
  if (outcome.has_leader()) {
    ASSIGN_OR_RETURN(raft::Peer leader, FromProto(outcome.leader()));
    out.leader = std::move(leader);
  }
  for (const pb::Server& server : outcome.peers()) {
    ASSIGN_OR_RETURN(raft::Peer peer, FromProto(server));
    out.peers.push_back(std::move(peer));
  }
  return out;
}

}  // namespace sluice::edge::peer
