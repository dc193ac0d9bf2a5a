#include "client/ratis_client.h"

#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <future>
#include <random>
#include <utility>

#include "client/ratis_reply.h"
#include "sluice/ratis/grpc.grpc.pb.h"
#include "wire/handshake.h"
#include "wire/ratis.h"

namespace sluice::client {
namespace {

namespace pb = ::sluice::ratis::common;

constexpr Duration kTick = std::chrono::milliseconds(250);
constexpr Duration kRetryPause = std::chrono::milliseconds(50);

void FillType(const RatisCall& call, pb::RaftClientRequestProto* request) {
  switch (call.kind) {
    case RatisCall::Kind::kWrite:
      request->mutable_write();
      return;
    case RatisCall::Kind::kRead:
      request->mutable_read();
      return;
    case RatisCall::Kind::kStaleRead:
      request->mutable_stale_read()->set_min_index(wire::ToWire(call.index));
      return;
    case RatisCall::Kind::kWatch:
      request->mutable_watch()->set_index(wire::ToWire(call.index));
      request->mutable_watch()->set_replication(static_cast<pb::ReplicationLevel>(call.replication));
      return;
    case RatisCall::Kind::kForward:
      request->mutable_forward();
      return;
    case RatisCall::Kind::kMessagePart:
      request->mutable_message_stream()->set_stream_id(call.stream);
      request->mutable_message_stream()->set_message_id(call.part);
      request->mutable_message_stream()->set_end_of_request(call.last_part);
      return;
  }
}

}  // namespace

ClientId NewClientId() {
  std::random_device device;
  ClientId id;
  do {
    for (uint8_t& byte : id.bytes) byte = static_cast<uint8_t>(device());
  } while (id.IsZero());
  return id;
}

// One bidirectional call; gRPC calls it, it calls its client,
// and its keeper deletes it when the call is over.
class RatisClient::Stream
    : public grpc::ClientBidiReactor<pb::RaftClientRequestProto, pb::RaftClientReplyProto> {
 public:
  Stream(RatisClient* owner, std::string address)
      : owner_(owner),
        address_(std::move(address)),
        stub_(::sluice::ratis::grpc::RaftClientProtocolService::NewStub(
            owner->connection_->Channel(address_))) {}

  void Begin(bool ordered) {
    owner_->connection_->Prepare(address_, &context_);
    if (ordered) {
      stub_->async()->ordered(&context_, this);
    } else {
      stub_->async()->unordered(&context_, this);
    }
    AddHold();  // writes come from outside of reactions
    StartRead(&reply_);
    StartCall();
  }
  void OnReadInitialMetadataDone(bool ok) override {
    if (!ok) return;
    const auto& said = context_.GetServerInitialMetadata();
    const auto cluster = said.find(wire::kClusterKey);
    if (cluster == said.end()) return;  // not sluice, or not known yet
    const auto id = ClusterId::FromBytes({cluster->second.data(), cluster->second.size()});
    if (!id || !owner_->connection_->LearnCluster(address_, *id).ok()) context_.TryCancel();
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      owner_->OnReadsEnded(this);
      return End();
    }
    owner_->OnReply(this, reply_);
    StartRead(&reply_);
  }
  void OnWriteDone(bool ok) override { owner_->OnWritten(this, ok); }
  void OnDone(const grpc::Status& status) override {
    const auto& trailers = context_.GetServerTrailingMetadata();
    const auto type = trailers.find(std::string(wire::kTrailerExceptionType));
    if (status.error_code() == grpc::INTERNAL && type != trailers.end()) {
      java_class_.assign(type->second.data(), type->second.size());
    }
    owner_->OnEnded(this, FromGrpc(status));
  }
  void Cancel() { context_.TryCancel(); }
  // Lets OnDone come, once.
  void End() {
    if (!std::exchange(ended_, true)) RemoveHold();
  }
  const std::string& address() const { return address_; }
  // Of the exception that ended the call; empty: none.
  const std::string& java_class() const { return java_class_; }

 private:
  RatisClient* const owner_;
  const std::string address_;
  const std::unique_ptr<::sluice::ratis::grpc::RaftClientProtocolService::Stub> stub_;
  grpc::ClientContext context_;
  pb::RaftClientReplyProto reply_;
  bool ended_ = false;  // reads end once
  std::string java_class_;
};

