// What both ends of a DataStream connection share: the socket, addresses, receive memory, gathered writes.
//
//   SlabReader in(pool);
//   socket->Read(in.Space(), [&](auto error, size_t n) { Feed(in.Take(n)); });
//
//   Outbox out;
//   out.Add(packet);
//   socket->Write(out.Buffers(), [&](auto error, size_t n) { out.Sent(n); });
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

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/status.h"
#include "env/loop.h"

namespace sluice::edge::datastream {

// "host:port", "[v6]:port".
struct HostPort {
  std::string host;
  std::string port;
};
absl::StatusOr<HostPort> ParseHostPort(const std::string& address);

// What every DataStream socket and every accepted gRPC socket is set to: no delay, and probes that end it when the
// other machine is gone for kDeadAfterMs: a client that vanished must not keep its place (F-27, F-63).
inline constexpr int kDeadAfterMs = 60'000;
void Configure(asio::ip::tcp::socket& socket);

// The end of a connection, as connections and links use it: TCP, or the simulator's. Everything on one loop; at most
// one Read and one Write at a time. What is closed calls nothing with success any more.
class ByteSocket {
 public:
  using Done = absl::AnyInvocable<void(const std::error_code& error, size_t n)>;
  using Connected = absl::AnyInvocable<void(const std::error_code& error)>;
  // Packets are gathered by the outbox; what a write takes is its own affair.
  struct Range;

  virtual ~ByteSocket() = default;
  virtual void Connect(const HostPort& where, Connected done) = 0;
  // Some bytes, at least one; an error at the end of the stream, too.
  virtual void Read(asio::mutable_buffer into, Done done) = 0;
  virtual void Write(const Range& from, Done done) = 0;
  virtual void EndSending() = 0;
  virtual void Close() = 0;
};

// A sequence of buffers as asio wants it: a copy of it costs two pointers.
struct ByteSocket::Range {
  using value_type = asio::const_buffer;
  using const_iterator = const asio::const_buffer*;
  const_iterator first;
  const_iterator last;
  const_iterator begin() const { return first; }
  const_iterator end() const { return last; }
};

// To be connected, or a connection that was accepted.
std::unique_ptr<ByteSocket> NewTcpSocket(env::Loop& loop);
std::unique_ptr<ByteSocket> AcceptedTcpSocket(asio::ip::tcp::socket socket);

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
  using Range = ByteSocket::Range;

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
