// What tests of streams share: one connection, with streams whose peers are played by hand.
//
//   TEST_F(StreamsTest, ...) { StreamState* stream = Open(); Deliver(*streams_, Data(3, 7, "x")); ... }
//
// Ours have the ids 3, 4, ..., their peers 7, 8, .... Threading: none. Failure: whatever is still counted
// when a test is over fails it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "wire/brpc/stream_words.h"
#include "wire/brpc/streams.h"

namespace sluice::wire::brpc {

inline constexpr int64_t kPeer = 7;

class StreamsTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(); }
  void Start() { streams_.emplace(options_, &budget_); }
  // Everything that was counted is given back, whatever happened before.
  void TearDown() override {
    streams_->ConnectionLost(1014, "over");
    for (auto& state : states_) streams_->Forget(state.get());
    EXPECT_EQ(streams_->received_bytes(), 0u);
    EXPECT_EQ(streams_->unsent_bytes(), 0u);
    EXPECT_EQ(streams_->size(), 0u);
    EXPECT_FALSE(streams_->HasOutput());
    EXPECT_EQ(streams_->NextReady(), nullptr);
    EXPECT_EQ(streams_->NextWritable(), nullptr);
    streams_.reset();
    EXPECT_EQ(budget_.received_bytes, 0u);
    EXPECT_EQ(budget_.unsent_bytes, 0u);
  }

  StreamState* NewState() {
    states_.push_back(std::make_unique<StreamState>());
    return states_.back().get();
  }
  StreamState* Opening(uint64_t window_bytes = 2 << 20) {
    StreamState* stream = NewState();
    stream->window_bytes = window_bytes;
    EXPECT_TRUE(streams_->Add(stream));
    return stream;
  }
  StreamState* Open(uint64_t window_bytes = 2 << 20, bool readable = true) {
    StreamState* stream = NewState();
    stream->window_bytes = window_bytes;
    stream->readable = readable;
    EXPECT_TRUE(streams_->Add(stream));
    Connect(stream);
    streams_->Release(stream);
    return stream;
  }
  void Connect(StreamState* stream, bool wants_feedback = true) {
    streams_->Connect(stream, {.remote_id = kPeer + stream->local_id - options_.first_id,
                               .readable = true,
                               .wants_feedback = wants_feedback});
  }
  Streams::Written Write(StreamState* stream, std::string_view message) {
    return streams_->Write(stream, Bytes::Copy(message));
  }
  std::vector<std::string> Sent(size_t bytes_max = SIZE_MAX) { return Words(SentBy(*streams_, bytes_max)); }
  // Hands out all that is ready, as "id:message" and "id:end code".
  std::vector<std::string> HandOut(size_t most = 128) {
    std::vector<std::string> out;
    while (StreamState* stream = streams_->NextReady()) {
      std::vector<Bytes> messages;
      const bool end = streams_->TakeMessages(stream, most, &messages);
      for (const Bytes& message : messages) {
        out.push_back(fmt::format("{}:{}", stream->local_id, message.ToString()));
        streams_->Consumed(stream, message.size());
      }
      if (end) out.push_back(fmt::format("{}:end {}", stream->local_id, stream->end_code));
      streams_->Delivered(stream);
    }
    return out;
  }

  StreamsOptions options_{.first_id = 3};
  StreamBudget budget_;
  std::optional<Streams> streams_;
  std::vector<std::unique_ptr<StreamState>> states_;
};

}  // namespace sluice::wire::brpc