RatisClient::RatisClient(std::shared_ptr<Connection> connection, RatisClientOptions options)
    : connection_(std::move(connection)), options_(options) {
  if (options_.client.IsZero()) options_.client = NewClientId();
  keeper_ = std::thread([this] { Keep(); });
}

RatisClient::~RatisClient() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    if (stream_ != nullptr) stream_->Cancel();
    changed_.notify_all();
  }
  keeper_.join();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return streams_ == 0; });
  FailAll(absl::CancelledError("the client was closed"), lock);
}

CallId RatisClient::NextCall() {
  std::lock_guard lock(mutex_);
  return {next_call_++};
}

void RatisClient::Send(RatisCall call, Done done) {
  std::unique_lock lock(mutex_);
  const uint64_t bytes = call.message.size() + 128;
  if (pending_.size() >= options_.calls_max || pending_bytes_ + bytes > options_.bytes_max) {
    const std::string text =
        fmt::format("{} calls with {} bytes are in flight", pending_.size(), pending_bytes_);
    lock.unlock();
    done(absl::ResourceExhaustedError(text));
    return;
  }
  auto request = std::make_shared<Request>();
  const uint64_t id = next_call_++;
  auto* header = request->mutable_rpc_request();
  header->set_requestor_id(std::string(options_.client.AsBytes()));
  header->set_reply_id("leader");  // ignored by servers, but it must not be empty
  header->mutable_raft_group_id()->set_id(std::string(options_.group.AsBytes()));
  header->set_call_id(id);
  header->set_to_leader(true);
  if (options_.ordered) header->mutable_sliding_window_entry()->set_seq_num(next_seq_++);
  request->mutable_message()->set_content(call.message.ToString());
  FillType(call, request.get());
  const Clock::time_point now = Clock::now();
  if (pending_.empty()) {
    last_heard_ = now;
    contact_end_ = now + kContactPatience;
  }
  pending_.emplace(id, Pending{std::move(request), bytes, std::move(done), now + options_.timeout});
  pending_bytes_ += bytes;
  if (stream_ == nullptr || leaving_) {
    changed_.notify_all();  // the keeper connects, and sends all that is pending
    return;
  }
  to_send_.push_back(id);
  PumpLocked();
}

absl::StatusOr<RatisClient::Reply> RatisClient::SendAndWait(RatisCall call) {
  std::promise<absl::StatusOr<Reply>> promise;
  std::future<absl::StatusOr<Reply>> future = promise.get_future();
  Send(std::move(call), [&promise](absl::StatusOr<Reply> reply) { promise.set_value(std::move(reply)); });
  return future.get();
}

void RatisClient::PumpLocked() {
  while (stream_ != nullptr && !leaving_ && !reads_ended_ && writing_ == nullptr && !to_send_.empty()) {
    const auto it = pending_.find(to_send_.front());
    to_send_.pop_front();
    if (it == pending_.end()) continue;
    if (options_.ordered) {
      it->second.request->mutable_rpc_request()->mutable_sliding_window_entry()->set_is_first(
          std::exchange(first_of_stream_, false));
    }
    writing_ = it->second.request;
    stream_->StartWrite(writing_.get());
  }
}

void RatisClient::OnWritten(Stream* stream, bool ok) {
  std::lock_guard lock(mutex_);
  if (stream != stream_) return;
  writing_.reset();
  if (ok) PumpLocked();
}

void RatisClient::OnReply(Stream* stream, const pb::RaftClientReplyProto& reply) {
  Done done;
  {
    std::lock_guard lock(mutex_);
    last_heard_ = Clock::now();
    if (stream != stream_) return;
    answered_ = true;
    const auto it = pending_.find(reply.rpc_reply().call_id());
    if (it == pending_.end()) return;  // expired meanwhile
    if (const Next next = NextAfter(reply); next != Next::kAnswer) {
      const auto& leader = reply.not_leader_exception().suggested_leader();
      for (const auto& peer : reply.not_leader_exception().peers_in_conf()) {
        connection_->AddServer(peer.client_address().empty() ? peer.address() : peer.client_address(),
                               peer.id());
      }
      std::string address = leader.client_address().empty() ? leader.address() : leader.client_address();
      const Duration pause = address.empty() ? kRetryPause : Duration(0);
      if (next == Next::kSameServer) address = stream->address();
      MoveLocked(address, pause);
      return;
    }
    done = std::move(it->second.done);
    pending_bytes_ -= it->second.bytes;
    pending_.erase(it);
  }
  if (absl::Status status = StatusOf(reply); !status.ok()) return done(std::move(status));
  done(Reply{.message = Bytes::Copy(reply.message().content()),
             .log_index = wire::IndexFromWire(reply.log_index())});
}

