// Ends a call whose other side keeps it waiting: it says nothing, or takes nothing, for too long.
//
//   Silence silence_{lane, std::chrono::milliseconds(600'000), [this] { return OnSilence(); }};   // of a call
//   silence_.Start(weak_from_this());
//   silence_.Sign();   // something came or was taken; or it is the other side's turn from now on
//   silence_.Stop();   // the call is over
//
// Threading: Sign and Stop from any thread, Start once and before them; `on_silence` runs on the executor.
// Ownership: it lives inside the call, and does nothing once the call is gone. Costs one timer a call, not one
// a message. Stop it: a timer that is left keeps the memory of its call.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "env/clock.h"
#include "env/executor.h"

namespace sluice::edge {

class Silence {
 public:
  // `on_silence`: there was no sign for `most`. False if it is not the other side that is late: asked again.
  Silence(env::Executor* executor, env::Duration most, absl::AnyInvocable<bool()> on_silence)
      : executor_(executor), most_(most), on_silence_(std::move(on_silence)) {}

  void Start(std::weak_ptr<const void> owner) {
    Sign();
    SetTimer(std::move(owner), most_);
  }
  void Sign() { last_sign_ = Now(); }
  void Stop() { executor_->Cancel(timer_); }

 private:
  static env::Instant Now() { return env::RealClock().MonotonicNow(); }

  void SetTimer(std::weak_ptr<const void> owner, env::Duration after) {
    timer_ = executor_->PostAfter(after, [this, owner = std::move(owner)]() mutable {
      const auto held = owner.lock();
      if (held == nullptr) return;
      const env::Duration left = most_ - (Now() - last_sign_.load());
      if (left > env::Duration::zero()) return SetTimer(std::move(owner), left);
      if (!on_silence_()) SetTimer(std::move(owner), std::max<env::Duration>(most_, kAgainAfter));
    });
  }

  static constexpr env::Duration kAgainAfter = std::chrono::milliseconds(1);

  env::Executor* const executor_;
  const env::Duration most_;
  absl::AnyInvocable<bool()> on_silence_;
  std::atomic<env::Instant> last_sign_{};
  std::atomic<env::TimerId> timer_{env::TimerId::kNone};
};

}  // namespace sluice::edge
