// What recovery makes of crashes and of damage: F-01 to F-08, F-16 to F-18 of the fault cases.
#include "log/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "log/batch_encoder.h"
#include "log/log_test_support.h"

namespace sluice::log {
namespace {

constexpr GroupId kGroup = kDefaultGroup;
constexpr Index kUnknown{INT64_MAX};

Recovered Look(sim::SimFiles& disk) {
  absl::StatusOr<Recovered> found = Recover(disk, kDir, SmallOptions());
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() ? *std::move(found) : Recovered();
}

// Where entry `index` lies.
std::pair<std::string, uint64_t> PlaceOf(sim::SimFiles& disk, int64_t index, const GroupId& group = kGroup) {
  const Recovered found = Look(disk);
  const ReplayedGroup& log = found.groups.at(group).log;
  const RecordPlace place = log.entries.at(static_cast<size_t>(index - log.compacted.index.value - 1)).place;
  return {fmt::format("{}/{}", kDir, SegmentName(place.generation)), place.offset};
}

// Each entry in a batch of its own, so in blocks of its own.
void WriteSeparately(sim::SimFiles& disk, int64_t count, uint64_t term = 1) {
  SimLog log(disk);
  ASSERT_TRUE(log.Store(kGroup, term, "n1").ok());
  for (int64_t i = 0; i < count; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1, term).ok());
  log.Settle();
}

GroupState StateAfterReopen(sim::SimFiles& disk, const GroupId& group = kGroup) {
  SimLog log(disk);
  EXPECT_TRUE(log.status().ok()) << log.status();
  if (!log.status().ok()) return {};
  GroupState state = log->TakeRecovered(group);
  ExpectReadable(log, group, state);
  return state;
}

// How far the log went; put back, it is as if the first write of the next segment had not come to its end.
std::string ExtentOf(sim::SimFiles& disk) {
  return *env::ReadWholeFile(disk, fmt::format("{}/{}", kDir, kExtentName), 1 << 20);
}
void PutExtentBack(sim::SimFiles& disk, const std::string& extent) {
  ASSERT_TRUE(disk.Overwrite(fmt::format("{}/{}", kDir, kExtentName), 0, extent).ok());
}

TEST(LogRecovery, F01_TornTailIsCutQuietly) {
  sim::SimFiles disk;
  WriteSeparately(disk, 3);
  const std::string extent = ExtentOf(disk);
  // Three blocks; the second is put back to what it was before the write.
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 3, 1).ok());
  }
  const auto [path, offset] = PlaceOf(disk, 3);
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096 + 4096, std::string(4096, '\0')).ok());
  PutExtentBack(disk, extent);
  SimLog log(disk);
  ASSERT_TRUE(log.status().ok()) << log.status();
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.entries.size(), 3u);
  EXPECT_FALSE(state.promised_last.has_value());
  EXPECT_EQ(log->stats().torn_tails_cut, 1u);
  // What is left of the torn batch never comes back.
  ASSERT_TRUE(log.Append(kGroup, 3, 1, 2).ok());
  log.Close();
  const GroupState again = StateAfterReopen(disk);
  ASSERT_EQ(again.entries.size(), 4u);
  EXPECT_EQ(again.entries[3].term, Term{2});
  EXPECT_FALSE(again.promised_last.has_value());
}

TEST(LogRecovery, F01_F07_FileCutByHandEndsAtTheLastWholeRecord) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6);
  const auto [path, offset] = PlaceOf(disk, 5);
  auto file = disk.Open(path, {});
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Truncate(offset + 20).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 5u);
  // No power loss makes a segment shorter. Who has peers asks them; a group of one cuts it with a warning.
  ASSERT_TRUE(state.promised_last.has_value());
  EXPECT_TRUE(state.damage_at_end);
}

