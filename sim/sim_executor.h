// env::Executors in virtual time, and the processes that their tasks die with.
//
//   sim::Process process;                            // one life of one server
//   sim::SimExecutors executors(world, process);
//   auto shard = executors.NewExecutor("shard-0");   // as RealExecutors(): tasks run when the world runs
//   process.Kill();                                  // kill -9: what is queued is dropped,
//                                                    // later posts are ignored
//   process.Pause("log-write", world.MonotonicNow() + 3s);   // the disk of the log stalls; "" is SIGSTOP
//
// Tasks of one executor keep their order; each starts after a small delay from the seed, so that executors
// interleave differently under each seed. A restarted server is a new Process. One thread, the world's. World
// and Process must outlive the executors made for them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "env/executor.h"
#include "sim/world.h"

namespace sluice::sim {

class SimExecutor;

class Process {
 public:
  Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Ends the process at once, also from within one of its tasks (which still returns). Its objects are not
  // destroyed: that is for their owner, and what they post then is ignored.
  void Kill();
  bool alive() const { return alive_; }

  // No task of an executor whose name begins with `name` starts before `until`; "" is all of them, as between
  // SIGSTOP and SIGCONT: the clock goes on, and timers that came due run late.
  void Pause(const std::string& name, env::Instant until) { paused_[name] = until; }
  // Each such task starts so much later, as on a slow device (the simulator's own calls take no time).
  void SlowDown(const std::string& name, env::Duration by) { slow_[name] = by; }
  // Ends all of both.
  void Resume();

 private:
  friend class SimExecutor;
  env::Instant MayRunAt(const std::string& name) const;
  env::Duration LagOf(const std::string& name) const;

  bool alive_ = true;
  std::map<std::string, env::Instant> paused_;
  // By number: the order must not depend on addresses.
  std::set<std::pair<uint64_t, SimExecutor*>> executors_;
  uint64_t last_number_ = 0;
  std::map<std::string, env::Duration> slow_;
};

class SimExecutors final : public env::Executors {
 public:
  SimExecutors(World& world, Process& process) : world_(world), process_(process) {}
  std::unique_ptr<env::Executor> NewExecutor(const std::string& name) override;

 private:
  World& world_;
  Process& process_;
};

}  // namespace sluice::sim
