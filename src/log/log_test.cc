// The log as its callers see it: appends, reads, compaction, restarts of the program, errors of the disk.
#include "log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "log/log_test_support.h"

namespace sluice::log {
namespace {

constexpr GroupId kGroup = kDefaultGroup;

TEST(Log, NewLogIsEmpty) {
  sim::SimFiles disk;
  SimLog log(disk);
  ASSERT_TRUE(log.status().ok()) << log.status();
  EXPECT_TRUE(log->RecoveredGroups().empty());
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.compacted, (TermIndex{Term{0}, kNoIndex}));
  EXPECT_TRUE(state.entries.empty());
  EXPECT_FALSE(state.hard_state.has_value());
}

TEST(Log, AppendedEntriesAreThereAfterReopen) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kGroup, 3, "n1").ok());
    for (int64_t i = 0; i < 60; i += 3) ASSERT_TRUE(log.Append(kGroup, i, 3, 2).ok());
    ASSERT_TRUE(log.Append(kOther, 0, 5, 1).ok());
  }
  SimLog log(disk);
  ASSERT_TRUE(log.status().ok()) << log.status();
  EXPECT_THAT(log->RecoveredGroups(), testing::UnorderedElementsAre(kGroup, kOther));
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.hard_state, (raft::HardState{Term{3}, PeerId{"n1"}}));
  ASSERT_EQ(state.entries.size(), 60u);
  EXPECT_FALSE(state.promised_last.has_value());
  ExpectReadable(log, kGroup, state);
  EXPECT_EQ(log->TakeRecovered(kOther).entries.size(), 5u);
}

TEST(Log, RealFilesAndThreads) {
  const auto dir = std::filesystem::temp_directory_path() / fmt::format("sluice-log-{}", getpid());
  std::filesystem::remove_all(dir);
  constexpr int64_t kCount = 2000;
  auto shard = env::RealExecutors().NewExecutor("shard");
  {
    auto log = Log::Open(env::RealFiles(), env::RealExecutors(), dir.string(), SmallOptions());
    ASSERT_TRUE(log.ok()) << log.status();
    absl::Notification all;
    int64_t answered = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      (*log)->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, i, 1, 1)},
                     shard.get(), [&](absl::Status done) {
                       EXPECT_TRUE(done.ok()) << done;
                       if (++answered == kCount) all.Notify();
                     });
    }
    all.WaitForNotification();
    EXPECT_LT((*log)->stats().batches, static_cast<uint64_t>(kCount));
  }
  auto log = Log::Open(env::RealFiles(), env::RealExecutors(), dir.string(), SmallOptions());
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ((*log)->TakeRecovered(kGroup).entries.size(), static_cast<size_t>(kCount));
  absl::Notification read;
  (*log)->Read(kGroup, Index{0}, Index{kCount}, 64 << 20, shard.get(), [&](auto entries) {
    EXPECT_TRUE(entries.ok());
    EXPECT_EQ(entries->size(), static_cast<size_t>(kCount));
    for (const raft::Entry& entry : *entries) {
      EXPECT_TRUE(entry.payload == PayloadOf(kGroup, entry.at, SizeOf(entry.at)));
    }
    read.Notify();
  });
  read.WaitForNotification();
  log->reset();
  std::filesystem::remove_all(dir);
}

TEST(Log, OneSyncedWriteForWhatArrivedMeanwhile) {
  sim::SimFiles disk;
  SimLog log(disk);
  ASSERT_TRUE(log.Append(kGroup, 0, 1).ok());
  log.Settle();
  const auto before = disk.counts();
  int answered = 0;
  for (int64_t i = 1; i <= 15; ++i) {
    log->Append({.group = kOther, .hard_state = std::nullopt, .entries = EntriesAt(kOther, i - 1, 1, 1)},
                log.shard(), [&](absl::Status done) { answered += done.ok(); });
  }
  log.Settle();
  EXPECT_EQ(answered, 15);
  EXPECT_EQ(disk.counts().durable_writes - before.durable_writes, 1u);
  EXPECT_EQ(disk.counts().writes, before.writes);
  EXPECT_EQ(disk.counts().syncs, before.syncs);
}

TEST(Log, AppendBehindTheEndTruncates) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 0, 10, 1).ok());
    ASSERT_TRUE(log.Append(kGroup, 6, 2, 2).ok());
    EXPECT_EQ(log->ReadCached(kGroup, Index{0}, Index{100}, 1 << 20).size(), 8u);
  }
  SimLog log(disk);
  const GroupState state = log->TakeRecovered(kGroup);
  ASSERT_EQ(state.entries.size(), 8u);
  EXPECT_EQ(state.entries[5].term, Term{1});
  EXPECT_EQ(state.entries[6].term, Term{2});
  ExpectReadable(log, kGroup, state);
}