TEST(LogRecovery, F02_BlocksOfATornBatchInAnyOrder) {
  sim::SimFiles whole;
  WriteSeparately(whole, 3);
  const std::string extent = ExtentOf(whole);
  {
    SimLog log(whole);
    ASSERT_TRUE(log.Append(kGroup, 3, 4).ok());
  }
  PutExtentBack(whole, extent);
  const auto [path, offset] = PlaceOf(whole, 3);
  const uint64_t first = offset / 4096 * 4096;
  // The segment header and three blocks were one write; every subset of them may have been lost.
  for (uint32_t lost = 1; lost < 16; ++lost) {
    auto disk = whole.CrashClone(1);
    for (uint32_t n = 0; n < 4; ++n) {
      if ((lost >> n & 1) == 0) continue;
      ASSERT_TRUE(disk->Overwrite(path, first - 4096 + n * 4096, std::string(4096, '\0')).ok());
    }
    const GroupState state = StateAfterReopen(*disk);
    const bool only_segment_header = lost == 1;
    EXPECT_EQ(state.entries.size(), only_segment_header ? 7u : 3u) << lost;
    EXPECT_FALSE(state.promised_last.has_value()) << lost;
  }
}

TEST(LogRecovery, F03_SegmentOfZerosOpensAsEmpty) {
  sim::SimFiles disk;
  ASSERT_TRUE(disk.MakeDirs(kDir).ok());
  auto file = disk.Open(std::string(kDir) + "/" + SegmentName(5), {.create = true});
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->WriteAt(0, Bytes::Take(std::string(64 << 10, '\0'))).ok());
  SimLog log(disk);
  ASSERT_TRUE(log.status().ok()) << log.status();
  EXPECT_TRUE(log->RecoveredGroups().empty());
  EXPECT_TRUE(log.Append(kGroup, 0, 1).ok());
}

TEST(LogRecovery, F03_OldRecordsOfARecycledSegmentAreIgnored) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 300; i += 3) {
      ASSERT_TRUE(log.Append(kGroup, i, 3).ok());
      log->Compact(kGroup, {Term{1}, Index{i}});
    }
    log.Settle();
    // More lives than files: some were recycled.
    EXPECT_LT(disk.List(kDir)->size(), 8u);
  }
  const Recovered found = Look(disk);
  EXPECT_GT(found.next_generation, 10u);
  EXPECT_TRUE(found.damage.empty());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.compacted.index, Index{297});
  EXPECT_EQ(state.entries.size(), 2u);
}

// What the system lacks for a moment when a segment is given back is not the end of the log.
TEST(LogRecovery, F12_F14_ASegmentIsGivenBackOnceThatIsPossible) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 300; i += 3) {
      if (i % 30 == 0) disk.FailNextOpen("log/.", 2);
      absl::Status appended = log.Append(kGroup, i, 3);
      if (absl::IsResourceExhausted(appended)) {  // a new segment met it
        log.world().RunFor(std::chrono::seconds(5));
        appended = log.Append(kGroup, i, 3);
      }
      ASSERT_TRUE(appended.ok()) << i << appended;
      log->Compact(kGroup, {Term{1}, Index{i}});
      ASSERT_TRUE(log->stats().failed.ok()) << log->stats().failed;
    }
    log.world().RunFor(std::chrono::seconds(30));
    log.Settle();
    EXPECT_LT(disk.List(kDir)->size(), 8u) << "none is left over";
    log.PowerOff();
  }
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.compacted.index, Index{297});
  EXPECT_EQ(state.entries.size(), 2u);
}

TEST(LogRecovery, F04_FlippedPayloadBitNamesExactlyThatEntry) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 5).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
  EXPECT_FALSE(state.damage_at_end);
  // Reopening changes nothing.
  EXPECT_EQ(StateAfterReopen(disk).promised_last, (TermIndex{Term{4}, Index{5}}));
}

TEST(LogRecovery, F04_PromiseStaysUntilItIsKept) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 5).ok());
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 2, 2, 4).ok());
  }
  GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 4u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 4, 2, 4).ok());
  }
  state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 6u);
  EXPECT_FALSE(state.promised_last.has_value());
}

TEST(LogRecovery, F04_NewerTermKeepsThePromiseToo) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 5).ok());
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 2, 1, 5).ok());
  }
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 3u);
  EXPECT_FALSE(state.promised_last.has_value());
}

absl::Status Mend(SimLog& log, const raft::Entry& entry) {
  std::optional<absl::Status> result;
  log->Mend(kGroup, {entry}, log.shard(), [&](absl::Status done) { result = done; });
  log.world().RunUntil([&] { return result.has_value(); }, std::chrono::seconds(10));
  return result.value_or(absl::DeadlineExceededError("no answer"));
}

