// Outgoing messages of one gRPC stream: bounded in bytes, one write at a time,
// drained before the stream ends.
//
//   WriteQueue<Reply> queue(8u << 20, [this](const Reply* r, grpc::WriteOptions o) { StartWrite(r, o); });
//   if (!queue.Push(std::move(reply))) ...;            // full or ending: slow down, drop, or end the call
//   void OnWriteDone(bool ok) override { queue.OnWriteDone(ok); }
//   queue.End([this] { Finish(grpc::Status::OK); });   // once, after the last write
//
// Threading: every method may be called from any thread. The message that is being written stays at the front
// until OnWriteDone, so an answer of the peer may well arrive before it. `start` and the end callback are
// called without the queue's lock, never both at once. Ownership: the queue lives inside its reactor, which
// must live until OnDone. Failure: a failed write drops what is queued; nothing more is written and only the
// end callback is still due.
#pragma once

#include <grpcpp/impl/call_op_set.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

#include "absl/functional/any_invocable.h"

namespace sluice::edge {

template <typename Message>
class WriteQueue {
 public:
  using Start = absl::AnyInvocable<void(const Message*, grpc::WriteOptions)>;
  using Ended = absl::AnyInvocable<void()>;

  WriteQueue(uint64_t bytes_max, Start start) : bytes_max_(bytes_max), start_(std::move(start)) {}

  // False, and the message is dropped, when the queue is full or ending.
  // An empty queue takes a message of any size.
  bool Push(Message message) {
    const uint64_t bytes = message.ByteSizeLong();
    std::unique_lock lock(mutex_);
    if (ending_ || broken_ || (!items_.empty() && bytes_ + bytes > bytes_max_)) return false;
    bytes_ += bytes;
    items_.push_back({std::move(message), bytes});
    if (!writing_) WriteFront(lock);
    return true;
  }

  void OnWriteDone(bool ok) {
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!items_.empty()) PopFront();
    if (!ok) {
      broken_ = true;
      Clear();
    }
    if (!items_.empty()) {
      WriteFront(lock);
    } else {
      EndIfDrained(lock);
    }
  }

  // No more pushes; `ended` is called once, when everything queued is written. Later calls are ignored.
  void End(Ended ended) {
    std::unique_lock lock(mutex_);
    if (ending_) return;
    ending_ = true;
    ended_ = std::move(ended);
    if (!writing_) EndIfDrained(lock);
  }

  // As End, but what is queued and not yet being written is dropped; hastens an End that was called before.
  void Cut(Ended ended) {
    std::unique_lock lock(mutex_);
    if (!ending_) {
      ending_ = true;
      ended_ = std::move(ended);
    }
    while (items_.size() > (writing_ ? 1u : 0u)) {
      bytes_ -= items_.back().bytes;
      items_.pop_back();
    }
    if (!writing_) EndIfDrained(lock);
  }

  bool ending() const {
    std::lock_guard lock(mutex_);
    return ending_ || broken_;
  }
  uint64_t bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
  }
  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  struct Item {
    Message message;
    uint64_t bytes;
  };

  // A write that is followed by another at once need not be flushed by itself.
  void WriteFront(std::unique_lock<std::mutex>& lock) {
    writing_ = true;
    grpc::WriteOptions options;
    if (items_.size() > 1) options.set_buffer_hint();
    const Message* front = &items_.front().message;
    lock.unlock();
    start_(front, options);
  }
  void EndIfDrained(std::unique_lock<std::mutex>& lock) {
    if (!ending_ || !ended_) return;
    Ended ended = std::move(ended_);
    ended_ = nullptr;
    lock.unlock();
    ended();
  }
  void PopFront() {
    bytes_ -= items_.front().bytes;
    items_.pop_front();
  }
  void Clear() {
    items_.clear();
    bytes_ = 0;
  }

  const uint64_t bytes_max_;
  Start start_;
  mutable std::mutex mutex_;
  // Guarded by mutex_, as is all below. A deque: the front does not move when others join.
  std::deque<Item> items_;
  uint64_t bytes_ = 0;
  bool writing_ = false;
  bool ending_ = false;
  bool broken_ = false;
  Ended ended_;
};

}  // namespace sluice::edge
