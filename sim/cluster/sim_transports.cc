#include "sim/cluster/sim_transports.h"

#include <utility>

namespace sluice::sim {
namespace {

constexpr size_t kOwnedPruneAt = 256;

std::shared_ptr<SocketNet> Sockets(SimSwitch& all) {
  return std::make_shared<SocketNet>(
      SocketNet{all.world, all.network, [&all](const std::string& address) { return all.Find(address); }});
}

}  // namespace

SimTransports::SimTransports(SimSwitch& all, Parts parts)
    : all_(all),
      parts_(std::move(parts)),
      wire_(all_, parts_.self.id, &parts_.host->cluster()),
      replies_(edge::ratis::kWaitingRepliesMax, edge::ratis::kReplyLifetime, all_.world),
      calls_(&wire_),
      peers_(parts_.host, {.calls = &wire_,
                           .streams = &wire_,
                           .peer_calls = &calls_,
                           .replies = &replies_,
                           .disk = parts_.disk,
                           .files = parts_.files,
                           .time = {&all_.world, parts_.random}}),
      sinks_({{parts_.lane, [this, net = Sockets(all_)] { return NewSimSocket(net, this); }}},
             &parts_.host->cluster(),
             std::chrono::milliseconds(edge::datastream::kSinkPatience *
                                       parts_.host->options().successor_silence_ms),
             &all_.world),
      fetch_wire_(new SimWire(all_, parts_.self.id, &parts_.host->cluster())),
      fetcher_(std::unique_ptr<edge::PeerWire>(fetch_wire_)),
      bytes_(&calls_, parts_.self.id),
      server_({.host = parts_.host,
               .replies = &replies_,
               .lane = parts_.lane,
               .disk = parts_.disk,
               .files = parts_.files,
               .world = &all_.world}),
      streams_(std::make_shared<edge::datastream::ConnectionContext>(
          parts_.host, edge::datastream::DataStreamOptions{}, &all_.world)) {
  bytes_.Plug(&sinks_, &fetcher_);
  for (const std::string& port : {parts_.self.address, parts_.self.data_stream_address}) {
    all_.living[port] = this;
  }
}

void SimTransports::Drop() {
  if (std::exchange(dropped_, true)) return;
  for (const std::string& port : {parts_.self.address, parts_.self.data_stream_address}) {
    all_.living.erase(port);
  }
  wire_.Drop();
  fetch_wire_->Drop();
  server_.Drop();
  const auto accepted = std::exchange(accepted_, {});
  for (const auto& connection : accepted) connection->Close();
  const auto owned = std::exchange(owned_, {});
  for (const auto& weak : owned) {
    if (const auto held = weak.lock()) held->Drop();
  }
}

void SimTransports::Own(std::weak_ptr<OwnedByLife> owned) {
  if (owned_.size() >= kOwnedPruneAt) std::erase_if(owned_, [](const auto& weak) { return weak.expired(); });
  owned_.push_back(std::move(owned));
}

void SimTransports::Accept(std::unique_ptr<edge::datastream::ByteSocket> socket) {
  const std::string from = "a simulated server";
  if (!streams_->Admit(from).ok()) return;
  auto connection =
      std::make_shared<edge::datastream::Connection>(streams_, parts_.lane, std::move(socket), from);
  parts_.lane->Post([this, connection = std::move(connection)] {
    accepted_.insert(connection);
    connection->Start([this](const auto& ended) { accepted_.erase(ended); });
  });
}

}  // namespace sluice::sim