absl::Status Mend(SimLog& log, int64_t index) { return Mend(log, EntryAt(kGroup, {Term{1}, Index{index}})); }

// Damages the payload of entries 2 and 4 of six.
void DamageTwo(sim::SimFiles& disk) {
  WriteSeparately(disk, 6);
  std::vector<std::pair<std::string, uint64_t>> places;
  for (const int64_t index : {2, 4}) places.push_back(PlaceOf(disk, index));
  for (const auto& [path, offset] : places) {
    ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 3).ok());
  }
}

TEST(LogRecovery, F04_K9_LostEntriesArePutBackAmongThoseThatAreWhole) {
  sim::SimFiles disk;
  DamageTwo(disk);
  {
    SimLog log(disk);
    const GroupState state = log->TakeRecovered(kGroup);
    EXPECT_EQ(state.entries.size(), 2u);
    EXPECT_EQ(state.promised_last, (TermIndex{Term{1}, Index{5}}));
    ASSERT_EQ(state.beyond.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(state.beyond[i].info.term, Term{1}) << i;
      EXPECT_EQ(state.beyond[i].intact, i % 2 == 1) << i;
    }
    EXPECT_EQ(log.Read(kGroup, 3, 6)->size(), 1u) << "what lies behind damage can be read, up to the next";
    ASSERT_TRUE(Mend(log, 2).ok());
    EXPECT_EQ(log->TakeMended(kGroup).size(), 2u) << "the entry behind it is whole, too";
    EXPECT_EQ(log.Read(kGroup, 2, 6)->size(), 2u);
    EXPECT_FALSE(Mend(log, 2).ok()) << "it is not lost any more";
    // Another group writes; the next recovery still finds what is lost, and what is not.
    ASSERT_TRUE(log.Append(kOther, 0, 3).ok());
  }
  {
    SimLog log(disk);
    const GroupState state = log->TakeRecovered(kGroup);
    EXPECT_EQ(state.entries.size(), 4u);
    EXPECT_EQ(state.promised_last, (TermIndex{Term{1}, Index{5}}));
    ASSERT_EQ(state.beyond.size(), 2u);
    ASSERT_TRUE(Mend(log, 4).ok());
    EXPECT_EQ(log->TakeMended(kGroup).size(), 2u);
    ASSERT_TRUE(log.Append(kGroup, 6, 2).ok());
  }
  const GroupState whole = StateAfterReopen(disk);
  EXPECT_EQ(whole.entries.size(), 8u);
  EXPECT_FALSE(whole.promised_last.has_value());
}

// What overwrites lost entries is asked for before they have landed: then they are not put back, in memory as
// little as on disk.
TEST(LogRecovery, F04_F29_AMendThatIsOvertakenPutsNothingBack) {
  using Overtake = std::function<void(SimLog&)>;
  const std::vector<std::pair<Overtake, int64_t>> ways = {
      // A snapshot that ends among the lost entries, of the same history.
      {[](SimLog& log) {
         log->Restart(kGroup, {Term{1}, Index{4}}, log.shard(), [](absl::Status) {});
       },
       5},
      {[](SimLog& log) {
         log->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, 2, 1, 2)},
                     log.shard(), [](absl::Status) {});
       },
       3},
      {[](SimLog& log) { log->GiveUp(kGroup); }, 2},
      {[](SimLog& log) {
         log->Drop(kGroup);
         log->Append({.group = kGroup, .hard_state = std::nullopt, .entries = EntriesAt(kGroup, 0, 2, 1)},
                     log.shard(), [](absl::Status) {});
       },
       2}};
  for (size_t way = 0; way < ways.size(); ++way) {
    SCOPED_TRACE(way);
    sim::SimFiles disk;
    WriteSeparately(disk, 6);
    std::vector<std::pair<std::string, uint64_t>> places;
    for (int64_t index = 2; index < 6; ++index) places.push_back(PlaceOf(disk, index));
    for (const auto& [path, offset] : places) {
      ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 3).ok());
    }
    const auto [overtake, next] = ways[way];
    {
      SimLog log(disk);
      ASSERT_EQ(log->TakeRecovered(kGroup).entries.size(), 2u);
      log->Mend(kGroup, EntriesAt(kGroup, 2, 4, 1), log.shard(), [](absl::Status) {});
      overtake(log);
      log.Settle();
      EXPECT_TRUE(log->TakeMended(kGroup).empty());
      // The next entry is where the log ends.
      EXPECT_FALSE(log.Append(kGroup, next + 1, 1, 2).ok());
      ASSERT_TRUE(log.Append(kGroup, next, 1, 2).ok());
    }
    const GroupState state = StateAfterReopen(disk);
    EXPECT_EQ(state.compacted.index + static_cast<int64_t>(state.entries.size()), Index{next});
    EXPECT_FALSE(state.promised_last.has_value());
  }
}

