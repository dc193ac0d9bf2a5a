// Streams of messages beside a call: ordered, both ways at once, with flow control by what the receiver has
// consumed. Many share one connection and none waits for another. brpc's Streaming RPC, on the wire and by
// name.
//
//   class Printer : public sluice::StreamInputHandler {                  // client
//     int on_received_messages(sluice::StreamId, sluice::Bytes* const messages[], size_t n) override;
//     void on_closed(sluice::StreamId) override;
//   };
//   sluice::Controller controller;
//   sluice::StreamId id;
//   sluice::StreamOptions options = {.handler = &printer};
//   sluice::StreamCreate(&id, controller, &options);
//   channel->Call("example.EchoService", "Echo", controller, request, &response);
//   if (controller.Failed()) ...it was not accepted, or worse...
//   while (sluice::StreamWrite(id, message) == EAGAIN) sluice::StreamWait(id, nullptr);
//   sluice::StreamClose(id);
//
//   server.AddMethod<EchoRequest, EchoResponse>("example.EchoService", "Echo",        // server
//       [&](sluice::Controller& controller, const EchoRequest&, EchoResponse* response, sluice::Done done) {
//         sluice::StreamId id;
//         const bool accepted = sluice::StreamAccept(&id, controller, &options) == 0;
//         if (!accepted) controller.SetFailed(EINVAL, "no stream came with the call");
//         done();
//       });
//
// With coroutines, see Stream below: `co_await stream.Write(message)`, `co_await stream.Read()`.
//
// Messages: any length up to the server's limit, zero too. What is longer than max_segment_size travels in
// pieces, so that streams of one connection take turns by bytes. First message: a client's handler is called
// after the opening call has returned (or its `done` callback has ended), a server's after its handler's
// `done` has run; what is written before is sent after. Threading: everything may be called from any thread.
// Callbacks of one stream come one at a time, on threads of the library; they may block. Ownership: a handler
// must live until on_closed has returned; it may be deleted there. Errors: errno values. A stream ends by
// StreamClose on either side, by a broken connection, by a peer that breaks the rules, or because its opening
// call failed; the handler is told once, on_failed (unless the end was clean) and then on_closed. There is no
// half-close: let the side that reads last close.
#pragma once

#include <time.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "sluice/rpc.h"

