// Channels to other servers: per address one for requests and one for heartbeats, made at first use.
//
//   grpc::Channel& channel = *links.Get("127.0.0.1:7101", PeerLinks::kRequests);
//
// Threading: any thread. Bounded: beyond kLinksMax the one that was not asked for the longest goes (calls
// under way keep theirs). Failure: none; an unreachable peer shows in the calls.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "edge/recent_table.h"
#include "node/cluster.h"

namespace sluice::edge {

class PeerLinks {
 public:
  enum Use { kRequests = 0, kHeartbeats = 1 };
  static constexpr size_t kLinksMax = 1024;

  // `cluster`: whose servers they are.
  PeerLinks(int message_bytes_max, const node::Cluster* cluster)
      : message_bytes_max_(message_bytes_max), cluster_(cluster) {}
  const node::Cluster* cluster() const { return cluster_; }
  std::shared_ptr<grpc::Channel> Get(const std::string& address, Use use);

 private:
  const int message_bytes_max_;
  const node::Cluster* const cluster_;
  std::mutex mutex_;
  // Shared: gRPC's own handle.
  RecentTable<std::pair<std::string, Use>, std::shared_ptr<grpc::Channel>> channels_{kLinksMax, {}};
};

}  // namespace sluice::edge
