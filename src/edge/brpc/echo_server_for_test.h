// A server with the behaviours that the captured conversations show, chosen by the text of the request.
//
//   EchoServer server;  RawPeer peer = RawPeer::Connect(server.port());
//
// Threading: any. Ownership: stops the server, and waits for the ends of its streams, before its readers go.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "edge/brpc/raw_peer_for_test.h"
#include "edge/brpc/watcher_for_test.h"
#include "sluice/rpc.h"
#include "sluice/stream.h"

namespace sluice::edge::brpc {

inline int WriteAll(StreamId id, const Bytes& message) {
  int result;
  while ((result = StreamWrite(id, message)) == EAGAIN) {
    if (const int waited = StreamWait(id, nullptr); waited != 0) return waited;
  }
  return result;
}

class EchoServer {
 public:
  explicit EchoServer(RpcServerOptions server_options = {})
      : server_(std::make_unique<RpcServer>(server_options)) {
    echo.on_message = [](StreamId id, const Bytes& message) { (void)WriteAll(id, message); };
    closing.on_message = [this](StreamId id, const Bytes&) {
      if (++closing_count_ == 2) StreamClose(id);
    };
    server_->SetHttpHint("streams live here\n");
    server_->AddMethod("example.EchoService", "Echo",
                       [this](Controller& controller, const Bytes& request, Bytes* response, Done done) {
                         Serve(controller, EchoText(request), response, std::move(done));
                       });
    EXPECT_TRUE(server_->Start("127.0.0.1:0").ok());
  }
  ~EchoServer() { Stop(); }
  void Stop() { server_.reset(); }
  int port() const { return server_->port(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }
  RpcServer& rpc() { return *server_; }

  Watcher echo;                 // writes every message back
  Watcher closing;              // closes after the second message
  Watcher keeps;                // only keeps
  StreamOptions options;        // of streams that are accepted; the handler is set by the request's text
  bool example_echoes = false;  // which of the two example servers it is

 private:
  void Serve(Controller& controller, const std::string& text, Bytes* response, Done done) {
    StreamOptions with = options;
    with.handler = &echo;
    std::string answer = "ok";
    StreamIds ids;
    const auto accept = [&] { return StreamAccept(ids, controller, &with) == 0; };
    if (text == "noaccept") {
      answer = "no stream for you";
    } else if (text == "fail") {
      controller.SetFailed(1, "refused by test");
    } else if (text == "minusone") {
      controller.SetFailed(-1, "without a number");
    } else if (text == "writeclose") {
      EXPECT_TRUE(accept());
      *response = Bytes::Copy(EchoMessage(answer));
      done();
      EXPECT_EQ(StreamWrite(ids.front(), Bytes::Copy("all of it")), 0);
      StreamClose(ids.front());
      return;
    } else if (text == "acceptfail") {
      EXPECT_TRUE(accept());
      controller.SetFailed(1, "accepted then failed");
    } else if (text == "acceptclose") {
      EXPECT_TRUE(accept());
      StreamClose(ids.front());
    } else if (text == "single") {  // as brpc's: no batch
      StreamId id;
      if (StreamAccept(&id, controller, &with) != 0) controller.SetFailed(2001, "no single stream");
    } else if (text == "stat") {
      answer = "0.022245 28901376";
    } else if (text == "plain") {  // with or without a stream beside it
    } else if (controller.has_remote_stream()) {
      if (text == "nohandler") with.handler = nullptr;
      if (text == "close2") with.handler = &closing;
      if (text == "early" || text == "unlimited" || text == "logslow" || text == "keep") {
        with.handler = &keeps;
      }
      if (text == "unlimited") with.max_buf_size = 0;
      if (text.starts_with("I'm a RPC")) {
        answer = "Accepted stream";
        if (!example_echoes) with.handler = &keeps;
      }
      if (!accept()) controller.SetFailed(1003, "not accepted");
      if (text == "early") {
        EXPECT_EQ(StreamWrite(ids.front(), Bytes::Copy("early-1")), 0);
      }
    }
    if (!controller.request_attachment().empty() && text == "attach") {
      controller.response_attachment() = controller.request_attachment();
    }
    *response = Bytes::Copy(EchoMessage(answer));
    done();
  }
  int closing_count_ = 0;  // of one stream: its callbacks come one at a time
  std::unique_ptr<RpcServer> server_;
};

}  // namespace sluice::edge::brpc
