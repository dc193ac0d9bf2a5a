#include "client/persistence.h"

#include <algorithm>

namespace sluice::client {
namespace {

constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(1);

}  // namespace

bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

void Persistence::Progress(uint64_t bytes, Clock::time_point now) {
  if (bytes <= most_bytes_) return;
  most_bytes_ = bytes;
  moved_ = true;
  moved_at_ = now;
  failed_in_row_ = 0;
  pause_ = {};
}

Persistence::Next Persistence::Failed(const Failure& failure, Clock::time_point now) {
  if (failure.reached) {
    reached_ = true;
    reached_at_ = now;
    said_.insert_or_assign(failure.address, failure.status);
  } else {
    // The first words of a server that refuses are the clearest: later ones tell of retries.
    said_.try_emplace(failure.address, failure.status);
  }
  if (IsFinal(failure.status)) return {};
  if (absl::IsResourceExhausted(failure.status)) {
    full_.insert(failure.address);
  } else {
    full_.erase(failure.address);
  }
  if (full_.size() >= failure.servers) return {};
  if (now - moved_at_ > silence_) return {};
  // Each is asked before anything is said of all: two that are frozen take longer than the patience.
  if (++failed_in_row_ < failure.servers) return {.again = true};
  if (!moved_ && now - reached_at_ > kContactPatience) return {};
  // A whole round failed: the next one comes later and later.
  pause_ = pause_ == Duration{} ? kFirstPause : std::min(pause_ * 2, kLongestPause);
  failed_in_row_ = 0;
  ++rounds_;
  return {.again = true, .pause = pause_};
}

Duration Persistence::AttemptSilence(size_t servers) const {
  if (servers < 2) return silence_;
  return std::min(silence_, kAttemptTimeout * (1 << std::min(rounds_, 8)));
}

absl::Status Persistence::Verdict(const absl::Status& last) const {
  if (IsFinal(last) || !IsWorthAnotherServer(last)) return last;
  return NoServerAnswered(said_, reached_);
}

}  // namespace sluice::client
