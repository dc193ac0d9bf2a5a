#include "edge/ratis/ordered_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice::edge::ratis {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Window = OrderedWindow<std::string, std::string>;

std::vector<std::string> Receive(Window& window, uint64_t seq, bool first = false, uint64_t bytes = 1) {
  auto ready = window.Receive(seq, first, fmt::format("q{}", seq), bytes);
  EXPECT_TRUE(ready.ok()) << ready.status();
  std::vector<std::string> out;
  if (ready.ok()) {
    for (auto& one : *ready) out.push_back(one.request);
  }
  return out;
}

TEST(OrderedWindow, Rule1_NothingRunsBeforeTheFirst) {
  Window window(8, 100);
  EXPECT_THAT(Receive(window, 8), IsEmpty());
  EXPECT_THAT(Receive(window, 9), IsEmpty());
  EXPECT_THAT(Receive(window, 7, true), ElementsAre("q7", "q8", "q9"));
}

TEST(OrderedWindow, Rule1_NumberZeroIsAFirst) {
  Window window(8, 100);
  EXPECT_THAT(Receive(window, 0), ElementsAre("q0"));
  EXPECT_THAT(Receive(window, 1), ElementsAre("q1"));
}

TEST(OrderedWindow, Rule1_WhatLiesBelowTheFirstIsForgotten) {
  Window window(8, 100);
  Receive(window, 3);
  EXPECT_THAT(Receive(window, 7, true), ElementsAre("q7"));
  EXPECT_EQ(window.kept(), 0u);
}

TEST(OrderedWindow, Rule2_DuplicatesAreDroppedSilently) {
  Window window(8, 100);
  EXPECT_THAT(Receive(window, 7, true), ElementsAre("q7"));
  EXPECT_THAT(Receive(window, 7, true), IsEmpty());
  EXPECT_THAT(Receive(window, 9), IsEmpty());
  EXPECT_THAT(Receive(window, 9), IsEmpty());
  EXPECT_THAT(Receive(window, 8), ElementsAre("q8", "q9"));
  EXPECT_THAT(window.Replied(7, "r7"), ElementsAre("r7"));
  EXPECT_THAT(Receive(window, 7), IsEmpty());
  EXPECT_THAT(window.Replied(7, "again"), IsEmpty());
}

TEST(OrderedWindow, Rule3_SubmissionDoesNotWaitForReplies) {
  Window window(8, 100);
  EXPECT_THAT(Receive(window, 1, true), ElementsAre("q1"));
  EXPECT_THAT(Receive(window, 2), ElementsAre("q2"));
  EXPECT_EQ(window.running(), 2u);
}

TEST(OrderedWindow, Rule4_RepliesLeaveInOrder) {
  Window window(8, 100);
  for (uint64_t seq : {7u, 8u, 9u}) Receive(window, seq, seq == 7);
  EXPECT_THAT(window.Replied(9, "r9"), IsEmpty());
  EXPECT_THAT(window.Replied(8, "r8"), IsEmpty());
  EXPECT_THAT(window.Replied(7, "r7"), ElementsAre("r7", "r8", "r9"));
  EXPECT_EQ(window.running(), 0u);
}

TEST(OrderedWindow, Rule7_HalfCloseGivesUpWhatWaitsAndKeepsWhatRuns) {
  Window window(8, 100);
  Receive(window, 7, true);
  Receive(window, 9);
  EXPECT_THAT(window.HalfClose(), ElementsAre("q9"));
  EXPECT_EQ(window.running(), 1u);
  EXPECT_THAT(window.Replied(7, "r7"), ElementsAre("r7"));
  EXPECT_THAT(Receive(window, 8), IsEmpty());
}

TEST(OrderedWindow, Rule7_HalfCloseWithoutAFirst) {
  Window window(8, 100);
  Receive(window, 2);
  Receive(window, 3);
  EXPECT_THAT(window.HalfClose(), ElementsAre("q2", "q3"));
  EXPECT_EQ(window.running(), 0u);
}

TEST(OrderedWindow, F67_GapsBeyondTheWindowAreRefused) {
  Window window(4, 100);
  Receive(window, 1, true);
  EXPECT_THAT(Receive(window, 5), IsEmpty());  // three ahead of 2
  EXPECT_TRUE(absl::IsResourceExhausted(window.Receive(6, false, "q6", 1).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(window.Receive(uint64_t{1} << 40, false, "far", 1).status()));
}

TEST(OrderedWindow, F67_ManyRequestsWithoutAFirstAreRefused) {
  Window window(4, 100);
  for (uint64_t seq : {11u, 22u, 33u, 44u}) EXPECT_THAT(Receive(window, seq), IsEmpty());
  EXPECT_TRUE(absl::IsResourceExhausted(window.Receive(55, false, "q", 1).status()));
}

TEST(OrderedWindow, F67_WaitingBytesAreBounded) {
  Window window(4, 100);
  Receive(window, 1, true);
  EXPECT_THAT(Receive(window, 3, false, 90), IsEmpty());
  EXPECT_TRUE(absl::IsResourceExhausted(window.Receive(4, false, "q4", 20).status()));
  // What is next does not wait, so it is not counted.
  EXPECT_THAT(Receive(window, 2, false, 1000), ElementsAre("q2", "q3"));
}

TEST(OrderedWindow, F67_ImpossibleNumbersAreRefused) {
  Window window(4, 100);
  EXPECT_TRUE(absl::IsInvalidArgument(window.Receive(UINT64_MAX, true, "q", 1).status()));
}

}  // namespace
}  // namespace sluice::edge::ratis
