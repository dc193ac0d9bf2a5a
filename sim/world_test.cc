#include "sim/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "sim/sim_executor.h"

namespace sluice::sim {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(World, RunsInTheOrderOfTimeThenOfScheduling) {
  World world(1);
  std::string order;
  world.After(milliseconds(2), [&] { order += 'c'; });
  world.After(milliseconds(1), [&] { order += 'a'; });
  world.After(milliseconds(1), [&] { order += 'b'; });
  const EventId cancelled = world.After(milliseconds(1), [&] { order += 'x'; });
  world.Cancel(cancelled);
  world.Cancel(cancelled);
  EXPECT_TRUE(world.RunUntilIdle(hours(1)));
  EXPECT_EQ(order, "abc");
  EXPECT_EQ(world.steps(), 3u);
}

TEST(World, TimePassesOnlyAsFarAsAsked) {
  World world(1);
  const env::Instant start = world.MonotonicNow();
  int ticks = 0;
  std::function<void()> tick = [&] {
    ++ticks;
    world.After(milliseconds(10), tick);
  };
  tick();
  world.RunFor(milliseconds(35));
  EXPECT_EQ(ticks, 4);
  EXPECT_EQ(world.MonotonicNow() - start, milliseconds(35));
  EXPECT_TRUE(world.RunUntil([&] { return ticks == 10; }, seconds(1)));
  EXPECT_FALSE(world.RunUntil([&] { return ticks == 1000; }, seconds(1)));
  EXPECT_FALSE(world.RunUntilIdle(seconds(1)));
}

TEST(World, F38_WallClockJumpsDoNotMoveMonotonicTime) {
  World world(1);
  const env::Instant start = world.MonotonicNow();
  const int64_t wall_ms = world.WallNowMs();
  world.MoveWallClock(-hours(1));
  EXPECT_EQ(world.MonotonicNow(), start);
  EXPECT_EQ(world.WallNowMs(), wall_ms - 3'600'000);
}

// Three executors exchange messages; the trace shows who ran when.
std::string Trace(uint64_t seed) {
  World world(seed);
  Process process;
  SimExecutors executors(world, process);
  std::string trace;
  std::vector<std::unique_ptr<env::Executor>> all;
  for (int i = 0; i < 3; ++i) all.push_back(executors.NewExecutor("e"));
  for (size_t i = 0; i < all.size(); ++i) {
    for (int n = 0; n < 10; ++n) all[i]->Post([&trace, i] { trace += static_cast<char>('a' + i); });
  }
  world.RunUntilIdle(seconds(10));
  return trace;
}

TEST(SimExecutor, SeedDecidesTheInterleavingAndNothingElseDoes) {
  std::set<std::string> traces;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(Trace(seed), Trace(seed));
    EXPECT_EQ(Trace(seed).size(), 30u);
    traces.insert(Trace(seed));
  }
  EXPECT_GT(traces.size(), 8u);
}

TEST(SimExecutor, KilledProcessRunsNothingMore) {
  World world(1);
  Process victim, other;
  SimExecutors victims(world, victim), others(world, other);
  auto one = victims.NewExecutor("one");
  auto two = victims.NewExecutor("two");
  auto three = others.NewExecutor("three");
  int ran = 0, dead_ran = 0, others_ran = 0;
  auto owned = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = owned;
  two->PostAfter(milliseconds(500), [&, kept = std::move(owned)] { ++dead_ran; });
  three->PostAfter(milliseconds(500), [&] { ++others_ran; });
  one->PostAfter(milliseconds(5), [&] {
    ++ran;
    one->Post([&] { ++dead_ran; });
    victim.Kill();
    one->Post([&] { ++dead_ran; });
    EXPECT_EQ(one->PostAfter(milliseconds(1), [&] { ++dead_ran; }), env::TimerId::kNone);
  });
  EXPECT_TRUE(world.RunUntilIdle(seconds(10)));
  one.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_THAT((std::vector{ran, dead_ran, others_ran}), testing::ElementsAre(1, 0, 1));
}

TEST(SimExecutor, DroppedTaskMayOwnAnExecutorOfTheDeadProcess) {
  World world(1);
  Process process;
  SimExecutors executors(world, process);
  auto outer = executors.NewExecutor("outer");
  std::shared_ptr<env::Executor> inner = executors.NewExecutor("inner");
  inner->Post([] { FAIL() << "runs after the kill"; });
  outer->Post([kept = std::move(inner)] {});
  process.Kill();
  EXPECT_TRUE(world.RunUntilIdle(seconds(1)));
}

}  // namespace
}  // namespace sluice::sim
