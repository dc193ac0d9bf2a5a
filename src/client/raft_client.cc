// sluice/client.h: its interfaces on two or three Ratis clients, one for each order of requests.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "client/group_admin.h"
#include "client/open_stream.h"
#include "client/ratis_client.h"
#include "sluice/client.h"

namespace sluice {
namespace {

using client::Connection;
using client::RatisCall;
using client::RatisClient;

constexpr uint64_t kMessageBytesMax = 4u << 20;  // what servers put into one entry

RatisCall WatchCall(Index index, ReplicationLevel level) {
  RatisCall call{.kind = RatisCall::Kind::kWatch, .message = {}};
  call.index = index;
  call.replication = static_cast<int>(level);
  return call;
}

Future<RaftReply> SendTo(RatisClient& client, RatisCall call) {
  const Promise<RaftReply> promise;
  client.Send(std::move(call), [promise](absl::StatusOr<RatisClient::Reply> reply) {
    if (!reply.ok()) return promise.Set(reply.status());
    promise.Set(RaftReply{.message = std::move(reply->message), .log_index = reply->log_index});
  });
  return promise.future();
}

class Async final : public AsyncApi {
 public:
  Async(RatisClient& ordered, RatisClient& unordered) : ordered_(ordered), unordered_(unordered) {}
  Future<RaftReply> Send(Bytes message) override {
    return SendTo(ordered_, {.kind = RatisCall::Kind::kWrite, .message = std::move(message)});
  }
  Future<RaftReply> SendUnordered(Bytes message) override {
    return SendTo(unordered_, {.kind = RatisCall::Kind::kWrite, .message = std::move(message)});
  }
  Future<RaftReply> SendReadOnly(Bytes message) override {
    return SendTo(unordered_, {.kind = RatisCall::Kind::kRead, .message = std::move(message)});
  }
  Future<RaftReply> SendStaleRead(Bytes message, Index min_index) override {
    return SendTo(unordered_,
                  {.kind = RatisCall::Kind::kStaleRead, .message = std::move(message), .index = min_index});
  }
  Future<RaftReply> Watch(Index index, ReplicationLevel level) override {
    return SendTo(unordered_, WatchCall(index, level));
  }

 private:
  RatisClient& ordered_;
  RatisClient& unordered_;
};

class Blocking final : public BlockingApi {
 public:
  explicit Blocking(Async& async) : async_(async) {}
  absl::StatusOr<RaftReply> Send(Bytes message) override {
    return async_.SendUnordered(std::move(message)).Get();
  }
  absl::StatusOr<RaftReply> SendReadOnly(Bytes message) override {
    return async_.SendReadOnly(std::move(message)).Get();
  }
  absl::StatusOr<RaftReply> SendStaleRead(Bytes message, Index min_index) override {
    return async_.SendStaleRead(std::move(message), min_index).Get();
  }
  absl::StatusOr<RaftReply> Watch(Index index, ReplicationLevel level) override {
    return async_.Watch(index, level).Get();
  }

 private:
  Async& async_;
};

// An ordered client of its own, made when first needed: a message that the server refuses ends the call that
// carries it, and with it whatever else is on that call.
class MessageStreams final : public MessageStreamApi {
 public:
  MessageStreams(std::shared_ptr<Connection> connection, client::RatisClientOptions options)
      : connection_(std::move(connection)), options_(options) {}

  Future<RaftReply> StreamAsync(Bytes message, uint64_t part_bytes) override {
    const Promise<RaftReply> whole;
    if (absl::Status status = Check(message, part_bytes); !status.ok()) {
      whole.Set(std::move(status));
      return whole.future();
    }
    std::lock_guard lock(mutex_);  // the parts of a message follow each other
    if (client_ == nullptr) client_ = std::make_unique<RatisClient>(connection_, options_);
    RatisCall part{.kind = RatisCall::Kind::kMessagePart, .message = {}};
    part.stream = ++streams_;
    for (uint64_t offset = 0; message.size() - offset > part_bytes; offset += part_bytes) {
      part.message = message.Slice(offset, part_bytes);
      // A message that lost one part is lost: its first failure is what it ends with.
      SendTo(*client_, part).Then([whole](const absl::StatusOr<RaftReply>& taken) {
        if (!taken.ok()) whole.Set(taken.status());
      });
      if (whole.future().Ready()) return whole.future();
      ++part.part;
    }
    part.message = message.Slice(part.part * part_bytes, part_bytes);
    part.last_part = true;
    SendTo(*client_, std::move(part)).Then([whole](const absl::StatusOr<RaftReply>& reply) {
      whole.Set(reply);
    });
    return whole.future();
  }

 private:
  static absl::Status Check(const Bytes& message, uint64_t part_bytes) {
    if (part_bytes == 0) {
      return absl::InvalidArgumentError("a message stream needs parts of one byte at least");
    }
    if (message.size() > kMessageBytesMax) {
      return absl::InvalidArgumentError(
          fmt::format("a message of {} bytes: an entry takes {} at most", message.size(), kMessageBytesMax));
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<Connection> connection_;
  const client::RatisClientOptions options_;
  std::mutex mutex_;
  std::unique_ptr<RatisClient> client_;
  uint64_t streams_ = 0;
};

class GroupClient final : public RaftClient, public DataStreamApi {
 public:
  explicit GroupClient(const RaftClientOptions& options)
      : group_(options.group),
        connection_(std::make_shared<Connection>(options.servers)),
        unordered_(connection_, OptionsOf(options, /*ordered=*/false)),
        // A client id of its own: a sliding window and unordered calls do not share call ids.
        ordered_(connection_, OptionsOf(options, /*ordered=*/true)),
        messages_(connection_, OptionsOf(options, /*ordered=*/true)),
        admin_(connection_, unordered_.id()) {}

  AsyncApi& Async() override { return async_; }
  BlockingApi& Blocking() override { return blocking_; }
  AdminApi& Admin() override { return admin_; }
  DataStreamApi& DataStream() override { return *this; }
  MessageStreamApi& MessageStream() override { return messages_; }
  const ClientId& id() const override { return unordered_.id(); }

  absl::StatusOr<std::unique_ptr<DataStreamOutput>> Stream(std::string header_message,
                                                           RoutingTable route) override {
    return client::OpenDataStream(*connection_, unordered_, group_, std::move(header_message), route);
  }

 private:
  static client::RatisClientOptions OptionsOf(const RaftClientOptions& options, bool ordered) {
    return {
        .group = options.group, .ordered = ordered, .timeout = std::chrono::milliseconds(options.timeout_ms)};
  }

  const GroupId group_;
  const std::shared_ptr<Connection> connection_;
  RatisClient unordered_;
  RatisClient ordered_;
  MessageStreams messages_;
  client::GroupAdmin admin_;
  sluice::Async async_{ordered_, unordered_};
  sluice::Blocking blocking_{async_};
};

}  // namespace

absl::StatusOr<std::unique_ptr<RaftClient>> RaftClient::Create(RaftClientOptions options) {
  if (options.servers.empty()) return absl::InvalidArgumentError("no server is given");
  for (const std::string& server : options.servers) RETURN_IF_ERROR(client::ParseServers(server).status());
  if (options.timeout_ms <= 0) return absl::InvalidArgumentError("timeout_ms must be positive");
  return std::make_unique<GroupClient>(options);
}

}  // namespace sluice
