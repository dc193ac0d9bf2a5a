#include "sluice/future.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace sluice {
namespace {

TEST(Future, TellsThoseWhoAskedBeforeAndAfterInTheirOrder) {
  Promise<int> promise;
  const Future<int> future = promise.future();
  std::vector<int> heard;
  future.Then([&](const absl::StatusOr<int>& result) { heard.push_back(*result); });
  future.Then([&](const absl::StatusOr<int>& result) { heard.push_back(*result + 1); });
  EXPECT_FALSE(future.Ready());
  EXPECT_TRUE(heard.empty());
  promise.Set(10);
  EXPECT_TRUE(future.Ready());
  future.Then([&](const absl::StatusOr<int>& result) { heard.push_back(*result + 2); });
  EXPECT_THAT(heard, testing::ElementsAre(10, 11, 12));
}

TEST(Future, TheFirstResultStays) {
  Promise<int> promise;
  promise.Set(absl::AbortedError("first"));
  promise.Set(2);
  EXPECT_EQ(promise.future().Get().status(), absl::AbortedError("first"));
}

TEST(Future, GetWaitsForAnotherThread) {
  Promise<int> promise;
  std::thread other([promise] { promise.Set(7); });
  EXPECT_EQ(*promise.future().Get(), 7);
  EXPECT_EQ(*promise.future().Get(), 7);
  other.join();
}

TEST(Future, ACallbackMayAskForMore) {
  Promise<int> promise;
  int inner = 0;
  const Future<int> future = promise.future();
  future.Then([&](const absl::StatusOr<int>&) {
    future.Then([&](const absl::StatusOr<int>& result) { inner = *result; });
  });
  promise.Set(3);
  EXPECT_EQ(inner, 3);
}

}  // namespace
}  // namespace sluice
