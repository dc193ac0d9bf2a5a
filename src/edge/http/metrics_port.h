// The HTTP port: /metrics in the Prometheus text format; /healthz, which says that the process is alive; /readyz,
// which says whether it serves: 200, or 503 and why not.
//
//   server->Add(std::make_unique<http::MetricsPort>("127.0.0.1:7403", [server] { return server->Serving(); }));
//
// Threading: started and stopped on the server's thread; answers on two threads of its own, on which `serving`
// is called. Failure: Start names the address that cannot be had.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "edge/server.h"

struct mg_context;

namespace sluice::edge::http {

class StreamMetrics;

class MetricsPort final : public Part {
 public:
  using Serving = std::function<absl::Status()>;
  MetricsPort(std::string listen, Serving serving);
  ~MetricsPort() override;
  absl::Status Start() override;
  void Stop() override;
  // The port that was bound (of interest when `listen` asks for port 0).
  int port() const;

 private:
  const std::string listen_;
  const Serving serving_;
  const std::unique_ptr<StreamMetrics> streams_;
  mg_context* context_ = nullptr;
};

}  // namespace sluice::edge::http
