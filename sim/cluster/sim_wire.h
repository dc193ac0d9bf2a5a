// edge::PeerWire between simulated servers: calls as gRPC makes them, many on one ordered connection, their
// messages as serialized bytes.
//
//   SimWire wire(all, self, &host.cluster());   PeerCalls calls(&wire);   // served by the others' SimServer
//
// A call is a frame with path, metadata and message one way, and frames with messages and a status back. A
// connection that breaks ends its calls with UNAVAILABLE; the next call opens another one. Threading: the
// world's thread; what is called back runs outside every executor, as on threads of gRPC. Ownership: it ends
// with Drop(), when the process is dead; nothing is called after it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "edge/handshake.h"
#include "edge/peer_wire.h"
#include "sim/packet_network.h"

namespace sluice::sim {

class SimTransports;

// Who lives on the network, by the address of its gRPC port.
struct SimSwitch {
  World& world;
  PacketNetwork& network;
  std::map<std::string, SimTransports*> living = {};

  SimTransports* Find(const std::string& address) const {
    const auto it = living.find(address);
    return it == living.end() ? nullptr : it->second;
  }
};

// What travels: part of one call.
struct Frame {
  uint64_t call = 0;
  std::string path;       // in the first one of a call
  edge::CallerSays says;  // beside it
  std::string metadata;   // of a read
  std::optional<std::string> message;
  bool end = false;  // of this direction
  bool cancel = false;
  absl::Status status;  // back, with `end`
};
using FramePtr = std::shared_ptr<const Frame>;  // shared with the network, which wants what can be copied

class SimWire final : public edge::PeerWire {
 public:
  SimWire(SimSwitch& all, PeerId self, const node::Cluster* cluster);
  ~SimWire() override { Drop(); }
  void Drop();
  void Stop() override {}
  void Read(const edge::WireTo& to, Reading reading,
            absl::AnyInvocable<absl::Status(const Bytes& message)> on_message, EndedFn on_end) override;
  // Calls of a method begun so far.
  uint64_t calls(const std::string& path) const;

 protected:
  void StartCall(const edge::WireTo& to, const char* path, int deadline_ms, const edge::ProtoMessage& request,
                 edge::ProtoMessage* reply, EndedFn done) override;
  std::shared_ptr<edge::OutgoingStream> StartStream(const edge::WireTo& to, const char* path,
                                                    uint64_t bytes_max, Replies replies) override;

 private:
  class Channel;
  class Stream;
  std::shared_ptr<Channel> ChannelTo(const edge::WireTo& to);

  SimSwitch& all_;
  const PeerId self_;
  const node::Cluster* const cluster_;
  std::map<std::pair<std::string, bool>, std::shared_ptr<Channel>>
      channels_;  // shared with what is under way
  std::map<std::string, uint64_t> begun_;
};

}  // namespace sluice::sim
