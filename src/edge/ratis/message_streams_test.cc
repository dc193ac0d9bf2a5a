#include "edge/ratis/message_streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::edge::ratis {
namespace {

constexpr GroupId kGroup = kDefaultGroup;
const ClientId kClient{{1}};
const env::Instant kStart{};

class MessageStreamsTest : public testing::Test {
 protected:
  absl::StatusOr<std::optional<Bytes>> Add(const MessagePart& part, std::string_view data) {
    return streams_.Add(kGroup, kClient, part, Bytes::Copy(data), now_);
  }
  MessageStreams streams_;
  env::Instant now_ = kStart;
};

TEST_F(MessageStreamsTest, GivesTheWholeWithTheLastPart) {
  EXPECT_EQ(*Add({.stream = 7, .number = 0}, "ab"), std::nullopt);
  EXPECT_EQ(*Add({.stream = 8, .number = 5}, "x"), std::nullopt);  // counts from anywhere
  EXPECT_EQ(*Add({.stream = 7, .number = 1}, ""), std::nullopt);
  EXPECT_EQ(**Add({.stream = 7, .number = 2, .last = true}, "c"), "abc");
  EXPECT_EQ(**Add({.stream = 8, .number = 6, .last = true}, "y"), "xy");
  EXPECT_EQ(**Add({.stream = 9, .number = 0, .last = true}, "one"), "one");
}

TEST_F(MessageStreamsTest, ARetriedPartCountsOnce) {
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, "a"), std::nullopt);
  EXPECT_EQ(*Add({.stream = 1, .number = 1}, "b"), std::nullopt);
  EXPECT_EQ(*Add({.stream = 1, .number = 1}, "b"), std::nullopt);
  EXPECT_EQ(**Add({.stream = 1, .number = 2, .last = true}, "c"), "abc");
}

TEST_F(MessageStreamsTest, APartThatDoesNotFollowEndsTheMessage) {
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, "a"), std::nullopt);
  EXPECT_TRUE(absl::IsAborted(Add({.stream = 1, .number = 2}, "c").status()));
  EXPECT_TRUE(absl::IsAborted(Add({.stream = 1, .number = 3, .last = true}, "d").status()));
  EXPECT_TRUE(absl::IsAborted(Add({.stream = 2, .number = 3, .last = true}, "never begun").status()));
}

TEST_F(MessageStreamsTest, IsBoundedInBytesAndNumber) {
  const std::string big(kMessageBytesMax, 'b');
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, big), std::nullopt);
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 1, .number = 1}, "x").status()));
  for (uint64_t i = 0; i < kMessageStreamBytesMax / kMessageBytesMax; ++i) {
    EXPECT_EQ(*Add({.stream = 10 + i, .number = 0}, big), std::nullopt);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 2, .number = 0}, "x").status()));
  streams_.Drop(kGroup);
  for (uint64_t i = 0; i < kMessageStreamsMax; ++i) {
    EXPECT_EQ(*Add({.stream = i, .number = 0}, ""), std::nullopt);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 1000, .number = 0}, "").status()));
  now_ += kMessageStreamIdle + std::chrono::milliseconds(1);
  EXPECT_EQ(*Add({.stream = 1000, .number = 0}, ""), std::nullopt);
}

TEST_F(MessageStreamsTest, ALostLeadershipDropsItsMessagesOnly) {
  const GroupId other{{9}};
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, "a"), std::nullopt);
  EXPECT_EQ(*streams_.Add(other, kClient, {.stream = 2, .number = 0}, Bytes::Copy("b"), now_), std::nullopt);
  streams_.Drop(kGroup);
  EXPECT_TRUE(absl::IsAborted(Add({.stream = 1, .number = 1, .last = true}, "c").status()));
  EXPECT_EQ(**streams_.Add(other, kClient, {.stream = 2, .number = 1, .last = true}, Bytes::Copy("c"), now_),
            "bc");
}

}  // namespace
}  // namespace sluice::edge::ratis
