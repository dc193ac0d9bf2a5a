// Streams of uploads to other servers, over pooled DataStream connections: SinkPool with any sockets,
// DataStreamSinks over TCP.
//
//   auto sinks = std::make_unique<DataStreamSinks>(LanesOf(*server), &host->cluster(), silence_ms);
//   server->bytes().Plug(sinks.get(), fetcher);
//   server->Add(std::move(sinks));
//
// Threading: Open from any thread; a sink lives on its home. If that is a lane, its connection is there too
// and nothing hops; otherwise lane 0 carries it. Ownership: lanes must outlive Stop(); sinks may outlive it.
// Failure: a sink fails for good on a broken connection, a failure reply, a reply that does not fit, or
// silence while something is unanswered; every `done` then gets the cause. Bounds: what is in flight is
// bounded by the relay's window; kLinksMax connections per peer and lane, beyond which streams share one.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "edge/byte_lane.h"
#include "edge/datastream/socket.h"
#include "edge/server.h"
#include "env/clock.h"
#include "env/loop.h"
#include "node/cluster.h"

namespace sluice::edge::datastream {

// How many silences of a successor: the relay decides who is too silent, by who stands behind whom; a sink's
// silence is for what it cannot see.
inline constexpr uint32_t kSinkPatience = 8;

class Links;  // the outgoing connections of one lane

class SinkPool final : public SinkFactory {
 public:
  struct Lane {
    env::Executor* executor;
    std::function<std::unique_ptr<ByteSocket>()> new_socket;
  };
  // `cluster`: what every header says of this server.
  SinkPool(std::vector<Lane> lanes, const node::Cluster* cluster, env::Duration silence,
           const env::Clock* clock);
  ~SinkPool() override;

  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override;
  // Closes the connections of one lane, on it; from then on its streams fail.
  void Close(size_t lane);

 private:
  const std::vector<Lane> lanes_;
  const node::Cluster* const cluster_;
  std::vector<std::shared_ptr<Links>> links_;  // one a lane; shared with sinks
};

class DataStreamSinks final : public Part, public SinkFactory {
 public:
  DataStreamSinks(std::vector<env::Loop*> lanes, const node::Cluster* cluster, uint32_t silence_ms);
  ~DataStreamSinks() override;

  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override {
    return pool_.Open(home, to, header, std::move(opened));
  }
  void Stop() override;

 private:
  const std::vector<env::Loop*> lanes_;
  SinkPool pool_;
  bool stopped_ = false;
};

}  // namespace sluice::edge::datastream
