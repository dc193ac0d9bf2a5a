#include "edge/brpc/connection.h"

#include <errno.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace sluice::edge::brpc {
namespace {

using std::chrono::steady_clock;
using wire::brpc::FrameEvent;
using wire::brpc::StreamState;

constexpr size_t kReadBytesMin = 64 << 10;  // less free than this: the next slab

void SetSocketOptions(asio::ip::tcp::socket& socket, int64_t stall_timeout_ms) {
  std::error_code ignored;  // what a system does not know, it does without
  socket.non_blocking(true, ignored);
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [fd = socket.native_handle()](int option, int value) {
    (void)setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value));
  };
  // A peer whose machine is gone is noticed within the stall timeout, busy or idle.
  set(TCP_KEEPIDLE, std::max<int>(1, static_cast<int>(stall_timeout_ms / 2000)));
  set(TCP_KEEPINTVL, std::max<int>(1, static_cast<int>(stall_timeout_ms / 6000)));
  set(TCP_KEEPCNT, 3);
  set(TCP_USER_TIMEOUT, static_cast<int>(stall_timeout_ms));
  set(TCP_NOTSENT_LOWAT, kUnsentLowBytes);
}

std::string NameOf(const asio::ip::tcp::endpoint& endpoint, const std::error_code& unknown) {
  if (unknown) return "?";
  return fmt::format("{}:{}", endpoint.address().to_string(), endpoint.port());
}
std::string PeerOf(const asio::ip::tcp::socket& socket) {
  std::error_code unknown;
  const auto endpoint = socket.remote_endpoint(unknown);
  return NameOf(endpoint, unknown);
}
std::string SelfOf(const asio::ip::tcp::socket& socket) {
  std::error_code unknown;
  const auto endpoint = socket.local_endpoint(unknown);
  return NameOf(endpoint, unknown);
}
// The ids that the sender of this meta gave its ends of the call's streams.
std::vector<int64_t> IdsOf(const wire::brpc::RpcMeta& meta) {
  if (!meta.has_stream_settings()) return {};
  const auto& settings = meta.stream_settings();
  std::vector<int64_t> ids = {settings.stream_id()};
  ids.insert(ids.end(), settings.extra_stream_ids().begin(), settings.extra_stream_ids().end());
  return ids;
}
wire::brpc::StreamsOptions StreamsOf(wire::brpc::StreamsOptions options, bool is_server) {
  options.holds_early_close = is_server;
  return options;
}

}  // namespace

Connection::Connection(env::Crew* crew, asio::ip::tcp::socket socket, ConnectionOptions options,
                       RequestHandler* handler)
    : crew_(crew),
      options_(std::move(options)),
      handler_(handler),
      peer_(PeerOf(socket)),
      self_(SelfOf(socket)),
      socket_(std::move(socket)),
      fd_(socket_->native_handle()),
      reader_(options_.frames),
      slabs_(std::make_shared<datastream::SlabPool>()),
      streams_(StreamsOf(options_.streams, handler != nullptr), &ProcessBudget()) {
  SetSocketOptions(*socket_, options_.stall_timeout_ms);
}

Connection::~Connection() = default;

void Connection::Start() {
  last_read_ = steady_clock::now();
  ArmRead();
  SetTick();
}

// --- Reading ---

void Connection::ArmRead() {
  if (!crew_->RunsHere()) {
    asio::post(crew_->context(), [self = shared_from_this()] { self->ArmRead(); });
    return;
  }
  if (!socket_) return;
  socket_->async_wait(asio::ip::tcp::socket::wait_read,
                      [self = shared_from_this()](const std::error_code& error) {
                        if (!error) self->OnReadable();
                      });
}

