// sluice.FileService over Streaming RPC, for the names of a `blob` group: what listens on port +2.
//
//   server->Add(std::make_unique<FilesPart>(host, LanesOf(*server), options));
//
// docs/formats/stream-files.md shows the conversation. Threading: calls arrive on threads `stream-N`; the
// state of each lives on one of the lanes. Ownership: host and lanes must outlive Stop(). Failure: Start
// names the address that cannot be had; a call beyond files_max is answered 2004. Bounds: those calls, and
// what RpcServerOptions say of connections, streams and bytes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "edge/files/file_stream.h"
#include "edge/limits.h"
#include "edge/server.h"
#include "env/loop.h"
#include "node/host.h"
#include "sluice/rpc.h"

namespace sluice::edge::files {

struct FilesOptions {
  std::string listen;       // "host:port"
  std::string http_listen;  // what a browser on this port is sent to; empty: nothing to send it to
  StreamLimits limits;
};

class FilesPart final : public Part {
 public:
  FilesPart(node::Host* host, std::vector<env::Loop*> lanes, FilesOptions options);
  ~FilesPart() override;

  absl::Status Start() override;
  // Open streams go on; new calls get 2003.
  void Drain() override { server_.Drain(); }
  // Ends every stream.
  void Stop() override { server_.Stop(); }
  // What was bound; of interest when `listen` asks for port 0.
  int port() const { return server_.port(); }

 private:
  class Calls;
  template <typename Request, typename Response, typename MakeCall>
  void AddCall(const std::string& method, MakeCall make);
  env::Loop* NextLane() { return lanes_[next_lane_++ % lanes_.size()]; }

  node::Host* const host_;
  const std::vector<env::Loop*> lanes_;
  const FilesOptions options_;
  std::atomic<size_t> next_lane_{0};
  const std::shared_ptr<Calls> calls_;  // shared with places that outlive the service
  RpcServer server_;
};

}  // namespace sluice::edge::files
