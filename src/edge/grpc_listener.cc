#include "edge/grpc_listener.h"

#include <fcntl.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <future>

#include "base/log.h"
#include "edge/datastream/socket.h"
#include "env/descriptors.h"

namespace sluice::edge {
namespace {

constexpr env::Duration kAcceptRetry = std::chrono::milliseconds(100);

// Runs `work` on the loop and waits for it.
template <typename Work>
void RunOn(env::Loop& loop, Work work) {
  std::promise<void> done;
  loop.Post([&] {
    work();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace

GrpcListener::GrpcListener(env::Loop& loop) : loop_(loop) {}

GrpcListener::~GrpcListener() { Stop(); }

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Bind(env::Loop& loop,
                                                                 const std::string& address) {
  ASSIGN_OR_RETURN(const datastream::HostPort where, datastream::ParseHostPort(address));
  std::unique_ptr<GrpcListener> listener(new GrpcListener(loop));
  std::error_code error;
  RunOn(loop, [&] { error = listener->BindAll(where.host, where.port); });
  if (!error) return listener;
  return absl::UnavailableError(
      fmt::format("cannot listen on {}: {}", address,
                  error == asio::error::address_in_use
                      ? "the port is in use"
                      : fmt::format("{}; is the address of this machine?", error.message())));
}

// A name may stand for several addresses: the first one must be had, and decides about port 0.
std::error_code GrpcListener::BindAll(const std::string& host, const std::string& port) {
  std::error_code error;
  Tcp::resolver resolver(loop_.context());
  const auto found = resolver.resolve(host, port, Tcp::resolver::passive, error);
  if (error) return error;
  for (const auto& each : found) {
    Tcp::endpoint endpoint = each.endpoint();
    if (port_ != 0) endpoint.port(static_cast<uint16_t>(port_));
    auto acceptor = std::make_unique<Tcp::acceptor>(loop_.context());
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (error && acceptors_.empty()) return error;
    if (error) continue;
    if (port_ == 0) port_ = acceptor->local_endpoint(error).port();
    acceptors_.push_back(std::move(acceptor));
  }
  return acceptors_.empty() ? asio::error::host_not_found : std::error_code();
}

void GrpcListener::Attach(grpc::ServerBuilder& builder) {
  grpc_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
}

void GrpcListener::Start() {
  RunOn(loop_, [&] {
    for (size_t i = 0; i < acceptors_.size(); ++i) Accept(i);
  });
}

void GrpcListener::Stop() {
  if (acceptors_.empty()) return;
  RunOn(loop_, [&] {
    *running_ = false;
    acceptors_.clear();
  });
}

void GrpcListener::Accept(size_t acceptor) {
  acceptors_[acceptor]->async_accept(
      [this, acceptor, running = running_](const std::error_code& error, Tcp::socket socket) {
        if (!*running) return;
        if (error) {  // out of descriptors, most likely: let some go
          loop_.PostAfter(kAcceptRetry, [this, acceptor, running] {
            if (*running) Accept(acceptor);
          });
          return;
        }
        HandOver(std::move(socket), acceptors_[acceptor]->native_handle());
        Accept(acceptor);
      });
}

void GrpcListener::HandOver(Tcp::socket socket, int listener) {
  if (env::IsOfReserve(socket.native_handle())) return refused_.Increment();  // closed with the socket
  std::error_code error;
  datastream::Configure(socket);
  socket.native_non_blocking(true, error);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener;
  connection.fd = socket.release(error);
  if (error) return;
  fcntl(connection.fd, F_SETFD, FD_CLOEXEC);
  grpc_->HandleNewConnection(&connection);
}

}  // namespace sluice::edge
