#include "edge/http/cluster_metrics.h"

#include <utility>

namespace sluice::edge::http {

std::vector<prometheus::MetricFamily> ClusterMetrics::Collect() const {
  const ClusterId cluster = cluster_->id();
  if (cluster.IsZero()) return {};
  prometheus::ClientMetric metric;
  metric.label.push_back({"cluster", cluster.ToString()});
  metric.gauge.value = 1;
  prometheus::MetricFamily family;
  family.name = "sluice_cluster_info";
  family.help = "The cluster that this server belongs to";
  family.type = prometheus::MetricType::Gauge;
  family.metric.push_back(std::move(metric));
  return {std::move(family)};
}

}  // namespace sluice::edge::http
