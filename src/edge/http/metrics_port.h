// The HTTP port: /metrics in the Prometheus text format; /healthz, which says that the process is alive; /readyz,
// which says whether it serves: 200, or 503 and why not.
//
//   server->Add(std::make_unique<http::MetricsPort>("127.0.0.1:7403", [server] { return server->Serving(); },
//                                                   &host->cluster()));
//
// Threading: started and stopped on the server's thread; answers on two threads of its own, on which `serving`
// is called. Failure: Start names the address that cannot be had.
#pragma once

#include <prometheus/collectable.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "edge/server.h"
#include "node/cluster.h"

struct mg_context;

namespace sluice::edge::http {

class MetricsPort final : public Part {
 public:
  using Serving = std::function<absl::Status()>;
  // Asked at every visit, beside the registry of the process.
  using Collectables = std::vector<std::unique_ptr<prometheus::Collectable>>;
  MetricsPort(std::string listen, Serving serving, const node::Cluster* cluster);
  ~MetricsPort() override;
  absl::Status Start() override;
  void Stop() override;
  // The port that was bound (of interest when `listen` asks for port 0).
  int port() const;

 private:
  const std::string listen_;
  const Serving serving_;
  Collectables collectables_;
  mg_context* context_ = nullptr;
};

}  // namespace sluice::edge::http