void Connection::OnReadable() {
  if (lost()) return;
  EventScope scope(shared_from_this());
  if (slab_ == nullptr || datastream::SlabPool::kSlabBytes - slab_filled_ < kReadBytesMin) {
    slab_ = slabs_->Take();
    slab_filled_ = 0;
  }
  char* const space = slab_.get() + slab_filled_;
  const ssize_t n = recv(fd_, space, datastream::SlabPool::kSlabBytes - slab_filled_, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return ArmRead();
  bool read_on = false;
  {
    std::lock_guard lock(mutex_);
    if (n == 0) {
      EnterLost(wire::brpc::kEof, fmt::format("Got EOF of {}", peer_));
    } else if (n < 0) {
      EnterLost(errno, fmt::format("reading from {}: {}", peer_, strerror(errno)));
    } else {
      slab_filled_ += static_cast<size_t>(n);
      last_read_ = steady_clock::now();
      reader_.Feed({space, static_cast<size_t>(n)}, slab_);
      if (const absl::Status taken = TakeFrames(); !taken.ok()) {
        if (!seen_frame_) SendHint();
        EnterLost(EINVAL, fmt::format("{}: {}", peer_, Message(taken)));
      }
      read_paused_ = MustPauseReading();  // may end a stream
      FailUnanswered();
      read_on = !lost() && !read_paused_;
    }
  }
  if (read_on) ArmRead();  // before code of others, so that the loop can go on without this thread
  RunUserCode();
}

// Nobody reads our answers, or nobody consumes what has come. A client does not stop for the former: its own
// calls must not keep it from the answers that make room.
bool Connection::MustPauseReading() {
  const bool crowded = streams_.Congested();
  return crowded || (handler_ != nullptr && streams_.control_bytes() > options_.streams.unsent_bytes_max);
}

absl::Status Connection::TakeFrames() {
  FrameEvent event;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader_.Next(&event));
    if (!more) break;
    if (!std::exchange(seen_frame_, true) && handler_ != nullptr) handler_->OnFirstFrame(*this);
    if (event.kind == FrameEvent::Kind::kStream) {
      if (auto answer = streams_.Receive(event)) TakeOpening(*std::move(answer));
    } else if (event.kind == FrameEvent::Kind::kCall) {
      RETURN_IF_ERROR(TakeCall(std::move(event)));
    }
  }
  return absl::OkStatus();
}

void Connection::FailUnanswered() {
  while (StreamState* ended = streams_.NextUnanswered()) {
    if (const auto call = CallOf(ended)) EndCall(call, ended->end_code, ended->end_text);
  }
}

bool Connection::MayReadOn() {
  if (!read_paused_ || lost() || MustPauseReading()) return false;
  FailUnanswered();
  read_paused_ = false;
  return true;
}

