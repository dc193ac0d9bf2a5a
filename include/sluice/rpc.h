// Calls by name, and the connections and servers that streams need: baidu_std, brpc's own protocol.
//
//   sluice::RpcServer server;                                            // server
//   server.AddMethod<EchoRequest, EchoResponse>("example.EchoService", "Echo",
//       [](sluice::Controller&, const EchoRequest& request, EchoResponse* response, sluice::Done done) {
//         response->set_message(request.message());
//         done();
//       });
//   absl::Status listening = server.Start("0.0.0.0:8001");
//
//   auto channel = *sluice::Channel::Create("host:8001");                // client
//   sluice::Controller controller;
//   EchoRequest request;
//   EchoResponse response;
//   channel->Call("example.EchoService", "Echo", controller, request, &response);
//   if (controller.Failed()) ...controller.ErrorText()...
//
// Bodies are protobuf messages, or bytes that you encode yourself. Streams open beside a call:
// sluice/stream.h. Threading: a Channel and a started RpcServer may be used from any thread; a Controller by
// one at a time. Handlers and `done` callbacks run on threads of the library and may block: others then go on
// elsewhere. Ownership: a call's controller, response and callback must live until the call is over;
// destroying a Channel fails its calls and streams, and waits for callbacks that run. Errors: numbers as brpc
// gives them (errno values, 1001 no such service, 1003 bad request, 1008 timed out, 1009 connection broken,
// 1014 closed by the peer, 2001 failed, 2003 stopping, 2004 too many calls). From: Apache brpc 1.17's
// Channel, Controller and Server; unchanged on the wire.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/status.h"

namespace sluice {

enum class CompressType : uint8_t { kNone = 0, kSnappy = 1, kGzip = 2, kZlib = 3 };

// Told once, from any thread.
using Done = std::function<void()>;

// What goes with one call: on the client settings before it and the outcome after it, on the server what came
// with the request and what goes back.
class Controller {
 public:
  Controller();
  ~Controller();
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  // --- Client, before the call ---
  // Milliseconds for the whole call, connecting included; 0: the channel's; negative: none. Streams have no
  // deadline.
  void set_timeout_ms(int64_t timeout_ms);
  void set_request_compress_type(CompressType type);
  void set_request_checksum(bool crc32c);
  void set_log_id(int64_t log_id);
  Bytes& request_attachment();  // rides behind the message, as it is; the server reads it here too
  std::map<std::string, std::string>& request_user_fields();

  // --- Server, before `done` ---
  void set_response_compress_type(CompressType type);
  void set_response_checksum(bool crc32c);
  int64_t log_id() const;
  // True if the client opens a stream with this call: StreamAccept may be used.
  bool has_remote_stream() const;

  // --- Both ---
  Bytes& response_attachment();
  std::map<std::string, std::string>& response_user_fields();
  // Server: the call is answered with this error (-1: 2001); its address and the number go in front of the
  // text. Client: set by the library.
  void SetFailed(int code, std::string text);
  bool Failed() const;
  int ErrorCode() const;  // 0 after success
  const std::string& ErrorText() const;
  std::string remote_side() const;  // "host:port" of the other end
  int64_t latency_us() const;       // client: how long the call took
  // As new, for the next call.
  void Reset();

  struct Inner;  // of the library
  Inner& inner() { return *inner_; }

 private:
  std::unique_ptr<Inner> inner_;
};

struct ChannelOptions {
  int64_t timeout_ms = 500;            // of a call whose controller says nothing; negative: none
  int64_t connect_timeout_ms = 200;    // of the connection, within the call's
  uint64_t body_bytes_max = 64 << 20;  // a longer request fails its call with 1003, a longer answer with 2002
};

// Calls to one server over one connection, made when it is needed and made again after it broke. A call is
// sent once: nothing is retried, so that nothing happens twice.
class Channel {
 public:
  // INVALID_ARGUMENT unless `server` is "host:port". Does not connect.
  static absl::StatusOr<std::unique_ptr<Channel>> Create(const std::string& server,
                                                         ChannelOptions options = {});
  virtual ~Channel() = default;

