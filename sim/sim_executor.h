// env::Executors in virtual time, and the processes that their tasks die with.
//
//   sim::Process process;                            // one life of one server
//   sim::SimExecutors executors(world, process);
//   auto shard = executors.NewExecutor("shard-0");   // as RealExecutors(): tasks run when the world runs
//   process.Kill();                                  // kill -9: what is queued is dropped,
//                                                    // later posts are ignored
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
  // Each task of the executor of this name starts so much later: a slow disk, as the simulator's own calls
  // take no time.
  void SlowDown(const std::string& executor, env::Duration by) { slow_[executor] = by; }

 private:
  friend class SimExecutor;
  bool alive_ = true;
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
