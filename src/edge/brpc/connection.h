// One baidu_std connection on a socket: calls and streams, either side.
//
//   auto connection = std::make_shared<Connection>(crew, std::move(socket), options, &server);
//   connection->Start();                                   // server side: requests go to `server`
//   connection->Start();  connection->StartCall(call);     // client side
//
// What arrives is read, parsed and handed to handlers on one thread of the crew, without a switch of threads;
// what is written leaves from whoever comes first: the thread that handled what arrived, when it is done with
// all of it; another thread at once if the connection is quiet;
// else the loop, with everything that has gathered.
//
// Threading: any thread, except Start. Ownership: shared by its socket's operations, its streams, its calls
// and its owner. Bounds: those of wire::brpc::StreamsOptions; calls under way. Failure: a broken connection
// ends its calls and streams with a code and goes; nothing is retried.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <asio/ip/tcp.hpp>

#include "absl/container/flat_hash_map.h"
#include "edge/brpc/client_call.h"
#include "edge/brpc/stream_end.h"
#include "edge/datastream/socket.h"
#include "env/crew.h"
#include "wire/brpc/frame.h"
#include "wire/brpc/meta.h"
#include "wire/brpc/streams.h"

namespace sluice::edge::brpc {

struct ConnectionOptions {
  wire::brpc::StreamsOptions streams;
  wire::brpc::FrameLimits frames;
  uint64_t body_bytes_max = 64 << 20;  // of a call, unpacked
  int64_t stall_timeout_ms = 60'000;
};

// What goes back for a request.
struct RequestAnswer {
  wire::brpc::RpcMeta meta;
  Bytes message;
  Bytes attachment;
  CompressType compress = CompressType::kNone;
  bool checksum = false;
  std::vector<int64_t> remote_ids;  // of the streams that the caller opens; empty: none
  bool peer_readable = false;       // their settings
  bool peer_wants_feedback = false;
  std::vector<std::shared_ptr<StreamEnd>> ends;  // that were accepted, in the same order; empty: none
};

// Who answers requests.
class Connection;

class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  // On a thread of the crew, inside Crew::Foreign; may block.
  virtual void OnRequest(const std::shared_ptr<Connection>& connection, wire::brpc::CallFrame frame) = 0;
  // The peer has sent a whole frame. Under the connection's lock.
  virtual void OnFirstFrame(const Connection& connection) = 0;
  // The connection is gone; nothing more comes from it.
  virtual void OnGone(const std::shared_ptr<Connection>& connection) = 0;
  // What a peer that does not speak the protocol is told before it is cut; empty: nothing.
  virtual std::string Hint(std::string_view first_bytes) = 0;
};

// What the kernel may have of a connection's bytes without having sent them: above the one nothing more is
// written, below the other it goes on.
constexpr int kUnsentHighBytes = 128 << 10;
constexpr int kUnsentLowBytes = 64 << 10;

