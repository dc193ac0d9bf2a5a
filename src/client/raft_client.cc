// sluice/client.h and sluice/data_stream.h.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "client/ratis_client.h"
#include "client/stream_connection.h"
#include "client/stream_header.h"
#include "client/topology.h"
#include "sluice/client.h"

namespace sluice {
namespace {

using client::Connection;
using client::RatisCall;
using client::RatisClient;

constexpr uint64_t kPacketBytes = 1u << 20;

RatisClient::Done Forward(AsyncApi::Done done) {
  return [done = std::move(done)](absl::StatusOr<RatisClient::Reply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(RaftReply{.message = std::move(reply->message), .log_index = reply->log_index});
  };
}

class OpenStream final : public DataStreamOutput {
 public:
  OpenStream(RatisClient& raft, std::unique_ptr<client::StreamConnection> connection, UploadId id,
             Bytes header)
      : raft_(raft), connection_(std::move(connection)), id_(id), header_(std::move(header)) {}

  absl::Status Write(const Bytes& data) override {
    for (uint64_t done = 0; done < data.size(); done += kPacketBytes) {
      const Bytes part = data.Slice(done, kPacketBytes);
      RETURN_IF_ERROR(connection_->Send(Packet(part.size()), part, nullptr));
      length_ += part.size();
    }
    return absl::OkStatus();
  }
  absl::Status WriteFile(int fd, uint64_t offset, uint64_t count) override {
    while (count > 0) {
      const uint64_t part = std::min(count, kPacketBytes);
      RETURN_IF_ERROR(connection_->SendFile(Packet(part), fd, offset, nullptr));
      length_ += part;
      offset += part;
      count -= part;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<DataStreamResult> Close() override {
    if (std::exchange(closed_, true)) return absl::FailedPreconditionError("the stream is closed already");
    wire::PacketHeader packet = Packet(0);
    packet.close = true;
    RETURN_IF_ERROR(connection_->Send(packet, Bytes(), nullptr));
    RETURN_IF_ERROR(connection_->Drain());
    ASSIGN_OR_RETURN(RatisClient::Reply reply,
                     raft_.SendAndWait({.kind = RatisCall::Kind::kForward, .message = header_}));
    return DataStreamResult{
        .message = std::move(reply.message), .log_index = reply.log_index, .length = length_};
  }
  uint64_t taken_bytes() const override { return connection_->answered_bytes(); }

 private:
  wire::PacketHeader Packet(uint64_t bytes) const {
    return {.client = id_.client,
            .type = wire::PacketType::kStreamData,
            .stream = id_.call,
            .offset = length_,
            .data_length = bytes};
  }
  RatisClient& raft_;
  const std::unique_ptr<client::StreamConnection> connection_;
  const UploadId id_;
  const Bytes header_;
  uint64_t length_ = 0;
  bool closed_ = false;
};

class Client final : public RaftClient, public AsyncApi, public BlockingApi, public DataStreamApi {
 public:
  explicit Client(const RaftClientOptions& options)
      : group_(options.group),
        connection_(std::make_shared<Connection>(options.servers)),
        unordered_(connection_, {.group = group_, .timeout = std::chrono::milliseconds(options.timeout_ms)}),
        // A client id of its own: a sliding window and unordered calls do not share call ids.
        ordered_(
            connection_,
            {.group = group_, .ordered = true, .timeout = std::chrono::milliseconds(options.timeout_ms)}) {}

  AsyncApi& Async() override { return *this; }
  BlockingApi& Blocking() override { return *this; }
  DataStreamApi& DataStream() override { return *this; }
  const ClientId& id() const override { return unordered_.id(); }

  void Send(Bytes message, AsyncApi::Done done) override {
    ordered_.Send({.kind = RatisCall::Kind::kWrite, .message = std::move(message)}, Forward(std::move(done)));
  }
  void SendUnordered(Bytes message, AsyncApi::Done done) override {
    unordered_.Send({.kind = RatisCall::Kind::kWrite, .message = std::move(message)},
                    Forward(std::move(done)));
  }
  void SendReadOnly(Bytes message, AsyncApi::Done done) override {
    unordered_.Send({.kind = RatisCall::Kind::kRead, .message = std::move(message)},
                    Forward(std::move(done)));
  }
  void SendStaleRead(Bytes message, Index min_index, AsyncApi::Done done) override {
    unordered_.Send({.kind = RatisCall::Kind::kStaleRead, .message = std::move(message), .index = min_index},
                    Forward(std::move(done)));
  }
  void Watch(Index index, ReplicationLevel level, AsyncApi::Done done) override {
    unordered_.Send(WatchCall(index, level), Forward(std::move(done)));
  }

  absl::StatusOr<RaftReply> Send(Bytes message) override {
    return Wait({.kind = RatisCall::Kind::kWrite, .message = std::move(message)});
  }
  absl::StatusOr<RaftReply> SendReadOnly(Bytes message) override {
    return Wait({.kind = RatisCall::Kind::kRead, .message = std::move(message)});
  }
  absl::StatusOr<RaftReply> SendStaleRead(Bytes message, Index min_index) override {
    return Wait({.kind = RatisCall::Kind::kStaleRead, .message = std::move(message), .index = min_index});
  }
  absl::StatusOr<RaftReply> Watch(Index index, ReplicationLevel level) override {
    return Wait(WatchCall(index, level));
  }

  absl::StatusOr<std::unique_ptr<DataStreamOutput>> Stream(std::string header_message,
                                                           RoutingTable route) override;

 private:
  static RatisCall WatchCall(Index index, ReplicationLevel level) {
    return {.kind = RatisCall::Kind::kWatch,
            .message = {},
            .index = index,
            .replication = static_cast<int>(level)};
  }
  absl::StatusOr<RaftReply> Wait(RatisCall call) {
    ASSIGN_OR_RETURN(RatisClient::Reply reply, unordered_.SendAndWait(std::move(call)));
    return RaftReply{.message = std::move(reply.message), .log_index = reply.log_index};
  }

  const GroupId group_;
  const std::shared_ptr<Connection> connection_;
  RatisClient unordered_;
  RatisClient ordered_;
};

absl::StatusOr<std::unique_ptr<DataStreamOutput>> Client::Stream(std::string header_message,
                                                                 RoutingTable route) {
  ASSIGN_OR_RETURN(const client::ServerStatus server,
                   client::AskAnyStatus(*connection_, client::kContactPatience));
  const client::GroupView* group = server.Find(group_);
  if (group == nullptr) {
    return absl::NotFoundError(fmt::format("{} does not run group {}", server.self.id, group_.ToString()));
  }
  std::vector<client::Member> members = group->voters;
  members.insert(members.end(), group->learners.begin(), group->learners.end());
  const UploadId id{unordered_.id(), unordered_.NextCall()};
  auto header = client::StreamHeader(id, group_, server.self.id, std::move(header_message));
  *header.mutable_rpc_request()->mutable_routing_table() =
      client::RouteOf(route.shape == RoutingTable::Shape::kStar ? BlobRoute::kStar : BlobRoute::kChain,
                      server.self.id, members);
  const Bytes first = Bytes::Take(header.SerializeAsString());
  ASSIGN_OR_RETURN(auto connection, client::StreamConnection::Open(server.self.data_stream_address, {}));
  RETURN_IF_ERROR(connection->Send({.client = id.client, .stream = id.call}, first, nullptr));
  return std::make_unique<OpenStream>(unordered_, std::move(connection), id, first);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RaftClient>> RaftClient::Create(RaftClientOptions options) {
  if (options.servers.empty() || options.timeout_ms <= 0) {
    return absl::InvalidArgumentError("a client needs a server and a positive timeout");
  }
  for (const std::string& server : options.servers) RETURN_IF_ERROR(client::ParseServers(server).status());
  return std::make_unique<Client>(options);
}

}  // namespace sluice
