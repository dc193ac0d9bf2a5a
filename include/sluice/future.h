// The result of something that is under way: to wait for, or to be told of.
//
//   sluice::Future<sluice::RaftReply> reply = client->Async().Send(message);
//   absl::StatusOr<sluice::RaftReply> waited = reply.Get();                          // waits
//   reply.Then([](const absl::StatusOr<sluice::RaftReply>& reply) { ... });          // is told
//
// The one style of asynchrony of this library: a call that does not wait gives a Future. Threading:
// thread-safe. A callback runs once: at once on the thread of Then if the result is there, else on the thread
// of the library that brings it; there it must not wait (no Get of another future, no blocking call) and must
// not destroy the object that gave the future. Ownership: copies share the result, which lives as long as the
// last of them; a future may be dropped without being looked at. Errors: every future is answered, at the
// latest with CANCELLED when what it came from is destroyed. From: Java's CompletableFuture in Apache Ratis'
// interfaces, without its combinators.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/status.h"

namespace sluice {

template <typename T>
class Promise;

// T is copied to everyone who asks: a small value, or one that shares its memory as Bytes does.
template <typename T>
class Future {
 public:
  using Result = absl::StatusOr<T>;
  using Callback = absl::AnyInvocable<void(const Result&)>;

  // True once the result is there: Get will not wait.
  bool Ready() const {
    std::lock_guard lock(state_->mutex);
    return state_->result.has_value();
  }
  // Waits for the result. Any number of times.
  Result Get() const {
    std::unique_lock lock(state_->mutex);
    state_->arrived.wait(lock, [this] { return state_->result.has_value(); });
    return *state_->result;
  }
  // Calls `callback` with the result. Any number of times; callbacks run in the order in which they came.
  void Then(Callback callback) const {
    {
      std::lock_guard lock(state_->mutex);
      if (!state_->result.has_value()) {
        state_->callbacks.push_back(std::move(callback));
        return;
      }
    }
    callback(*state_->result);
  }

 private:
  friend class Promise<T>;
  struct State {
    std::mutex mutex;
    std::condition_variable arrived;
    std::optional<Result> result;  // set once, then never changed
    std::vector<Callback> callbacks;
  };
  explicit Future(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

// The other end, for whoever brings the result. Copies share it.
template <typename T>
class Promise {
 public:
  Promise() : state_(std::make_shared<typename Future<T>::State>()) {}
  Future<T> future() const { return Future<T>(state_); }
  // The first result stays; later ones are ignored. Callbacks run in here.
  void Set(absl::StatusOr<T> result) const {
    std::vector<typename Future<T>::Callback> callbacks;
    {
      std::lock_guard lock(state_->mutex);
      if (state_->result.has_value()) return;
      state_->result.emplace(std::move(result));
      callbacks.swap(state_->callbacks);
      state_->arrived.notify_all();
    }
    for (auto& callback : callbacks) callback(*state_->result);
  }

 private:
  std::shared_ptr<typename Future<T>::State> state_;
};

}  // namespace sluice
