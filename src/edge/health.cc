#include "edge/health.h"

#include <utility>

#include "base/log.h"

namespace sluice::edge {

Health::Health(node::Host* host, env::Executor* loop, Changed changed)
    : host_(host), loop_(loop), changed_(std::move(changed)) {}

void Health::Start() {
  loop_->Post([self = shared_from_this()] { self->Look(); });
}

void Health::Stop() {
  std::lock_guard lock(mutex_);
  changed_ = nullptr;
  serving_ = absl::UnavailableError("the server is stopping");
}

absl::Status Health::Now() const {
  std::lock_guard lock(mutex_);
  return serving_;
}

void Health::Look() {
  {
    std::lock_guard lock(mutex_);
    if (!changed_) return;
  }
  const env::Instant now = env::RealClock().MonotonicNow();
  if (answered_) {
    answered_ = false;
    asked_at_ = now;
    host_->Serving(loop_, [self = shared_from_this(), look = ++asked_](absl::Status serving) {
      self->Heard(look, std::move(serving));
    });
  } else if (now - asked_at_ >= kSilence) {
    Set(absl::UnavailableError("the server's own threads do not answer"));
  }
  loop_->PostAfter(kEvery, [self = shared_from_this()] { self->Look(); });
}

void Health::Heard(uint64_t look, absl::Status serving) {
  if (look != asked_) return;
  answered_ = true;
  Set(std::move(serving));
}

void Health::Set(absl::Status serving) {
  std::lock_guard lock(mutex_);
  if (!changed_) return;
  const bool before = serving_.ok();
  serving_ = std::move(serving);
  if (serving_.ok() == before) return;
  if (!serving_.ok()) LogWarn("this server does not serve: {}", Message(serving_));
  changed_(serving_.ok());
}

}  // namespace sluice::edge
