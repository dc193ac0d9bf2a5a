// Counters and gauges, one registry a process, exported in the Prometheus text format on the HTTP port.
//
//   static Counter& torn = NewCounter("sluice_log_torn_tails_total", "Torn tails cut on open");
//   torn.Increment();
//
// Thread-safe. Names are constants of the source: no label is ever made from input.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

namespace sluice {

using Counter = prometheus::Counter;
using Gauge = prometheus::Gauge;

// The process's registry; shared because the exporter keeps a weak reference of its own.
const std::shared_ptr<prometheus::Registry>& MetricsRegistry();

// A counter or gauge of that name, made at its first use; lives as long as the process.
Counter& NewCounter(const std::string& name, const std::string& help);
Gauge& NewGauge(const std::string& name, const std::string& help);

}  // namespace sluice
