// Outgoing calls under way: counted, bounded, and cancelled together when the server stops.
//
//   auto context = in_flight.Begin(peer);   // says which cluster this server is of, and whom it means
//   if (context == nullptr) return;   // stopping, or too many
//   stub->async()->requestVote(context.get(), &q, &r, [&, context](grpc::Status s) {
//     ...
//     in_flight.End(context.get());
//   });
//
// Threading: any thread. A context lives until its End.
#pragma once

#include <grpcpp/client_context.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "edge/handshake.h"

namespace sluice::edge {

class InFlight {
 public:
  InFlight(size_t calls_max, const node::Cluster* cluster) : calls_max_(calls_max), cluster_(cluster) {}

  std::shared_ptr<grpc::ClientContext> Begin(const PeerId& to) {
    std::lock_guard lock(mutex_);
    if (stopping_ || calls_.size() >= calls_max_) return nullptr;
    auto context = std::make_shared<grpc::ClientContext>();
    Say(SayTo(*cluster_, to), context.get());
    calls_.emplace(context.get(), context);
    return context;
  }
  void End(grpc::ClientContext* context) {
    std::lock_guard lock(mutex_);
    calls_.erase(context);
    if (calls_.empty()) none_.notify_all();
  }
  // Cancels everything and waits until all have ended. Idempotent.
  void Stop() {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    // Again and again: a call that was begun but not yet started takes no notice of the first cancel.
    while (!calls_.empty()) {
      for (auto& [key, context] : calls_) context->TryCancel();
      none_.wait_for(lock, std::chrono::milliseconds(20));
    }
  }

 private:
  const size_t calls_max_;
  const node::Cluster* const cluster_;
  std::mutex mutex_;
  std::condition_variable none_;
  bool stopping_ = false;
  // Shared with the call.
  std::unordered_map<grpc::ClientContext*, std::shared_ptr<grpc::ClientContext>> calls_;
};

}  // namespace sluice::edge
