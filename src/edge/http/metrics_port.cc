#include "edge/http/metrics_port.h"

#include <civetweb.h>
#include <fmt/format.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <string_view>
#include <utility>

#include "base/metrics.h"
#include "edge/http/cluster_metrics.h"
#include "edge/http/stream_metrics.h"

namespace sluice::edge::http {
namespace {

constexpr char kThreads[] = "16";
constexpr char kPatienceMs[] = "2000";  // with a client that sends no request: it holds a thread

int Answer(mg_connection* connection, int code, const char* reason, const char* type,
           const std::string& text) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n\r\n",
            code, reason, type, text.size());
  mg_write(connection, text.data(), text.size());
  return code;
}

int Metrics(mg_connection* connection, void* asked) {
  auto families = MetricsRegistry()->Collect();
  for (const auto& collectable : *static_cast<const MetricsPort::Collectables*>(asked)) {
    for (auto& family : collectable->Collect()) families.push_back(std::move(family));
  }
  return Answer(connection, 200, "OK", "text/plain; version=0.0.4; charset=utf-8",
                prometheus::TextSerializer().Serialize(families));
}

int Alive(mg_connection* connection, void*) { return Answer(connection, 200, "OK", "text/plain", "alive\n"); }

int Ready(mg_connection* connection, void* serving) {
  const absl::Status status = (*static_cast<const MetricsPort::Serving*>(serving))();
  if (status.ok()) return Answer(connection, 200, "OK", "text/plain", "ready\n");
  return Answer(connection, 503, "Service Unavailable", "text/plain",
                fmt::format("not ready: {}\n", Message(status)));
}

}  // namespace

MetricsPort::MetricsPort(std::string listen, Serving serving, const node::Cluster* cluster)
    : listen_(std::move(listen)), serving_(std::move(serving)) {
  collectables_.push_back(std::make_unique<StreamMetrics>());
  collectables_.push_back(std::make_unique<ClusterMetrics>(cluster));
}
MetricsPort::~MetricsPort() { Stop(); }

absl::Status MetricsPort::Start() {
  const char* options[] = {"listening_ports",    listen_.c_str(), "num_threads", kThreads,
                           "request_timeout_ms", kPatienceMs,     nullptr};
  context_ = mg_start(nullptr, nullptr, options);
  if (context_ == nullptr) {
    return absl::UnavailableError(fmt::format(
        "cannot listen on {}: the port is in use, or the address is not of this machine", listen_));
  }
  // What they are given is only read.
  mg_set_request_handler(context_, "/metrics", Metrics, &collectables_);
  mg_set_request_handler(context_, "/healthz", Alive, nullptr);
  mg_set_request_handler(context_, "/readyz", Ready, const_cast<Serving*>(&serving_));
  return absl::OkStatus();
}

int MetricsPort::port() const {
  mg_server_port bound{};
  return context_ != nullptr && mg_get_server_ports(context_, 1, &bound) == 1 ? bound.port : 0;
}

void MetricsPort::Stop() {
  if (context_ != nullptr) mg_stop(std::exchange(context_, nullptr));
}

}  // namespace sluice::edge::http
