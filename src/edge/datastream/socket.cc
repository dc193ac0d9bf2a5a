#include "edge/datastream/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <optional>
#include <utility>  // before asio

#include <asio/connect.hpp>

#include "absl/strings/numbers.h"

namespace sluice::edge::datastream {

absl::StatusOr<HostPort> ParseHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return absl::InvalidArgumentError(fmt::format("address '{}': host:port expected", address));
  }
  HostPort out{address.substr(0, colon), address.substr(colon + 1)};
  if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  // A number, or the name of a service; a number that is no port would be taken modulo 65,536.
  uint32_t port = 0;
  const bool is_number = out.port.find_first_not_of("0123456789") == std::string::npos;
  if (is_number && (!absl::SimpleAtoi(out.port, &port) || port > 65'535)) {
    return absl::InvalidArgumentError(fmt::format("address '{}': there is no port {}", address, out.port));
  }
  return out;
}

void Configure(asio::ip::tcp::socket& socket) {
  using ProbeAfterSeconds = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPIDLE>;
  using ProbeEverySeconds = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPINTVL>;
  using Probes = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPCNT>;
  using UnackedMs = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_USER_TIMEOUT>;
  constexpr int kProbes = 3;
  std::error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  socket.set_option(ProbeAfterSeconds(kDeadAfterMs / 2 / 1000), ignored);
  socket.set_option(ProbeEverySeconds(kDeadAfterMs / 2 / kProbes / 1000), ignored);
  socket.set_option(Probes(kProbes), ignored);
  socket.set_option(UnackedMs(kDeadAfterMs), ignored);  // probes wait while bytes are unacknowledged
}

namespace {

class TcpSocket final : public ByteSocket {
 public:
  using tcp = asio::ip::tcp;
  explicit TcpSocket(env::Loop& loop) : resolver_(std::in_place, loop.context()), socket_(loop.context()) {}
  explicit TcpSocket(tcp::socket accepted) : socket_(std::move(accepted)) {
    std::error_code ignored;
    Configure(socket_);
    socket_.non_blocking(true, ignored);
  }

  void Connect(const HostPort& where, Connected done) override {
    auto tried = [this, done = std::move(done)](const std::error_code& error, const auto& found) mutable {
      if (error) return done(error);
      asio::async_connect(socket_, found,
                          [this, done = std::move(done)](const std::error_code& failed, const auto&) mutable {
                            if (!failed) Configure(socket_);
                            done(failed);
                          });
    };
    resolver_->async_resolve(where.host, where.port, std::move(tried));
  }
  void Read(asio::mutable_buffer into, Done done) override { socket_.async_read_some(into, std::move(done)); }
  void Write(const Range& from, Done done) override { socket_.async_write_some(from, std::move(done)); }
  void EndSending() override {
    std::error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }
  void Close() override {
    if (resolver_) resolver_->cancel();
    std::error_code ignored;
    socket_.close(ignored);
  }

 private:
  std::optional<tcp::resolver> resolver_;
  tcp::socket socket_;
};

}  // namespace

std::unique_ptr<ByteSocket> NewTcpSocket(env::Loop& loop) { return std::make_unique<TcpSocket>(loop); }
std::unique_ptr<ByteSocket> AcceptedTcpSocket(asio::ip::tcp::socket socket) {
  return std::make_unique<TcpSocket>(std::move(socket));
}

std::shared_ptr<char[]> SlabPool::Take() {
  std::unique_ptr<char[]> slab;
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      slab = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  if (slab == nullptr) slab.reset(new char[kSlabBytes]);
  return {slab.release(), [pool = shared_from_this()](char* memory) {
            std::unique_ptr<char[]> back(memory);
            std::lock_guard lock(pool->mutex_);
            if (pool->spare_.size() < kSpareMax) pool->spare_.push_back(std::move(back));
          }};
}

asio::mutable_buffer SlabReader::Space() {
  constexpr size_t kRoomMin = 64 << 10;
  if (slab_ != nullptr && slab_.use_count() == 1) filled_ = 0;
  if (slab_ == nullptr || SlabPool::kSlabBytes - filled_ < kRoomMin) {
    slab_ = pool_->Take();
    filled_ = 0;
  }
  return {slab_.get() + filled_, SlabPool::kSlabBytes - filled_};
}

Bytes SlabReader::Take(size_t n) {
  constexpr size_t kCopyBelow = 512;
  const char* data = slab_.get() + filled_;
  if (n < kCopyBelow) return Bytes::Copy({data, n});
  filled_ += n;
  return Bytes::Wrap(data, n, [slab = slab_] {});
}

void Outbox::Add(Bytes packet) {
  if (packet.empty()) return;
  bytes_ += packet.size();
  queue_.push_back(std::move(packet));
}

Outbox::Range Outbox::Buffers() {
  if (next_ == buffers_.size()) {
    buffers_.clear();
    held_.clear();
    next_ = 0;
    while (!queue_.empty() && held_.size() < kBuffersMax) {
      held_.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    // Only now: a small cord lives inside its holder, which moved while the vector grew.
    for (const Bytes& packet : held_) {
      packet.ForEachChunk([&](std::string_view chunk) { buffers_.emplace_back(chunk.data(), chunk.size()); });
    }
  }
  return {buffers_.data() + next_, buffers_.data() + std::min(buffers_.size(), next_ + kBuffersMax)};
}

void Outbox::Sent(size_t n) {
  bytes_ -= n;
  while (n > 0) {
    asio::const_buffer& first = buffers_[next_];
    if (n < first.size()) {
      first += n;
      return;
    }
    n -= first.size();
    ++next_;
  }
}

}  // namespace sluice::edge::datastream
