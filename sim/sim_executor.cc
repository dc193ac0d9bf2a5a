#include "sim/sim_executor.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "base/check.h"

namespace sluice::sim {
namespace {

// The delay before each task: mostly short, sometimes long enough
// that whole exchanges happen elsewhere meanwhile.
constexpr uint64_t kShortDelayNs = 20'000;
constexpr uint64_t kLongDelayNs = 2'000'000;
constexpr double kLongDelayChance = 0.02;
// How often an executor that is paused looks whether that has ended.
constexpr env::Duration kPausedPoll = std::chrono::milliseconds(20);

}  // namespace

class SimExecutor final : public env::Executor {
 public:
  SimExecutor(World& world, Process& process, std::string name)
      : world_(world), process_(process), name_(std::move(name)), number_(++process.last_number_) {
    process_.executors_.emplace(number_, this);
  }

  ~SimExecutor() override {
    Stop();
    process_.executors_.erase({number_, this});
  }

  void Stop() override {
    if (closed_) return;
    SLUICE_CHECK(!runs_here_) << "an executor must not be stopped by its own task";
    for (size_t before = queue_.size(); before > 0 && !queue_.empty() && process_.alive(); --before)
      RunNext();
    closed_ = true;  // destroying the rest may call us
    DropAll();
  }

  void Post(env::Task task) override {
    if (!accepts()) return;
    queue_.emplace_back(env::TimerId::kNone, std::move(task));
    ScheduleNext();
  }

  env::TimerId PostAfter(env::Duration delay, env::Task task) override {
    if (!accepts()) return env::TimerId::kNone;
    const env::TimerId id{++last_timer_};
    const EventId event = world_.After(delay, [this, id] {
      auto timer = timers_.extract(id);
      queue_.emplace_back(id, std::move(timer.mapped().second));
      ScheduleNext();
    });
    timers_.emplace(id, std::pair(event, std::move(task)));
    return id;
  }

  void Cancel(env::TimerId timer) override {
    if (timer == env::TimerId::kNone) return;
    if (auto waiting = timers_.extract(timer)) return world_.Cancel(waiting.mapped().first);
    for (auto& [id, task] : queue_) {
      if (id == timer) std::exchange(task, nullptr);  // due, not started: an empty task is skipped
    }
  }

  bool RunsHere() const override { return runs_here_; }

  void DropAll() {
    for (const auto& [id, timer] : timers_) world_.Cancel(timer.first);
    if (scheduled_) world_.Cancel(next_);
    scheduled_ = false;
    auto timers = std::move(timers_);
    auto queue = std::move(queue_);
    timers_.clear();
    queue_.clear();
  }

 private:
  bool accepts() const { return process_.alive() && !closed_; }

  void ScheduleNext() {
    if (scheduled_ || queue_.empty() || !accepts()) return;
    scheduled_ = true;
    SeededRandom& random = world_.random();
    const uint64_t delay_ns = random.Below(random.Chance(kLongDelayChance) ? kLongDelayNs : kShortDelayNs);
    next_ =
        world_.After(std::chrono::nanoseconds(delay_ns) + process_.LagOf(name_), [this] { RunWhenMay(); });
  }

  void RunWhenMay() {
    const env::Duration left = process_.MayRunAt(name_) - world_.MonotonicNow();
    if (left > env::Duration::zero()) {
      next_ = world_.After(std::min(left, kPausedPoll), [this] { RunWhenMay(); });
      return;
    }
    scheduled_ = false;
    RunNext();
    ScheduleNext();
  }

  void RunNext() {
    env::Task task = std::move(queue_.front().second);
    queue_.pop_front();
    if (!task) return;
    const bool outer = std::exchange(runs_here_, true);
    task();
    task = nullptr;  // what it owns ends here too
    runs_here_ = outer;
  }

  World& world_;
  Process& process_;
  const std::string name_;
  const uint64_t number_;
  std::deque<std::pair<env::TimerId, env::Task>> queue_;  // timers that are due stand here too
  std::map<env::TimerId, std::pair<EventId, env::Task>> timers_;
  uint64_t last_timer_ = 0;
  bool scheduled_ = false;
  EventId next_;
  bool runs_here_ = false;
  bool closed_ = false;
};

void Process::Kill() {
  alive_ = false;
  // What is dropped may own executors and end them.
  const auto executors = executors_;
  for (const auto& executor : executors) {
    if (executors_.count(executor) > 0) executor.second->DropAll();
  }
}

void Process::Resume() {
  paused_.clear();
  slow_.clear();
}

env::Instant Process::MayRunAt(const std::string& name) const {
  env::Instant at{};
  for (const auto& [prefix, until] : paused_) {
    if (name.starts_with(prefix)) at = std::max(at, until);
  }
  return at;
}

env::Duration Process::LagOf(const std::string& name) const {
  env::Duration lag{};
  for (const auto& [prefix, by] : slow_) {
    if (name.starts_with(prefix)) lag = std::max(lag, by);
  }
  return lag;
}

std::unique_ptr<env::Executor> SimExecutors::NewExecutor(const std::string& name) {
  return std::make_unique<SimExecutor>(world_, process_, name);
}

}  // namespace sluice::sim
