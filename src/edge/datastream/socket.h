// What both ends of a DataStream connection share: addresses, receive memory, gathered writes.
//
//   SlabReader in(pool);
//   socket.async_read_some(in.Space(), [&](auto error, size_t n) { Feed(in.Take(n)); });
//
//   Outbox out;
//   out.Add(packet);
//   socket.async_write_some(out.Buffers(), [&](auto error, size_t n) { out.Sent(n); });
//
// Threading: a SlabPool may be used by any thread; the rest by the connection's loop. What is read is passed
// on by reference to its slab, which returns to the pool when the last byte of it is dropped.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>  // before asio
#include <vector>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>

#include "base/bytes.h"
#include "base/status.h"

namespace sluice::edge::datastream {

// "host:port", "[v6]:port".
struct HostPort {
  std::string host;
  std::string port;
};
absl::StatusOr<HostPort> ParseHostPort(const std::string& address);

// What every DataStream socket is set to: no delay, and probes that end it when the other machine is gone for
// kDeadAfterMs: a client that vanished must not keep its place (F-27, F-63).
inline constexpr int kDeadAfterMs = 60'000;
void Configure(asio::ip::tcp::socket& socket);

// Receive memory, recycled because fresh pages cost more than the copy into them.
class SlabPool : public std::enable_shared_from_this<SlabPool> {
 public:
  static constexpr size_t kSlabBytes = 256 << 10;
  static constexpr size_t kSpareMax = 64;  // 16 MiB

  std::shared_ptr<char[]> Take();

 private:
  std::mutex mutex_;  // slabs come back from the threads that wrote them to disk
  std::vector<std::unique_ptr<char[]>> spare_;
};

// Fills slabs one after another. Little arrivals share a slab, because one referenced byte pins it whole.
class SlabReader {
 public:
  explicit SlabReader(std::shared_ptr<SlabPool> pool) : pool_(std::move(pool)) {}
  asio::mutable_buffer Space();
  // The first n bytes of the last Space().
  Bytes Take(size_t n);

 private:
  const std::shared_ptr<SlabPool> pool_;  // shared: slabs outlive connections
  std::shared_ptr<char[]> slab_;          // shared with the bytes that were taken from it
  size_t filled_ = 0;
};

// Packets on their way out, handed to the socket many at once.
class Outbox {
 public:
  // A sequence of buffers as asio wants it: a copy of it costs two pointers.
  struct Range {
    using value_type = asio::const_buffer;
    using const_iterator = const asio::const_buffer*;
    const_iterator first;
    const_iterator last;
    const_iterator begin() const { return first; }
    const_iterator end() const { return last; }
  };

  void Add(Bytes packet);
  bool empty() const { return bytes_ == 0; }
  size_t bytes() const { return bytes_; }
  // What to write next; valid until Sent.
  Range Buffers();
  void Sent(size_t n);

 private:
  static constexpr size_t kBuffersMax = 64;  // what one call of asio takes

  std::deque<Bytes> queue_;
  std::vector<Bytes> held_;  // what buffers_ points into
  std::vector<asio::const_buffer> buffers_;
  size_t next_ = 0;  // first buffer that is not sent whole
  size_t bytes_ = 0;
};

}  // namespace sluice::edge::datastream