// The header of the last block is not what was written: where the log ended is not known.
TEST(LogRecovery, F07_HowFarALostEndWentIsRememberedOnceItIsKnown) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 5);
  ASSERT_TRUE(disk.FlipBit(path, offset / 4096 * 4096 + 20).ok());
  {
    SimLog log(disk);
    EXPECT_EQ(log->TakeRecovered(kGroup).promised_last, (TermIndex{Term{4}, kUnknown}));
    log->LowerPromise(kGroup, {Term{4}, Index{6}});
    log.Settle();
  }
  {
    SimLog log(disk);
    const GroupState state = log->TakeRecovered(kGroup);
    EXPECT_EQ(state.entries.size(), 5u);
    EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{6}}));
    // What is put back in the same batch stays.
    log->Mend(kGroup, {EntryAt(kGroup, {Term{4}, Index{5}})}, log.shard(), [](absl::Status) {});
    log->LowerPromise(kGroup, {Term{4}, Index{6}});
    log.Settle();
    EXPECT_EQ(log->TakeMended(kGroup).size(), 1u);
  }
  {
    SimLog log(disk);
    const GroupState state = log->TakeRecovered(kGroup);
    EXPECT_EQ(state.entries.size(), 6u);
    EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{6}}));
    ASSERT_TRUE(log.Append(kGroup, 6, 1, 4).ok());
  }
  const GroupState whole = StateAfterReopen(disk);
  EXPECT_EQ(whole.entries.size(), 7u);
  EXPECT_FALSE(whole.promised_last.has_value());
}

// In which terms it acknowledged what was lost is not known either.
TEST(LogRecovery, F07_F08_ALostEndWithoutAHardStateMayBeOfAnyTerm) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 5);
  ASSERT_TRUE(disk.FlipBit(path, offset / 4096 * 4096 + 20).ok());
  const std::string state = fmt::format("{}/{}", kDir, HardStateName(kGroup));
  for (const uint64_t copy : {0u, 4096u}) ASSERT_TRUE(disk.FlipBit(state, copy + 30).ok());
  EXPECT_EQ(StateAfterReopen(disk).promised_last, (TermIndex{raft::kEveryTerm, kUnknown}));
  ASSERT_TRUE(disk.Remove(state).ok());
  EXPECT_EQ(StateAfterReopen(disk).promised_last, (TermIndex{raft::kEveryTerm, kUnknown}));
}

// The writer would look for a segment with room for it for ever.
TEST(LogRecovery, F04_F59_WhatNoSegmentHoldsIsNotPutBack) {
  sim::SimFiles disk;
  DamageTwo(disk);
  SimLog log(disk);
  raft::Entry entry = EntryAt(kGroup, {Term{1}, Index{2}});
  entry.payload = Bytes::Take(std::string(SmallOptions().segment_bytes, 'x'));
  EXPECT_EQ(Mend(log, entry).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(log.Append(kOther, 0, 3).ok());
  EXPECT_TRUE(Mend(log, 2).ok());
}

TEST(LogRecovery, F06_K9_WhatIsGivenUpStaysGivenUp) {
  sim::SimFiles disk;
  DamageTwo(disk);
  {
    SimLog log(disk);
    log->GiveUp(kGroup);
    log.Settle();
    EXPECT_FALSE(Mend(log, 3).ok());
  }
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_TRUE(state.beyond.empty());
  EXPECT_FALSE(state.promised_last.has_value());
}

TEST(LogRecovery, F04_K9_ALeaderThatOverwritesEndsWhatLiesBehindDamage) {
  sim::SimFiles disk;
  DamageTwo(disk);
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 2, 1, 2).ok());
    EXPECT_FALSE(Mend(log, 4).ok());
  }
  const GroupState state = StateAfterReopen(disk);
  ASSERT_EQ(state.entries.size(), 3u);
  EXPECT_EQ(state.entries[2].term, Term{2});
  EXPECT_FALSE(state.promised_last.has_value()) << "the new term stands for all before it";
}

