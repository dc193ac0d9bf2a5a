// The HTTP port: /metrics in the Prometheus text format.
//
//   server->Add(std::make_unique<http::MetricsPort>("127.0.0.1:7403"));
//
// Threading: started and stopped on the server's thread; answers on two threads of its own. Failure: Start
// names the address that cannot be had.
#pragma once

#include <memory>
#include <string>

#include "edge/server.h"

namespace prometheus {
class Exposer;
}

namespace sluice::edge::http {

class StreamMetrics;

class MetricsPort final : public Part {
 public:
  explicit MetricsPort(std::string listen);
  ~MetricsPort() override;
  absl::Status Start() override;
  void Stop() override;

 private:
  const std::string listen_;
  const std::shared_ptr<StreamMetrics> streams_;  // the exporter keeps a weak reference
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace sluice::edge::http
