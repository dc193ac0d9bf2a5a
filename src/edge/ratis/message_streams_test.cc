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
  EXPECT_EQ(*Add({.stream = 8, .number = 0}, "x"), std::nullopt);
  EXPECT_EQ(*Add({.stream = 7, .number = 1}, ""), std::nullopt);
  EXPECT_EQ(**Add({.stream = 7, .number = 2, .last = true}, "c"), "abc");
  EXPECT_EQ(**Add({.stream = 8, .number = 1, .last = true}, "y"), "xy");
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

// After a beginning was forgotten, the parts behind it must not become a message of their own.
TEST_F(MessageStreamsTest, ASuffixIsNeverAMessage) {
  const auto rest_is_refused = [this](uint64_t stream, uint64_t from) {
    EXPECT_TRUE(absl::IsAborted(Add({.stream = stream, .number = from}, "suffix").status())) << stream;
    EXPECT_TRUE(absl::IsAborted(Add({.stream = stream, .number = from + 1, .last = true}, "end").status()));
  };
  rest_is_refused(1, 1);  // a new leader, which never had the beginning
  EXPECT_EQ(*Add({.stream = 2, .number = 0}, "a"), std::nullopt);
  streams_.Drop(kGroup);
  rest_is_refused(2, 1);
  EXPECT_EQ(*Add({.stream = 3, .number = 0}, "a"), std::nullopt);
  now_ += kMessageStreamIdle + std::chrono::milliseconds(1);
  rest_is_refused(3, 1);
  EXPECT_EQ(*Add({.stream = 4, .number = 0}, std::string(kMessageBytesMax, 'b')), std::nullopt);
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 4, .number = 1}, "x").status()));
  rest_is_refused(4, 2);
}

TEST_F(MessageStreamsTest, IsBoundedInBytes) {
  const std::string big(kMessageBytesMax, 'b');
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, big), std::nullopt);
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 1, .number = 1}, "x").status()));
  const uint64_t fit = kMessageStreamBytesMax / (kMessageBytesMax + kMessagePartCost);
  ASSERT_LT(fit, kMessageStreamsPerClient);
  for (uint64_t i = 0; i < fit; ++i) {
    EXPECT_EQ(*Add({.stream = 10 + i, .number = 0}, big), std::nullopt);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 2, .number = 0}, big).status()));
  streams_.Drop(kGroup);
  EXPECT_EQ(*Add({.stream = 2, .number = 0}, big), std::nullopt);
}

TEST_F(MessageStreamsTest, PartsWithoutBytesAreBoundedToo) {
  const uint64_t fit = kMessageStreamBytesMax / kMessagePartCost;
  for (uint64_t i = 0; i < fit; ++i) ASSERT_EQ(*Add({.stream = 1, .number = i}, ""), std::nullopt) << i;
  EXPECT_TRUE(absl::IsResourceExhausted(Add({.stream = 1, .number = fit}, "").status()));
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, ""), std::nullopt) << "forgotten with all its parts";
}

TEST_F(MessageStreamsTest, IsBoundedInNumberForEachClientAndForAll) {
  const auto begin = [this](uint8_t client, const GroupId& group, uint64_t stream) {
    return streams_.Add(group, ClientId{{client}}, {.stream = stream, .number = 0}, Bytes(), now_).status();
  };
  for (size_t i = 0; i < kMessageStreamsMax; ++i) {
    const auto client = static_cast<uint8_t>(i / kMessageStreamsPerClient);
    if (i > 0 && i % kMessageStreamsPerClient == 0) {
      EXPECT_TRUE(absl::IsResourceExhausted(begin(static_cast<uint8_t>(client - 1), GroupId{{9}}, i)));
    }
    EXPECT_TRUE(begin(client, kGroup, i).ok()) << i;
  }
  EXPECT_TRUE(absl::IsResourceExhausted(begin(200, kGroup, 0)));
  now_ += kMessageStreamIdle + std::chrono::milliseconds(1);
  EXPECT_TRUE(begin(200, kGroup, 0).ok());
}

TEST_F(MessageStreamsTest, ShortPartsShareTheirMemory) {
  constexpr size_t kParts = 1000, kPartBytes = 600;
  std::string all;
  for (uint64_t i = 0; i < kParts; ++i) {
    const std::string part(kPartBytes, static_cast<char>('a' + i % 26));
    all += part;
    ASSERT_EQ(*Add({.stream = 1, .number = i}, part), std::nullopt);
  }
  const Bytes whole = **Add({.stream = 1, .number = kParts, .last = true}, "");
  EXPECT_EQ(whole, all);
  size_t pieces = 0;
  whole.ForEachChunk([&pieces](std::string_view) { ++pieces; });
  EXPECT_LT(pieces, kParts / 4);
}

TEST_F(MessageStreamsTest, GroupsDoNotShareStreams) {
  const GroupId other{{9}};
  EXPECT_EQ(*Add({.stream = 1, .number = 0}, "a"), std::nullopt);
  EXPECT_EQ(*streams_.Add(other, kClient, {.stream = 1, .number = 0}, Bytes::Copy("b"), now_), std::nullopt);
  EXPECT_EQ(**Add({.stream = 1, .number = 1, .last = true}, "c"), "ac");
  EXPECT_EQ(**streams_.Add(other, kClient, {.stream = 1, .number = 1, .last = true}, Bytes::Copy("c"), now_),
            "bc");
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
