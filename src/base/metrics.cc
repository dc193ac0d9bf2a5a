#include "base/metrics.h"

namespace sluice {

const std::shared_ptr<prometheus::Registry>& MetricsRegistry() {
  static const auto& registry =
      *new std::shared_ptr<prometheus::Registry>(std::make_shared<prometheus::Registry>());
  return registry;
}

Counter& NewCounter(const std::string& name, const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*MetricsRegistry()).Add({});
}

Gauge& NewGauge(const std::string& name, const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*MetricsRegistry()).Add({});
}

}  // namespace sluice
