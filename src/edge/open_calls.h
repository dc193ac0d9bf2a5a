// The streaming calls that a service has open: they are kept alive here until OnDone,
// counted, and ended together.
//
//   auto call = std::make_shared<Call>(...);
//   if (!open_.Add(call)) return Refuse<Request, Reply>(grpc::Status(RESOURCE_EXHAUSTED, "..."));
//   void OnDone() override { open_.Remove(this); }   // destroys the call unless somebody else holds it
//
// Threading: any thread; ForEach visits a copy, so the visitor may take locks of the calls.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"

namespace sluice::edge {

template <typename Call>
class OpenCalls {
 public:
  explicit OpenCalls(size_t calls_max) : calls_max_(calls_max) {}

  bool Add(std::shared_ptr<Call> call) {
    std::lock_guard lock(mutex_);
    if (stopping_ || calls_.size() >= calls_max_) return false;
    Call* key = call.get();
    calls_.emplace(key, std::move(call));
    return true;
  }
  void Remove(Call* call) {
    std::shared_ptr<Call> last;  // destroyed after the lock is released
    std::lock_guard lock(mutex_);
    const auto it = calls_.find(call);
    if (it == calls_.end()) return;
    last = std::move(it->second);
    calls_.erase(it);
  }
  void ForEach(absl::FunctionRef<void(Call&)> visit) {
    for (const std::shared_ptr<Call>& call : Copy()) visit(*call);
  }
  // Every later Add is refused.
  void Stop() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  size_t size() const {
    std::lock_guard lock(mutex_);
    return calls_.size();
  }

 private:
  std::vector<std::shared_ptr<Call>> Copy() const {
    std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Call>> out;
    out.reserve(calls_.size());
    for (const auto& [key, call] : calls_) out.push_back(call);
    return out;
  }

  const size_t calls_max_;
  mutable std::mutex mutex_;
  bool stopping_ = false;
  std::unordered_map<Call*, std::shared_ptr<Call>> calls_;  // shared: replies of the server hold a call, too
};

// A call that ends at once.
template <typename Request, typename Reply>
grpc::ServerBidiReactor<Request, Reply>* Refuse(grpc::Status status) {
  class Refused final : public grpc::ServerBidiReactor<Request, Reply> {
   public:
    explicit Refused(grpc::Status why) { this->Finish(std::move(why)); }
    void OnDone() override { delete this; }
  };
  return new Refused(std::move(status));  // deletes itself: that is how a reactor ends
}

}  // namespace sluice::edge
