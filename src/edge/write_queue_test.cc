#include "edge/write_queue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::edge {
namespace {

struct Text {
  std::string text;
  size_t ByteSizeLong() const { return text.size(); }
};

struct WriteQueueTest : testing::Test {
  std::vector<std::string> started;
  int ended = 0;
  WriteQueue<Text> queue{
      10, [this](const Text* message, grpc::WriteOptions) { started.push_back(message->text); }};
  void End() {
    queue.End([this] { ++ended; });
  }
};

TEST_F(WriteQueueTest, WritesOneAtATimeInOrder) {
  EXPECT_TRUE(queue.Push({"a"}));
  EXPECT_TRUE(queue.Push({"b"}));
  EXPECT_EQ(started, std::vector<std::string>({"a"}));
  queue.OnWriteDone(true);
  EXPECT_EQ(started, std::vector<std::string>({"a", "b"}));
  queue.OnWriteDone(true);
  EXPECT_EQ(queue.bytes(), 0u);
}

TEST_F(WriteQueueTest, BoundedButTakesOneOfAnySize) {
  EXPECT_TRUE(queue.Push({std::string(100, 'x')}));
  EXPECT_FALSE(queue.Push({"y"}));
  queue.OnWriteDone(true);
  EXPECT_TRUE(queue.Push({"y"}));
}

TEST_F(WriteQueueTest, EndsAfterTheLastWriteAndOnce) {
  queue.Push({"a"});
  queue.Push({"b"});
  End();
  End();
  EXPECT_FALSE(queue.Push({"c"}));
  queue.OnWriteDone(true);
  EXPECT_EQ(ended, 0);
  queue.OnWriteDone(true);
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(started.size(), 2u);
}

TEST_F(WriteQueueTest, EndsAtOnceWhenIdle) {
  End();
  EXPECT_EQ(ended, 1);
}

TEST_F(WriteQueueTest, CutDropsWhatWaitsAndHastensAnEnd) {
  queue.Push({"a"});
  queue.Push({"b"});
  End();
  queue.Cut([this] { ended += 100; });
  EXPECT_EQ(ended, 0);  // "a" is still being written
  queue.OnWriteDone(true);
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(started.size(), 1u);
}

TEST_F(WriteQueueTest, AFailedWriteDropsTheRest) {
  queue.Push({"a"});
  queue.Push({"b"});
  queue.OnWriteDone(false);
  EXPECT_EQ(started.size(), 1u);
  EXPECT_FALSE(queue.Push({"c"}));
  End();
  EXPECT_EQ(ended, 1);
}

}  // namespace
}  // namespace sluice::edge