namespace sluice {

// One end of one stream, unique in the process and never used again.
using StreamId = uint64_t;
using StreamIds = std::vector<StreamId>;
constexpr StreamId kInvalidStreamId = ~StreamId{0};

// What a stream tells its reader.
class StreamInputHandler {
 public:
  virtual ~StreamInputHandler() = default;
  // 1 to messages_in_batch whole messages, in order. They are consumed when it returns: only then may the
  // peer send as much again. They may be moved from. The result is ignored.
  virtual int on_received_messages(StreamId id, Bytes* const messages[], size_t size) = 0;
  // No whole message was consumed for idle_timeout_ms; comes again each time that long. It ends nothing.
  virtual void on_idle_timeout(StreamId id) { (void)id; }
  // The end was not clean: errno or a number of brpc, and a line for people. on_closed follows.
  virtual void on_failed(StreamId id, int error_code, const std::string& error_text) {
    (void)id, (void)error_code, (void)error_text;
  }
  // The end, once, last; also of a stream whose opening failed.
  virtual void on_closed(StreamId id) = 0;
};

struct StreamOptions {
  // Bytes that may be written and not yet consumed by the peer; 0 or less: no limit but the connection's. A
  // message may overshoot it: a write is refused only when that much is already under way.
  int64_t max_buf_size = 2 << 20;
  // What max_buf_size shrinks to while all streams of the connection together have more than 32 MiB under
  // way.
  int64_t min_buf_size = 1 << 20;
  int64_t idle_timeout_ms = -1;           // negative: no on_idle_timeout
  size_t messages_in_batch = 128;         // most messages of one on_received_messages
  size_t max_segment_size = 64 << 10;     // bytes; 1 to 16 MiB, rounded into that
  StreamInputHandler* handler = nullptr;  // none: the peer may not write (it gets EBADF)
};

// --- Opening ---

// Client: a stream that opens with the next call made with `controller`; it may be written to at once. Null
// options are the defaults. 0, or -1 if the controller has streams already.
int StreamCreate(StreamId* id, Controller& controller, const StreamOptions* options);
// The same for `count` streams with one call, 1 to 1,024; the server accepts all or none.
int StreamCreate(StreamIds& ids, int count, Controller& controller, const StreamOptions* options);
// Server: takes the stream that came with the call, before `done`. 0, or -1 if none came, or a batch, or it
// was taken, or the connection has too many; then no handler is told anything.
int StreamAccept(StreamId* id, Controller& controller, const StreamOptions* options);
// Takes all streams of the call, in order; ids[i] is the peer's i-th.
int StreamAccept(StreamIds& ids, Controller& controller, const StreamOptions* options);

// --- Use ---

// Sends one message behind those before; 0 means queued. EAGAIN: as much is under way as there may be,
// nothing was done; EBADF: the peer has no reader; EINVAL: no such stream, or it has ended.
int StreamWrite(StreamId id, const Bytes& message);
// Waits until a write would be taken. 0, ETIMEDOUT at `due_time` (CLOCK_REALTIME; null: for ever), EINVAL if
// it has ended, ECONNRESET if it ends meanwhile.
int StreamWait(StreamId id, const timespec* due_time);
// The same with a callback, which runs exactly once, on a thread of the library.
void StreamWait(StreamId id, const timespec* due_time,
                void (*on_writable)(StreamId id, void* arg, int error_code), void* arg);
// Ends the stream; any number of times. What was written before is sent. 0.
int StreamClose(StreamId id);

// What a stream looks like from outside.
struct StreamInfo {
  StreamId id = kInvalidStreamId;
  std::string peer;       // "host:port"
  int64_t local_id = -1;  // on the wire
  int64_t remote_id = -1;
  uint64_t bytes_in = 0, bytes_out = 0;  // payload
  uint64_t messages_in = 0, messages_out = 0;
  uint64_t unconsumed_bytes = 0;  // written here and not reported as consumed
  uint64_t window_bytes = 0;      // 0: no limit
  uint64_t stalls = 0;            // writes refused for want of window
  int64_t age_ms = 0;
};
// All streams of this process, at most `most`, oldest first.
std::vector<StreamInfo> ListStreams(size_t most = 1'000);

// --- Coroutines ---

// A stream for code that reads as a conversation. It is its own reader: no handler.
//
//   sluice::StreamTask Talk(sluice::Channel* channel, Bytes request) {
//     sluice::Controller controller;
//     sluice::Stream stream = sluice::Stream::Create(controller);
//     Bytes response;
//     co_await sluice::AsyncCall(channel, "example.EchoService", "Echo", controller, request, &response);
//     if (controller.Failed()) co_return;
//     if (co_await stream.Write(Bytes::Copy("hello")) != 0) co_return;
//     while (std::optional<Bytes> message = co_await stream.Read()) ...
//   }                                                       // the stream closes with its object
//
// A coroutine goes on on a thread of the library. Write and Read may be used by one coroutine each at a time.
// A message counts as consumed when Read gives it. Moved, not copied.
class Stream {
 public:
  struct Inner;  // of the library

  Stream() = default;
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();  // Close()

  // As StreamCreate and StreamAccept; invalid (valid() is false) where those give -1. options.handler is not
  // used.
  static Stream Create(Controller& controller, StreamOptions options = {});
  static Stream Accept(Controller& controller, StreamOptions options = {});
  bool valid() const { return inner_ != nullptr; }
  StreamId id() const;
  void Close();

  // Waits for room and writes. 0, or what StreamWrite or StreamWait gave.
  struct WriteAwaiter {
    Inner* inner;
    Bytes message;
    int result = 0;
    bool await_ready();
    void await_suspend(std::coroutine_handle<> waiter);
    int await_resume();
  };
  WriteAwaiter Write(Bytes message) { return {inner_.get(), std::move(message)}; }

  // The next message; nothing after the last one.
  struct ReadAwaiter {
    Inner* inner;
    std::optional<Bytes> result;
    bool await_ready();
    bool await_suspend(std::coroutine_handle<> waiter);
    std::optional<Bytes> await_resume();
  };
  ReadAwaiter Read() { return {inner_.get(), std::nullopt}; }

  // The end: 0 if it was clean, else what on_failed would tell. Messages that nobody reads meanwhile are
  // dropped.
  struct ClosedAwaiter {
    Inner* inner;
    bool await_ready();
    bool await_suspend(std::coroutine_handle<> waiter);
    int await_resume();
  };
  ClosedAwaiter Closed() { return {inner_.get()}; }

 private:
  explicit Stream(std::shared_ptr<Inner> inner) : inner_(std::move(inner)) {}
  std::shared_ptr<Inner> inner_;  // shared with the library, which tells it what comes
};

// A coroutine that nobody waits for: it starts at once and frees itself at its end.
struct StreamTask {
  struct promise_type {
    StreamTask get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

// A call that a coroutine waits for: co_await AsyncCall(...). `controller` and `response` must outlive it.
struct AsyncCall {
  AsyncCall(Channel* channel, std::string service, std::string method, Controller& controller, Bytes request,
            Bytes* response)
      : channel_(channel),
        service_(std::move(service)),
        method_(std::move(method)),
        controller_(&controller),
        request_(std::move(request)),
        response_(response) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    channel_->Call(service_, method_, *controller_, request_, response_, [waiter] { waiter.resume(); });
  }
  void await_resume() const {}

 private:
  Channel* channel_;
  std::string service_, method_;
  Controller* controller_;
  Bytes request_;
  Bytes* response_;
};

}  // namespace sluice
