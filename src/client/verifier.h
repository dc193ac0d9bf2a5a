// SHA-256 of a stream on a thread of its own, so that reading and hashing overlap.
//
//   Verifier verifier(true);  verifier.Update(data);  std::optional<Sha256> digest = verifier.Finish();
//
// Threading: one caller. Update waits while more than kQueueBytesMax are unhashed. A verifier that is
// switched off does nothing and finishes with nullopt.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "base/bytes.h"
#include "base/digest.h"

namespace sluice::client {

class Verifier {
 public:
  static constexpr size_t kQueueBytesMax = 8u << 20;

  explicit Verifier(bool on) {
    if (on) thread_ = std::thread([this] { Run(); });
  }
  ~Verifier() { Finish(); }

  void Update(const Bytes& data) {
    if (!thread_.joinable() || data.empty()) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queued_bytes_ == 0 || queued_bytes_ + data.size() <= kQueueBytesMax; });
    queued_bytes_ += data.size();
    queue_.push_back(data);
    changed_.notify_all();
  }
  std::optional<Sha256> Finish() {
    if (!thread_.joinable()) return std::nullopt;
    {
      std::lock_guard lock(mutex_);
      finished_ = true;
      changed_.notify_all();
    }
    thread_.join();
    return builder_.Finish();
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return finished_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Bytes data = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      data.ForEachChunk([&](std::string_view chunk) { builder_.Update(chunk); });
      lock.lock();
      queued_bytes_ -= data.size();
      changed_.notify_all();
    }
  }

  DigestBuilder builder_;  // of the thread, until it is joined
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Bytes> queue_;  // guarded by mutex_, as are the next two
  size_t queued_bytes_ = 0;
  bool finished_ = false;
  std::thread thread_;
};

}  // namespace sluice::client
