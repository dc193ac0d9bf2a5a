// What the real loops share: a queue of posts and one of timers on an io_context.
// Who runs the context is theirs.
//
//   class MyLoop final : public LoopCore<Loop> {
//     ... context().run() on a thread ...
//     bool RunsHere() const override;
//     void Stop() override { Post([this] { Halt(); }); ...; Close(); }   // once; also in the destructor
//   };
//
// Asio may run a post from its own thread before an earlier post from another; the order that Executor
// promises is kept by a queue of our own, drained by one asio handler at a time. Timers live in one ordered
// map with one asio timer for the earliest, so that a cancelled timer is gone at once. Threading: as Executor
// says; Halt on the loop, Close when no thread runs the context any more.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include "env/executor.h"

namespace sluice::env {

template <typename Interface>
class LoopCore : public Interface {
  using SteadyTime = std::chrono::steady_clock::time_point;

 public:
  explicit LoopCore(int concurrency_hint) : context_(concurrency_hint), alarm_(context_) {}

  asio::io_context& context() override { return context_; }

  void Post(Task task) override {
    std::unique_lock lock(mutex_);
    if (closed_) return;  // `task`, which may own things that call us, goes after the lock
    queue_.push_back(std::move(task));
    if (std::exchange(drain_posted_, true)) return;
    lock.unlock();
    asio::post(context_, [this] { Drain(); });
  }

  TimerId PostAfter(Duration delay, Task task) override {
    const SteadyTime due = std::chrono::steady_clock::now() + std::max(delay, Duration::zero());
    TimerId id;
    bool earliest;
    {
      std::lock_guard lock(mutex_);
      if (closed_) return TimerId::kNone;
      id = TimerId{++last_timer_};
      const auto at = timers_.emplace(std::pair(due, id), std::move(task)).first;
      due_of_.emplace(id, due);
      earliest = at == timers_.begin();
    }
    if (earliest) this->RunsHere() ? Arm() : Post([this] { Arm(); });
    return id;
  }

  void Cancel(TimerId timer) override {
    Task dropped;  // destroyed after the lock is released: it may own things that call us
    std::lock_guard lock(mutex_);
    const auto due = due_of_.find(timer);
    if (due == due_of_.end()) return;
    const auto at = timers_.find({due->second, timer});
    dropped = std::move(at->second);
    timers_.erase(at);
    due_of_.erase(due);
  }

 protected:
  // Ends every run() of the context.
  void Halt() {
    stopped_ = true;
    context_.stop();
  }
  // Drops what is left, and from now on whatever is given.
  void Close() {
    std::vector<Task> queue;
    std::map<std::pair<SteadyTime, TimerId>, Task> timers;
    std::lock_guard lock(mutex_);
    closed_ = true;
    queue.swap(queue_);
    timers.swap(timers_);
    due_of_.clear();
    // Destroyed after the lock is released: they may own things that call us.
  }

 private:
  void Drain() {
    std::vector<Task> batch;
    {
      std::lock_guard lock(mutex_);
      batch.swap(queue_);
    }
    for (Task& task : batch) {
      std::exchange(task, nullptr)();
      if (stopped_) return;
    }
    std::unique_lock lock(mutex_);
    drain_posted_ = !queue_.empty();
    if (!drain_posted_) return;
    lock.unlock();
    asio::post(context_, [this] { Drain(); });  // not a loop: sockets get their turn
  }

  // Sets the alarm for the earliest timer. On the loop's thread.
  void Arm() {
    SteadyTime due;
    {
      std::lock_guard lock(mutex_);
      if (timers_.empty()) return;
      due = timers_.begin()->first.first;
    }
    alarm_.expires_at(due);
    alarm_.async_wait([this](const std::error_code& error) {
      if (!error) RunDueTimers();
    });
  }

  void RunDueTimers() {
    const SteadyTime now = std::chrono::steady_clock::now();
    while (!stopped_) {
      Task task;
      {
        std::lock_guard lock(mutex_);
        const auto at = timers_.begin();
        if (at == timers_.end() || at->first.first > now) break;
        task = std::move(at->second);
        due_of_.erase(at->first.second);
        timers_.erase(at);
      }
      task();
    }
    Arm();
  }

  std::mutex mutex_;  // guards the six members below
  bool closed_ = false;
  std::vector<Task> queue_;
  bool drain_posted_ = false;
  uint64_t last_timer_ = 0;
  std::map<std::pair<SteadyTime, TimerId>, Task> timers_;
  std::unordered_map<TimerId, SteadyTime> due_of_;

  asio::io_context context_;
  asio::steady_timer alarm_;  // on the loop only
  bool stopped_ = false;      // on the loop only
};

}  // namespace sluice::env
