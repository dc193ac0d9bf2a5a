// One accepted DataStream connection: packets in, pieces to relays, replies out in the order of each stream.
//
//   auto connection = std::make_shared<Connection>(context, &lane, std::move(socket), address);
//   connection->Start([&](auto& ended) { connections.erase(ended); });
//
// Threading: everything on its lane. Ownership: kept alive by whoever started it, until `ended`. Failure: see
// server.h. A stream belongs to the connection that opened it (F-70); when the connection ends, its relays
// are dropped and their stages wait for their time-to-live.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/hash/hash.h"
#include "base/metrics.h"
#include "edge/datastream/socket.h"
#include "env/clock.h"
#include "env/executor.h"
#include "node/host.h"
#include "wire/datastream.h"

namespace sluice::edge::datastream {

struct DataStreamOptions {
  std::string listen;
  uint32_t connections_max = 1024;
  uint32_t half_open_per_address_max = 64;  // connections of one address that have not said anything whole
  size_t streams_max = 1024;                // per connection
  uint64_t connection_window_bytes = 32u << 20;  // unanswered, per connection
  uint64_t replies_bytes_max = 1u << 20;         // waiting for a reader that does not read
  uint32_t first_packet_ms = 60'000;             // a new connection must say something whole by then
  uint32_t stall_ms = 60'000;                    // half a packet, or an unread reply, may take so long
  uint32_t linger_ms = 2'000;                    // for the sender to read why it was cut off
  uint32_t idle_ms = 600'000;                    // a connection without a stream is closed after this
  wire::DataStreamLimits limits = {};
};

// What the connections of one server share. Thread-safe.
struct ConnectionContext {
  ConnectionContext(node::Host* the_host, DataStreamOptions the_options,
                    const env::Clock* the_clock = &env::RealClock())
      : host(the_host), options(std::move(the_options)), clock(the_clock) {}

  // Before a connection is made for a socket from `address`; an error if there are too many.
  absl::Status Admit(const std::string& address) {
    std::lock_guard lock(mutex);
    if (connections >= options.connections_max)
      return absl::ResourceExhaustedError(fmt::format("{} connections are open, the limit", connections));
    uint32_t& silent = half_open[address];
    if (silent >= options.half_open_per_address_max) {
      return absl::ResourceExhaustedError(
          fmt::format("{} connections of {} have not said anything, the limit", silent, address));
    }
    ++silent;
    ++connections;
    open_gauge.Increment();
    return absl::OkStatus();
  }
  // An admitted connection said something whole, or ends without.
  void NoLongerHalfOpen(const std::string& address) {
    std::lock_guard lock(mutex);
    const auto at = half_open.find(address);
    if (--at->second == 0) half_open.erase(at);
  }
  void Ended() {
    std::lock_guard lock(mutex);
    --connections;
    open_gauge.Decrement();
  }

  // False if a live connection has this stream (F-70). To take over is to have it nevertheless: the relay of
  // the other connection is fenced by the host.
  bool Claim(const UploadId& id, const void* owner, bool take_over) {
    std::lock_guard lock(mutex);
    if (take_over) return claimed.insert_or_assign(id, owner), true;
    return claimed.emplace(id, owner).second;
  }
  void Release(const UploadId& id, const void* owner) {
    std::lock_guard lock(mutex);
    if (const auto at = claimed.find(id); at != claimed.end() && at->second == owner) claimed.erase(at);
  }

  node::Host* const host;
  const DataStreamOptions options;
  const env::Clock* const clock;
  const std::shared_ptr<SlabPool> slabs = std::make_shared<SlabPool>();  // slabs outlive the server
  Gauge& open_gauge = NewGauge("sluice_datastream_connections", "DataStream connections that are open");
  Counter& refused_counter = NewCounter("sluice_datastream_connections_refused_total",
                                        "DataStream connections beyond a limit, closed at once");
  std::mutex mutex;  // lanes share what follows
  size_t connections = 0;
  std::unordered_map<std::string, uint32_t> half_open;                      // by address
  std::unordered_map<UploadId, const void*, absl::Hash<UploadId>> claimed;  // by whom
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Ended = absl::AnyInvocable<void(const std::shared_ptr<Connection>&)>;

  // `address` was admitted by the context.
  Connection(std::shared_ptr<ConnectionContext> context, env::Executor* lane,
             std::unique_ptr<ByteSocket> socket, std::string address);
  ~Connection();

  void Start(Ended ended);
  void Close();

 private:
  struct Packet {
    wire::PacketHeader header;
    size_t pending = 0;  // answers that the relay owes, and one while its data arrive
    uint64_t written = 0;
    absl::Status status;
    std::optional<blob::Sealed> held;  // the answer to a CLOSE of another server
  };
  struct Stream {
    GroupId group;
    std::shared_ptr<node::Relay> relay;  // shared with the host
    std::deque<Packet> unanswered;       // in order of arrival
    uint64_t next = 0;                   // where the next piece belongs
    uint64_t window_used = 0;
    bool closed = false;
    bool of_server = false;  // another server passes it on
    absl::Status failure;
    env::Instant last_use{};
  };
  using StreamPtr = std::shared_ptr<Stream>;  // shared with answers that are due

  void Read();
  void OnRead(const std::error_code& error, size_t n);
  // Takes what was decoded, until the window is full.
  void Process();
  bool WindowFull() const;
  void Handle(wire::RequestEvent event);
  void OnHeader(const wire::RequestEvent& event);
  static absl::AnyInvocable<void(absl::Status)> SayLength(const StreamPtr& stream, Packet* packet,
                                                          absl::AnyInvocable<void(absl::Status)> opened);
  void OnPacket(const wire::RequestEvent& event);
  void OnPiece(wire::RequestEvent event);
  void AppendPiece(const wire::RequestEvent& event, Packet* packet);
  void EndPacket(const wire::RequestEvent& event, Packet* packet);
  void Answered(const StreamPtr& stream, Packet* packet, uint64_t charge, absl::Status status);
  void Settle(const StreamPtr& stream);
  void Forget(const UploadId& id);
  void Reply(const Packet& packet, const GroupId& group);
  void Fail(const wire::PacketHeader& packet, const GroupId& group, const absl::Status& status);
  void Write();
  void OnBroken(const absl::Status& why);
  void Watch();
  void Log(std::string_view what);
  GroupId AnyGroup() const;
  // A callback of a relay that finds this connection again, if it is still there.
  auto AnswerFor(Packet* packet, uint64_t charge);

  env::Instant Now() const { return context_->clock->MonotonicNow(); }

  const std::shared_ptr<ConnectionContext> context_;
  env::Executor* const lane_;
  const uint64_t window_bytes_;
  const std::string address_;  // of the other end
  const std::unique_ptr<ByteSocket> socket_;
  SlabReader in_;
  wire::RequestDecoder decoder_;
  Outbox out_;
  std::unordered_map<UploadId, StreamPtr, absl::Hash<UploadId>> streams_;
  StreamPtr current_;  // whose packet is arriving; null: its data are dropped
  Packet* current_packet_ = nullptr;
  uint64_t window_used_ = 0;
  Ended ended_;
  env::TimerId watch_ = env::TimerId::kNone;
  env::Instant started_{};
  env::Instant last_read_{};
  env::Instant last_write_{};
  env::Instant last_log_{};
  env::Instant idle_since_{};  // while there is no stream
  bool greeted_ = false;       // a whole packet has come
  bool reading_ = false;
  bool processing_ = false;
  bool writing_ = false;
  bool broken_ = false;  // framing lost: the rest is dropped
  bool closed_ = false;
};

}  // namespace sluice::edge::datastream
