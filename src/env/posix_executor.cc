#include <pthread.h>

#include <thread>

#include <asio/executor_work_guard.hpp>

#include "base/check.h"
#include "env/loop.h"
#include "env/loop_core.h"

namespace sluice::env {
namespace {

class RealLoop final : public LoopCore<Loop> {
 public:
  explicit RealLoop(const std::string& name) : LoopCore(ASIO_CONCURRENCY_HINT_1) {
    thread_ = std::thread([this, short_name = name.substr(0, 15)] {
      pthread_setname_np(pthread_self(), short_name.c_str());
      current_ = this;
      auto work = asio::make_work_guard(context());
      context().run();
    });
  }

  ~RealLoop() override { Stop(); }

  void Stop() override {
    if (!thread_.joinable()) return;
    SLUICE_CHECK(!RunsHere()) << "an executor must not be stopped by its own task";
    Post([this] { Halt(); });
    thread_.join();
    Close();
  }

  bool RunsHere() const override { return current_ == this; }

 private:
  static thread_local const RealLoop* current_;
  std::thread thread_;
};

thread_local const RealLoop* RealLoop::current_ = nullptr;

class RealExecutorsImpl final : public Executors {
 public:
  std::unique_ptr<Executor> NewExecutor(const std::string& name) override { return NewLoop(name); }
};

}  // namespace

std::unique_ptr<Loop> NewLoop(const std::string& name) { return std::make_unique<RealLoop>(name); }

Executors& RealExecutors() {
  static RealExecutorsImpl executors;
  return executors;
}

}  // namespace sluice::env