// The page cache keeps what a failed sync did not bring to the device, and says that it is clean.
TEST(LogRecovery, F10_K15_AfterAFailedSyncTheDeviceIsReadAndNotTheCache) {
  sim::SimFiles disk;
  WriteSeparately(disk, 4);
  {
    SimLog log(disk);
    disk.FailNextSync("segment-");
    EXPECT_FALSE(log.Append(kGroup, 4, 1).ok());
    log.PowerOff();
  }
  disk.KillProcess();
  EXPECT_EQ(StateAfterReopen(disk).entries.size(), 4u) << "an entry that only the cache holds";
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  EXPECT_EQ(StateAfterReopen(disk).entries.size(), 4u);
}

TEST(LogRecovery, F04_UnreadableBlockInTheMiddleIsAGap) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, std::string(4096, 'x')).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
  EXPECT_FALSE(state.damage_at_end);
}

TEST(LogRecovery, F04_UnreadableSectorInTheMiddleIsAGap) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  disk.FailReads(path, offset, 1);
  SimLog log(disk);
  ASSERT_TRUE(log.status().ok()) << log.status();
  const GroupState state = log->TakeRecovered(kGroup);
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
}

TEST(LogRecovery, F04_OldBlockBeforeANewerOneIsDamageNotATornTail) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, offset] = PlaceOf(disk, 2);
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, std::string(4096, '\0')).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 2u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
}

TEST(LogRecovery, F04_GroupsThatShowTheyLostNothingAreInTheClear) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kOther, 8, "n1").ok());
    ASSERT_TRUE(log.Append(kOther, 0, 1, 7).ok());
    for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
    ASSERT_TRUE(log.Append(kGroup, 3, 1).ok());
  }
  const auto [path, offset] = PlaceOf(disk, 1);
  ASSERT_TRUE(disk.FlipBit(path, offset).ok());  // the record's header
  const GroupState group = StateAfterReopen(disk);
  EXPECT_EQ(group.entries.size(), 1u);
  EXPECT_EQ(group.promised_last, (TermIndex{Term{1}, Index{3}}));
  // The other group has nothing after the damage that could tell.
  const GroupState other = StateAfterReopen(disk, kOther);
  EXPECT_EQ(other.entries.size(), 1u);
  EXPECT_EQ(other.promised_last, (TermIndex{Term{8}, kUnknown}));
}

TEST(LogRecovery, F04_LostTruncationIsNoticed) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1, 1).ok());
    ASSERT_TRUE(log.Append(kGroup, 1, 1, 2).ok());
    ASSERT_TRUE(log.Append(kGroup, 2, 1, 2).ok());
  }
  // The block of entry 1 in term 2: without it the log would seem to be 1@1, 2@2.
  const auto [path, offset] = PlaceOf(disk, 1);
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, std::string(4096, 'x')).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 1u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{2}, Index{2}}));
}

TEST(LogRecovery, F04_DamageInEntriesThatNeedOnlyTheirHeader) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 0, 6, 3).ok());  // one batch; entry 3 spans three blocks
    ASSERT_TRUE(log.Append(kGroup, 6, 1, 3).ok());
  }
  const auto [path, offset] = PlaceOf(disk, 3);
  // The middle block of entry 3 holds nothing else: no doubt about any other entry.
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096 + 4096, std::string(4096, 'x')).ok());
  const Recovered found = Look(disk);
  EXPECT_EQ(found.groups.at(kGroup).log.promise->last, (TermIndex{Term{3}, Index{6}}));
  EXPECT_EQ(found.groups.at(kGroup).log.entries.size(), 3u);
}

TEST(LogRecovery, F07_DamageAtTheEndIsToldApart) {
  sim::SimFiles disk;
  WriteSeparately(disk, 5, 4);
  const auto [path, offset] = PlaceOf(disk, 4);
  ASSERT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 4u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{4}}));
  EXPECT_TRUE(state.damage_at_end);
}

