// Whether this server serves, as load balancers ask: it asks its host every quarter of a second.
//
//   auto health = std::make_shared<Health>(host, loop, [&](bool serving) { ... });
//   health->Start();  absl::Status why = health->Now();  health->Stop();
//
// Threading: thread-safe; `changed` is called on the loop. A host that does not answer within kSilence does not
// serve, whatever it said before. Ownership: the loop must outlive Stop(), after which nothing is called.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "base/status.h"
#include "env/clock.h"
#include "env/executor.h"
#include "node/host.h"

namespace sluice::edge {

class Health : public std::enable_shared_from_this<Health> {
 public:
  using Changed = std::function<void(bool serving)>;
  Health(node::Host* host, env::Executor* loop, Changed changed);

  void Start();
  void Stop();
  // Why it does not serve; ok: it does.
  absl::Status Now() const;

 private:
  void Look();
  void Heard(uint64_t look, absl::Status serving);
  void Set(absl::Status serving);

  static constexpr env::Duration kEvery = std::chrono::milliseconds(250);
  static constexpr env::Duration kSilence = std::chrono::seconds(2);

  node::Host* const host_;
  env::Executor* const loop_;
  mutable std::mutex mutex_;
  Changed changed_ ABSL_GUARDED_BY(mutex_);  // null: stopped
  absl::Status serving_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("the server is starting");
  // On the loop only.
  uint64_t asked_ = 0;
  bool answered_ = true;
  env::Instant asked_at_{};
};

}  // namespace sluice::edge
