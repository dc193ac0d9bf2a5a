// One ByteStream.Read under way: reads ahead, and passes on by reference.
//
//   auto call = ReadCall::Start(host, &lane, source_of, offset, limit);
//
// Threading: state on the lane; gRPC's callbacks hop there, once a message. Lives until OnDone. Failure: the
// status of the source; DATA_LOSS if it gives fewer bytes than it promised. A cancelled call stops at once.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "edge/bytestream/buffers.h"
#include "env/loop.h"
#include "node/host.h"

namespace sluice::edge::bytestream {

class ReadCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                       public std::enable_shared_from_this<ReadCall> {
 public:
  ReadCall(env::Loop* lane, int64_t offset, int64_t limit) : lane_(lane), offset_(offset), limit_(limit) {}
  // Keeps the call alive until OnDone.
  void Hold(CallPlace place) {
    place_ = std::move(place);
    self_ = shared_from_this();
  }
  env::Loop* lane() const { return lane_; }
  // Initial metadata, on the lane, before OnSource.
  void Tell(grpc::CallbackServerContext& context, const std::string& key, const std::string& value) {
    if (!ended_) context.AddInitialMetadata(key, value);  // gRPC keeps the context until the end
  }
  // The answer to the open, on the lane; or, before the call was returned to gRPC, its refusal.
  void OnSource(absl::StatusOr<std::shared_ptr<blob::Source>> source);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  struct Slot {
    uint64_t count = 0;
    std::optional<absl::StatusOr<Bytes>> data;
  };
  void ReadAhead();
  void Pump();
  void End(const absl::Status& status);

  env::Loop* const lane_;
  const int64_t offset_;
  const int64_t limit_;
  CallPlace place_;
  std::shared_ptr<ReadCall> self_;  // until OnDone: a reactor has no owner
  std::shared_ptr<blob::Source> source_;
  uint64_t next_ = 0;
  uint64_t end_ = 0;
  std::deque<std::shared_ptr<Slot>> slots_;  // shared with reads that are due
  grpc::ByteBuffer message_;
  bool writing_ = false;
  bool ended_ = false;
};

}  // namespace sluice::edge::bytestream
