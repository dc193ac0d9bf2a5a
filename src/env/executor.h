// Where work runs: a single-threaded queue of tasks with timers.
//
//   executor.Post([this] { Step(); });
//   env::TimerId timer = executor.PostAfter(std::chrono::milliseconds(10), [this] { Tick(); });
//
// Tasks of one executor run one after another, in the order of Post, never inside Post itself. Post,
// PostAfter and Cancel may be called from any thread. A task must not block, except on executors that exist
// for blocking work (the log writer, blob threads, hashing). The real executor is a thread of its own; the
// simulated one is a queue in virtual time, so that everything above runs from one seed.
//
// Who ends first: an executor that answers are posted to must not be destroyed while somebody may still post.
// So a whole is taken down in two steps: Stop() of all its executors, callers before whom they call, and only
// then the memory of anything. In between nothing runs, and what is posted is dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "env/clock.h"

namespace sluice::env {

using Task = absl::AnyInvocable<void()>;
enum class TimerId : uint64_t { kNone = 0 };

class Executor {
 public:
  virtual ~Executor() = default;  // Stop()
  virtual void Post(Task task) = 0;
  // Runs `task` once, not earlier than `delay` from now.
  virtual TimerId PostAfter(Duration delay, Task task) = 0;
  // Best effort: a timer that is already due may still run. kNone and unknown ids are ignored.
  virtual void Cancel(TimerId timer) = 0;
  // True on the executor's own thread (in the simulator: while one of its tasks runs).
  virtual bool RunsHere() const = 0;
  // Runs what was posted before, drops timers, and ends the thread. From then on tasks and timers are dropped
  // where they are given, on the thread that gives them. Not from a task of its own; may be called again.
  virtual void Stop() = 0;
};

// Runs `task` now where it is the executor's own thread, else posts it.
template <typename F>
void Dispatch(Executor& executor, F task) {
  if (executor.RunsHere()) return task();
  executor.Post(std::move(task));
}

// Makes executors; owns none of them.
class Executors {
 public:
  virtual ~Executors() = default;
  // A new executor with a thread named `name` (15 bytes are kept).
  virtual std::unique_ptr<Executor> NewExecutor(const std::string& name) = 0;
};

Executors& RealExecutors();

}  // namespace sluice::env
