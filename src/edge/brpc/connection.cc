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
  asio::post(crew_->context(), [self = shared_from_this(), end] { self->TellIdle(end); });
}

void Connection::TellIdle(const std::shared_ptr<StreamEnd>& end) {
  if (crew_->full()) {
    return crew_->WhenNotFull([self = shared_from_this(), end] { self->TellIdle(end); });
  }
  EventScope scope(shared_from_this());
  if (end->handler != nullptr) scope.Run([&] { end->handler->on_idle_timeout(end->id); });
  {
    std::lock_guard lock(mutex_);
    streams_.Delivered(end.get());
    SetIdleTimer(end.get());
  }
  RunUserCode();
  {
    std::lock_guard lock(mutex_);
    --workers_;
    if (lost()) worked_.notify_all();
  }
  if (lost()) TellGone();
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
  worked_.wait(lock, [this] { return Worked(); });
}

bool Connection::Worked() const {
  return workers_ == 0 && !user_code_posted_ && !user_code_postponed_ && finished_.empty() &&
         !streams_.HasReady() && !streams_.HasWritable();
}

// Who stops a server waits until its connections are gone: what is to be told of their streams comes first.
void Connection::TellGone() {
  if (handler_ == nullptr) return;
  {
    std::lock_guard lock(mutex_);
    if (!socket_closed_ || !Worked() || std::exchange(gone_told_, true)) return;
  }
  handler_->OnGone(shared_from_this());
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
  {
    std::lock_guard lock(mutex_);
    socket_closed_ = true;
  }
  TellGone();
}

}  // namespace sluice::edge::brpc
