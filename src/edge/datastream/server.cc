#include "edge/datastream/server.h"

#include <chrono>
#include <future>

#include <asio/post.hpp>

#include "base/log.h"
#include "edge/datastream/socket.h"
#include "env/clock.h"
#include "env/descriptors.h"

namespace sluice::edge::datastream {
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

std::vector<env::Loop*> LanesOf(Server& server) {
  std::vector<env::Loop*> lanes;
  for (size_t i = 0; i < server.lanes(); ++i) lanes.push_back(&server.lane(i));
  return lanes;
}

DataStreamServer::DataStreamServer(node::Host* host, std::vector<env::Loop*> lanes, DataStreamOptions options)
    : lanes_(std::move(lanes)),
      context_(std::make_shared<ConnectionContext>(host, std::move(options))),
      connections_(lanes_.size()) {}

DataStreamServer::~DataStreamServer() { Stop(); }

absl::Status DataStreamServer::Start() {
  const std::string& address = context_->options.listen;
  ASSIGN_OR_RETURN(HostPort where, ParseHostPort(address));
  std::error_code error;
  RunOn(*lanes_[0], [&] {
    asio::ip::tcp::resolver resolver(lanes_[0]->context());
    const auto found = resolver.resolve(where.host, where.port, asio::ip::tcp::resolver::passive, error);
    if (error || found.empty()) return;
    const asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
    auto acceptor = std::make_unique<asio::ip::tcp::acceptor>(lanes_[0]->context());
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(asio::ip::tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor->local_endpoint(error).port();
    if (error) return;
    acceptor_ = std::move(acceptor);
    Accept();
  });
  if (error || acceptor_ == nullptr) {
    return absl::UnavailableError(
        fmt::format("cannot listen for DataStream on {}: {}", address,
                    error == asio::error::address_in_use ? "the port is in use" : error.message()));
  }
  started_ = true;
  return absl::OkStatus();
}

void DataStreamServer::Accept() {
  const size_t lane = next_lane_++ % lanes_.size();
  acceptor_->async_accept(
      lanes_[lane]->context(), [this, lane](const std::error_code& error, asio::ip::tcp::socket socket) {
        if (error == asio::error::operation_aborted || acceptor_ == nullptr) return;
        if (error) {  // out of descriptors, most likely: let some go
          retry_ = lanes_[0]->PostAfter(kAcceptRetry, [this] {
            if (acceptor_ != nullptr) Accept();
          });
          return;
        }
        // The connection belongs to its lane from here on.
        if (auto connection = Admit(std::move(socket), lane)) {
          lanes_[lane]->Post([this, lane, connection = std::move(connection)] {
            connections_[lane].insert(connection);
            connection->Start(
                [this, lane](const std::shared_ptr<Connection>& ended) { connections_[lane].erase(ended); });
          });
        }
        Accept();
      });
}

std::shared_ptr<Connection> DataStreamServer::Admit(asio::ip::tcp::socket socket, size_t lane) {
  std::error_code unknown;
  const auto from = socket.remote_endpoint(unknown);
  std::string address = unknown ? std::string("?") : from.address().to_string();
  absl::Status admitted;
  if (env::IsOfReserve(socket.native_handle())) {
    admitted = absl::ResourceExhaustedError("only the reserve of descriptors is left (F-14)");
  }
  if (admitted.ok()) admitted = context_->Admit(address);
  if (!admitted.ok()) {
    context_->refused_counter.Increment();
    // One line a second: how many are refused is in the hands of strangers.
    const int64_t now = env::RealClock().MonotonicNow().count();
    if (now >= next_refusal_log_) {
      next_refusal_log_ = now + env::Duration(std::chrono::seconds(1)).count();
      LogWarn("DataStream: a connection is refused: {}", Message(admitted));
    }
    return nullptr;  // closed with the socket
  }
  return std::make_shared<Connection>(context_, lanes_[lane], AcceptedTcpSocket(std::move(socket)),
                                      std::move(address));
}

void DataStreamServer::Drain() {
  if (!started_) return;
  RunOn(*lanes_[0], [&] {
    acceptor_.reset();
    lanes_[0]->Cancel(retry_);
  });
}

void DataStreamServer::Stop() {
  if (!started_) return;
  Drain();
  started_ = false;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    RunOn(*lanes_[i], [&] {
      // Close erases from the set.
      const auto all = connections_[i];
      for (const std::shared_ptr<Connection>& connection : all) connection->Close();
    });
  }
  // Behind the last handlers of the sockets that were just closed.
  for (env::Loop* lane : lanes_) {
    std::promise<void> done;
    asio::post(lane->context(), [&] { done.set_value(); });
    done.get_future().wait();
  }
}

}  // namespace sluice::edge::datastream