  // Without `done` it waits for the answer; with it, it returns at once and `done` runs when the answer is
  // there.
  virtual void Call(const std::string& service, const std::string& method, Controller& controller,
                    const Bytes& request, Bytes* response, Done done = nullptr) = 0;

  // The same for protobuf messages, which must live until the call is over.
  template <typename Request, typename Response>
  void Call(const std::string& service, const std::string& method, Controller& controller,
            const Request& request, Response* response, Done done = nullptr) {
    auto raw = std::make_shared<Bytes>();
    const auto parse = [&controller, response, raw] {
      if (!controller.Failed() && !response->ParseFromString(raw->ToString())) {
        controller.SetFailed(2002, "the answer is no message of the expected type");
      }
    };
    Bytes packed = Bytes::Take(request.SerializeAsString());
    if (!done) {
      Call(service, method, controller, packed, raw.get());
      return parse();
    }
    Call(service, method, controller, packed, raw.get(), [parse, done = std::move(done)] {
      parse();
      done();
    });
  }
};

struct RpcServerOptions {
  uint32_t loops = 2;                 // connections are spread over as many event loops
  uint32_t threads_max = 64;          // of each loop, for handlers that block; 1,024 more may StreamWait
  uint32_t connections_max = 10'000;  // beyond it new ones are closed
  uint32_t half_open_max = 1'024;     // of one address, that have not sent a whole frame; beyond it closed
  uint32_t calls_max = 10'000;        // under way in the whole server; beyond it 2004
  uint32_t streams_per_call_max = 1'024;         // of one batch; beyond it 1003
  uint32_t streams_per_connection_max = 65'536;  // beyond it 1003
  // A longer frame fails its stream or ends its connection; a longer answer becomes error 2002.
  uint64_t frame_bytes_max = 64 << 20;
  uint64_t message_bytes_max = 128 << 20;   // of a stream; a longer one fails it
  uint64_t received_bytes_max = 128 << 20;  // arrived and not consumed, of one connection
  uint64_t unsent_bytes_max = 64 << 20;     // written and not sent, of one connection
  // A peer that takes nothing, or sends half a frame, for so long is dropped.
  int64_t stall_timeout_ms = 60'000;
};

// Serves methods by name.
class RpcServer {
 public:
  // Answers one request; `done` is called once, from any thread, and ends the use of the other three. If all
  // copies of it go without a call, the request is answered with 2001.
  using Method =
      std::function<void(Controller& controller, const Bytes& request, Bytes* response, Done done)>;

  explicit RpcServer(RpcServerOptions options = {});
  ~RpcServer();  // Stop()
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  // Before Start. `service` is the full name, "package.Service".
  void AddMethod(const std::string& service, const std::string& method, Method handler);

  // The same for protobuf messages. A body that is no Request is answered with 1003.
  template <typename Request, typename Response, typename Handler>
  void AddMethod(const std::string& service, const std::string& method, Handler handler) {
    AddMethod(
        service, method,
        [handler = std::move(handler)](Controller& controller, const Bytes& raw, Bytes* packed, Done done) {
          struct Call {
            Request request;
            Response response;
          };
          auto call = std::make_shared<Call>();
          if (!call->request.ParseFromString(raw.ToString())) {
            controller.SetFailed(1003, "the request is no message of the expected type");
            return done();
          }
          handler(controller, call->request, &call->response, [call, packed, done = std::move(done)] {
            *packed = Bytes::Take(call->response.SerializeAsString());
            done();
          });
        });
  }

  // What a browser that meets this port is told, as plain text. Before Start.
  void SetHttpHint(std::string text);
  // Listens on "host:port"; port 0 takes a free one. UNAVAILABLE names the address that cannot be had.
  absl::Status Start(const std::string& address);
  int port() const;
  // No new connections; new calls get 2003; open streams go on.
  void Drain();
  // Ends connections and their streams (on_failed, on_closed), and waits for handlers that run and for every
  // `done` that has not been called. Once; not from a handler.
  void Stop();

 private:
  struct Inner;
  std::unique_ptr<Inner> inner_;
};

}  // namespace sluice
