// Calls to other servers over gRPC.
//
//   GrpcWire wire(&links, kCallsMax);   PeerCalls calls(&wire);   ...   wire.Stop();
//
// Threading, failure: as PeerWire says. Bounded: `calls_max` calls and streams at a time.
#pragma once

#include <memory>

#include "edge/in_flight.h"
#include "edge/peer_links.h"
#include "edge/peer_wire.h"

namespace sluice::edge {

class GrpcWire final : public PeerWire {
 public:
  GrpcWire(PeerLinks* links, size_t calls_max) : links_(links), in_flight_(calls_max, links->cluster()) {}
  ~GrpcWire() override { Stop(); }
  void Stop() override { in_flight_.Stop(); }
  void Read(const WireTo& to, Reading reading,
            absl::AnyInvocable<absl::Status(const Bytes& message)> on_message, EndedFn on_end) override;

 protected:
  void StartCall(const WireTo& to, const char* path, int deadline_ms, const ProtoMessage& request,
                 ProtoMessage* reply, EndedFn done) override;
  std::shared_ptr<OutgoingStream> StartStream(const WireTo& to, const char* path, uint64_t bytes_max,
                                              Replies replies) override;

 private:
  std::shared_ptr<grpc::Channel> ChannelTo(const WireTo& to);

  PeerLinks* const links_;
  InFlight in_flight_;
};

}  // namespace sluice::edge
