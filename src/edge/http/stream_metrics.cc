#include "edge/http/stream_metrics.h"

#include <string>
#include <utility>

#include "edge/files/stream_totals.h"

namespace sluice::edge::http {
namespace {

prometheus::MetricFamily Family(std::string name, std::string help, prometheus::MetricType type,
                                uint64_t value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = static_cast<double>(value);
  } else {
    metric.gauge.value = static_cast<double>(value);
  }
  prometheus::MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  family.metric.push_back(std::move(metric));
  return family;
}

}  // namespace

std::vector<prometheus::MetricFamily> StreamMetrics::Collect() const {
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  constexpr auto kCounter = prometheus::MetricType::Counter;
  const files::StreamTotals totals = files::TotalsOfStreams();
  return {
      Family("sluice_streams_open", "Streams of Streaming RPC that are open", kGauge, totals.open),
      Family("sluice_streams_unconsumed_bytes", "Bytes written to streams and not consumed by their peers",
             kGauge, totals.unconsumed_bytes),
      Family("sluice_streams_bytes_in_total", "Payload bytes that came on streams", kCounter,
             totals.bytes_in),
      Family("sluice_streams_bytes_out_total", "Payload bytes written to streams", kCounter,
             totals.bytes_out),
      Family("sluice_streams_messages_in_total", "Messages that came on streams", kCounter,
             totals.messages_in),
      Family("sluice_streams_messages_out_total", "Messages written to streams", kCounter,
             totals.messages_out),
      Family("sluice_streams_stalls_total", "Writes that had to wait for the peer to consume", kCounter,
             totals.stalls),
  };
}

}  // namespace sluice::edge::http
