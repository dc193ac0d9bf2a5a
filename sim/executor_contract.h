// What every env::Executor does: one gtest suite, run against real threads and virtual time.
//
//   INSTANTIATE_TEST_SUITE_P(Real, ExecutorContract, testing::Values(ExecutorCase{"Real", MakeRealScene}),
//                            ExecutorCaseName);
//
// Include it in one .cc of a test program.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "env/executor.h"

namespace sluice::sim {

class ExecutorScene {
 public:
  virtual ~ExecutorScene() = default;
  virtual env::Executors& executors() = 0;
  virtual const env::Clock& clock() = 0;
  // Returns when `done()`, which may be called from several threads one after another;
  // false if it never will be.
  virtual bool WaitUntil(absl::FunctionRef<bool()> done) = 0;
};

struct ExecutorCase {
  std::string name;
  std::function<std::unique_ptr<ExecutorScene>()> make;
};

inline std::string ExecutorCaseName(const testing::TestParamInfo<ExecutorCase>& info) {
  return info.param.name;
}
inline void PrintTo(const ExecutorCase& executor_case, std::ostream* out) { *out << executor_case.name; }

class ExecutorContract : public testing::TestWithParam<ExecutorCase> {
 protected:
  std::unique_ptr<env::Executor> New() {
    return scene_->executors().NewExecutor("a name beyond fifteen bytes");
  }
  std::unique_ptr<ExecutorScene> scene_ = GetParam().make();
};

TEST_P(ExecutorContract, RunsInOrderAndBeforeItsDestructorReturns) {
  std::vector<int> order;
  auto executor = New();
  for (int i = 0; i < 1000; ++i) executor->Post([&order, i] { order.push_back(i); });
  executor.reset();
  ASSERT_EQ(order.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(ExecutorContract, NeverRunsInsidePost) {
  bool inside = false, nested_inside = false;
  auto executor = New();
  std::atomic<bool> nested_done = false;
  executor->Post([&] {
    inside = true;
    executor->Post([&] {
      nested_inside = inside;
      nested_done = true;
    });
    inside = false;
  });
  EXPECT_TRUE(scene_->WaitUntil([&] { return nested_done.load(); }));
  EXPECT_FALSE(nested_inside);
}

TEST_P(ExecutorContract, TwoExecutorsPlayPingPong) {
  auto one = New();
  auto two = New();
  std::atomic<int> hops = 0;
  std::function<void()> hop = [&] {
    const int n = ++hops;
    if (n < 100) (n % 2 == 0 ? one : two)->Post([&] { hop(); });
  };
  one->Post([&] { hop(); });
  EXPECT_TRUE(scene_->WaitUntil([&] { return hops == 100; }));
}

TEST_P(ExecutorContract, KnowsWhereItRuns) {
  auto one = New();
  auto two = New();
  std::vector<bool> seen;
  one->Post([&seen, first = one.get(), second = two.get()] {
    seen = {first->RunsHere(), second->RunsHere()};
  });
  EXPECT_FALSE(one->RunsHere());
  one.reset();
  EXPECT_THAT(seen, testing::ElementsAre(true, false));
}

TEST_P(ExecutorContract, TimersRunInTheOrderOfTheirTimeAndNotEarly) {
  using std::chrono::milliseconds;
  auto executor = New();
  const env::Instant start = scene_->clock().MonotonicNow();
  std::vector<int> order;
  std::atomic<int> done = 0;
  env::Duration early{};
  for (const int delay_ms : {30, 10, 20}) {
    executor->PostAfter(milliseconds(delay_ms), [&, delay_ms] {
      early = std::min(early, scene_->clock().MonotonicNow() - start - milliseconds(delay_ms));
      order.push_back(delay_ms);
      ++done;
    });
  }
  EXPECT_TRUE(scene_->WaitUntil([&] { return done == 3; }));
  executor.reset();
  EXPECT_THAT(order, testing::ElementsAre(10, 20, 30));
  EXPECT_GE(early, std::chrono::microseconds(-500)) << "clocks may differ, not by this much";
}

TEST_P(ExecutorContract, CancelledTimerIsGoneAtOnce) {
  auto executor = New();
  auto owned = std::make_shared<int>(7);
  const std::weak_ptr<int> watch = owned;
  const env::TimerId timer = executor->PostAfter(std::chrono::hours(1), [kept = std::move(owned)] {});
  EXPECT_FALSE(watch.expired());
  executor->Cancel(timer);
  EXPECT_TRUE(watch.expired());
  executor->Cancel(timer);
  executor->Cancel(env::TimerId::kNone);
}

TEST_P(ExecutorContract, TimerCanCancelALaterOneThatIsDueToo) {
  auto executor = New();
  std::atomic<bool> last = false;
  bool cancelled_ran = false;
  executor->Post([&] {
    env::TimerId victim{};
    auto shared = std::make_shared<env::TimerId>();
    executor->PostAfter(std::chrono::milliseconds(1), [&, shared] { executor->Cancel(*shared); });
    victim = executor->PostAfter(std::chrono::milliseconds(20), [&] { cancelled_ran = true; });
    *shared = victim;
    executor->PostAfter(std::chrono::milliseconds(40), [&] { last = true; });
  });
  EXPECT_TRUE(scene_->WaitUntil([&] { return last.load(); }));
  EXPECT_FALSE(cancelled_ran);
}

// Whoever answers to an executor may come late: after its thread, before its memory.
TEST_P(ExecutorContract, K18_AStoppedExecutorDropsWhatComesLate) {
  auto owned = std::make_shared<int>(7);
  const std::weak_ptr<int> watch = owned;
  int ran = 0;
  auto executor = New();
  executor->Post([&ran] { ++ran; });
  const env::TimerId before = executor->PostAfter(std::chrono::hours(1), [&ran, owned] { ran += 100; });
  executor->Stop();
  EXPECT_EQ(ran, 1);
  executor->Post([&ran, owned] { ran += 100; });
  const env::TimerId after = executor->PostAfter(env::Duration::zero(), [&ran, owned] { ran += 100; });
  owned.reset();
  EXPECT_TRUE(watch.expired()) << "dropped where it was given";
  executor->Cancel(before);
  executor->Cancel(after);
  EXPECT_FALSE(executor->RunsHere());
  executor->Stop();
  executor.reset();
  EXPECT_EQ(ran, 1);
}

// What is dropped may own things that call the executor when they go.
TEST_P(ExecutorContract, K18_WhatIsDroppedMayCallItsExecutor) {
  struct Caller {
    explicit Caller(env::Executor* its) : executor(its) {}
    ~Caller() {
      executor->Cancel(timer);
      executor->Post([] {});
    }
    env::Executor* const executor;
    env::TimerId timer = env::TimerId::kNone;
  };
  auto executor = New();
  const auto give = [&] {
    auto caller = std::make_shared<Caller>(executor.get());
    caller->timer = executor->PostAfter(std::chrono::hours(1), [caller] {});
    executor->PostAfter(std::chrono::hours(2), [caller] {});
  };
  give();
  executor->Stop();
  give();
  executor.reset();
}

TEST_P(ExecutorContract, DestructorDropsTimersAndLatePosts) {
  auto owned = std::make_shared<int>(7);
  const std::weak_ptr<int> watch = owned;
  bool ran = false;
  auto executor = New();
  env::Executor* raw = executor.get();
  executor->PostAfter(std::chrono::hours(1), [kept = std::move(owned), &ran] { ran = true; });
  executor->Post([&ran, raw] { raw->PostAfter(std::chrono::hours(1), [&ran] { ran = true; }); });
  executor.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_FALSE(ran);
}

}  // namespace sluice::sim
