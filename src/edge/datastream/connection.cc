#include "edge/datastream/connection.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "base/log.h"
#include "edge/datastream/header.h"
#include "edge/handshake.h"
#include "wire/ratis.h"

namespace sluice::edge::datastream {
namespace {

// What an empty piece costs: many of them must fill the window, too.
constexpr uint64_t kPieceOverheadBytes = 512;
constexpr env::Duration kWatchPeriod = std::chrono::milliseconds(500);

env::Duration Ms(uint64_t ms) { return std::chrono::milliseconds(ms); }

absl::Status NoSuchStream(const wire::PacketHeader& packet) {
  return absl::FailedPreconditionError(fmt::format(
      "no stream {} of client {} is open on this connection: it was never opened here, is closed, or "
      "has failed",
      packet.stream.value, packet.client.ToString()));
}

}  // namespace

Connection::Connection(std::shared_ptr<ConnectionContext> context, env::Executor* lane,
                       std::unique_ptr<ByteSocket> socket, std::string address)
    : context_(std::move(context)),
      lane_(lane),
      window_bytes_(context_->host->options().upload_window_bytes),
      address_(std::move(address)),
      socket_(std::move(socket)),
      in_(context_->slabs),
      decoder_(context_->options.limits) {}

Connection::~Connection() {
  if (!greeted_) context_->NoLongerHalfOpen(address_);
  context_->Ended();
}

void Connection::Start(Ended ended) {
  ended_ = std::move(ended);
  started_ = last_read_ = last_write_ = idle_since_ = Now();
  Watch();
  Read();
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  lane_->Cancel(watch_);
  socket_->Close();
  current_.reset();
  current_packet_ = nullptr;
  for (auto& [id, stream] : streams_) {
    stream->relay.reset();
    context_->Release(id, this);
  }
  streams_.clear();
  if (ended_) std::exchange(ended_, nullptr)(self);
}

void Connection::Read() {
  if (reading_ || closed_) return;
  reading_ = true;
  socket_->Read(in_.Space(), [self = shared_from_this()](const std::error_code& error, size_t n) {
    self->reading_ = false;
    self->OnRead(error, n);
  });
}

void Connection::OnRead(const std::error_code& error, size_t n) {
  if (closed_) return;
  if (error) return Close();
  last_read_ = Now();
  if (broken_) return Read();  // lingering: dropped
  decoder_.Feed(in_.Take(n));
  Process();
}

bool Connection::WindowFull() const {
  const uint64_t piece = context_->options.limits.piece_bytes;
  if (out_.bytes() > context_->options.replies_bytes_max) return true;
  if (window_used_ > 0 && window_used_ + piece > context_->options.connection_window_bytes) return true;
  return current_ != nullptr && current_->window_used > 0 && current_->window_used + piece > window_bytes_;
}

void Connection::Process() {
  if (processing_ || broken_) return;
  processing_ = true;
  bool starved = false;
  while (!closed_ && !WindowFull()) {
    wire::RequestEvent event;
    const absl::StatusOr<bool> more = decoder_.Next(&event);
    if (!more.ok()) {
      processing_ = false;
      return OnBroken(more.status());
    }
    if (!*more) {
      starved = true;
      break;
    }
    if (!std::exchange(greeted_, true)) context_->NoLongerHalfOpen(address_);
    Handle(std::move(event));
  }
  processing_ = false;
  if (closed_) return;
  Write();
  if (starved) Read();
}

void Connection::Handle(wire::RequestEvent event) {
  switch (event.kind) {
    case wire::RequestEvent::Kind::kStreamHeader:
      return OnHeader(event);
    case wire::RequestEvent::Kind::kPacket:
      return OnPacket(event);
    case wire::RequestEvent::Kind::kPiece:
      return OnPiece(std::move(event));
  }
}

auto Connection::AnswerFor(Packet* packet, uint64_t charge) {
  ++packet->pending;
  current_->window_used += charge;
  window_used_ += charge;
  return [weak = weak_from_this(), stream = current_, packet, charge](absl::Status status) {
    if (const auto self = weak.lock()) self->Answered(stream, packet, charge, std::move(status));
  };
}

void Connection::OnHeader(const wire::RequestEvent& event) {
  const UploadId id = event.header.upload();
  if (streams_.count(id) > 0) {
    return Fail(event.header, AnyGroup(),
                absl::AlreadyExistsError(fmt::format("stream {} is open already", id.call.value)));
  }
  if (streams_.size() >= context_->options.streams_max) {
    return Fail(event.header, AnyGroup(),
                absl::ResourceExhaustedError(fmt::format("{} streams on one connection", streams_.size())));
  }
  auto header = DecodeStreamHeader(event.header, event.data);
  if (!header.ok()) return Fail(event.header, AnyGroup(), header.status());
  if (const absl::Status same = CheckStream(*header, *context_->host); !same.ok())
    return Fail(event.header, header->group, same);
  if (!context_->Claim(id, this, header->take_over.has_value())) {
    return Fail(
        event.header, header->group,
        absl::AlreadyExistsError(fmt::format("stream {} is open on another connection", id.call.value)));
  }
  current_ = std::make_shared<Stream>();
  current_->group = header->group;
  current_->of_server = header->route.primary != context_->host->options().self.id;
  current_->last_use = Now();
  streams_.emplace(id, current_);
  Packet* packet =
      &current_->unanswered.emplace_back(Packet{.header = event.header, .status = {}, .held = {}});
  absl::AnyInvocable<void(absl::Status)> opened = AnswerFor(packet, kPieceOverheadBytes);
  const StreamPtr stream = current_;
  packet->pending++;  // until OpenRelay has returned
  if (header->take_over) opened = SayLength(stream, packet, std::move(opened));
  stream->relay = context_->host->OpenRelay(*std::move(header), lane_, std::move(opened));
  Answered(
      stream, packet, 0,
      stream->relay != nullptr ? absl::OkStatus() : absl::UnavailableError("this server takes no uploads"));
  current_.reset();
}

// The answer to a header that takes over says where to go on (D-15).
absl::AnyInvocable<void(absl::Status)> Connection::SayLength(const StreamPtr& stream, Packet* packet,
                                                             absl::AnyInvocable<void(absl::Status)> opened) {
  return [stream, packet, opened = std::move(opened)](absl::Status status) mutable {
    if (status.ok() && stream->relay != nullptr) packet->written = stream->next = stream->relay->length();
    opened(std::move(status));
  };
}

void Connection::OnPacket(const wire::RequestEvent& event) {
  const auto at = streams_.find(event.header.upload());
  current_ = at == streams_.end() || at->second->closed ? nullptr : at->second;
  current_packet_ = nullptr;
  if (current_ == nullptr) return;
  current_->last_use = Now();
  current_packet_ =
      &current_->unanswered.emplace_back(Packet{.header = event.header, .status = {}, .held = {}});
  current_packet_->pending = 1;
}

void Connection::OnPiece(wire::RequestEvent event) {
  const StreamPtr stream = current_;
  if (stream == nullptr) {
    if (event.last) Fail(event.header, AnyGroup(), NoSuchStream(event.header));
    return;
  }
  Packet* packet = current_packet_;
  if (stream->failure.ok()) AppendPiece(event, packet);
  if (!event.last) return;
  EndPacket(event, packet);
  current_.reset();
  current_packet_ = nullptr;
  Answered(stream, packet, 0, absl::OkStatus());
}

void Connection::AppendPiece(const wire::RequestEvent& event, Packet* packet) {
  const StreamPtr stream = current_;
  if (!event.data.empty()) {
    const uint64_t size = event.data.size();
    stream->next = event.offset + size;
    packet->written += size;
    stream->relay->Append(event.offset, event.data, AnswerFor(packet, size + kPieceOverheadBytes));
  } else if (event.offset != stream->next) {
    stream->failure = packet->status = absl::InvalidArgumentError(
        fmt::format("empty packet at offset {}: expected {}", event.offset, stream->next));
    stream->relay->Abort();
  }
}

// Options ride on the last piece (D-07).
void Connection::EndPacket(const wire::RequestEvent& event, Packet* packet) {
  const StreamPtr stream = current_;
  if (stream->failure.ok() && event.header.sync && !event.header.close) {
    stream->relay->Flush([answer = AnswerFor(packet, kPieceOverheadBytes)](
                             absl::StatusOr<uint64_t> length) mutable { answer(length.status()); });
  }
  if (!event.header.close) return;
  stream->closed = true;
  if (!stream->failure.ok()) return;
  stream->relay->Close([stream, packet, answer = AnswerFor(packet, kPieceOverheadBytes)](
                           const absl::StatusOr<blob::Sealed>& sealed) mutable {
    if (sealed.ok() && stream->of_server) packet->held = *sealed;
    answer(sealed.status());
  });
}

void Connection::Answered(const StreamPtr& stream, Packet* packet, uint64_t charge, absl::Status status) {
  if (closed_) return;
  if (!status.ok()) {
    if (packet->status.ok()) packet->status = status;
    if (stream->failure.ok()) stream->failure = std::move(status);
  }
  --packet->pending;
  stream->window_used -= charge;
  window_used_ -= charge;
  Settle(stream);
  if (processing_) return;
  Process();
}

// Answers what is done, in order; a stream that closed or failed is forgotten with its last answer.
void Connection::Settle(const StreamPtr& stream) {
  std::optional<UploadId> last;
  while (!stream->unanswered.empty() && stream->unanswered.front().pending == 0) {
    Packet packet = std::move(stream->unanswered.front());
    stream->unanswered.pop_front();
    if (packet.status.ok() && !stream->failure.ok()) packet.status = stream->failure;
    Reply(packet, stream->group);
    last = packet.header.upload();
  }
  if (!last) return;
  stream->last_use = Now();
  if (stream->unanswered.empty() && (stream->closed || !stream->failure.ok())) Forget(*last);
}

void Connection::Forget(const UploadId& id) {
  const auto at = streams_.find(id);
  if (at == streams_.end()) return;
  at->second->relay.reset();
  streams_.erase(at);
  context_->Release(id, this);
}

void Connection::Reply(const Packet& packet, const GroupId& group) {
  if (!packet.status.ok()) return Fail(packet.header, group, packet.status);
  wire::DataStreamReply reply;
  reply.header = packet.header;
  reply.bytes_written = packet.written;
  reply.success = true;
  if (packet.held) reply.body = EncodeHeld(*packet.held);
  out_.Add(wire::EncodeReply(reply));
}

void Connection::Fail(const wire::PacketHeader& packet, const GroupId& group, const absl::Status& status) {
  Log(fmt::format("stream {} of client {} fails: {}", packet.stream.value, packet.client.ToString(),
                  Message(status)));
  out_.Add(wire::EncodeReply(wire::StreamFailure(packet, group, context_->host->options().self.id, status)));
}

void Connection::Write() {
  if (writing_ || closed_ || out_.empty()) return;
  writing_ = true;
  last_write_ = Now();
  socket_->Write(out_.Buffers(), [self = shared_from_this()](const std::error_code& error, size_t n) {
    self->writing_ = false;
    if (self->closed_) return;
    if (error) return self->Close();
    self->last_write_ = self->Now();
    self->out_.Sent(n);
    if (!self->out_.empty()) return self->Write();
    if (!self->broken_) return self->Process();
    self->socket_->EndSending();
  });
}

// The framing is lost. A sender whose packet was understood is told; then the connection ends, not at once,
// because unread input would make the kernel throw the answer away (F-58).
void Connection::OnBroken(const absl::Status& why) {
  Log(fmt::format("connection is closed: {}", Message(why)));
  if (!decoder_.failed_packet()) return Close();
  broken_ = true;
  Fail(*decoder_.failed_packet(), AnyGroup(), why);
  Write();
  Read();
  lane_->PostAfter(Ms(context_->options.linger_ms), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Close();
  });
}

