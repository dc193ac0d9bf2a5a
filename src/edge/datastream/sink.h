// Streams of uploads to other servers, over pooled DataStream connections.
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

#include <memory>
#include <vector>

#include "edge/byte_lane.h"
#include "edge/server.h"
#include "env/loop.h"
#include "node/cluster.h"

namespace sluice::edge::datastream {

class Links;  // the outgoing connections of one lane

class DataStreamSinks final : public Part, public SinkFactory {
 public:
  // `cluster`: what every header says of this server.
  DataStreamSinks(std::vector<env::Loop*> lanes, const node::Cluster* cluster, uint32_t silence_ms);
  ~DataStreamSinks() override;

  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override;
  void Stop() override;

 private:
  const std::vector<env::Loop*> lanes_;
  const node::Cluster* const cluster_;
  std::vector<std::shared_ptr<Links>> links_;  // one a lane; shared with sinks
  bool stopped_ = false;
};

}  // namespace sluice::edge::datastream