// To whoever talks another protocol: tried once, without waiting.
void Connection::SendHint() {
  if (handler_ == nullptr) return;
  const std::string hint = handler_->Hint(reader_.unknown_magic());
  if (!hint.empty()) (void)send(fd_, hint.data(), hint.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

absl::Status Connection::TakeCall(FrameEvent event) {
  ASSIGN_OR_RETURN(wire::brpc::CallFrame frame, wire::brpc::DecodeCall(event.meta, std::move(event.body)));
  if (frame.meta.has_request()) {
    if (handler_ == nullptr) return absl::InvalidArgumentError("a request came to a client");
    requests_.push_back(std::move(frame));
    return absl::OkStatus();
  }
  const auto found = calls_.find(frame.meta.correlation_id());
  if (found != calls_.end()) TakeAnswer(std::shared_ptr(found->second), std::move(frame), /*wrapped=*/false);
  return absl::OkStatus();  // an answer that nobody waits for any more is dropped
}

// --- Answers to calls of ours, under the lock ---

std::shared_ptr<ClientCall> Connection::CallOf(const StreamState* stream) {
  for (const auto& [correlation, call] : calls_) {
    for (const auto& end : call->streams) {
      if (end.get() == stream) return call;
    }
  }
  return nullptr;
}

void Connection::TakeOpening(wire::brpc::OpeningAnswer answer) {
  wire::brpc::FrameReader inner(options_.frames);
  inner.Feed(answer.frame);
  FrameEvent event;
  const absl::StatusOr<bool> whole = inner.Next(&event);
  if (whole.ok() && *whole && event.kind == FrameEvent::Kind::kCall && inner.idle()) {
    auto frame = wire::brpc::DecodeCall(event.meta, std::move(event.body));
    const auto found = frame.ok() ? calls_.find(frame->meta.correlation_id()) : calls_.end();
    if (found != calls_.end() && !found->second->streams.empty() &&
        found->second->streams.front().get() == answer.stream) {
      return TakeAnswer(std::shared_ptr(found->second), *std::move(frame), /*wrapped=*/true);
    }
    if (answer.stream == nullptr && frame.ok()) {
      for (const int64_t id : IdsOf(frame->meta)) streams_.SendRst(id);
      return;
    }
  }
  if (answer.from && *answer.from != wire::brpc::kNoStream) streams_.SendRst(*answer.from);
  if (const auto call = CallOf(answer.stream)) {
    EndCall(call, EPROTO, "the first message of the stream is not the answer to its call");
  }
}

void Connection::TakeAnswer(const std::shared_ptr<ClientCall>& call, wire::brpc::CallFrame frame,
                            bool wrapped) {
  const std::vector<int64_t> remote_ids = IdsOf(frame.meta);
  const auto refuse = [&](int code, const std::string& text) {
    for (const int64_t id : remote_ids) streams_.SendRst(id);
    EndCall(call, code, text);
  };
  if (const int code = frame.meta.response().error_code(); code != 0) {
    return refuse(code, frame.meta.response().error_text());
  }
  if (!call->streams.empty() && (!wrapped || remote_ids.size() != call->streams.size())) {
    return refuse(wire::brpc::kBadRequest,
                  remote_ids.empty()
                      ? "The server didn't accept the stream"
                      : fmt::format("the server answered {} streams with {}{}", call->streams.size(),
                                    remote_ids.size(), wrapped ? "" : ", and not on the stream"));
  }
  auto body = wire::brpc::OpenBody(frame, options_.body_bytes_max);
  if (!body.ok()) return refuse(wire::brpc::kBadResponse, std::string(Message(body.status())));
  for (size_t i = 0; i < call->streams.size(); ++i) {
    streams_.Connect(call->streams[i].get(),
                     {.remote_id = remote_ids[i],
                      .readable = frame.meta.stream_settings().writable(),
                      .wants_feedback = frame.meta.stream_settings().need_feedback()});
  }
  Controller::Inner& controller = call->controller->inner();
  *call->response = std::move(body->message);
  controller.response_attachment = std::move(body->attachment);
  for (const auto& [key, value] : frame.meta.user_fields()) controller.response_user_fields[key] = value;
  EndCall(call, 0, "");
}

void Connection::EndCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text) {
  if (calls_.erase(call->correlation) == 0) return;
  for (const auto& end : call->streams) {
    if (code != 0 && end->self != nullptr) streams_.Fail(end.get(), code, text);
  }
  Conclude(*call, code, text);
  finished_.push_back(call);
}

bool Connection::StartCall(const std::shared_ptr<ClientCall>& call) {
  // As soon as the call is known it may end, and its controller with it.
  const Controller::Inner& controller = call->controller->inner();
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name(call->service);
  meta.mutable_request()->set_method_name(call->method);
  if (controller.log_id != 0) meta.mutable_request()->set_log_id(controller.log_id);
  for (const auto& [key, value] : controller.request_user_fields) (*meta.mutable_user_fields())[key] = value;
  const Bytes attachment = controller.request_attachment;
  const auto compress = static_cast<wire::brpc::CompressType>(controller.request_compress);
  const auto checksum =
      controller.request_checksum ? wire::brpc::ChecksumType::kCrc32c : wire::brpc::ChecksumType::kNone;
  {
    std::lock_guard lock(mutex_);
    if (lost()) return false;
    call->correlation = ++last_correlation_;
    calls_.emplace(call->correlation, call);
    if (const auto [code, text] = WhyNotToStart(*call); code != 0) {
      call->end_code = code;  // of its streams, which have no connection
      call->end_text = text;
      EndCall(call, code, text);
      PostUserCodeLocked();
      return true;
    }
    FillSettings(call->streams, &meta);
  }
  meta.set_correlation_id(call->correlation);
  const Bytes frame = wire::brpc::EncodeCall(std::move(meta), call->request, attachment, compress, checksum);
  {
    std::lock_guard lock(mutex_);
    if (calls_.contains(call->correlation)) streams_.SendFrame(frame);  // else it has failed meanwhile
  }
  Kick();
  return true;
}

std::pair<int, std::string> Connection::WhyNotToStart(const ClientCall& call) {
  if (call.timed_out) return {wire::brpc::kTimedOut, "no connection in time"};
  if (streams_.control_bytes() > options_.streams.unsent_bytes_max) {
    return {wire::brpc::kOvercrowded, fmt::format("{} takes no more calls now", peer_)};
  }
  if (!AttachLocked(call.streams)) {
    return {wire::brpc::kLimit, fmt::format("no more streams can be opened to {}", peer_)};
  }
  return {0, ""};
}

void Connection::FailCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text) {
  std::lock_guard lock(mutex_);
  const auto found = calls_.find(call->correlation);
  if (found == calls_.end() || found->second != call) return;
  EndCall(call, code, text);
  PostUserCodeLocked();
}

