// One ByteStream.Write under way: messages are checked where they arrive, gathered,
// and fed to the upload's relay.
//
//   auto call = std::make_shared<WriteCall>(host, &lane, context, &response);  call->Begin();
//
// Threading: gRPC's thread parses and gathers; everything else is state on the lane, reached once a slab
// (D-08). Lives until OnDone. Failure: see service.h. A call that is cut, or whose client falls silent, leaves
// its upload where it is, with everything that arrived. Bounds: reading stops while more than the host's window is unanswered.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "edge/bytestream/buffers.h"
#include "edge/silence.h"
#include "env/loop.h"
#include "node/host.h"
#include "wire/bytestream.h"

namespace sluice::edge::bytestream {

class WriteCall final : public grpc::ServerReadReactor<grpc::ByteBuffer>,
                        public std::enable_shared_from_this<WriteCall> {
 public:
  WriteCall(node::Host* host, env::Loop* lane, const grpc::CallbackServerContext* context,
            grpc::ByteBuffer* response);
  // Keeps the call alive until OnDone, and reads; without a place it is answered why.
  void Begin(absl::StatusOr<CallPlace> place);

  void OnReadDone(bool ok) override;
  void OnCancel() override {}  // the read that fails says so
  void OnDone() override { self_.reset(); }

 private:
  struct Batch {
    Bytes data;
    bool finish = false;  // finish_write was set
    bool end = false;     // nothing more will come
  };

  // --- On gRPC's thread, one read at a time ---
  absl::Status Check(const wire::WriteRequest& request);
  absl::Status CheckFirst(const wire::WriteRequest& request);
  void HandOver(Batch batch);
  void ReadOn();
  std::optional<Bytes> Gather(const Bytes& data);
  Bytes TakeGathered() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // --- Any thread: gRPC takes no read after the end
  void ReadNext();
  void End(const grpc::Status& status);

  // --- On the lane ---
  void OnBatch(Batch batch);
  void Feed(Bytes data);
  void OpenUpload();
  void OnOpened(absl::StatusOr<std::shared_ptr<node::Relay>> relay);
  void Pump();
  void OnAppended(uint64_t size, const absl::Status& status);
  void FinishUpload();
  void FlushUpload();
  void PutWhole();
  void Answer(absl::StatusOr<uint64_t> committed);
  bool OnSilence();
  absl::Status Silent(const absl::StatusOr<uint64_t>& committed) const;
  bool Gone() const { return answered_; }
  template <typename T>
  auto OnLane(void (WriteCall::*then)(T));

  node::Host* const host_;
  env::Loop* const lane_;
  const grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const response_;
  const uint64_t window_bytes_;
  const uint64_t inline_bytes_;
  Silence silence_;
  CallPlace place_;
  std::shared_ptr<WriteCall> self_;  // until OnDone: a reactor has no owner

  // gRPC's thread.
  grpc::ByteBuffer message_;
  std::string name_;
  bool named_ = false;
  bool finished_ = false;
  uint64_t next_offset_ = 0;
  uint64_t received_ = 0;

  // Both: bytes handed over and not answered (grows under mutex_), and whether reading waits for that to fall.
  std::atomic<uint64_t> unanswered_{0};
  std::atomic<bool> paused_{false};

  std::mutex mutex_;
  Bytes gathered_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;

  // Set before the first batch is handed over, then read by the lane.
  GroupId group_;
  node::BlobHeader header_;
  uint64_t first_offset_ = 0;

  // Lane.
  std::shared_ptr<node::Relay> relay_;  // shared with the host
  std::deque<Bytes> pieces_;            // not appended yet
  uint64_t appended_ = 0;               // where the next piece goes
  uint64_t in_flight_ = 0;
  uint64_t arrived_ = 0;
  env::TimerId patience_ = env::TimerId::kNone;
  bool opening_ = false;
  bool finish_ = false;
  bool end_ = false;
  bool last_step_ = false;  // finish, flush or inline put is under way
  bool silent_ = false;     // the client is given up
  bool answered_ = false;
};

}  // namespace sluice::edge::bytestream
