// sluice/server.h: a whole server behind the public header.
#include <fmt/format.h>

#include <algorithm>
#include <utility>  // before asio

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "edge/told_address.h"
#include "edge/whole_server.h"
#include "sluice/server.h"
#include "sluice/state_machine.h"

namespace sluice {
namespace {

class Embedded final : public Server {
 public:
  Embedded(std::unique_ptr<edge::WholeServer> server, std::string address, std::string stream_address)
      : server_(std::move(server)),
        address_(std::move(address)),
        stream_address_(std::move(stream_address)) {}
  ~Embedded() override { server_->Stop(); }
  void Stop() override { server_->Stop(); }
  const std::string& address() const override { return address_; }
  const std::string& stream_address() const override { return stream_address_; }

 private:
  const std::unique_ptr<edge::WholeServer> server_;
  const std::string address_;
  const std::string stream_address_;
};

// Two ports that follow each other and are free at the moment, as the kernel proposes them: the configuration
// of the group names the address before anything listens. `listen` ends in port 0.
absl::StatusOr<std::string> FreePorts(const std::string& listen) {
  constexpr int kAttempts = 64;
  const std::string host = listen.substr(0, listen.rfind(':'));
  asio::io_context context;
  asio::ip::tcp::resolver resolver(context);
  std::error_code error;
  const auto found = resolver.resolve(host, "0", asio::ip::tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::UnavailableError(fmt::format("cannot listen on {}: {}", listen, error.message()));
  }
  asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
  for (int i = 0; i < kAttempts; ++i) {
    asio::ip::tcp::socket first(context), second(context);
    endpoint.port(0);
    first.open(endpoint.protocol(), error);
    if (!error) first.bind(endpoint, error);
    if (error) break;
    const uint16_t port = first.local_endpoint(error).port();
    if (port == 65535) continue;
    endpoint.port(static_cast<uint16_t>(port + 1));
    second.open(endpoint.protocol(), error);
    if (!error) second.bind(endpoint, error);
    if (!error) return fmt::format("{}:{}", host, port);
  }
  return absl::UnavailableError(fmt::format("no two free ports on {}: {}", host, error.message()));
}

absl::StatusOr<std::string> NextPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 ||
      port > 65534) {
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no HOST:PORT", address));
  }
  return fmt::format("{}:{}", address.substr(0, colon), port + 1);
}

absl::StatusOr<raft::Peer> PeerOf(const std::string& id, const std::string& address) {
  ASSIGN_OR_RETURN(const std::string data_stream, NextPort(address));
  return raft::Peer{.id = {id},
                    .address = address,
                    .data_stream_address = data_stream,
                    .client_address = {},
                    .admin_address = {}};
}

absl::Status AmongPeers(const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(fmt::format("peers: {}", Message(status)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  edge::WholeServerOptions whole;
  if (options.listen.ends_with(":0")) {
    if (!options.peers.empty()) {
      return absl::InvalidArgumentError("port 0 is for a group of one: its peers must know the port");
    }
    ASSIGN_OR_RETURN(options.listen, FreePorts(options.listen));
  }
  const bool alone = options.peers.empty();
  if (alone) {
    ASSIGN_OR_RETURN(const std::string told, edge::ToldAddress(options.listen, options.advertise));
    options.peers.push_back({options.id, told});
  }
  std::vector<raft::Peer> peers;
  for (const ServerPeer& one : options.peers) {
    if (!alone) RETURN_IF_ERROR(edge::CheckTold(one.address));
    ASSIGN_OR_RETURN(raft::Peer peer, PeerOf(one.id, one.address));
    if (one.id == options.id) whole.host.self = peer;
    peers.push_back(std::move(peer));
  }
  const edge::Membership all{
      .id = options.id, .listen = options.listen, .advertise = options.advertise, .peers = peers};
  if (!alone) RETURN_IF_ERROR(AmongPeers(edge::CheckMembership(all)));
  whole.host.data_dir = options.data_dir;
  whole.host.bootstrap = options.bootstrap || peers.size() == 1;
  const bool has_default = std::any_of(options.groups.begin(), options.groups.end(),
                                       [](const ServerGroup& group) { return group.id == kDefaultGroup; });
  if (!has_default) options.groups.insert(options.groups.begin(), ServerGroup{});
  for (ServerGroup& group : options.groups) {
    whole.host.groups.push_back(
        {.id = group.id, .machine = group.machine, .peers = peers, .factory = std::move(group.factory)});
  }
  whole.listen = options.listen;
  ASSIGN_OR_RETURN(whole.data_stream_listen, NextPort(options.listen));
  whole.stream_listen = options.stream_listen;
  ASSIGN_OR_RETURN(auto server, edge::WholeServer::Start(std::move(whole)));
  const std::string& streams = options.stream_listen;
  std::string stream_address;
  if (!streams.empty())
    stream_address = fmt::format("{}:{}", streams.substr(0, streams.rfind(':')), server->stream_port());
  return std::make_unique<Embedded>(std::move(server), options.listen, std::move(stream_address));
}

}  // namespace sluice
