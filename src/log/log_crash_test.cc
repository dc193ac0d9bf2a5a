// Power loss inside every operation on the disk: what was acknowledged is there, and nothing was invented.
#include <gtest/gtest.h>

#include <map>

#include "log/log_test_support.h"

namespace sluice::log {
namespace {

constexpr GroupId kGroup = kDefaultGroup;

// What a group's log must and may hold.
struct Model {
  std::map<int64_t, uint64_t> acknowledged;  // index -> term
  std::map<int64_t, uint64_t> asked;         // with the one request that was not answered
  int64_t compacted_asked = -1;
  uint64_t hard_acknowledged = 0;
  uint64_t hard_asked = 0;
};
using Models = std::map<GroupId, Model>;

bool Append(SimLog& log, Model& model, const GroupId& group, int64_t from, int64_t count, uint64_t term) {
  model.asked.erase(model.asked.lower_bound(from), model.asked.end());
  for (int64_t i = from; i < from + count; ++i) model.asked[i] = term;
  const bool store = from % 10 == 0;
  if (store) model.hard_asked = term;
  const absl::Status status = log.Append(
      {.group = group,
       .hard_state = store ? std::optional(raft::HardState{Term{term}, PeerId{"n1"}}) : std::nullopt,
       .entries = EntriesAt(group, from, count, term)});
  if (!status.ok()) return false;
  model.acknowledged = model.asked;
  model.hard_acknowledged = model.hard_asked;
  return true;
}

// Two groups, one of them slow; truncations, compaction, several segments. Goes on from what the models hold.
void Work(SimLog& log, Models& models, int64_t rounds) {
  for (int64_t round = 0; round < rounds; ++round) {
    Model& model = models[kGroup];
    const int64_t next = model.acknowledged.empty() ? 0 : model.acknowledged.rbegin()->first + 1;
    const uint64_t term = model.acknowledged.empty() ? 1 : model.acknowledged.rbegin()->second;
    const bool truncate = round % 9 == 8;
    const int64_t from = truncate ? std::max(next - 2, model.compacted_asked + 1) : next;
    if (!Append(log, model, kGroup, from, 1 + round % 4, truncate ? term + 1 : term)) return;
    if (round % 6 == 5 && from - 1 > model.compacted_asked) {
      model.compacted_asked = from - 1;
      log->Compact(kGroup, {Term{model.acknowledged[from - 1]}, Index{from - 1}});
    }
    Model& slow = models[kOther];
    if (round % 12 == 0 && !Append(log, slow, kOther, static_cast<int64_t>(slow.acknowledged.size()), 1, 1)) {
      return;
    }
  }
}

// The entry at `index` is as acknowledged, or as the request in flight wanted it.
bool Allowed(const Model& model, int64_t index, uint64_t term) {
  const auto acknowledged = model.acknowledged.find(index);
  const auto asked = model.asked.find(index);
  return (acknowledged != model.acknowledged.end() && acknowledged->second == term) ||
         (asked != model.asked.end() && asked->second == term);
}

// Checks what is there, and takes it as the new truth.
void Check(SimLog& log, Models& models) {
  ASSERT_TRUE(log.status().ok()) << log.status();
  for (auto& [group, model] : models) {
    const GroupState state = log->TakeRecovered(group);
    ASSERT_FALSE(state.hard_state_lost);
    const uint64_t hard = state.hard_state ? state.hard_state->term.value : 0;
    ASSERT_TRUE(hard == model.hard_acknowledged || hard == model.hard_asked) << hard;
    // No crash looks like damage, wherever the device tears what is in flight.
    ASSERT_FALSE(state.promised_last) << "promised " << state.promised_last->index.value;
    ExpectReadable(log, group, state);
    const int64_t compacted = state.compacted.index.value;
    ASSERT_LE(compacted, model.compacted_asked);
    std::map<int64_t, uint64_t> found;
    for (auto [index, term] : model.acknowledged) {
      if (index <= compacted) found[index] = term;
    }
    for (size_t i = 0; i < state.entries.size(); ++i) {
      const int64_t index = compacted + 1 + static_cast<int64_t>(i);
      ASSERT_TRUE(Allowed(model, index, state.entries[i].term.value)) << "entry " << index << " invented";
      found[index] = state.entries[i].term.value;
    }
    for (const auto& [index, term] : model.acknowledged) {
      // A request in flight may have cut it.
      const auto asked = model.asked.find(index);
      const bool cut = asked == model.asked.end() || asked->second != term;
      ASSERT_TRUE(found.contains(index) || cut) << "entry " << index << " lost";
    }
    model.acknowledged = model.asked = found;
    model.hard_acknowledged = model.hard_asked = hard;
    model.compacted_asked = std::max(compacted, model.compacted_asked);
  }
}

uint64_t OperationsOf(int64_t rounds) {
  sim::SimFiles disk;
  Models models;
  SimLog log(disk);
  Work(log, models, rounds);
  log.Settle();
  // The work empties segments, and copies what the slow group has in the first one.
  EXPECT_FALSE(*disk.Exists(fmt::format("{}/segment-{:016x}", kDir, 1)));
  return disk.operations();
}

void CrashAt(uint64_t operation, const sim::CrashPolicy& policy, const LogOptions& options = SmallOptions()) {
  sim::SimFiles disk;
  Models models;
  disk.HaltAt(operation);
  {
    SimLog log(disk, options, operation);
    if (log.status().ok()) Work(log, models, 60);
    log.Settle();
    log.PowerOff();
  }
  disk.Crash(operation, policy);
  disk.HaltAt(0);
  // A second life that ends early, then a third.
  {
    SimLog log(disk, options, operation + 1);
    ASSERT_NO_FATAL_FAILURE(Check(log, models)) << "operation " << operation;
    disk.HaltAt(disk.operations() + 1 + operation % 23);
    Work(log, models, 8);
    log.PowerOff();
  }
  disk.Crash(operation + 1, policy);
  disk.HaltAt(0);
  SimLog log(disk, options, operation + 2);
  ASSERT_NO_FATAL_FAILURE(Check(log, models)) << "operation " << operation << ", second crash";
}

TEST(LogCrash, EveryOperationWithAtomicBlocks) {
  const uint64_t operations = OperationsOf(60);
  ASSERT_GT(operations, 100u);
  for (uint64_t n = 1; n <= operations && !testing::Test::HasFatalFailure(); ++n) {
    CrashAt(n, {.sector_bytes = 4096});
  }
}

TEST(LogCrash, F02_K9_EveryOperationWithTornSectors) {
  const uint64_t operations = OperationsOf(60);
  for (uint64_t n = 1; n <= operations && !testing::Test::HasFatalFailure(); ++n) {
    CrashAt(n, {.sector_bytes = 512});
  }
}

TEST(LogCrash, F02_K9_EveryOperationWithBlocksOfASector) {
  LogOptions options = SmallOptions();
  options.block_bytes = 512;
  const uint64_t operations = OperationsOf(60);
  for (uint64_t n = 1; n <= operations && !testing::Test::HasFatalFailure(); ++n) {
    CrashAt(n, {.sector_bytes = 512}, options);
  }
}

TEST(LogCrash, F16_UnsyncedNamesAreLost) {
  const uint64_t operations = OperationsOf(60);
  for (uint64_t n = 1; n <= operations && !testing::Test::HasFatalFailure(); ++n) {
    CrashAt(n, sim::CrashPolicy::DropUnsynced());
  }
}

TEST(LogCrash, SkippedSyncLosesAcknowledgedEntriesWhichMustNotHappen) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(log.Append(kGroup, i, 1).ok());
    log.PowerOff();
  }
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  SimLog log(disk);
  EXPECT_EQ(log->TakeRecovered(kGroup).entries.size(), 5u) << "acknowledged entries were not durable";
}

// The sweep above can fail: on a disk that loses syncs it does.
TEST(LogCrash, DiskThatLosesSyncsIsNoticed) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Append(kGroup, 0, 1).ok());
    log.Settle();
    disk.LoseSyncs(true);
    ASSERT_TRUE(log.Append(kGroup, 1, 3).ok());
    log.PowerOff();
  }
  disk.Crash(1, sim::CrashPolicy::DropUnsynced());
  SimLog log(disk);
  EXPECT_LT(log->TakeRecovered(kGroup).entries.size(), 4u);
}

}  // namespace
}  // namespace sluice::log