TEST(LogRecovery, F07_UnreadableLastBlock) {
  sim::SimFiles disk;
  WriteSeparately(disk, 5, 4);
  const auto [path, offset] = PlaceOf(disk, 4);
  ASSERT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, std::string(4096, 'x')).ok());
  GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 4u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, kUnknown}));
  EXPECT_TRUE(state.damage_at_end);
  // Another group writes on; for this one the damage is still at its end.
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kOther, 0, 3).ok());
  }
  state = StateAfterReopen(disk);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, kUnknown}));
  EXPECT_TRUE(state.damage_at_end);
  EXPECT_FALSE(StateAfterReopen(disk, kOther).promised_last.has_value());
}

TEST(LogRecovery, F08_HardStateSurvivesDamageToEitherCopy) {
  for (const uint64_t copy : {uint64_t{0}, uint64_t{1}}) {
    sim::SimFiles disk;
    {
      SimLog log(disk);
      for (uint64_t term = 1; term <= 5; ++term) ASSERT_TRUE(log.Store(kGroup, term, "n1").ok());
    }
    const std::string path = std::string(kDir) + "/" + HardStateName(kGroup);
    ASSERT_TRUE(disk.FlipBit(path, copy * 4096 + 30).ok());
    EXPECT_EQ(StateAfterReopen(disk).hard_state, (raft::HardState{Term{5}, PeerId{"n1"}}));
    // Opening made it whole again.
    ASSERT_TRUE(disk.FlipBit(path, (1 - copy) * 4096 + 30).ok());
    EXPECT_EQ(StateAfterReopen(disk).hard_state, (raft::HardState{Term{5}, PeerId{"n1"}}));
  }
}

TEST(LogRecovery, F08_BothCopiesInvalidIsLostNotNew) {
  sim::SimFiles disk;
  WriteSeparately(disk, 2, 4);
  const std::string path = std::string(kDir) + "/" + HardStateName(kGroup);
  ASSERT_TRUE(disk.FlipBit(path, 30).ok());
  ASSERT_TRUE(disk.FlipBit(path, 4096 + 30).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_TRUE(state.hard_state_lost);
  EXPECT_FALSE(state.hard_state.has_value());
  EXPECT_EQ(state.entries.size(), 2u);
}

TEST(LogRecovery, F08_HardStateIsWholeAfterACrashInEveryStepOfItsUpdate) {
  for (uint64_t step = 1; step < 60; ++step) {
    sim::SimFiles disk;
    uint64_t acknowledged = 0;
    uint64_t asked = 0;
    {
      SimLog log(disk);
      disk.HaltAt(disk.operations() + step);
      for (uint64_t term = 1; term <= 5; ++term) {
        asked = term;
        if (!log.Store(kGroup, term, fmt::format("n{}", term)).ok()) break;
        acknowledged = term;
      }
      log.PowerOff();
    }
    disk.Crash(step);
    const GroupState state = StateAfterReopen(disk);
    EXPECT_FALSE(state.hard_state_lost) << step;
    const uint64_t found = state.hard_state ? state.hard_state->term.value : 0;
    EXPECT_GE(found, acknowledged) << step;
    EXPECT_LE(found, asked) << step;
    if (found > 0) {
      EXPECT_EQ(state.hard_state->voted_for.value, fmt::format("n{}", found));
    }
  }
}

// The file holds two whole states of two times, as after a crash between the writes of its copies.
TEST(LogRecovery, F08_F17_TheNewerCopyOfItsOwnGroupIsBelieved) {
  const auto block = [](const GroupId& group, uint64_t sequence, uint64_t term) {
    return *EncodeHardState(
        {.sequence = sequence, .log_sequence = 0, .group = group, .state = {Term{term}, {}}});
  };
  const std::string path = fmt::format("{}/{}", kDir, HardStateName(kGroup));
  const auto term_of = [&path](const std::string& first, const std::string& second) {
    sim::SimFiles disk;
    EXPECT_TRUE(disk.MakeDirs(kDir).ok());
    EXPECT_TRUE(env::WriteFileDurably(disk, path, Bytes::Copy(first + second)).ok());
    const auto loaded = LoadHardState(disk, path, kGroup);
    EXPECT_TRUE(loaded.ok() && loaded->exists && !loaded->healthy);
    return loaded->newest ? loaded->newest->state.term : Term{0};
  };
  EXPECT_EQ(term_of(block(kGroup, 5, 9), block(kGroup, 4, 8)), Term{9});
  EXPECT_EQ(term_of(block(kGroup, 4, 8), block(kGroup, 5, 9)), Term{9});
  EXPECT_EQ(term_of(block(kOther, 6, 99), block(kGroup, 5, 9)), Term{9});
  EXPECT_EQ(term_of(block(kOther, 6, 99), block(kOther, 6, 99)), Term{0}) << "lost";
}

TEST(LogRecovery, F17_MisdirectedWriteIsDamageAtBothPlaces) {
  sim::SimFiles disk;
  WriteSeparately(disk, 6, 4);
  const auto [path, from] = PlaceOf(disk, 4);
  const auto [same, to] = PlaceOf(disk, 1);
  ASSERT_EQ(path, same);
  auto file = disk.Open(path, {.read_only = true});
  std::string block(4096, '\0');
  ASSERT_TRUE((*file)->ReadAt(from / 4096 * 4096, block.data(), 4096).ok());
  ASSERT_TRUE(disk.Overwrite(path, to / 4096 * 4096, block).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.entries.size(), 1u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{4}, Index{5}}));
}