TEST(Log, EntriesAreReadFromMemoryBeforeTheyAreDurable) {
  sim::SimFiles disk;
  SimLog log(disk);
  log->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, 0, 4, 1)},
              log.shard(), [](absl::Status) {});
  EXPECT_EQ(log->ReadCached(kGroup, Index{1}, Index{4}, 1 << 20).size(), 3u);
  EXPECT_EQ(log->ReadCached(kGroup, Index{0}, Index{4}, 1).size(), 1u);
}

TEST(Log, SmallCacheReadsFromDisk) {
  sim::SimFiles disk;
  LogOptions options = SmallOptions();
  options.cache_bytes_max = 1000;
  SimLog log(disk, options);
  ASSERT_TRUE(log.Append(kGroup, 0, 40).ok());
  EXPECT_TRUE(log->ReadCached(kGroup, Index{0}, Index{40}, 1 << 20).empty());
  const auto read = log.Read(kGroup, 0, 40);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 40u);
  EXPECT_TRUE((*read)[3].payload == PayloadOf(kGroup, (*read)[3].at, 9000));
}

TEST(Log, WrongAppendsAreRefused) {
  sim::SimFiles disk;
  SimLog log(disk);
  EXPECT_EQ(log.Append(kGroup, 1, 1).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(log.Append(kGroup, 0, 3).ok());
  EXPECT_EQ(log.Append(kGroup, 4, 1).code(), absl::StatusCode::kInvalidArgument);
  AppendBatch gap{.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, 3, 2, 1)};
  gap.entries[1].at.index = Index{7};
  EXPECT_EQ(log.Append(std::move(gap)).code(), absl::StatusCode::kInvalidArgument);
  AppendBatch large{.group = kGroup,
                    .hard_state = std::nullopt,
                    .entries = {{.at = {Term{1}, Index{3}},
                                 .kind = raft::EntryKind::kCommand,
                                 .payload = Bytes::Take(std::string(40 << 10, 'x'))}}};
  EXPECT_EQ(log.Append(std::move(large)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(log.Append(kGroup, 3, 1).ok());
}

TEST(Log, FullQueueRefuses) {
  sim::SimFiles disk;
  LogOptions options = SmallOptions();
  options.queue_bytes_max = 10000;
  SimLog log(disk, options);
  std::optional<absl::Status> first;
  log->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, 0, 3, 1)},
              log.shard(), [&](absl::Status done) { first = done; });
  EXPECT_EQ(log.Append(kGroup, 3, 30).code(), absl::StatusCode::kResourceExhausted);
  log.Settle();
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(first->ok()) << *first;
  // A batch that is larger than the queue goes in alone; it would be refused for ever otherwise.
  EXPECT_TRUE(log.Append(kGroup, 3, 30).ok());
  EXPECT_TRUE(log.Read(kGroup, 0, 33).ok());
}

TEST(Log, F33_CompactionFreesSegmentsIsRememberedAndToldToReaders) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 400; i += 4) {
      ASSERT_TRUE(log.Append(kGroup, i, 4).ok());
      if (i % 40 == 36) log->Compact(kGroup, {Term{1}, Index{i}});
    }
    log.Settle();
    EXPECT_LE(log->stats().segments, 6u);
    const auto read = log.Read(kGroup, 5, 10);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_TRUE(absl::StrContains(read.status().message(), "the first that is left is 397")) << read.status();
    EXPECT_TRUE(log.Read(kGroup, 397, 400).ok());
  }
  SimLog log(disk);
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.compacted, (TermIndex{Term{1}, Index{396}}));
  EXPECT_EQ(state.entries.size(), 3u);
  EXPECT_FALSE(state.promised_last.has_value());
  ExpectReadable(log, kGroup, state);
}

TEST(Log, IdleGroupDoesNotPinSegments) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kOther, 0, 3).ok());
    for (int64_t i = 0; i < 600; i += 4) {
      ASSERT_TRUE(log.Append(kGroup, i, 4).ok());
      log->Compact(kGroup, {Term{1}, Index{i}});
    }
    log.Settle();
    EXPECT_LE(log->stats().segments, 5u);
    const auto read = log.Read(kOther, 0, 3);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->size(), 3u);
  }
  SimLog log(disk);
  const GroupState state = log->TakeRecovered(kOther);
  ASSERT_EQ(state.entries.size(), 3u);
  EXPECT_FALSE(state.promised_last.has_value());
  ExpectReadable(log, kOther, state);
}

