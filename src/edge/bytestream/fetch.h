// Reads sealed uploads of other servers by ByteStream.Read (D-06).
//
//   auto fetcher = std::make_unique<ByteStreamFetcher>(&server->links());
//   server->bytes().Plug(sinks, fetcher.get());
//   server->Add(std::move(fetcher));
//
// Threading: any thread; results on the executor that the caller names. Failure: exactly the bytes asked for,
// or an error within kDeadlineMs. Bounds: kFetchesMax at once, kFetchBytesMax each.
#pragma once

#include "edge/byte_lane.h"
#include "edge/in_flight.h"
#include "edge/peer_links.h"
#include "edge/server.h"

namespace sluice::edge::bytestream {

class ByteStreamFetcher final : public Part, public Fetcher {
 public:
  static constexpr size_t kFetchesMax = 256;
  static constexpr uint64_t kFetchBytesMax = 64u << 20;
  static constexpr int kDeadlineMs = 10'000;

  explicit ByteStreamFetcher(PeerLinks* links) : links_(links), in_flight_(kFetchesMax, links->cluster()) {}
  ~ByteStreamFetcher() override { Stop(); }

  void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, node::ByteTransport::Done<Bytes> done) override;
  void Stop() override { in_flight_.Stop(); }

 private:
  PeerLinks* const links_;
  InFlight in_flight_;
};

}  // namespace sluice::edge::bytestream
