// Reads sealed uploads of other servers by ByteStream.Read (D-06).
//
//   auto fetcher = std::make_unique<ByteStreamFetcher>(std::make_unique<GrpcWire>(&links, kFetchesMax));
//   server->bytes().Plug(sinks, fetcher.get());
//   server->Add(std::move(fetcher));
//
// Threading: any thread; results on the executor that the caller names. Failure: exactly the bytes asked for,
// or an error within kDeadlineMs. Bounds: the wire's kFetchesMax at once, kFetchBytesMax each.
#pragma once

#include <memory>
#include <utility>

#include "edge/byte_lane.h"
#include "edge/peer_wire.h"
#include "edge/server.h"

namespace sluice::edge::bytestream {

class ByteStreamFetcher final : public Part, public Fetcher {
 public:
  static constexpr size_t kFetchesMax = 256;
  static constexpr uint64_t kFetchBytesMax = 64u << 20;
  static constexpr int kDeadlineMs = 10'000;

  explicit ByteStreamFetcher(std::unique_ptr<PeerWire> wire) : wire_(std::move(wire)) {}
  ~ByteStreamFetcher() override { Stop(); }

  void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, node::ByteTransport::Done<Bytes> done) override;
  void Stop() override { wire_->Stop(); }

 private:
  const std::unique_ptr<PeerWire> wire_;
};

}  // namespace sluice::edge::bytestream
