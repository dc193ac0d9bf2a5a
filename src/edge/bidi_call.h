// The server's end of a bidirectional call: reads that never race with the end, writes through a WriteQueue.
//
//   class Call final : public BidiCall<Request, Reply> {
//     void OnReadDone(bool ok) override { ...; Read(); }
//   };
//   call.Write(std::move(reply));
//   call.End([] { return grpc::Status::OK; });
//
// Threading: Read, Write, End may be called from any thread at any time, also after the call is over (then
// they do nothing). Ownership: the derived class keeps itself alive until OnDone (OpenCalls), and beyond
// while others hold it. The function given to End runs while the call's context still exists; nothing else
// may touch the context off gRPC's own callbacks.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <mutex>
#include <utility>

#include "edge/write_queue.h"

namespace sluice::edge {

template <typename Request, typename Reply>
class BidiCall : public grpc::ServerBidiReactor<Request, Reply> {
 public:
  void OnWriteDone(bool ok) override { queue_.OnWriteDone(ok); }
  void OnCancel() override {
    queue_.Cut([this] { FinishWith(grpc::Status::CANCELLED); });
  }

 protected:
  using Outcome = absl::AnyInvocable<grpc::Status()>;

  BidiCall(grpc::CallbackServerContext* context, uint64_t queue_bytes_max)
      : context_(context), queue_(queue_bytes_max, [this](const Reply* reply, grpc::WriteOptions options) {
          this->StartWrite(reply, options);
        }) {}

  // Reads the next request into request_; nothing once the call is over.
  void Read() {
    std::lock_guard lock(gate_);
    if (!finished_) this->StartRead(&request_);
  }
  // False: too much waits to be read by the client, or the call is ending.
  bool Write(Reply reply) { return queue_.Push(std::move(reply)); }
  // Ends the call after what is queued; the first outcome given counts.
  void End(Outcome outcome) {
    queue_.End([this, outcome = std::move(outcome)]() mutable { FinishWith(outcome()); });
  }
  bool ending() const { return queue_.ending(); }
  const WriteQueue<Reply>& queue() const { return queue_; }

  grpc::CallbackServerContext* const context_;
  Request request_;  // reused: its memory serves every request of the call

 private:
  void FinishWith(grpc::Status status) {
    std::lock_guard lock(gate_);
    finished_ = true;
    this->Finish(std::move(status));
  }

  WriteQueue<Reply> queue_;
  std::mutex gate_;  // guards finished_ and the order of StartRead and Finish
  bool finished_ = false;
};

}  // namespace sluice::edge
