// Servers for tests of clients: one that is there, and an address where nobody is.
//
//   LiveServer server;   server.address()          // whole, on its own folder, gone with it
//   ClosedPort port;     port.address()            // refuses every connection while it lives
//   SilentPort frozen;   frozen.address()          // takes every connection and says nothing, like a stopped process
//
// One thread. Only for tests: failures end the test program.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/temp_folder_for_test.h"
#include "sluice/server.h"

namespace sluice::client {

class LiveServer {
 public:
  explicit LiveServer(std::vector<ServerGroup> groups = {}, const std::string& advertise = "",
                      const std::string& listen = "127.0.0.1:0") {
    options_.listen = listen;
    options_.advertise = advertise;
    options_.data_dir = folder_.path();
    options_.groups = std::move(groups);
    Start();
    options_.listen = server_->address();
  }
  const std::string& address() const { return server_->address(); }
  void Stop() { server_->Stop(); }
  // At the same address, with the same data.
  void Start() {
    server_.reset();
    auto server = Server::Start(options_);
    SLUICE_CHECK(server.ok());
    server_ = *std::move(server);
  }

 private:
  const TempFolder folder_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

// Bound, but not listening.
class ClosedPort {
 public:
  ClosedPort() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    SLUICE_CHECK(bind(socket_, reinterpret_cast<sockaddr*>(&at), size) == 0);
    SLUICE_CHECK(getsockname(socket_, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    address_ = fmt::format("127.0.0.1:{}", ntohs(at.sin_port));
  }
  ~ClosedPort() { close(socket_); }
  ClosedPort(const ClosedPort&) = delete;
  ClosedPort& operator=(const ClosedPort&) = delete;
  const std::string& address() const { return address_; }

 protected:
  const int socket_;

 private:
  std::string address_;
};

class SilentPort : public ClosedPort {
 public:
  SilentPort() { SLUICE_CHECK(listen(socket_, 64) == 0); }
};

}  // namespace sluice::client
