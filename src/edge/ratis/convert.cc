#include "edge/ratis/convert.h"

#include <limits>
#include <utility>

#include "base/names.h"
#include "node/command.h"
#include "sluice/blob.pb.h"

namespace sluice::edge::ratis {
namespace {

constexpr uint64_t kNoIndexOnWire = std::numeric_limits<uint64_t>::max();

absl::Status Invalid(const std::string& text) { return absl::InvalidArgumentError(text); }

void PutTermIndex(const TermIndex& at, pb::TermIndexProto* out) {
  out->set_term(at.term.value);
  out->set_index(ToWire(at.index));
}

absl::StatusOr<TermIndex> TermIndexFrom(const pb::TermIndexProto& at) {
  ASSIGN_OR_RETURN(Index index, IndexFromWire(at.index()));
  return TermIndex{Term{at.term()}, index};
}

// Terms start at 1, so term 0 is how Ratis writes "nothing": absent, (0, 0) and (0, -1) alike.
absl::StatusOr<TermIndex> LastEntryFrom(bool present, const pb::TermIndexProto& at) {
  if (!present || at.term() == 0) {
    if (present && at.index() != 0 && at.index() != kNoIndexOnWire) {
      return Invalid(fmt::format("entry {} has term 0", at.index()));
    }
    return TermIndex{Term{0}, kNoIndex};
  }
  return TermIndexFrom(at);
}

absl::Status CheckText(std::string_view text, std::string_view what) {
  if (text.size() > kAddressBytesMax) {
    return Invalid(fmt::format("{} of {} bytes: at most {} expected", what, text.size(), kAddressBytesMax));
  }
  return absl::OkStatus();
}

using PeerList = google::protobuf::RepeatedPtrField<pb::RaftPeerProto>;

absl::Status PeersFrom(const PeerList& list, std::vector<raft::Peer>* out) {
  if (list.size() > kPeersMax) {
    return Invalid(fmt::format("configuration of {} peers: at most {} expected", list.size(), kPeersMax));
  }
  out->reserve(static_cast<size_t>(list.size()));
  for (const pb::RaftPeerProto& peer : list) {
    ASSIGN_OR_RETURN(raft::Peer one, FromProto(peer));
    for (const raft::Peer& other : *out) {
      if (other.id == one.id) return Invalid("configuration names a peer twice");
    }
    out->push_back(std::move(one));
  }
  return absl::OkStatus();
}

void PeersTo(const std::vector<raft::Peer>& peers, bool learners, PeerList* out) {
  out->Reserve(static_cast<int>(peers.size()));
  for (const raft::Peer& peer : peers) ToProto(peer, learners, out->Add());
}

absl::StatusOr<Bytes> CommandFrom(pb::StateMachineLogEntryProto& entry) {
  const auto client = ClientId::FromBytes(entry.client_id());
  if (!client) return Invalid(fmt::format("client id of {} bytes in an entry", entry.client_id().size()));
  if (!entry.state_machine_entry().state_machine_data().empty()) {
    return absl::UnimplementedError("entry with data kept by a Java state machine");
  }
  node::Command command{
      .type = node::CommandType::kWrite, .client = *client, .call = CallId{entry.call_id()}, .data = {}};
  switch (entry.type()) {
    case pb::StateMachineLogEntryProto::WRITE:
      break;
    case pb::StateMachineLogEntryProto::DATASTREAM:
      command.type = node::CommandType::kDataStream;
      break;
    default:
      return Invalid(fmt::format("entry of unknown type {}", static_cast<int>(entry.type())));
  }
  command.data = Bytes::Take(std::move(*entry.mutable_log_data()));
  return node::EncodeCommand(command);
}

Bytes MetadataPayload(Index commit) {
  std::string raw(8, '\0');
  for (size_t i = 0; i < 8; ++i) raw[i] = static_cast<char>(static_cast<uint64_t>(commit.value) >> (8 * i));
  return Bytes::Take(std::move(raw));
}

absl::StatusOr<uint64_t> MetadataIndex(const Bytes& payload) {
  if (payload.size() != 8) return Invalid(fmt::format("metadata entry of {} bytes", payload.size()));
  char raw[8];
  payload.CopyTo(raw);
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
  return value;
}

void SetBytes(const Bytes& bytes, std::string* out) {
  out->clear();
  out->reserve(bytes.size());
  bytes.ForEachChunk([out](std::string_view chunk) { out->append(chunk); });
}

}  // namespace

uint64_t ToWire(Index index) { return static_cast<uint64_t>(index.value); }

absl::StatusOr<Index> IndexFromWire(uint64_t value) {
  if (value == kNoIndexOnWire) return kNoIndex;
  // The top value is left out so that "one past it" is still an index.
  if (value >= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Invalid(fmt::format("{} is no log index", value));
  }
  return Index{static_cast<int64_t>(value)};
}

absl::StatusOr<GroupId> GroupFromProto(const pb::RaftGroupIdProto& group) {
  const auto id = GroupId::FromBytes(group.id());
  if (!id) return Invalid(fmt::format("group id of {} bytes: 16 expected", group.id().size()));
  return *id;
}

absl::StatusOr<PeerId> PeerIdFromWire(std::string_view raw) {
  if (raw.empty() || raw.size() > kPeerIdBytesMax || !IsValidUtf8(raw) || raw.find('\0') != raw.npos) {
    return Invalid(
        fmt::format("peer id of {} bytes: 1 to {} bytes of UTF-8 expected", raw.size(), kPeerIdBytesMax));
  }
  return PeerId{std::string(raw)};
}

void ToProto(const raft::Peer& peer, bool learner, pb::RaftPeerProto* out) {
  out->set_id(peer.id.value);
  out->set_address(peer.address);
  out->set_priority(peer.priority);
  if (!peer.data_stream_address.empty()) out->set_data_stream_address(peer.data_stream_address);
  if (!peer.client_address.empty()) out->set_client_address(peer.client_address);
  if (!peer.admin_address.empty()) out->set_admin_address(peer.admin_address);
  out->set_startup_role(learner ? pb::LISTENER : pb::FOLLOWER);
}

absl::StatusOr<raft::Peer> FromProto(const pb::RaftPeerProto& peer) {
  ASSIGN_OR_RETURN(PeerId id, PeerIdFromWire(peer.id()));
  RETURN_IF_ERROR(CheckText(peer.address(), "address"));
  RETURN_IF_ERROR(CheckText(peer.data_stream_address(), "data stream address"));
  RETURN_IF_ERROR(CheckText(peer.client_address(), "client address"));
  RETURN_IF_ERROR(CheckText(peer.admin_address(), "admin address"));
  return raft::Peer{.id = std::move(id),
                    .address = peer.address(),
                    .data_stream_address = peer.data_stream_address(),
                    .client_address = peer.client_address(),
                    .admin_address = peer.admin_address(),
                    .priority = peer.priority()};
}

void ToProto(const raft::Configuration& configuration, pb::RaftConfigurationProto* out) {
  PeersTo(configuration.voters, false, out->mutable_peers());
  PeersTo(configuration.old_voters, false, out->mutable_old_peers());
  PeersTo(configuration.learners, true, out->mutable_listeners());
  PeersTo(configuration.old_learners, true, out->mutable_old_listeners());
}

absl::StatusOr<raft::Configuration> FromProto(const pb::RaftConfigurationProto& configuration) {
  raft::Configuration out;
  RETURN_IF_ERROR(PeersFrom(configuration.peers(), &out.voters));
  RETURN_IF_ERROR(PeersFrom(configuration.old_peers(), &out.old_voters));
  RETURN_IF_ERROR(PeersFrom(configuration.listeners(), &out.learners));
  RETURN_IF_ERROR(PeersFrom(configuration.old_listeners(), &out.old_learners));
  return out;
}

absl::Status ToProto(const raft::Entry& entry, pb::LogEntryProto* out) {
  out->set_term(entry.at.term.value);
  out->set_index(ToWire(entry.at.index));
  switch (entry.kind) {
    case raft::EntryKind::kCommand: {
      ASSIGN_OR_RETURN(node::Command command, node::DecodeCommand(entry.payload));
      pb::StateMachineLogEntryProto* body = out->mutable_state_machine_log_entry();
      SetBytes(command.data, body->mutable_log_data());
      body->set_type(command.type == node::CommandType::kDataStream
                         ? pb::StateMachineLogEntryProto::DATASTREAM
                         : pb::StateMachineLogEntryProto::WRITE);
      const std::string_view client = command.client.AsBytes();
      body->set_client_id(client.data(), client.size());
      body->set_call_id(command.call.value);
      return absl::OkStatus();
    }
    case raft::EntryKind::kConfiguration: {
      ASSIGN_OR_RETURN(raft::Configuration configuration, raft::DecodeConfiguration(entry.payload));
      ToProto(configuration, out->mutable_configuration_entry());
      return absl::OkStatus();
    }
    case raft::EntryKind::kMetadata: {
      ASSIGN_OR_RETURN(uint64_t commit, MetadataIndex(entry.payload));
      out->mutable_metadata_entry()->set_commit_index(commit);
      return absl::OkStatus();
    }
  }
  return absl::InternalError(fmt::format("entry of unknown kind {}", static_cast<int>(entry.kind)));
}

absl::StatusOr<raft::Entry> TakeEntry(pb::LogEntryProto& entry) {
  raft::Entry out;
  ASSIGN_OR_RETURN(out.at.index, IndexFromWire(entry.index()));
  if (!out.at.index.valid()) return Invalid("entry without an index");
  out.at.term = Term{entry.term()};
  switch (entry.log_entry_body_case()) {
    case pb::LogEntryProto::kStateMachineLogEntry: {
      out.kind = raft::EntryKind::kCommand;
      ASSIGN_OR_RETURN(out.payload, CommandFrom(*entry.mutable_state_machine_log_entry()));
      return out;
    }
    case pb::LogEntryProto::kConfigurationEntry: {
      out.kind = raft::EntryKind::kConfiguration;
      ASSIGN_OR_RETURN(raft::Configuration configuration, FromProto(entry.configuration_entry()));
      out.payload = raft::EncodeConfiguration(configuration);
      return out;
    }
    case pb::LogEntryProto::kMetadataEntry: {
      out.kind = raft::EntryKind::kMetadata;
      ASSIGN_OR_RETURN(Index commit, IndexFromWire(entry.metadata_entry().commit_index()));
      out.payload = MetadataPayload(commit);
      return out;
    }
    case pb::LogEntryProto::LOG_ENTRY_BODY_NOT_SET:
      break;
  }
  return Invalid(fmt::format("entry {} has no body", out.at.index.value));
}

absl::StatusOr<ServerHeader> FromProto(const pb::RaftRpcRequestProto& header) {
  ServerHeader out;
  ASSIGN_OR_RETURN(out.from, PeerIdFromWire(header.requestor_id()));
  ASSIGN_OR_RETURN(out.group, GroupFromProto(header.raft_group_id()));
  out.call = header.call_id();
  return out;
}

void ToProto(const ServerHeader& header, const PeerId& to, pb::RaftRpcRequestProto* out) {
  out->set_requestor_id(header.from.value);
  out->set_reply_id(to.value);
  out->mutable_raft_group_id()->set_id(header.group.AsBytes().data(), header.group.AsBytes().size());
  out->set_call_id(header.call);
}

void ReplyHeader(const ServerHeader& request, const PeerId& self, bool success, pb::RaftRpcReplyProto* out) {
  out->set_requestor_id(request.from.value);
  out->set_reply_id(self.value);
  out->mutable_raft_group_id()->set_id(request.group.AsBytes().data(), request.group.AsBytes().size());
  out->set_call_id(request.call);
  out->set_success(success);
}

void ToProto(const raft::VoteRequest& vote, pb::RequestVoteRequestProto* out) {
  out->set_candidate_term(vote.term.value);
  out->set_pre_vote(vote.pre_vote);
  if (vote.last.index.valid()) PutTermIndex(vote.last, out->mutable_candidate_last_entry());
}

absl::StatusOr<raft::VoteRequest> FromProto(const pb::RequestVoteRequestProto& vote, uint64_t call) {
  raft::VoteRequest out{
      .call = call, .term = Term{vote.candidate_term()}, .last = {}, .pre_vote = vote.pre_vote()};
  ASSIGN_OR_RETURN(out.last, LastEntryFrom(vote.has_candidate_last_entry(), vote.candidate_last_entry()));
  return out;
}

absl::Status ToProto(const raft::AppendRequest& append, pb::AppendEntriesRequestProto* out) {
  out->set_leader_term(append.term.value);
  if (append.previous.index.valid()) PutTermIndex(append.previous, out->mutable_previous_log());
  out->mutable_entries()->Reserve(static_cast<int>(append.entries.size()));
  for (const raft::Entry& entry : append.entries) RETURN_IF_ERROR(ToProto(entry, out->add_entries()));
  out->set_leader_commit(ToWire(append.commit));
  out->set_initializing(append.initializing);
  return absl::OkStatus();
}

absl::StatusOr<raft::AppendRequest> TakeAppend(pb::AppendEntriesRequestProto& append, uint64_t call) {
  raft::AppendRequest out{.call = call,
                          .term = Term{append.leader_term()},
                          .previous = {},
                          .entries = {},
                          .commit = kNoIndex,
                          .initializing = append.initializing()};
  ASSIGN_OR_RETURN(out.previous, LastEntryFrom(append.has_previous_log(), append.previous_log()));
  ASSIGN_OR_RETURN(out.commit, IndexFromWire(append.leader_commit()));
  out.entries.reserve(static_cast<size_t>(append.entries_size()));
  for (pb::LogEntryProto& entry : *append.mutable_entries()) {
    ASSIGN_OR_RETURN(raft::Entry one, TakeEntry(entry));
    if (one.at.term > out.term) {
      return Invalid(fmt::format("entry {} of term {} from a leader of term {}", one.at.index.value,
                                 one.at.term.value, out.term.value));
    }
    const Index expected =
        out.entries.empty() ? out.previous.index.Next() : out.entries.back().at.index.Next();
    if (one.at.index != expected) {
      return Invalid(fmt::format("entry {} where {} was expected", one.at.index.value, expected.value));
    }
    out.entries.push_back(std::move(one));
  }
  return out;
}

void ToProto(const raft::TimeoutNow& request, pb::StartLeaderElectionRequestProto* out) {
  PutTermIndex(request.leader_last, out->mutable_leader_last_entry());
}

absl::StatusOr<std::optional<raft::TimeoutNow>> FromProto(const pb::StartLeaderElectionRequestProto& request,
                                                          uint64_t call) {
  if (!request.has_leader_last_entry()) return std::nullopt;
  ASSIGN_OR_RETURN(TermIndex last, TermIndexFrom(request.leader_last_entry()));
  return raft::TimeoutNow{.call = call, .leader_last = last};
}

void ToProto(const raft::VoteReply& reply, pb::RequestVoteReplyProto* out) {
  out->set_term(reply.term.value);
  out->set_should_shutdown(reply.should_shutdown);
  PutTermIndex(reply.last, out->mutable_last_entry());
}

absl::StatusOr<raft::VoteReply> FromProto(const pb::RequestVoteReplyProto& reply,
                                          const raft::VoteRequest& request) {
  raft::VoteReply out{.call = request.call,
                      .term = Term{reply.term()},
                      .granted = reply.server_reply().success(),
                      .pre_vote = request.pre_vote,
                      .request_term = request.term,
                      .last = {},
                      .should_shutdown = reply.should_shutdown()};
  ASSIGN_OR_RETURN(out.last, LastEntryFrom(reply.has_last_entry(), reply.last_entry()));
  return out;
}

void ToProto(const raft::AppendReply& reply, pb::AppendEntriesReplyProto* out) {
  out->set_term(reply.term.value);
  out->set_next_index(ToWire(reply.next));
  out->set_result(static_cast<pb::AppendEntriesReplyProto::AppendResult>(reply.result));
  out->set_follower_commit(ToWire(reply.commit));
  out->set_match_index(ToWire(reply.match));
  out->set_is_hearbeat(reply.heartbeat);
}

absl::StatusOr<raft::AppendReply> FromProto(const pb::AppendEntriesReplyProto& reply) {
  raft::AppendReply out{.call = reply.server_reply().call_id(),
                        .term = Term{reply.term()},
                        .result = raft::AppendResult::kSuccess,
                        .next = kNoIndex,
                        .match = kNoIndex,
                        .commit = kNoIndex,
                        .heartbeat = reply.is_hearbeat()};
  if (reply.result() < 0 || reply.result() > 2) {
    return Invalid(fmt::format("append answered with result {}", static_cast<int>(reply.result())));
  }
  out.result = static_cast<raft::AppendResult>(reply.result());
  ASSIGN_OR_RETURN(out.next, IndexFromWire(reply.next_index()));
  ASSIGN_OR_RETURN(out.match, IndexFromWire(reply.match_index()));
  ASSIGN_OR_RETURN(out.commit, IndexFromWire(reply.follower_commit()));
  return out;
}

void ToProto(const raft::ReadIndexReply& reply, pb::ReadIndexReplyProto* out) {
  out->set_read_index(reply.ok ? ToWire(reply.index) : kNoIndexOnWire);
}

absl::StatusOr<raft::ReadIndexReply> FromProto(const pb::ReadIndexReplyProto& reply, uint64_t call) {
  ASSIGN_OR_RETURN(Index index, IndexFromWire(reply.read_index()));
  return raft::ReadIndexReply{.call = call, .ok = reply.server_reply().success(), .index = index};
}

absl::StatusOr<node::BlobHeader> BlobHeaderFromWire(std::string_view bytes) {
  sluice::BlobHeader wire;
  if (bytes.size() > 64u << 10 || !wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid(fmt::format("{} bytes are no blob header", bytes.size()));
  }
  node::BlobHeader out;
  out.name = wire.name();
  if (wire.has_expected_length()) out.expected_length = wire.expected_length();
  if (!wire.expected_digest().empty()) {
    out.expected_digest = Sha256::FromBytes(wire.expected_digest());
    if (!out.expected_digest)
      return Invalid(fmt::format("digest of {} bytes", wire.expected_digest().size()));
  }
  if (!out.name.empty()) {
    RETURN_IF_ERROR(CheckName(out.name));
    if (const auto promised = DigestName(out.name)) {
      if (out.expected_digest && out.expected_digest != promised) {
        return Invalid("the name promises another digest than the header");
      }
      out.expected_digest = promised;
    }
  } else if (wire.no_digest()) {
    return Invalid("a blob without a name needs its digest");
  }
  out.compute_digest = !wire.no_digest() || out.expected_digest.has_value();
  return out;
}

std::string ToWire(const node::BlobHeader& header) {
  sluice::BlobHeader wire;
  wire.set_name(header.name);
  if (header.expected_length) wire.set_expected_length(*header.expected_length);
  if (header.expected_digest) {
    const std::string_view digest = header.expected_digest->AsBytes();
    wire.set_expected_digest(digest.data(), digest.size());
  }
  wire.set_no_digest(!header.compute_digest);
  return wire.SerializeAsString();
}

}  // namespace sluice::edge::ratis
