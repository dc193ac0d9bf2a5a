#include "edge/ratis/reply_table.h"

#include <gtest/gtest.h>

#include <chrono>

namespace sluice::edge::ratis {
namespace {

class ManualClock final : public env::Clock {
 public:
  env::Instant MonotonicNow() const override { return now; }
  int64_t WallNowMs() const override { return 0; }
  env::Instant now{};
};

struct ReplyTableTest : testing::Test {
  uint64_t Add(const void* owner = nullptr) {
    return table.Add(owner, [this](std::optional<raft::Message> reply) { reply ? ++answered : ++forgotten; });
  }
  ManualClock clock;
  ReplyTable table{3, std::chrono::seconds(5), clock};
  int answered = 0;
  int forgotten = 0;
};

TEST_F(ReplyTableTest, AnswersOnce) {
  const uint64_t token = Add();
  EXPECT_NE(token, 0u);
  EXPECT_TRUE(table.Answer(token, raft::VoteReply{}));
  EXPECT_FALSE(table.Answer(token, raft::VoteReply{}));
  EXPECT_FALSE(table.Answer(0, raft::VoteReply{}));
  EXPECT_EQ(answered, 1);
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(ReplyTableTest, FullRefusesUntilTheOldAreForgotten) {
  for (int i = 0; i < 3; ++i) EXPECT_NE(Add(), 0u);
  EXPECT_EQ(Add(), 0u);
  clock.now += std::chrono::seconds(6);
  EXPECT_NE(Add(), 0u);
  EXPECT_EQ(forgotten, 3);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(ReplyTableTest, ForgetsWhatBelongsToAnOwner) {
  const int one = 0, other = 0;
  Add(&one);
  const uint64_t token = Add(&other);
  table.Forget(&one);
  EXPECT_EQ(forgotten, 1);
  EXPECT_TRUE(table.Answer(token, raft::AppendReply{}));
}

TEST_F(ReplyTableTest, StopForgetsAllAndRefuses) {
  Add();
  table.Stop();
  EXPECT_EQ(forgotten, 1);
  EXPECT_EQ(Add(), 0u);
}

}  // namespace
}  // namespace sluice::edge::ratis