class EventScope;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(env::Crew* crew, asio::ip::tcp::socket socket, ConnectionOptions options,
             RequestHandler* handler);
  ~Connection();

  // On the crew's loop, or before anything else knows the connection.
  void Start();
  // Ends it: calls and streams fail with this. Their readers are told on the calling thread or another.
  void Lose(int code, const std::string& text);
  // The same, and waits until every reader and caller was told.
  // Not on a thread of the crew: there it does not wait.
  void LoseAndWait(int code, const std::string& text);
  bool lost() const { return lost_.load(); }

  // --- Client ---
  // Sends the request with its streams. False if the connection is lost: the call was not sent.
  bool StartCall(const std::shared_ptr<ClientCall>& call);
  // Ends the call with this error, if it is still under way.
  void FailCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text);

  // --- Server ---
  // Makes the streams known, so that they can be written to. False if there are too many.
  bool Attach(const std::vector<std::shared_ptr<StreamEnd>>& ends);
  // Sends an answer: with streams wrapped, and in front of what was written to them.
  void Answer(RequestAnswer answer);

  // --- Streams ---
  wire::brpc::Streams::Written Write(StreamEnd* end, const Bytes& message);
  void CloseStream(StreamEnd* end);
  void FailStream(StreamEnd* end, int code, const std::string& text);
  void Credit(StreamEnd* end, uint64_t bytes);
  // The opening calls of these streams are over.
  void Release(const std::vector<std::shared_ptr<StreamEnd>>& ends);

  const std::string& peer() const { return peer_; }
  // Into an answer: the code, and the text behind our own address and the code.
  void SetError(int code, const std::string& text, wire::brpc::RpcMeta* meta) const;
  env::Crew* crew() const { return crew_; }
  std::mutex& mutex() { return mutex_; }
  // Under mutex(): as Streams::HasRoom.
  bool HasRoom(StreamEnd* end);
  wire::brpc::Streams& streams() { return streams_; }  // under mutex()
  bool has_streams() {
    std::lock_guard lock(mutex_);
    return streams_.size() > 0;
  }

 private:
  friend class EventScope;
  using StreamEnds = std::vector<std::shared_ptr<StreamEnd>>;
  // Reused from one handler's turn to the next.
  struct Delivery {
    std::vector<Bytes> messages;
    std::vector<Bytes*> pointers;
    size_t batches = 0;
    bool read_on = false;
  };

  // --- Reading, on the loop ---
  void ArmRead();
  void OnReadable();

  // --- Under the lock ---
  bool MustPauseReading();
  absl::Status TakeFrames();
  absl::Status TakeCall(wire::brpc::FrameEvent event);
  void TakeOpening(wire::brpc::OpeningAnswer answer);
  void TakeAnswer(const std::shared_ptr<ClientCall>& call, wire::brpc::CallFrame frame, bool wrapped);
  void EndCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text);
  std::shared_ptr<ClientCall> CallOf(const wire::brpc::StreamState* stream);
  // An error if the call must not be sent; its streams are attached otherwise.
  std::pair<int, std::string> WhyNotToStart(const ClientCall& call);
  bool AttachLocked(const StreamEnds& ends);
  void FillSettings(const StreamEnds& ends, wire::brpc::RpcMeta* meta) const;
  void EnterLost(int code, const std::string& text);
  void FailUnanswered();
  // The opening call of a stream that ends here before it was answered.
  void FailCallOf(StreamEnd* end);
  // Read on if that was paused and need not be any more.
  bool MayReadOn();
  void SendHint();
  void SetIdleTimer(StreamEnd* end);
  void SetBudgetTick();
  // A CLOSE waits for a sign of the peer.
  void SetCloseTick();
  // Somebody waits for room in this stream.
  void OnFull(StreamEnd* end);

  // --- Code of others: requests, finished calls, messages, ends; and those who wait ---
  void RunUserCode();
  void RunPosted(bool* flag);
  bool WakeOne();
  void RunOne(EventScope& scope);
  void Deliver(EventScope& scope, StreamEnd* end, Delivery* delivery);
  // On this thread if it is at it anyway, else on the loop.
  void RunUserCodeSoon();
  void PostUserCodeLocked();
  // Another thread has the loop now: it does what this one would do next.
  void LeaveWorkToOthers();
  void OnIdleTimer(const std::shared_ptr<StreamEnd>& end);
  void TellIdle(const std::shared_ptr<StreamEnd>& end);

  // --- Writing ---
  enum class FlushBy : uint8_t {
    kNobody,  // there is nothing, or somebody is at it
    kScope,   // the scope of this thread, at its end
    kHere,
    kLoop
  };
  FlushBy WhoFlushes();  // under the lock
  void FlushAs(FlushBy by);
  // After something was queued, without the lock: sees to it that it leaves.
  void Kick();
  void PostFlush();
  void FlushPosted();
  void Flush(size_t bytes_max);
  // One gathered write of what is left of output_. False when nothing more should be written now.
  bool SendSome(size_t* all_bytes, int* error);
  void ArmWrite();

  void SetTick();
  void OnTick();
  void CloseSocket();
  bool Worked() const;  // with the lock: no code of others runs, or is still to run
  void TellGone();

  env::Crew* const crew_;
  const ConnectionOptions options_;
  RequestHandler* const handler_;  // null: a client
  const std::string peer_;
  const std::string self_;
  std::optional<asio::ip::tcp::socket> socket_;  // used on the loop only
  const int fd_;
  std::atomic<bool> lost_{false};
  env::TimerId tick_ = env::TimerId::kNone;

  // Read side, on the loop.
  wire::brpc::FrameReader reader_;
  const std::shared_ptr<datastream::SlabPool> slabs_;  // shared: slabs outlive connections
  std::shared_ptr<char[]> slab_;                       // shared with the bytes that were taken from it
  size_t slab_filled_ = 0;

  // Write side: of whoever has flushing_.
  wire::brpc::Output output_;
  size_t next_piece_ = 0;    // first piece of output_ that is not sent whole
  size_t piece_offset_ = 0;  // sent bytes of it

  std::mutex mutex_;  // guards the rest
  wire::brpc::Streams streams_;
  absl::flat_hash_map<int64_t, std::shared_ptr<ClientCall>> calls_;  // shared with the channel that waits
  int64_t last_correlation_ = 0;
  std::deque<wire::brpc::CallFrame> requests_;        // for the handler
  std::deque<std::shared_ptr<ClientCall>> finished_;  // for who called
  bool seen_frame_ = false;
  bool flushing_ = false;
  bool close_when_flushed_ = false;
  bool socket_closed_ = false;
  bool gone_told_ = false;
  bool blocked_ = false;       // the socket takes nothing now
  bool flush_posted_ = false;  // the loop, or a scope, is going to flush
  bool user_code_posted_ = false;
  bool user_code_postponed_ = false;  // until the crew is not full
  bool read_paused_ = false;
  bool budget_ticking_ = false;
  bool close_ticking_ = false;
  uint32_t workers_ = 0;            // threads in RunUserCode
  std::condition_variable worked_;  // one of them came back after the end
  std::chrono::steady_clock::time_point last_direct_{};
  std::chrono::steady_clock::time_point blocked_since_{};
  std::chrono::steady_clock::time_point last_read_{};
};

// A stretch of a crew's thread that handles what arrived. Connections written to meanwhile are flushed at its
// end, or when another thread takes the loop over because a handler blocks.
class EventScope {
 public:
  explicit EventScope(std::shared_ptr<Connection> connection);
  ~EventScope();
  EventScope(const EventScope&) = delete;
  EventScope& operator=(const EventScope&) = delete;

  // The scope of this thread.
  static EventScope* Current();
  // False once the loop has gone on elsewhere.
  bool active() {
    std::lock_guard lock(mutex_);
    return active_;
  }
  // The same answer.
  bool Add(const std::shared_ptr<Connection>& connection);

  // Runs code of others, which may block.
  template <typename Code>
  void Run(Code code) {
    env::Crew::Foreign foreign(connection_->crew(), &on_taken_over_);
    code();
  }

 private:
  void OnTakenOver();
  void FlushAll();

  const std::shared_ptr<Connection> connection_;  // shared: its handlers may drop it
  EventScope* const outer_;
  absl::AnyInvocable<void()> on_taken_over_;
  std::mutex mutex_;  // guards the rest
  bool active_ = true;
  std::vector<std::shared_ptr<Connection>> dirty_;
};

}  // namespace sluice::edge::brpc
