// The cluster that this server belongs to, as a metric: sluice_cluster_info{cluster="UUID"} 1.
//
//   exposer.RegisterCollectable(std::make_shared<ClusterMetrics>(&host.cluster()));
//
// Thread-safe; `cluster` must outlive the exposer. Nothing is told before it is known.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

#include "node/cluster.h"

namespace sluice::edge::http {

class ClusterMetrics final : public prometheus::Collectable {
 public:
  explicit ClusterMetrics(const node::Cluster* cluster) : cluster_(cluster) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const node::Cluster* const cluster_;
};

}  // namespace sluice::edge::http
