// One ByteStream.Read under way: carries what a ReadPump says.
//
//   auto call = std::make_shared<ReadCall>(context, lane, patience, offset, limit);
//   call->Hold(place);   call->OnSource(source);
//
// Threading: state on the lane; gRPC's callbacks hop there, once a message. Lives until OnDone. A cancelled call
// stops at once, and so does one whose client takes nothing for `patience` (DEADLINE_EXCEEDED).
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/bytestream/read_pump.h"
#include "edge/silence.h"

namespace sluice::edge::bytestream {

class ReadCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public ReadPump {
 public:
  ReadCall(grpc::CallbackServerContext* context, env::Executor* lane, env::Duration patience, int64_t offset,
           int64_t limit)
      : ReadPump(lane, offset, limit),
        context_(context),
        patience_(patience),
        silence_(lane, patience, [this] { return OnSilence(); }) {}
  // Keeps the call alive until OnDone.
  void Hold(CallPlace place) {
    place_ = std::move(place);
    self_ = std::static_pointer_cast<ReadCall>(shared_from_this());
  }
  // Initial metadata, on the lane, before OnSource.
  void Tell(const std::string& key, const std::string& value) {
    if (!ended()) context_->AddInitialMetadata(key, value);
  }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  void Send(Bytes message) override;
  void Finish(const absl::Status& status) override;
  bool OnSilence();

  grpc::CallbackServerContext* const context_;  // gRPC keeps it until the end
  const env::Duration patience_;
  Silence silence_;  // from the first message on
  bool started_ = false;
  bool sending_ = false;  // the client has yet to take a message
  CallPlace place_;
  std::shared_ptr<ReadCall> self_;  // until OnDone: a reactor has no owner
  grpc::ByteBuffer message_;
};

}  // namespace sluice::edge::bytestream
