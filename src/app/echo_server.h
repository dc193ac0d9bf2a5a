// The service that `sluice bench stream-server` runs and that the stream benches load: example.EchoService.
//
//   auto server = EchoServer::Start("127.0.0.1:0");   (*server)->port();   // stops with its object
//
// Method Echo, by its request's text: `sink:<n>` with streams: counts n payload bytes of each and then writes
// one message `D` on it; `echo` with streams: writes every message back; `stat`: answers `<CPU seconds of
// this process> <resident bytes>`; any other text without a stream comes back. Any thread. Errors:
// UNAVAILABLE names the address that cannot be had.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "sluice/rpc.h"

namespace sluice::app {

class EchoServer {
 public:
  static absl::StatusOr<std::unique_ptr<EchoServer>> Start(const std::string& address);
  int port() const { return server_.port(); }

 private:
  explicit EchoServer(const RpcServerOptions& options) : server_(options) {}
  RpcServer server_;
};

}  // namespace sluice::app
