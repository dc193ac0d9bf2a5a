// A reader of streams for tests: keeps what comes and checks what every reader is promised: callbacks of a
// stream one at a time, at most one on_failed, exactly one on_closed, nothing after it.
//
//   Watcher watcher;  options.handler = &watcher;
//   watcher.AwaitMessages(id, 3);  EXPECT_EQ(watcher.AwaitEnd(id), ECONNRESET);
//
// Threading: any. Ownership: must outlive its streams. Failure: EXPECTs; waits are over after ten seconds.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "sluice/stream.h"

namespace sluice::edge::brpc {

class Watcher : public StreamInputHandler {
 public:
  // Runs for each message, inside the callback.
  std::function<void(StreamId, const Bytes&)> on_message;
  bool keeps_messages = true;

  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    Enter(id);
    EXPECT_GE(size, 1u);
    for (size_t i = 0; i < size; ++i) {
      if (on_message) on_message(id, *messages[i]);
    }
    absl::MutexLock lock(&mutex_);
    Seen& seen = seen_[id];
    for (size_t i = 0; i < size; ++i) {
      ++seen.count;
      if (keeps_messages) seen.messages.push_back(messages[i]->ToString());
    }
    seen.inside = false;
    return 0;
  }
  void on_idle_timeout(StreamId id) override {
    Enter(id);
    Leave(id);
  }
  void on_failed(StreamId id, int code, const std::string& text) override {
    Enter(id);
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_NE(code, 0);
      EXPECT_EQ(std::exchange(seen_[id].code, code), 0) << "failed twice";
      seen_[id].text = text;
    }
    Leave(id);
  }
  void on_closed(StreamId id) override {
    Enter(id);
    absl::MutexLock lock(&mutex_);
    seen_[id].closed = true;
    seen_[id].inside = false;
    ++closed_;
  }

  std::vector<std::string> AwaitMessages(StreamId id, size_t count) {
    absl::MutexLock lock(&mutex_);
    Await([&] { return seen_[id].count >= count || seen_[id].closed; });
    return seen_[id].messages;
  }
  // Why it ended; 0 if the end was clean.
  int AwaitEnd(StreamId id) {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(Await([&] { return seen_[id].closed; })) << "stream " << id << " did not end";
    return seen_[id].code;
  }
  void AwaitEnds(size_t count) {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(Await([&] { return closed_ >= count; })) << closed_ << " of " << count << " ended";
    EXPECT_EQ(closed_, count);
  }
  // Of the streams that this reader has seen; in the order of their ids.
  std::vector<int> Codes() {
    absl::MutexLock lock(&mutex_);
    std::vector<int> codes;
    for (const auto& [id, seen] : seen_) codes.push_back(seen.code);
    return codes;
  }
  std::vector<std::string> AllMessages() {
    absl::MutexLock lock(&mutex_);
    std::vector<std::string> all;
    for (const auto& [id, seen] : seen_) all.insert(all.end(), seen.messages.begin(), seen.messages.end());
    return all;
  }
  size_t closed() {
    absl::MutexLock lock(&mutex_);
    return closed_;
  }

 private:
  struct Seen {
    std::vector<std::string> messages;
    size_t count = 0;
    int code = 0;
    std::string text;
    bool closed = false;
    bool inside = false;
  };

  template <typename Condition>
  bool Await(Condition condition) {
    return mutex_.AwaitWithTimeout(absl::Condition(&condition), absl::Seconds(10));
  }
  void Enter(StreamId id) {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(seen_[id].closed) << "a callback after the end";
    EXPECT_FALSE(std::exchange(seen_[id].inside, true)) << "two callbacks of one stream at once";
  }
  void Leave(StreamId id) {
    absl::MutexLock lock(&mutex_);
    seen_[id].inside = false;
  }

  absl::Mutex mutex_;
  std::map<StreamId, Seen> seen_;
  size_t closed_ = 0;
};

}  // namespace sluice::edge::brpc
