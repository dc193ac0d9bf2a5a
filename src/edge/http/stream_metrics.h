// The streams of this process as metrics, counted when somebody asks, never while they run.
//
//   exposer.RegisterCollectable(std::make_shared<StreamMetrics>());
//
// Thread-safe. One visit of every open stream for each scrape.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace sluice::edge::http {

class StreamMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace sluice::edge::http