TEST(LogRecovery, F18_MissingSegmentIsAGapAndUnknownFilesAreLeftAlone) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
  }
  const auto [path, offset] = PlaceOf(disk, 20);
  const std::string stranger = std::string(kDir) + "/notes.txt";
  ASSERT_TRUE(disk.Open(stranger, {.create = true}).ok());
  ASSERT_TRUE(disk.Remove(path).ok());
  const GroupState state = StateAfterReopen(disk);
  EXPECT_LE(state.entries.size(), 20u);
  EXPECT_EQ(state.promised_last, (TermIndex{Term{1}, Index{59}}));
  EXPECT_TRUE(*disk.Exists(stranger));
}

std::vector<std::string> SegmentsOf(sim::SimFiles& disk) {
  std::vector<std::string> paths;
  const std::vector<std::string> names = *disk.List(kDir);
  for (const std::string& name : names) {
    if (ParseGeneration(name, "segment-")) paths.push_back(std::string(kDir) + "/" + name);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// Who is left without any segment has voted, and may have acknowledged: that must not look like a log that is new.
TEST(LogRecovery, F18_F20_LossOfTheLastSegmentsIsNoticed) {
  for (const bool zeros : {false, true}) {
    for (const bool all : {false, true}) {
      sim::SimFiles disk;
      {
        SimLog log(disk);
        ASSERT_TRUE(log.Store(kGroup, 1, "n0").ok());
        for (int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
      }
      std::vector<std::string> paths = SegmentsOf(disk);
      const auto [last, offset] = PlaceOf(disk, 59);
      if (!all) paths = {last};
      for (const std::string& path : paths) {
        if (zeros) {
          ASSERT_TRUE(disk.Overwrite(path, 0, std::string(64 << 10, '\0')).ok());
        } else {
          ASSERT_TRUE(disk.Remove(path).ok());
        }
      }
      const std::string which = fmt::format("zeros {} all {}", zeros, all);
      {
        SimLog log(disk);
        ASSERT_TRUE(log.status().ok()) << which;
        const GroupState state = log->TakeRecovered(kGroup);
        EXPECT_EQ(state.entries.empty(), all) << which;
        ASSERT_TRUE(state.promised_last.has_value()) << which;
        EXPECT_EQ(state.promised_last->index.value, INT64_MAX) << which;
        EXPECT_FALSE(state.damage_at_end) << which << ": a group of one must not cut it either";
      }
      EXPECT_TRUE(StateAfterReopen(disk).promised_last.has_value()) << which << ", and again";
    }
  }
}

// A log that is open reads from the disk what it no longer has in memory, and believes none of it unseen.
TEST(LogRecovery, F04_F15_F17_AReadOfAnOpenLogIsChecked) {
  const auto change =
      [](const std::function<void(sim::SimFiles&, const std::string& path, uint64_t offset)>& how) {
        sim::SimFiles disk;
        LogOptions options = SmallOptions();
        options.cache_bytes_max = 0;
        options.segment_bytes = 1 << 20;
        SimLog log(disk, options);
        for (int64_t i = 0; i < 16; ++i) EXPECT_TRUE(log.Append(kGroup, i, 1).ok());
        EXPECT_TRUE(log.Read(kGroup, 5, 6).ok());
        const auto [path, offset] = PlaceOf(disk, 5);
        how(disk, path, offset);
        return log.Read(kGroup, 5, 6).status();
      };
  const auto block_at = [](sim::SimFiles& disk, const std::string& path, uint64_t offset) {
    std::string block(4096, '\0');
    EXPECT_TRUE(
        (*disk.Open(path, {.read_only = true}))->ReadAt(offset / 4096 * 4096, block.data(), 4096).ok());
    return block;
  };
  const absl::Status flipped = change([](sim::SimFiles& disk, const std::string& path, uint64_t offset) {
    EXPECT_TRUE(disk.FlipBit(path, offset + kRecordHeaderBytes + 3).ok());
  });
  EXPECT_TRUE(absl::IsDataLoss(flipped)) << flipped;
  const absl::Status other_entry = change([&](sim::SimFiles& disk, const std::string& path, uint64_t offset) {
    const auto [same, from] = PlaceOf(disk, 15);  // as long, and as far into its block
    EXPECT_EQ(path, same);
    EXPECT_EQ(from % 4096, offset % 4096);
    EXPECT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, block_at(disk, path, from)).ok());
  });
  EXPECT_TRUE(absl::IsDataLoss(other_entry)) << other_entry;
  const absl::Status recycled = change([&](sim::SimFiles& disk, const std::string& path, uint64_t offset) {
    std::string block = block_at(disk, path, offset);
    BlockHeader header = *DecodeBlockHeader(block, 4096);
    EXPECT_TRUE(UnsealBlock(header, block.data(), 4096));
    header.generation += 1;
    SealBlock(header, block.data(), 4096);
    EXPECT_TRUE(disk.Overwrite(path, offset / 4096 * 4096, block).ok());
  });
  EXPECT_TRUE(absl::IsDataLoss(recycled)) << recycled;
}

// Nothing but the promise tells of what was lost. Another group's entries fill the segment: the next one has the mark
// that compaction has left.
TEST(LogRecovery, F04_CompactionForgetsNoPromise) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kGroup, 1, "n0").ok());
    for (int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
  }
  ASSERT_TRUE(disk.Remove(PlaceOf(disk, 59).first).ok());
  {
    SimLog log(disk);
    ASSERT_TRUE(log->TakeRecovered(kGroup).promised_last.has_value());
    log->Compact(kGroup, {Term{1}, Index{1}});
    for (int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log.Append(kOther, i, 1).ok());
  }
  const GroupState state = StateAfterReopen(disk);
  EXPECT_EQ(state.compacted, (TermIndex{Term{1}, Index{1}}));
  ASSERT_TRUE(state.promised_last.has_value());
  EXPECT_EQ(state.promised_last->index.value, INT64_MAX);
}

TEST(LogRecovery, F18_CopiedSegmentStopsAndIsNamed) {
  sim::SimFiles disk;
  WriteSeparately(disk, 3);
  const auto [path, offset] = PlaceOf(disk, 0);
  ASSERT_TRUE(disk.Rename(path, std::string(kDir) + "/" + SegmentName(0)).ok());
  SimLog log(disk);
  EXPECT_EQ(log.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(Message(log.status())), testing::HasSubstr(SegmentName(0)));
}

TEST(LogRecovery, NewerFormatIsRefusedByNumber) {
  sim::SimFiles disk;
  WriteSeparately(disk, 3);
  const auto [path, offset] = PlaceOf(disk, 0);
  std::string header(4096, '\0');
  EncodeSegmentHeader(
      {.version = 9, .block_bytes = 4096, .segment_bytes = 65536, .generation = 1, .first_sequence = 0},
      header.data());
  ASSERT_TRUE(disk.Overwrite(path, 0, header).ok());
  SimLog log(disk);
  EXPECT_EQ(log.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace sluice::log
