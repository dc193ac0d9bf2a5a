#include "edge/http/metrics_port.h"

#include <fmt/format.h>
#include <prometheus/exposer.h>

#include <exception>
#include <utility>

#include "base/metrics.h"
#include "edge/http/stream_metrics.h"

namespace sluice::edge::http {

MetricsPort::MetricsPort(std::string listen)
    : listen_(std::move(listen)), streams_(std::make_shared<StreamMetrics>()) {}
MetricsPort::~MetricsPort() = default;

absl::Status MetricsPort::Start() {
  try {  // the exposer throws when it cannot listen
    exposer_ = std::make_unique<prometheus::Exposer>(listen_);
  } catch (const std::exception&) {
    return absl::UnavailableError(fmt::format(
        "cannot listen on {}: the port is in use, or the address is not of this machine", listen_));
  }
  exposer_->RegisterCollectable(MetricsRegistry());
  exposer_->RegisterCollectable(streams_);
  return absl::OkStatus();
}

void MetricsPort::Stop() { exposer_.reset(); }

}  // namespace sluice::edge::http
