// What a run of records says of one group, record by record.
#include "log/replay.h"

#include <gtest/gtest.h>

namespace sluice::log {
namespace {

constexpr GroupId kGroup{{1}};

class ReplayTest : public testing::Test {
 protected:
  void Record(RecordKind kind, uint64_t term, int64_t index, uint64_t previous_term = 1,
              const Bytes& payload = Bytes()) {
    FoundRecord record;
    record.payload = payload;
    record.header = {.kind = kind,
                     .group = kGroup,
                     .at = {Term{term}, Index{index}},
                     .previous_term = Term{previous_term}};
    record.place = {.generation = 1, .offset = 4096, .sequence = sequence_++};
    replay_.OnRecord(record);
  }
  // Entries 0 to count - 1 of term 1.
  void Entries(int64_t count) {
    for (int64_t i = 0; i < count; ++i) Record(RecordKind::kEntry, 1, i, i == 0 ? 0 : 1);
  }
  ReplayedGroup Finish(Term hard_term = Term{1}) { return replay_.Finish({{kGroup, hard_term}}).at(kGroup); }

  Replay replay_;
  uint64_t sequence_ = 0;
};

TEST_F(ReplayTest, F29_ARestartLeavesNothingOfTheOldLog) {
  Entries(10);
  Record(RecordKind::kRestart, 2, 4);  // behind a snapshot of another history
  const ReplayedGroup group = Finish();
  EXPECT_EQ(group.compacted, (TermIndex{Term{2}, Index{4}}));
  EXPECT_TRUE(group.entries.empty());
  EXPECT_FALSE(group.promise.has_value());
}

TEST_F(ReplayTest, F33_ACompactionNeverGoesBack) {
  Entries(10);
  Record(RecordKind::kCompact, 1, 5);
  Record(RecordKind::kCompact, 1, 3);
  const ReplayedGroup group = Finish();
  EXPECT_EQ(group.compacted, (TermIndex{Term{1}, Index{5}}));
  EXPECT_EQ(group.entries.size(), 4u);
  EXPECT_FALSE(group.promise.has_value());
}

TEST_F(ReplayTest, F15_ACopyOfWhatWasReplacedChangesNothing) {
  Entries(3);
  Record(RecordKind::kEntry, 2, 2);
  const uint64_t of_the_new = sequence_ - 1;
  Record(RecordKind::kCopy, 1, 2);
  const ReplayedGroup group = Finish();
  ASSERT_EQ(group.entries.size(), 3u);
  EXPECT_EQ(group.entries[2].term, Term{2});
  EXPECT_EQ(group.entries[2].place.sequence, of_the_new);
}

// Further than a group can have entries: what stood between them is lost.
TEST_F(ReplayTest, F18_AJumpThatCannotBeIsDamage) {
  Entries(3);
  Record(RecordKind::kEntry, 1, 1 << 25);
  const ReplayedGroup group = Finish();
  ASSERT_TRUE(group.promise.has_value());
  EXPECT_EQ(group.promise->last.index.value, INT64_MAX);
}

// The hard state was lost when the mark was written, and has learnt since in which terms this server may have
// acknowledged. The log could not be told before the power failed.
TEST_F(ReplayTest, F07_F08_APromiseOfAnyTermIsOfNoneBeyondTheHardStates) {
  constexpr Index kUnknown{INT64_MAX};
  Entries(3);
  const StateMark mark{.last = {Term{1}, Index{2}}, .promise = Promise{{raft::kEveryTerm, kUnknown}, true}};
  Record(RecordKind::kState, 0, -1, 0, Bytes::Take(EncodeStateMark(mark)));
  EXPECT_EQ(Replay(replay_).Finish({{kGroup, Term{6}}}).at(kGroup).promise->last,
            (TermIndex{Term{6}, kUnknown}));
  EXPECT_EQ(Finish(raft::kEveryTerm).promise->last, (TermIndex{raft::kEveryTerm, kUnknown}));
}

}  // namespace
}  // namespace sluice::log
