#include "client/stream_connection.h"

#include <errno.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "base/sigpipe.h"
#include "base/strings.h"
#include "client/ratis_reply.h"

namespace sluice::client {
namespace {

constexpr int kReadWaitMs = 250;  // how often a silent server is looked at
constexpr size_t kReadBytes = 64 << 10;
constexpr Duration kQuiet = std::chrono::milliseconds(500);  // before it is asked whether it is alive

std::string Reason(int error) {
  char text[128];
  return strerror_r(error, text, sizeof text);
}

int Milliseconds(Duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// One address: a connected socket, or the error.
absl::StatusOr<int> ConnectTo(const addrinfo& info, const std::string& address, Duration timeout) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::UnavailableError(fmt::format("{}: {}", address, Reason(errno)));
  int error = connect(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
    socklen_t size = sizeof error;
    if (poll(&wait, 1, Milliseconds(timeout)) <= 0) {
      error = ETIMEDOUT;
    } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
    }
  }
  if (error != 0) {
    close(fd);
    return absl::UnavailableError(fmt::format("cannot connect to {}: {}", address, Reason(error)));
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

absl::StatusOr<int> Connect(const std::string& address, Duration timeout) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no HOST:PORT", address));
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  if (const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found); error != 0) {
    return absl::UnavailableError(fmt::format("{}: {}", address, gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  absl::StatusOr<int> fd = absl::UnavailableError(fmt::format("{} has no address", address));
  for (const addrinfo* one = found; one != nullptr && !fd.ok(); one = one->ai_next) {
    fd = ConnectTo(*one, address, timeout);
  }
  return fd;
}

absl::Status FailureOf(const wire::DataStreamReply& reply) {
  ::sluice::ratis::common::RaftClientReplyProto why;
  const std::string body = reply.body.ToString();
  if (body.empty() || !why.ParseFromString(body)) {
    return absl::AbortedError(fmt::format("the server refused the packet at {}", reply.header.offset));
  }
  const absl::Status status = StatusOf(why);
  return status.ok() ? absl::AbortedError("the server refused the packet and said that it was fine") : status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StreamConnection>> StreamConnection::Open(const std::string& address,
                                                                         StreamConnectionOptions options) {
  ASSIGN_OR_RETURN(const int fd, Connect(address, options.connect_timeout));
  return std::unique_ptr<StreamConnection>(new StreamConnection(fd, options));
}

StreamConnection::StreamConnection(int socket, StreamConnectionOptions options)
    : socket_(socket), options_(options), reader_([this] { ReadReplies(); }) {}

StreamConnection::~StreamConnection() {
  Fail(absl::CancelledError("the stream was closed"));
  reader_.join();
  close(socket_);
}

absl::Status StreamConnection::Admit(const wire::PacketHeader& header, OnReply on_reply) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !failure_.ok() || in_flight_bytes_ == 0 ||
           in_flight_bytes_ + header.data_length <= options_.window_bytes;
  });
  if (!failure_.ok()) {
    absl::Status failure = failure_;
    lock.unlock();
    if (on_reply) on_reply(failure);
    return failure;
  }
  if (waiting_.empty()) last_event_ = Clock::now();
  in_flight_bytes_ += header.data_length;
  waiting_.push_back({header, std::move(on_reply)});
  return absl::OkStatus();
}

absl::Status StreamConnection::SocketFailed(const char* what) {
  Fail(absl::UnavailableError(fmt::format("{} the stream: {}", what, Reason(errno))));
  std::lock_guard lock(mutex_);
  return failure_;
}

absl::Status StreamConnection::SendAll(std::string_view data, bool more) {
  while (!data.empty()) {
    const ssize_t sent = send(socket_, data.data(), data.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (sent >= 0) {
      data.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = socket_, .events = POLLOUT, .revents = 0};
      poll(&wait, 1, kReadWaitMs);  // the reader shuts the socket down when the server is silent
    } else if (errno != EINTR) {
      return SocketFailed("cannot write to");
    }
  }
  return absl::OkStatus();
}

absl::Status StreamConnection::Send(wire::PacketHeader header, const Bytes& payload, OnReply on_reply) {
  header.data_length = payload.size();
  RETURN_IF_ERROR(Admit(header, std::move(on_reply)));
  RETURN_IF_ERROR(SendAll(wire::EncodeRequestFront(header), !payload.empty()));
  absl::Status status;
  payload.ForEachChunk([&](std::string_view chunk) {
    if (status.ok()) status = SendAll(chunk, false);
  });
  return status;
}

absl::Status StreamConnection::SendFile(const wire::PacketHeader& header, int fd, uint64_t file_offset,
                                        OnReply on_reply) {
  RETURN_IF_ERROR(Admit(header, std::move(on_reply)));
  RETURN_IF_ERROR(SendAll(wire::EncodeRequestFront(header), header.data_length > 0));
  const WithoutSigpipe quiet;  // sendfile has no MSG_NOSIGNAL
  off_t offset = static_cast<off_t>(file_offset);
  for (uint64_t left = header.data_length; left > 0;) {
    const ssize_t sent = sendfile(socket_, fd, &offset, left);
    if (sent > 0) {
      left -= static_cast<uint64_t>(sent);
    } else if (sent == 0) {
      Fail(absl::DataLossError(fmt::format(
          "the file ended at {}, {} bytes before its size: it changed while it was sent", offset, left)));
      std::lock_guard lock(mutex_);
      return failure_;
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = socket_, .events = POLLOUT, .revents = 0};
      poll(&wait, 1, kReadWaitMs);
    } else if (errno != EINTR) {
      return SocketFailed("cannot send the file to");
    }
  }
  return absl::OkStatus();
}

absl::Status StreamConnection::Drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !failure_.ok() || waiting_.empty(); });
  return failure_;
}

