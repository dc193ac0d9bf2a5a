// Requests of other servers that wait for this server's consensus to answer:
// token => what to do with the answer.
//
//   uint64_t token = table.Add(this, [call](std::optional<raft::Message> reply) { ... });   // 0: full
//   host->Step(group, from, raft::VoteRequest{.call = token, ...});
//   table.Answer(token, reply);           // from PeerTransport::Send, whose replies echo the token
//
// Threading: any thread; an answer is called without the table's lock. Every answer is called exactly once:
// with the reply, or with nullopt when its owner is forgotten, when it is older than `lifetime`, or on Stop.
// Bounded: Add gives 0 beyond `waiting_max`, after it has forgotten what is too old.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "env/clock.h"
#include "raft/types.h"

namespace sluice::edge::ratis {

inline constexpr size_t kWaitingRepliesMax = 65'536;
inline constexpr env::Duration kReplyLifetime = std::chrono::seconds(10);

class ReplyTable {
 public:
  using Then = absl::AnyInvocable<void(std::optional<raft::Message>)>;

  ReplyTable(size_t waiting_max, env::Duration lifetime, const env::Clock& clock)
      : waiting_max_(waiting_max), lifetime_(lifetime), clock_(clock) {}

  uint64_t Add(const void* owner, Then then) {
    ExpireOld();
    std::lock_guard lock(mutex_);
    if (stopped_ || waiting_.size() >= waiting_max_) return 0;
    const uint64_t token = ++last_token_;
    waiting_.emplace(token, Waiting{owner, clock_.MonotonicNow() + lifetime_, std::move(then)});
    return token;
  }

  // False if nobody waits for it any more.
  bool Answer(uint64_t token, raft::Message reply) {
    Then then;
    {
      std::lock_guard lock(mutex_);
      const auto it = waiting_.find(token);
      if (it == waiting_.end()) return false;
      then = std::move(it->second.then);
      waiting_.erase(it);
    }
    then(std::move(reply));
    return true;
  }

  void Forget(const void* owner) {
    TakeIf([owner](const Waiting& waiting) { return waiting.owner == owner; }, /*stop_at_first=*/false);
  }

  // Tokens grow with time, so the oldest stand first.
  void ExpireOld() {
    const env::Instant now = clock_.MonotonicNow();
    TakeIf([now](const Waiting& waiting) { return waiting.until <= now; }, /*stop_at_first=*/true);
  }

  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    TakeIf([](const Waiting&) { return true; }, /*stop_at_first=*/false);
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return waiting_.size();
  }

 private:
  struct Waiting {
    const void* owner;
    env::Instant until;
    Then then;
  };

  template <typename Which>
  void TakeIf(Which which, bool stop_at_first) {
    std::vector<Then> taken;
    {
      std::lock_guard lock(mutex_);
      for (auto it = waiting_.begin(); it != waiting_.end();) {
        if (!which(it->second)) {
          if (stop_at_first) break;
          ++it;
          continue;
        }
        taken.push_back(std::move(it->second.then));
        it = waiting_.erase(it);
      }
    }
    for (Then& then : taken) then(std::nullopt);
  }

  const size_t waiting_max_;
  const env::Duration lifetime_;
  const env::Clock& clock_;
  mutable std::mutex mutex_;
  uint64_t last_token_ = 0;
  bool stopped_ = false;
  std::map<uint64_t, Waiting> waiting_;
};

}  // namespace sluice::edge::ratis