// --- Requests to us ---

bool Connection::Attach(const std::vector<std::shared_ptr<StreamEnd>>& ends) {
  std::lock_guard lock(mutex_);
  return AttachLocked(ends);
}

// All or none: those that were not attached end as streams that never had a connection.
bool Connection::AttachLocked(const StreamEnds& ends) {
  if (!streams_.HasPlaceFor(ends.size())) return false;
  for (const auto& end : ends) {
    end->opens_here = handler_ == nullptr && end == ends.front();
    end->opens_others = ends.size() > 1;
    if (!streams_.Add(end.get())) return false;
    end->SetConnection(shared_from_this());
  }
  return true;
}

void Connection::FillSettings(const StreamEnds& ends, wire::brpc::RpcMeta* meta) const {
  if (ends.empty()) return;
  auto* const settings = meta->mutable_stream_settings();
  settings->set_stream_id(ends.front()->local_id);
  settings->set_need_feedback(ends.front()->window_bytes > 0);
  settings->set_writable(ends.front()->readable);
  for (size_t i = 1; i < ends.size(); ++i) settings->add_extra_stream_ids(ends[i]->local_id);
}

void Connection::Answer(RequestAnswer answer) {
  int64_t from = wire::brpc::kNoStream;
  bool connects = false;
  if (!answer.ends.empty()) {
    std::lock_guard lock(mutex_);
    from = answer.ends.front()->local_id;
    // Without settings the client fails the call, and knows none of the streams.
    connects = answer.ends.front()->phase != StreamState::Phase::kEnded;
    if (connects) FillSettings(answer.ends, &answer.meta);
  }
  const Bytes frame = wire::brpc::EncodeCall(
      std::move(answer.meta), answer.message, answer.attachment,
      static_cast<wire::brpc::CompressType>(answer.compress),
      answer.checksum ? wire::brpc::ChecksumType::kCrc32c : wire::brpc::ChecksumType::kNone);
  {
    std::lock_guard lock(mutex_);
    if (answer.remote_ids.empty()) {
      streams_.SendFrame(frame);
    } else {
      streams_.SendAnswer(answer.remote_ids.front(), from, frame);
    }
    for (size_t i = 0; i < answer.ends.size(); ++i) {
      if (!connects) {
        streams_.Fail(answer.ends[i].get(), wire::brpc::kBadRequest,
                      "the first stream of the call was closed before the call was answered");
        continue;
      }
      streams_.Connect(answer.ends[i].get(), {.remote_id = answer.remote_ids[i],
                                              .readable = answer.peer_readable,
                                              .wants_feedback = answer.peer_wants_feedback});
    }
    SetCloseTick();
  }
  Kick();
  Release(answer.ends);
}

// --- Streams ---

wire::brpc::Streams::Written Connection::Write(StreamEnd* end, const Bytes& message) {
  wire::brpc::Streams::Written written;
  FlushBy by;
  {
    std::lock_guard lock(mutex_);
    written = streams_.Write(end, message);
    if (written == wire::brpc::Streams::Written::kFull) OnFull(end);
    by = WhoFlushes();
  }
  FlushAs(by);
  return written;
}

void Connection::CloseStream(StreamEnd* end) {
  {
    std::lock_guard lock(mutex_);
    FailCallOf(end);
    streams_.Close(end);
    SetCloseTick();
  }
  Kick();
  RunUserCodeSoon();
}

void Connection::FailStream(StreamEnd* end, int code, const std::string& text) {
  {
    std::lock_guard lock(mutex_);
    FailCallOf(end);
    streams_.Fail(end, code, text);
  }
  Kick();
  RunUserCodeSoon();
}

