#include "client/open_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "client/stream_connection.h"
#include "client/stream_header.h"
#include "client/topology.h"

namespace sluice::client {
namespace {

constexpr uint64_t kPacketBytes = 1u << 20;

class OpenStream final : public DataStreamOutput, public DataStreamChannel {
 public:
  OpenStream(RatisClient& raft, std::unique_ptr<StreamConnection> connection, UploadId id, Bytes header)
      : raft_(raft), connection_(std::move(connection)), id_(id), header_(std::move(header)) {
    (void)connection_->Send({.client = id_.client, .stream = id_.call}, header_, Answer(opened_, 0));
  }
  ~OpenStream() override {
    connection_.reset();  // answers what waits
    if (!closed_) entered_.Set(absl::CancelledError("the stream was not closed"));
  }

  Future<DataStreamReply> WriteAsync(Bytes data, WriteOptions options) override {
    return InPackets(data.size(), options, [&](const wire::PacketHeader& packet, uint64_t at, auto answer) {
      return connection_->Send(packet, data.Slice(at, packet.data_length), std::move(answer));
    });
  }
  Future<DataStreamReply> WriteAsync(FileRegion region, WriteOptions options) override {
    return InPackets(region.count, options, [&](const wire::PacketHeader& packet, uint64_t at, auto answer) {
      return connection_->SendFile(packet, region.fd, region.offset + at, std::move(answer));
    });
  }
  Future<DataStreamReply> CloseAsync() override;
  Future<RaftReply> RaftClientReplyFuture() override { return entered_.future(); }
  Future<DataStreamReply> HeaderFuture() override { return opened_.future(); }
  DataStreamChannel& WritableChannel() override { return *this; }
  uint64_t taken_bytes() const override { return connection_->answered_bytes(); }

  absl::Status Write(const Bytes& data) override {
    const Future<DataStreamReply> written = WriteAsync(data, {});
    return written.Ready() ? written.Get().status() : absl::OkStatus();  // later failures: of the next call
  }
  absl::StatusOr<DataStreamResult> Close() override {
    RETURN_IF_ERROR(CloseAsync().Get().status());
    ASSIGN_OR_RETURN(RaftReply reply, entered_.future().Get());
    return DataStreamResult{
        .message = std::move(reply.message), .log_index = reply.log_index, .length = length_};
  }

 private:
  wire::PacketHeader Packet(uint64_t bytes) const {
    return {.client = id_.client,
            .type = wire::PacketType::kStreamData,
            .stream = id_.call,
            .offset = length_,
            .data_length = bytes};
  }
  static StreamConnection::OnReply Answer(Promise<DataStreamReply> promise, uint64_t bytes) {
    return [promise, bytes](const absl::StatusOr<wire::DataStreamReply>& reply) {
      if (!reply.ok()) return promise.Set(reply.status());
      promise.Set(DataStreamReply{.bytes_written = bytes});
    };
  }
  // Cuts a write of `count` bytes into packets; the last one answers for all, because replies come in order.
  template <typename SendOne>
  Future<DataStreamReply> InPackets(uint64_t count, WriteOptions options, SendOne send) {
    Promise<DataStreamReply> promise;
    if (closed_) promise.Set(absl::FailedPreconditionError("the stream is closed already"));
    if (count == 0) promise.Set(DataStreamReply{});
    absl::Status sent;
    for (uint64_t done = 0; done < count && !closed_ && sent.ok();) {
      wire::PacketHeader packet = Packet(std::min(count - done, kPacketBytes));
      const bool last = done + packet.data_length == count;
      packet.sync = last && options.sync;
      sent = send(packet, done, last ? Answer(promise, count) : nullptr);
      done += packet.data_length;
      length_ += packet.data_length;
    }
    if (!sent.ok()) promise.Set(std::move(sent));
    return promise.future();
  }

  RatisClient& raft_;
  std::unique_ptr<StreamConnection> connection_;
  const UploadId id_;
  const Bytes header_;
  const Promise<DataStreamReply> opened_;
  const Promise<RaftReply> entered_;
  uint64_t length_ = 0;
  bool closed_ = false;
};

Future<DataStreamReply> OpenStream::CloseAsync() {
  Promise<DataStreamReply> promise;
  if (std::exchange(closed_, true)) {
    promise.Set(absl::FailedPreconditionError("the stream is closed already"));
    return promise.future();
  }
  wire::PacketHeader packet = Packet(0);
  packet.close = true;
  (void)connection_->Send(packet, Bytes(),
                          [promise, entered = entered_, &raft = raft_,
                           header = header_](const absl::StatusOr<wire::DataStreamReply>& reply) {
                            if (!reply.ok()) {
                              entered.Set(reply.status());
                              return promise.Set(reply.status());
                            }
                            raft.Send({.kind = RatisCall::Kind::kForward, .message = header},
                                      [entered](absl::StatusOr<RatisClient::Reply> forwarded) {
                                        if (!forwarded.ok()) return entered.Set(forwarded.status());
                                        entered.Set(RaftReply{.message = std::move(forwarded->message),
                                                              .log_index = forwarded->log_index});
                                      });
                            promise.Set(DataStreamReply{});
                          });
  return promise.future();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataStreamOutput>> OpenDataStream(Connection& connection, RatisClient& raft,
                                                                 const GroupId& group,
                                                                 std::string header_message,
                                                                 const RoutingTable& route) {
  ASSIGN_OR_RETURN(const ServerStatus server, AskAnyStatus(connection));
  const GroupView* view = server.Find(group);
  if (view == nullptr) {
    return absl::NotFoundError(fmt::format("{} does not run group {}", server.self.id, group.ToString()));
  }
  std::vector<Member> members = view->voters;
  members.insert(members.end(), view->learners.begin(), view->learners.end());
  Member primary = server.self;
  if (!route.primary.empty() && route.primary.value != primary.id) {
    const auto it = std::find_if(members.begin(), members.end(),
                                 [&](const Member& one) { return one.id == route.primary.value; });
    if (it == members.end()) {
      return absl::NotFoundError(fmt::format("{} is not in group {}", route.primary.value, group.ToString()));
    }
    primary = *it;
  }
  if (primary.data_stream_address.empty()) {
    return absl::FailedPreconditionError(fmt::format("{} takes no data streams", primary.id));
  }
  if (view->machine == "blob") {
    header_message = SayWhomWeMean(std::move(header_message), server.cluster, primary.id);
  }
  const UploadId id{raft.id(), raft.NextCall()};
  auto header = StreamHeader(id, group, primary.id, std::move(header_message));
  *header.mutable_rpc_request()->mutable_routing_table() = RouteOf(route, primary.id, members);
  ASSIGN_OR_RETURN(auto stream, StreamConnection::Open(primary.data_stream_address, {}));
  return std::make_unique<OpenStream>(raft, std::move(stream), id, Bytes::Take(header.SerializeAsString()));
}

}  // namespace sluice::client
