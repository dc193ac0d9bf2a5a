#include "raft/progress.h"

#include <gtest/gtest.h>

namespace sluice::raft {
namespace {

using State = ReplicaProgress::State;
constexpr ReplicaProgress::Limits kLimits{3, 100};

TEST(ReplicaProgress, OneInFlightBeforeTheFirstReplyThenAPipelineBoundedByCountAndBytes) {
  ReplicaProgress progress(Index{5});
  ASSERT_TRUE(progress.CanSend(kLimits));
  progress.Sent(1, Index{4}, Index{7}, 10);
  EXPECT_FALSE(progress.CanSend(kLimits));
  EXPECT_EQ(progress.next(), Index{5});  // offered again if it is lost

  progress.Acknowledged(1, Index{7}, Index{6});
  EXPECT_EQ(progress.state(), State::kReplicate);
  EXPECT_EQ(progress.match(), Index{6});
  progress.Sent(2, Index{6}, Index{8}, 10);
  progress.Sent(3, Index{7}, Index{9}, 10);
  EXPECT_TRUE(progress.CanSend(kLimits));
  progress.Sent(4, Index{8}, Index{10}, 10);
  EXPECT_FALSE(progress.CanSend(kLimits));  // three appends
  EXPECT_EQ(progress.next(), Index{10});
  progress.Acknowledged(3, Index{9}, Index{8});  // covers call 2, too
  EXPECT_EQ(progress.inflight(), 1u);
  progress.Sent(5, Index{9}, Index{11}, 95);
  EXPECT_FALSE(progress.CanSend(kLimits));  // bytes
  progress.Acknowledged(5, Index{11}, Index{10});
  EXPECT_EQ(progress.inflight_bytes(), 0u);
}

TEST(ReplicaProgress, MismatchGoesBackToTheHintButNotBelowWhatIsKnown) {
  ReplicaProgress progress(Index{10});
  progress.Sent(1, Index{9}, Index{11}, 1);
  EXPECT_FALSE(progress.Mismatch(7, Index{0}));  // of no request under way
  EXPECT_TRUE(progress.Mismatch(1, Index{4}));
  EXPECT_EQ(progress.next(), Index{4});
  progress.Sent(2, Index{3}, Index{6}, 1);
  progress.Acknowledged(2, Index{6}, Index{5});
  progress.Sent(3, Index{5}, Index{8}, 1);
  progress.Sent(4, Index{7}, Index{9}, 1);
  EXPECT_TRUE(progress.Mismatch(4, Index{2}));
  EXPECT_EQ(progress.next(), Index{6});
  EXPECT_EQ(progress.state(), State::kProbe);
  EXPECT_FALSE(progress.Mismatch(3, Index{1}));  // forgotten with the rest of the pipeline
}

TEST(ReplicaProgress, NeverOffersTheSameFirstEntryForEver) {
  ReplicaProgress progress(Index{10});
  progress.Sent(1, Index{9}, Index{11}, 1);
  progress.Mismatch(1, Index{10});
  EXPECT_EQ(progress.next(), Index{9});
  progress.Sent(2, Index{8}, Index{11}, 1);
  progress.Mismatch(2, Index{9});
  EXPECT_EQ(progress.next(), Index{8});
}

// A peer that goes back on what it confirmed, and says that it has it: a Java server that installs a snapshot.
TEST(ReplicaProgress, P6_WhatIsConfirmedIsOfferedAgainOnlyAtASignOfLife) {
  ReplicaProgress progress(Index{0});
  progress.Sent(1, kNoIndex, Index{4}, 1);
  progress.Acknowledged(1, Index{4}, Index{3});
  progress.HeartbeatSent(2, Index{3});
  EXPECT_TRUE(progress.Mismatch(2, Index{4}));
  EXPECT_EQ(progress.known(), Index{3});
  EXPECT_EQ(progress.next(), Index{4});
  EXPECT_FALSE(progress.CanSend(kLimits)) << "it would be refused again at once, for ever";
  progress.Resume();
  EXPECT_TRUE(progress.CanSend(kLimits));
  // The same of a peer that confirmed nothing: the first entry is the first entry.
  ReplicaProgress fresh(Index{0});
  fresh.Sent(1, kNoIndex, Index{4}, 1);
  EXPECT_TRUE(fresh.Mismatch(1, Index{0}));
  EXPECT_EQ(fresh.next(), Index{0});
  EXPECT_FALSE(fresh.CanSend(kLimits));
}

TEST(ReplicaProgress, F20_ALossIsSeenAndOlderAcknowledgementsAreVoid) {
  ReplicaProgress progress(Index{0});
  progress.Sent(1, kNoIndex, Index{8}, 1);
  progress.Acknowledged(1, Index{8}, Index{7});
  progress.Sent(2, Index{7}, Index{9}, 1);
  progress.HeartbeatSent(3, Index{7});
  EXPECT_TRUE(progress.Mismatch(3, Index{0}));
  EXPECT_EQ(progress.match(), kNoIndex);
  EXPECT_EQ(progress.next(), Index{0});
  progress.Acknowledged(2, Index{9}, Index{8});  // from before the loss
  EXPECT_EQ(progress.match(), kNoIndex);
  progress.Sent(4, kNoIndex, Index{9}, 1);
  progress.Acknowledged(4, Index{9}, kNoIndex);  // accepted, not promised
  EXPECT_TRUE(progress.hollow());
  EXPECT_EQ(progress.match(), kNoIndex);
  EXPECT_EQ(progress.known(), Index{8});
  EXPECT_EQ(progress.next(), Index{9});
}

TEST(ReplicaProgress, K29_ACallThatFailedLosesNothingThatWasAssumed) {
  ReplicaProgress progress(Index{10'001});  // of a new leader, which has heard nothing of the peer
  progress.Sent(1, Index{10'000}, Index{10'002}, 1);
  progress.Retreat();
  EXPECT_EQ(progress.next(), Index{10'001});
  EXPECT_EQ(progress.inflight(), 0u);
  progress.Sent(2, Index{10'000}, Index{10'002}, 1);
  progress.Mismatch(2, Index{10'000});
  progress.Retreat();
  EXPECT_EQ(progress.next(), Index{10'000});
  // What was confirmed is where a broken pipeline begins again.
  progress.Sent(3, Index{9'999}, Index{10'002}, 1);
  progress.Acknowledged(3, Index{10'002}, Index{10'001});
  progress.Sent(4, Index{10'001}, Index{10'005}, 1);
  progress.Retreat();
  EXPECT_EQ(progress.state(), State::kProbe);
  EXPECT_EQ(progress.next(), Index{10'002});
}

TEST(ReplicaProgress, K3_HeartbeatsThatProveThePrefixMoveMatchAlsoWhenTheyOverlap) {
  ReplicaProgress progress(Index{6});
  progress.HeartbeatSent(1, Index{5});
  progress.HeartbeatSent(2, Index{5});  // the link is slow: before the answer to the first one
  progress.HeartbeatAcknowledged(1, Index{5});
  EXPECT_EQ(progress.match(), Index{5});
  EXPECT_EQ(progress.state(), State::kReplicate);
  progress.HeartbeatAcknowledged(1, Index{9});  // answered already
  EXPECT_EQ(progress.match(), Index{5});
  progress.HeartbeatAcknowledged(2, Index{9});  // never more than it named
  EXPECT_EQ(progress.match(), Index{5});
}

TEST(ReplicaProgress, K3_AHeartbeatThatProvesNothingChangesNothing) {
  ReplicaProgress progress(Index{6});
  progress.HeartbeatSent(1, Index{5});
  progress.HeartbeatAcknowledged(1, kNoIndex);  // of a server that promises nothing (F-20)
  EXPECT_EQ(progress.match(), kNoIndex);
  EXPECT_EQ(progress.known(), Index{5});
  ReplicaProgress behind(Index{6});
  behind.HeartbeatSent(2, kNoIndex);  // what it should have is compacted here
  behind.HeartbeatAcknowledged(2, kNoIndex);
  EXPECT_EQ(behind.state(), State::kProbe);
}

TEST(ReplicaProgress, K1_FailedSnapshotsPauseLongerEachTime) {
  ReplicaProgress progress(Index{3});
  progress.SnapshotEnded(false, 100);
  EXPECT_EQ(progress.snapshot_wait, 100u);
  progress.SnapshotEnded(false, 100);
  EXPECT_EQ(progress.snapshot_wait, 200u);
  for (int i = 0; i < 10; ++i) progress.SnapshotEnded(false, 100);
  EXPECT_EQ(progress.snapshot_wait, 3200u);
  progress.SnapshotEnded(true, 100);
  EXPECT_EQ(progress.snapshot_wait, 0u);
  progress.SnapshotEnded(false, 100);
  EXPECT_EQ(progress.snapshot_wait, 100u);
}

TEST(ReplicaProgress, SnapshotAndPauseStopSending) {
  ReplicaProgress progress(Index{3});
  progress.AwaitSnapshot();
  EXPECT_FALSE(progress.CanSend(kLimits));
  progress.Probe(Index{9});
  EXPECT_TRUE(progress.CanSend(kLimits));
  progress.Pause();
  EXPECT_FALSE(progress.CanSend(kLimits));
  progress.Resume();
  EXPECT_TRUE(progress.CanSend(kLimits));
}

}  // namespace
}  // namespace sluice::raft
