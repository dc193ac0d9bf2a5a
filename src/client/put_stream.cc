#include "client/put_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "client/persistence.h"
#include "client/ratis_client.h"
#include "client/stream_header.h"
#include "client/topology.h"
#include "sluice/blob.pb.h"

namespace sluice::client {
namespace {

constexpr uint64_t kPacketBytes = 1u << 20;
constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(1);

std::string HeaderMessage(const PutStreamRequest& request, const BlobContent& content) {
  ::sluice::BlobHeader message;
  message.set_name(request.name);
  message.set_expected_length(content.length());
  message.set_no_digest(!request.options->digest);
  if (request.options->expected_digest) {
    message.set_expected_digest(std::string(request.options->expected_digest->AsBytes()));
  }
  return message.SerializeAsString();
}

absl::Status SendContent(StreamConnection& stream, const UploadId& id, BlobContent& content,
                         const std::function<void(uint64_t)>& on_progress) {
  const uint64_t length = content.length();
  for (uint64_t offset = 0; offset < length;) {
    wire::PacketHeader header{.client = id.client,
                              .type = wire::PacketType::kStreamData,
                              .stream = id.call,
                              .offset = offset,
                              .data_length = std::min(kPacketBytes, length - offset)};
    if (content.fd() >= 0) {
      RETURN_IF_ERROR(stream.SendFile(header, content.fd(), offset, nullptr));
    } else {
      ASSIGN_OR_RETURN(const Bytes data, content.Read(offset, header.data_length));
      RETURN_IF_ERROR(stream.Send(header, data, nullptr));
    }
    offset += header.data_length;
    if (on_progress) on_progress(stream.answered_bytes());
  }
  RETURN_IF_ERROR(content.CheckEnd());
  wire::PacketHeader close{.client = id.client,
                           .type = wire::PacketType::kStreamData,
                           .stream = id.call,
                           .offset = length,
                           .close = true};
  RETURN_IF_ERROR(stream.Send(close, Bytes(), nullptr));
  RETURN_IF_ERROR(stream.Drain());
  if (on_progress) on_progress(length);
  return absl::OkStatus();
}

// After CLOSE a majority holds the bytes: only their entering is tried again, not the upload. Servers know a
// stream by the ids in its header, and give the first result to each repetition. ABORTED says that these bytes
// are not entered any more: only another upload helps.
absl::StatusOr<RatisClient::Reply> Enter(RatisClient& raft, const PutStreamRequest& request,
                                         const Bytes& header) {
  const Clock::time_point end = Clock::now() + request.stream.silence;
  for (Duration pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    absl::StatusOr<RatisClient::Reply> reply =
        raft.SendAndWait({.kind = RatisCall::Kind::kForward, .message = header});
    const bool over = reply.ok() || IsFinal(reply.status()) || absl::IsAborted(reply.status());
    if (over || Clock::now() + pause >= end) return reply;
    if (request.options->on_retry) request.options->on_retry(reply.status());
    std::this_thread::sleep_for(pause);
  }
}

absl::Status CanServe(const ServerStatus& server, const GroupView& group) {
  if (server.stopping) return absl::UnavailableError(fmt::format("{} is stopping", server.self.id));
  if (group.leader.empty()) return absl::UnavailableError(fmt::format("{} knows no leader", server.self.id));
  if (group.storage_error.empty()) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("{} cannot store: {}", server.self.id, group.storage_error));
}

}  // namespace

absl::StatusOr<BlobFacts> PutStream(std::shared_ptr<Connection> connection, const std::string& address,
                                    const PutStreamRequest& request, BlobContent& content) {
  ASSIGN_OR_RETURN(const ServerStatus server,
                   AskStatus(*connection, address, std::min(request.attempt, kCallTimeout)));
  const GroupView* group = server.Find(request.group);
  if (group == nullptr) {
    return absl::NotFoundError(fmt::format("{} does not run group {}", address, request.group.ToString()));
  }
  if (server.self.data_stream_address.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("{} takes no data streams: try --via bytestream", address));
  }
  std::vector<Member> members = group->voters;
  members.insert(members.end(), group->learners.begin(), group->learners.end());
  for (const Member& member : members) connection->AddServer(member.address, member.id);
  StreamConnectionOptions stream_options = request.stream;
  if (connection->servers().size() > 1) {
    RETURN_IF_ERROR(CanServe(server, *group));
    stream_options.alive = AliveAt(connection.get(), address);
    stream_options.connect_timeout = std::min(stream_options.connect_timeout, request.attempt);
  }

  RatisClient raft(connection, {.group = request.group});
  const UploadId id{raft.id(), raft.NextCall()};
  auto header = StreamHeader(id, request.group, server.self.id,
                             SayWhomWeMean(HeaderMessage(request, content), server.cluster, server.self.id));
  *header.mutable_rpc_request()->mutable_routing_table() =
      RouteOf(request.options->route, server.self.id, members);
  const Bytes first = Bytes::Take(header.SerializeAsString());

  ASSIGN_OR_RETURN(const auto stream,
                   StreamConnection::Open(server.self.data_stream_address, stream_options));
  wire::PacketHeader open{.client = id.client, .stream = id.call};
  RETURN_IF_ERROR(stream->Send(open, first, nullptr));
  RETURN_IF_ERROR(stream->Drain());  // it is who it should be: now the bytes
  RETURN_IF_ERROR(SendContent(*stream, id, content, request.options->on_progress));

  ASSIGN_OR_RETURN(const RatisClient::Reply reply, Enter(raft, request, first));
  ASSIGN_OR_RETURN(BlobFacts stored, DecodeBlobReply(reply.message));
  if (stored.length != content.length()) {
    return absl::DataLossError(fmt::format("{} bytes were stored of {}", stored.length, content.length()));
  }
  return stored;
}

}  // namespace sluice::client