TEST(Log, ManyRestartsDoNotGrowTheLog) {
  sim::SimFiles disk;
  for (int64_t i = 0; i < 40; ++i) {
    SimLog log(disk);
    ASSERT_TRUE(log.status().ok()) << log.status();
    const GroupState state = log->TakeRecovered(kGroup);
    ASSERT_EQ(state.entries.size(), static_cast<size_t>(i));
    ASSERT_FALSE(state.promised_last.has_value());
    ExpectReadable(log, kGroup, state);
    ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
    log.Settle();
    EXPECT_LE(log->stats().segments, 9u);
  }
}

TEST(Log, RestartForgetsWhatWasBefore) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 0, 10).ok());
    ASSERT_TRUE(log.Restart(kGroup, {Term{4}, Index{99}}).ok());
    ASSERT_TRUE(log.Append(kGroup, 100, 2, 5).ok());
  }
  SimLog log(disk);
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.compacted, (TermIndex{Term{4}, Index{99}}));
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_FALSE(state.promised_last.has_value());
}

TEST(Log, DroppedGroupIsGoneAndMayComeBack) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kGroup, 7, "n2").ok());
    ASSERT_TRUE(log.Append(kGroup, 0, 10, 7).ok());
    ASSERT_TRUE(log.Append(kOther, 0, 1).ok());
    log->Drop(kGroup);
    log.Settle();
  }
  {
    SimLog log(disk);
    EXPECT_THAT(log->RecoveredGroups(), testing::ElementsAre(kOther));
    ASSERT_TRUE(log.Store(kGroup, 1, "n1").ok());
  }
  SimLog log(disk);
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.hard_state, (raft::HardState{Term{1}, PeerId{"n1"}}));
  EXPECT_TRUE(state.entries.empty());
}

TEST(Log, F10_FailedSyncIsFinal) {
  sim::SimFiles disk;
  SimLog log(disk);
  ASSERT_TRUE(log.Append(kGroup, 0, 1).ok());
  disk.FailNextSync("segment");
  EXPECT_EQ(log.Append(kGroup, 1, 1).code(), absl::StatusCode::kDataLoss);
  const auto synced = disk.counts().durable_writes;
  EXPECT_EQ(log.Append(kGroup, 2, 1).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(log.Store(kGroup, 9, "n1").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(disk.counts().durable_writes, synced);
  EXPECT_FALSE(log->stats().failed.ok());
}

TEST(Log, F12_FullDiskRefusesAndRecoversWithoutRestart) {
  sim::SimFiles disk;
  SimLog log(disk);
  ASSERT_TRUE(log.Append(kGroup, 0, 1).ok());
  log.Settle();
  disk.SetCapacity(log->stats().bytes_on_disk + (20 << 10));
  int64_t next = 1;
  absl::Status status;
  // Many at a time: blocks that are half empty would be copied together.
  while (next < 1000 && log.Append(kGroup, next, 7).ok()) next += 7;
  while (next < 1000 && (status = log.Append(kGroup, next, 1)).ok()) ++next;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_GT(next, 10);
  EXPECT_TRUE(log->stats().failed.ok());
  // Refused earlier than that, so that a group can still write what it has to.
  EXPECT_TRUE(absl::IsResourceExhausted(log->HasRoom(1)));
  // What has no room is left as it was; a hard state has its room always.
  AppendBatch batch{.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, next, 2, 1)};
  int answers = 0;
  Log::Done done = [&](absl::Status) { ++answers; };
  EXPECT_FALSE(log->TryAppend(batch, log.shard(), done));
  EXPECT_EQ(batch.entries.size(), 2u);
  EXPECT_EQ(batch.entries[1].payload.size(), SizeOf({Term{1}, Index{next + 1}}));
  ASSERT_TRUE(done != nullptr);
  EXPECT_TRUE(log.Store(kGroup, 7, "n1").ok());
  disk.SetCapacity(100 << 20);
  log.world().RunFor(std::chrono::seconds(1));
  EXPECT_TRUE(log->HasRoom(1).ok());
  EXPECT_TRUE(log->TryAppend(batch, log.shard(), done));
  log.Settle();
  EXPECT_EQ(answers, 1);
  EXPECT_TRUE(log.Append(kGroup, next + 2, 5).ok());
}

// Each life begins in a segment of its own. On a full disk it must give one back before it ends.
TEST(Log, F12_K23_ManyLivesOnAFullDisk) {
  sim::SimFiles disk;
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  int64_t next = 0;
  for (int life = 0; life < 8; ++life) {
    SimLog log(disk);
    ASSERT_TRUE(log.status().ok()) << log.status();
    const GroupState state = log->TakeRecovered(kGroup);
    ASSERT_EQ(static_cast<int64_t>(state.entries.size()), next) << life;
    ASSERT_TRUE(log.Append(kGroup, next, 2).ok()) << "life " << life << " has no segment";
    next += 2;
    log.Settle();
    log.world().RunFor(std::chrono::seconds(1));
    EXPECT_EQ(log->ShortOfSpace(), false) << "nothing is left to the next life";
    if (life == 0) {
      disk.SetCapacity(kPlenty);
      disk.SetCapacity(kPlenty - *disk.FreeBytes(kDir));
    }
    log.Close();
  }
}

TEST(Log, F13_K15_AVoteDoesNotWaitForASegment) {
  sim::SimFiles disk;
  SimLog log(disk);
  ASSERT_TRUE(log.Store(kGroup, 1, "n0").ok());
  ASSERT_TRUE(log.Append(kGroup, 0, 1).ok());
  log.Settle();
  // More than the segments that are there can take; new ones cannot be made.
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  disk.SetCapacity(kPlenty);
  disk.SetCapacity(kPlenty - *disk.FreeBytes(kDir));
  size_t durable = 0;
  for (int64_t i = 1; i <= 300; ++i) {
    log->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, i, 1, 1)},
                log.shard(), [&](absl::Status done) { durable += done.ok() ? 1 : 0; });
  }
  // One that waits with its entries is the older one when there is room again.
  log->Append({.group = kGroup,
               .hard_state = raft::HardState{Term{2}, PeerId{"n0"}},
               .entries = EntriesAt(kGroup, 301, 1, 2)},
              log.shard(), [&](absl::Status done) { durable += done.ok() ? 1 : 0; });
  log.Settle();
  ASSERT_LT(durable, 300u) << "there was room for all";
  EXPECT_TRUE(log.Store(kGroup, 3, "n1").ok()) << "it waits behind entries";
  const size_t before = durable;
  disk.ClearFaults();
  log.world().RunFor(std::chrono::seconds(2));
  EXPECT_GT(durable, before);
  log.Close();
  SimLog again(disk);
  const GroupState state = again->TakeRecovered(kGroup);
  EXPECT_EQ(state.hard_state, (raft::HardState{Term{3}, PeerId{"n1"}}));
  EXPECT_EQ(state.entries.size(), durable + 1);
}