void Connection::Watch() {
  const DataStreamOptions& options = context_->options;
  const env::Duration period = std::min<env::Duration>(
      {kWatchPeriod, Ms(options.first_packet_ms) / 2, Ms(options.stall_ms) / 2, Ms(options.idle_ms) / 2});
  watch_ = lane_->PostAfter(period, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr || self->closed_) return;
    const DataStreamOptions& limits = self->context_->options;
    const env::Instant now = self->Now();
    const bool silent = !self->greeted_ && now - self->started_ > Ms(limits.first_packet_ms);
    const bool half =
        self->reading_ && !self->decoder_.idle() && now - self->last_read_ > Ms(limits.stall_ms);
    // Reading stopped when too much was waiting, and what waits now may be less.
    const bool deaf = self->writing_ && now - self->last_write_ > Ms(limits.stall_ms);
    if (silent || half || deaf) {
      self->Log(silent ? "no packet came" : half ? "half a packet came" : "replies are not read");
      return self->Close();
    }
    if (!self->streams_.empty() || !self->out_.empty()) self->idle_since_ = now;
    // Not worth a line: clients keep connections for later, and make another one.
    if (now - self->idle_since_ > Ms(limits.idle_ms)) return self->Close();
    std::vector<UploadId> idle;
    for (const auto& [id, stream] : self->streams_) {
      if (stream->unanswered.empty() &&
          now - stream->last_use > Ms(self->context_->host->options().upload_idle_ttl_ms))
        idle.push_back(id);
    }
    for (const UploadId& id : idle) self->Forget(id);
    self->Watch();
  });
}

// One line a second: what fills a log must not be in the hands of a client.
void Connection::Log(std::string_view what) {
  const env::Instant now = Now();
  if (last_log_ != env::Instant{} && now - last_log_ < std::chrono::seconds(1)) return;
  last_log_ = now;
  LogWarn("DataStream from {}: {}", address_, Printable(what));
}

// Java cannot decode a failure without a group.
GroupId Connection::AnyGroup() const {
  const auto groups = context_->host->Groups();
  return groups.empty() ? kDefaultGroup : groups.front();
}

}  // namespace sluice::edge::datastream