void Connection::FailCallOf(StreamEnd* end) {
  if (handler_ != nullptr || end->phase != StreamState::Phase::kOpening) return;
  if (const auto call = CallOf(end)) {
    EndCall(call, wire::brpc::kBadRequest, "a stream was closed before its call was answered");
  }
}

bool Connection::HasRoom(StreamEnd* end) {
  if (streams_.HasRoom(end)) return true;
  OnFull(end);
  return false;
}

void Connection::Credit(StreamEnd* end, uint64_t bytes) {
  bool read_on = false;
  {
    std::lock_guard lock(mutex_);
    if (lost() || end->self == nullptr) return;
    streams_.Consumed(end, bytes);
    read_on = MayReadOn();
  }
  if (read_on) ArmRead();
  Kick();
}

void Connection::Release(const StreamEnds& ends) {
  if (ends.empty()) return;
  {
    std::lock_guard lock(mutex_);
    for (const auto& end : ends) {
      streams_.Release(end.get());
      SetIdleTimer(end.get());
    }
  }
  RunUserCodeSoon();
}

void Connection::SetIdleTimer(StreamEnd* end) {
  if (end->idle_timeout_ms < 0 || end->phase == StreamState::Phase::kEnded) return;
  end->drained_at = steady_clock::now();
  end->idle_timer = crew_->PostAfter(
      std::chrono::milliseconds(end->idle_timeout_ms),
      [self = shared_from_this(), same = end->shared_from_this()] { self->OnIdleTimer(same); });
}

void Connection::OnIdleTimer(const std::shared_ptr<StreamEnd>& end) {
  {
    std::lock_guard lock(mutex_);
    if (end->phase == StreamState::Phase::kEnded) return;
    const auto timeout = std::chrono::milliseconds(end->idle_timeout_ms);
    const auto idle = steady_clock::now() - end->drained_at;
    if (end->delivering || end->in_ready || idle < timeout) {
      const auto left = std::max<steady_clock::duration>(timeout - idle, std::chrono::milliseconds(1));
      end->idle_timer = crew_->PostAfter(left, [self = shared_from_this(), end] { self->OnIdleTimer(end); });
      return;
    }
    end->delivering = true;  // callbacks of a stream come one at a time
    ++workers_;              // who waits for the end waits for this too
  }
  asio::post(crew_->context(), [self = shared_from_this(), end] {
    EventScope scope(self);
    if (end->handler != nullptr) scope.Run([&] { end->handler->on_idle_timeout(end->id); });
    {
      std::lock_guard lock(self->mutex_);
      self->streams_.Delivered(end.get());
      self->SetIdleTimer(end.get());
    }
    self->RunUserCode();
    std::lock_guard lock(self->mutex_);
    --self->workers_;
    if (self->lost()) self->worked_.notify_all();
  });
}

// --- The end ---

void Connection::Lose(int code, const std::string& text) {
  {
    std::lock_guard lock(mutex_);
    EnterLost(code, text);
  }
  RunUserCodeSoon();
}

void Connection::LoseAndWait(int code, const std::string& text) {
  Lose(code, text);
  if (env::Crew::IsMember()) return;
  std::unique_lock lock(mutex_);
  worked_.wait(lock, [this] {
    return workers_ == 0 && !user_code_posted_ && finished_.empty() && !streams_.HasReady() &&
           !streams_.HasWritable();
  });
}

void Connection::EnterLost(int code, const std::string& text) {
  if (lost_.exchange(true)) return;
  (void)shutdown(fd_, SHUT_RDWR);
  requests_.clear();
  streams_.ConnectionLost(code, text);
  while (streams_.NextUnanswered() != nullptr) {
  }
  std::vector<std::shared_ptr<ClientCall>> calls;
  for (const auto& [correlation, call] : calls_) calls.push_back(call);
  for (const auto& call : calls) EndCall(call, code, text);
  asio::post(crew_->context(), [self = shared_from_this()] { self->CloseSocket(); });
}

// On the loop, where the socket's operations are; not while somebody writes to its descriptor.
void Connection::CloseSocket() {
  {
    std::lock_guard lock(mutex_);
    close_when_flushed_ = flushing_;
    if (flushing_) return;
  }
  crew_->Cancel(tick_);
  socket_.reset();
  if (handler_ != nullptr) handler_->OnGone(shared_from_this());
}

}  // namespace sluice::edge::brpc
