#include "edge/recent_table.h"

#include <gtest/gtest.h>

namespace sluice::edge {
namespace {

using std::chrono::seconds;

class RecentTableTest : public testing::Test {
 protected:
  // Whether there is one after it was asked for; how many were made is counted.
  bool Ask(int key) {
    let_go_.reset();
    const auto make = [&] {
      ++made_;
      return key;
    };
    const int* value = table_.Get(key, now_, make, &let_go_);
    if (value != nullptr) {
      EXPECT_EQ(*value, key);
    }
    return value != nullptr;
  }

  RecentTable<int, int> table_{1024, seconds(10)};
  env::Instant now_{};
  int made_ = 0;
  std::optional<int> let_go_;
};

// 1,024 groups with two followers each filled the table of streams; one more, and all of them were forgotten.
TEST_F(RecentTableTest, K18_AFullTableLetsOneGoAndNotAll) {
  for (int key = 0; key < 1024; ++key) ASSERT_TRUE(Ask(key));
  now_ += seconds(10);
  ASSERT_TRUE(Ask(0));  // in use again
  ASSERT_TRUE(Ask(1024));
  EXPECT_EQ(let_go_, 1) << "nobody has asked for it for longer";
  EXPECT_EQ(table_.size(), 1024u);
  EXPECT_EQ(made_, 1025);
  for (int key = 2; key <= 1024; ++key) ASSERT_TRUE(Ask(key));
  EXPECT_EQ(made_, 1025) << "all others are still there";
}

TEST_F(RecentTableTest, K18_WhereAllAreInUseTheNewcomerGetsNothing) {
  for (int round = 0; round < 20; ++round, now_ += seconds(1)) {
    for (int key = 0; key < 1100; ++key) EXPECT_EQ(Ask(key), key < 1024) << key;
  }
  EXPECT_EQ(made_, 1024) << "they did not take the place of each other in turn";
}

}  // namespace
}  // namespace sluice::edge
