// Writes that arrive in parts (Ratis' messageStream): held in memory until the last part is there.
//
//   ASSIGN_OR_RETURN(std::optional<Bytes> whole, streams.Add(group, client, part, std::move(data), now));
//   if (whole) Submit(a write of *whole);
//
// Threading: any thread. Bounds: kMessageStreamsMax messages and kMessageStreamBytesMax bytes together, each
// no longer than a log entry; what was idle for kMessageStreamIdle goes first. Failure: RESOURCE_EXHAUSTED
// beyond the bounds; ABORTED for a part that does not follow, after which the message is forgotten.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/clock.h"

namespace sluice::edge::ratis {

inline constexpr size_t kMessageStreamsMax = 256;
inline constexpr uint64_t kMessageStreamBytesMax = 64u << 20;
inline constexpr uint64_t kMessageBytesMax = 4u << 20;
inline constexpr env::Duration kMessageStreamIdle = std::chrono::minutes(1);

struct MessagePart {
  uint64_t stream = 0;  // all parts of one message have the same
  uint64_t number = 0;  // one more than that of the part before
  bool last = false;
};

class MessageStreams {
 public:
  // The whole message with its last part, else nothing. A part that is held already is a retry: ignored.
  absl::StatusOr<std::optional<Bytes>> Add(const GroupId& group, const ClientId& client,
                                           const MessagePart& part, Bytes data, env::Instant now);
  // The leader changed: clients begin again at the next one.
  void Drop(const GroupId& group);

 private:
  struct Held {
    GroupId group;
    uint64_t next = 0;
    Bytes data;
    env::Instant touched{};
  };
  using Key = std::pair<ClientId, uint64_t>;
  void Expire(env::Instant now);
  std::map<Key, Held>::iterator Forget(std::map<Key, Held>::iterator at);

  std::mutex mutex_;
  std::map<Key, Held> held_;  // guarded by mutex_
  uint64_t bytes_ = 0;        // guarded by mutex_
};

}  // namespace sluice::edge::ratis
