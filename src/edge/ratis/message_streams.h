// Writes that arrive in parts (Ratis' messageStream): held in memory until the last part is there.
//
//   ASSIGN_OR_RETURN(std::optional<Bytes> whole, streams.Add(group, client, part, std::move(data), now));
//   if (whole) Submit(a write of *whole);
//
// Threading: any thread. Bounds: kMessageStreamsMax messages, kMessageStreamsPerClient of one client, and
// kMessageStreamBytesMax bytes together (each part counts kMessagePartCost more), each message no longer than
// a log entry; what was idle for kMessageStreamIdle goes first. Failure: RESOURCE_EXHAUSTED beyond the
// bounds; ABORTED for a part that does not follow, after which the message is forgotten. A message begins
// with part 0, as Java's do: what follows a forgotten beginning is never taken for a whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "absl/strings/cord.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/clock.h"

namespace sluice::edge::ratis {

inline constexpr size_t kMessageStreamsMax = 256;
inline constexpr size_t kMessageStreamsPerClient = 16;
inline constexpr uint64_t kMessageStreamBytesMax = 64u << 20;
inline constexpr uint64_t kMessageBytesMax = 4u << 20;
inline constexpr uint64_t kMessagePartCost = 256;
inline constexpr env::Duration kMessageStreamIdle = std::chrono::minutes(1);

struct MessagePart {
  uint64_t stream = 0;  // all parts of one message have the same
  uint64_t number = 0;  // 0 in the first, then one more than in the part before
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
    uint64_t next = 0;
    absl::Cord data;
    uint64_t cost = 0;  // of `data` and its parts
    env::Instant touched{};
  };
  using Key = std::tuple<ClientId, GroupId, uint64_t>;
  void Expire(env::Instant now);
  absl::Status RoomFor(const ClientId& client) const;
  std::map<Key, Held>::iterator Forget(std::map<Key, Held>::iterator at);

  std::mutex mutex_;
  std::map<Key, Held> held_;  // guarded by mutex_
  uint64_t cost_ = 0;         // of all held; guarded by mutex_
};

}  // namespace sluice::edge::ratis
