// One ByteStream.Read under way: carries what a ReadPump says.
//
//   auto call = std::make_shared<ReadCall>(lane, offset, limit);   call->Hold(place);   call->OnSource(source);
//
// Threading: state on the lane; gRPC's callbacks hop there, once a message. Lives until OnDone. A cancelled call
// stops at once.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/bytestream/read_pump.h"

namespace sluice::edge::bytestream {

class ReadCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public ReadPump {
 public:
  using ReadPump::ReadPump;
  // Keeps the call alive until OnDone.
  void Hold(CallPlace place) {
    place_ = std::move(place);
    self_ = std::static_pointer_cast<ReadCall>(shared_from_this());
  }
  // Initial metadata, on the lane, before OnSource.
  void Tell(grpc::CallbackServerContext& context, const std::string& key, const std::string& value) {
    if (!ended()) context.AddInitialMetadata(key, value);  // gRPC keeps the context until the end
  }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  void Send(Bytes message) override;
  void Finish(const absl::Status& status) override;

  CallPlace place_;
  std::shared_ptr<ReadCall> self_;  // until OnDone: a reactor has no owner
  grpc::ByteBuffer message_;
};

}  // namespace sluice::edge::bytestream
