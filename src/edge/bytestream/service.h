// google.bytestream.ByteStream for the names of a `blob` group: read, resumable write, query.
//
//   server->Add(std::make_unique<ByteStreamPart>(host, LanesOf(*server)));
//
// Metadata of a call: the keys of wire/bytestream.h. A read says which content it gives (kContentKey), and is
// given that content or ABORTED when it goes on with the same key. One with kFetchKey is by upload id, between
// servers.
//
// Threading: gRPC's threads parse; state of a call lives on one of the lanes, reached once per slab (D-08).
// Ownership: host and lanes must outlive the gRPC server's shutdown. Failure: INVALID_ARGUMENT for offsets
// and names of writes, OUT_OF_RANGE for those of reads (D-19); a read never ends well after too few bytes. A
// write that is cut leaves its upload to be resumed; a call beyond ByteStreamOptions::calls_max is answered
// RESOURCE_EXHAUSTED; one whose client says nothing, or takes nothing, for the host's upload_idle_ttl_ms ends
// with DEADLINE_EXCEEDED. Bounds: those calls; a write buffers the host's window.
#pragma once

#include <memory>
#include <vector>

#include "edge/server.h"
#include "env/loop.h"
#include "node/host.h"

namespace sluice::edge::bytestream {

struct ByteStreamOptions {
  uint32_t calls_max = 4096;  // under way at a time, reads, writes and queries together
};

class ByteStreamPart final : public Part {
 public:
  ByteStreamPart(node::Host* host, std::vector<env::Loop*> lanes, ByteStreamOptions options = {});
  ~ByteStreamPart() override;
  std::vector<grpc::Service*> services() override;

 private:
  class Service;
  const std::unique_ptr<Service> service_;
};

}  // namespace sluice::edge::bytestream