// The first one of a group needs a file. No room for it is not the end of the log, and holds nobody else up.
TEST(Log, F12_K23_AFirstHardStateWaitsForRoom) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kOther, 1, "n0").ok());
    constexpr uint64_t kPlenty = uint64_t{1} << 40;
    disk.SetCapacity(kPlenty);
    disk.SetCapacity(kPlenty - *disk.FreeBytes(kDir));
    std::vector<absl::Status> answers;
    for (const uint64_t term : {2u, 3u}) {
      log->Append({.group = kGroup, .hard_state = raft::HardState{Term{term}, PeerId{"n1"}}, .entries = {}},
                  log.shard(), [&](absl::Status done) { answers.push_back(std::move(done)); });
      log.world().RunFor(std::chrono::seconds(1));
    }
    EXPECT_EQ(answers.size(), 0u);
    EXPECT_TRUE(log->stats().failed.ok()) << log->stats().failed;
    EXPECT_TRUE(log.Store(kOther, 2, "n1").ok());
    EXPECT_TRUE(log.Append(kOther, 0, 1).ok());
    disk.ClearFaults();
    log.world().RunFor(std::chrono::seconds(1));
    ASSERT_EQ(answers.size(), 2u);
    EXPECT_TRUE(answers[0].ok() && answers[1].ok()) << answers[0];
    log.PowerOff();
  }
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  SimLog again(disk);
  EXPECT_EQ(again->TakeRecovered(kGroup).hard_state, (raft::HardState{Term{3}, PeerId{"n1"}}));
}

// Its file got its name, and then there was no descriptor to make that durable.
TEST(Log, D22_F14_AFirstHardStateIsDurableWithItsName) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kOther, 1, "n0").ok());
    disk.FailNextOpen("log/.");
    ASSERT_TRUE(log.Store(kGroup, 2, "n1").ok());
    log.PowerOff();
  }
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  SimLog again(disk);
  EXPECT_EQ(again->TakeRecovered(kGroup).hard_state, (raft::HardState{Term{2}, PeerId{"n1"}}));
}

TEST(Log, F15_DamagedEntryIsNotSent) {
  sim::SimFiles disk;
  LogOptions options = SmallOptions();
  options.cache_bytes_max = 0;
  SimLog log(disk, options);
  ASSERT_TRUE(log.Append(kGroup, 0, 5).ok());
  disk.FailReads("segment", 0, 1 << 20);
  EXPECT_EQ(log.Read(kGroup, 0, 5).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sluice::log
