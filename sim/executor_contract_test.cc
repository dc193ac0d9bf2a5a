#include "sim/executor_contract.h"

#include <condition_variable>
#include <mutex>

#include "sim/sim_executor.h"

namespace sluice::sim {
namespace {

// Waits on an executor of its own that looks every millisecond: the outer thread blocks without sleeping.
class RealScene final : public ExecutorScene {
 public:
  env::Executors& executors() override { return env::RealExecutors(); }
  const env::Clock& clock() override { return env::RealClock(); }
  bool WaitUntil(absl::FunctionRef<bool()> done) override {
    const env::Instant limit = env::RealClock().MonotonicNow() + std::chrono::seconds(30);
    std::mutex mutex;
    std::condition_variable changed;
    bool finished = false, result = false;
    const auto watcher = env::RealExecutors().NewExecutor("watcher");
    std::function<void()> look = [&] {
      const bool is_done = done();
      if (!is_done && env::RealClock().MonotonicNow() < limit) {
        watcher->PostAfter(std::chrono::milliseconds(1), [&] { look(); });
        return;
      }
      std::lock_guard lock(mutex);
      finished = true;
      result = is_done;
      changed.notify_one();
    };
    watcher->Post([&] { look(); });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return finished; });
    return result;
  }
};

class SimScene final : public ExecutorScene {
 public:
  env::Executors& executors() override { return executors_; }
  const env::Clock& clock() override { return world_; }
  bool WaitUntil(absl::FunctionRef<bool()> done) override {
    return world_.RunUntil(done, std::chrono::seconds(30));
  }

 private:
  World world_{7};
  Process process_;
  SimExecutors executors_{world_, process_};
};

TEST(SimExecutor, PausedAndSlowThreadsOfAProcess) {
  World world{3};
  Process process;
  SimExecutors executors{world, process};
  const auto writer = executors.NewExecutor("log-write");
  const auto shard = executors.NewExecutor("shard-0");
  int written = 0, stepped = 0;
  const auto post = [&] {
    writer->Post([&] { ++written; });
    shard->Post([&] { ++stepped; });
  };
  process.Pause("log-", world.MonotonicNow() + std::chrono::seconds(2));
  post();
  world.RunFor(std::chrono::milliseconds(1900));
  EXPECT_EQ(written, 0);
  EXPECT_EQ(stepped, 1);
  world.RunFor(std::chrono::milliseconds(200));
  EXPECT_EQ(written, 1);
  process.Pause("", world.MonotonicNow() + std::chrono::seconds(60));
  shard->PostAfter(std::chrono::milliseconds(10), [&] { ++stepped; });
  post();
  world.RunFor(std::chrono::seconds(5));
  EXPECT_EQ(written + stepped, 2) << "a task ran in a stopped process";
  process.Resume();
  world.RunFor(std::chrono::seconds(1));
  EXPECT_EQ(written + stepped, 5);
  process.SlowDown("shard-", std::chrono::milliseconds(500));
  post();
  world.RunFor(std::chrono::milliseconds(400));
  EXPECT_EQ(written, 3);
  EXPECT_EQ(stepped, 3);
}

INSTANTIATE_TEST_SUITE_P(Executors, ExecutorContract,
                         testing::Values(ExecutorCase{"Real", [] { return std::make_unique<RealScene>(); }},
                                         ExecutorCase{"Simulated",
                                                      [] { return std::make_unique<SimScene>(); }}),
                         ExecutorCaseName);

}  // namespace
}  // namespace sluice::sim