uint64_t StreamConnection::answered_bytes() const {
  std::lock_guard lock(mutex_);
  return answered_bytes_;
}

void StreamConnection::ReadReplies() {
  wire::ReplyDecoder decoder;
  absl::Status status;
  while (status.ok()) status = ReadSome(&decoder);
  Fail(std::move(status));
}

absl::Status StreamConnection::ReadSome(wire::ReplyDecoder* decoder) {
  pollfd wait{.fd = socket_, .events = POLLIN, .revents = 0};
  if (poll(&wait, 1, kReadWaitMs) <= 0) return JudgeSilence();
  char buffer[kReadBytes];
  const ssize_t got = recv(socket_, buffer, sizeof buffer, 0);
  if (got == 0) return absl::UnavailableError("the server closed the stream");
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return absl::OkStatus();
    return absl::UnavailableError(fmt::format("the stream broke: {}", Reason(errno)));
  }
  decoder->Feed(Bytes::Copy({buffer, static_cast<size_t>(got)}));
  while (true) {
    wire::DataStreamReply reply;
    ASSIGN_OR_RETURN(const bool complete, decoder->Next(&reply));
    if (!complete) return absl::OkStatus();
    RETURN_IF_ERROR(OnReplyRead(std::move(reply)));
  }
}

absl::Status StreamConnection::JudgeSilence() {
  const Clock::time_point now = Clock::now();
  uint64_t offset = 0;
  Duration silence{};
  {
    std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    if (waiting_.empty()) return absl::OkStatus();
    offset = waiting_.front().header.offset;
    silence = now - last_event_;
    const bool closing = waiting_.front().header.close;
    if (silence >= (closing ? options_.close_silence : options_.silence)) {
      return absl::DeadlineExceededError(
          fmt::format("no answer to the packet at {} for {} ms", offset,
                      std::chrono::duration_cast<std::chrono::milliseconds>(silence).count()));
    }
  }
  if (!options_.alive || silence < kQuiet || now - asked_at_ < kQuiet) return absl::OkStatus();
  const bool alive = options_.alive();
  asked_at_ = Clock::now();
  if (alive) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("the server answers nothing, the packet at {} included", offset));
}

namespace {

// What `reply` says of the packet `sent`.
absl::Status Judge(const wire::PacketHeader& sent, const wire::DataStreamReply& reply) {
  if (!reply.success) return FailureOf(reply);
  if (reply.header.upload() != sent.upload() || reply.header.type != sent.type ||
      reply.header.offset != sent.offset ||
      (sent.type == wire::PacketType::kStreamData && reply.bytes_written != sent.data_length)) {
    return absl::InternalError(fmt::format("the answer to the packet at {} says {} bytes at {}", sent.offset,
                                           reply.bytes_written, reply.header.offset));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StreamConnection::OnReplyRead(wire::DataStreamReply reply) {
  Waiting first;
  absl::Status status;
  {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) return absl::InternalError("the server answered a packet that was not sent");
    first = std::move(waiting_.front());
    waiting_.pop_front();
    last_event_ = Clock::now();
    in_flight_bytes_ -= first.header.data_length;
    // Who sees that nothing waits any more, in Drain or after its future, sees also how it ended.
    status = Judge(first.header, reply);
    if (!status.ok()) {
      if (failure_.ok()) failure_ = status;
    } else if (first.header.type == wire::PacketType::kStreamData) {
      answered_bytes_ += first.header.data_length;
    }
    changed_.notify_all();
  }
  if (first.on_reply) {
    if (status.ok()) {
      first.on_reply(std::move(reply));
    } else {
      first.on_reply(status);
    }
  }
  return status;
}

void StreamConnection::Fail(absl::Status status) {
  std::deque<Waiting> waiting;
  {
    std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = std::move(status);
    waiting.swap(waiting_);
    status = failure_;
    in_flight_bytes_ = 0;
    shutdown(socket_, SHUT_RDWR);
    changed_.notify_all();
  }
  for (Waiting& one : waiting) {
    if (one.on_reply) one.on_reply(status);
  }
}

}  // namespace sluice::client