// Leaves the stream; the keeper opens the next one, at `address` or at the next server of the list.
void RatisClient::MoveLocked(const std::string& address, Duration pause) {
  if (leaving_ || stream_ == nullptr) return;
  if (address.empty()) connection_->Avoid(stream_->address());
  target_ = address;
  connect_at_ = Clock::now() + pause;
  leaving_ = true;
  stream_->Cancel();
}

// The call is about to be over: nothing may be written to it any more,
// because it goes as soon as its hold does.
void RatisClient::OnReadsEnded(Stream* stream) {
  std::lock_guard lock(mutex_);
  if (stream == stream_) reads_ended_ = true;
}

void RatisClient::OnEnded(Stream* stream, absl::Status status) {
  std::unique_lock lock(mutex_);
  if (stream == stream_) {
    stream_ = nullptr;
    reads_ended_ = false;
    writing_.reset();
    to_send_.clear();
    const Next next = leaving_ ? Next::kOtherServer : NextAfterCall(stream->java_class());
    if (!stream->java_class().empty() || connection_->Reached(stream->address())) answered_ = true;
    if (next == Next::kAnswer) {
      FailAll(StatusOfCall(stream->java_class(), status), lock);
    } else if (!leaving_) {
      if (status.ok()) status = absl::UnavailableError("the server ended the call");
      said_.insert_or_assign(stream->address(), std::move(status));
      if (next == Next::kOtherServer) connection_->Avoid(stream->address());
      target_ = next == Next::kSameServer ? stream->address() : "";
      connect_at_ = Clock::now() + kRetryPause;
    }
    leaving_ = false;
  }
  // Not here: it may hold the last channel of the process, which joins gRPC's callback thread, which this is.
  ended_.emplace_back(stream);
  --streams_;
  changed_.notify_all();
}

void RatisClient::ConnectLocked() {
  const std::string address = target_.empty() ? connection_->Order().front() : target_;
  to_send_.clear();
  for (const auto& [id, pending] : pending_) to_send_.push_back(id);
  first_of_stream_ = true;
  last_heard_ = Clock::now();
  stream_ = new Stream(this, address);  // gRPC's until OnDone
  ++streams_;
  stream_->Begin(options_.ordered);
  PumpLocked();
}

void RatisClient::Expire(Clock::time_point now, std::unique_lock<std::mutex>& lock) {
  std::deque<Done> late;
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (it->second.deadline > now) {
      ++it;
      continue;
    }
    late.push_back(std::move(it->second.done));
    pending_bytes_ -= it->second.bytes;
    it = pending_.erase(it);
  }
  if (late.empty()) return;
  // The window of an ordered call has a hole now: the next stream begins behind it.
  if (options_.ordered) MoveLocked("", Duration(0));
  lock.unlock();
  for (Done& done : late) {
    done(absl::DeadlineExceededError(
        fmt::format("group {} did not answer within {} ms", options_.group.ToString(),
                    std::chrono::duration_cast<std::chrono::milliseconds>(options_.timeout).count())));
  }
  lock.lock();
}

void RatisClient::FailAll(absl::Status status, std::unique_lock<std::mutex>& lock) {
  std::map<uint64_t, Pending> failed;
  failed.swap(pending_);
  pending_bytes_ = 0;
  lock.unlock();
  for (auto& [id, pending] : failed) pending.done(status);
  lock.lock();
}

void RatisClient::Keep() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!ended_.empty()) {
      auto ended = std::exchange(ended_, {});
      lock.unlock();
      ended.clear();
      lock.lock();
    }
    const Clock::time_point now = Clock::now();
    Expire(now, lock);
    if (pending_.empty()) {
      changed_.wait_for(lock, kTick);
      continue;
    }
    if (stream_ == nullptr) {
      if (!answered_ && now > contact_end_ && !said_.empty()) {
        FailAll(NoServerAnswered(said_), lock);
      } else if (now >= connect_at_) {
        ConnectLocked();
      } else {
        changed_.wait_until(lock, connect_at_);
      }
      continue;
    }
    if (!leaving_ && now - last_heard_ > options_.silence) MoveLocked("", Duration(0));
    changed_.wait_for(lock, kTick);
  }
}

}  // namespace sluice::client
