#include "edge/ratis/message_streams.h"

#include <fmt/format.h>

namespace sluice::edge::ratis {

std::map<MessageStreams::Key, MessageStreams::Held>::iterator MessageStreams::Forget(
    std::map<Key, Held>::iterator at) {
  bytes_ -= at->second.data.size();
  return held_.erase(at);
}

void MessageStreams::Expire(env::Instant now) {
  for (auto it = held_.begin(); it != held_.end();) {
    it = now - it->second.touched > kMessageStreamIdle ? Forget(it) : std::next(it);
  }
}

absl::StatusOr<std::optional<Bytes>> MessageStreams::Add(const GroupId& group, const ClientId& client,
                                                         const MessagePart& part, Bytes data,
                                                         env::Instant now) {
  std::lock_guard lock(mutex_);
  Expire(now);
  auto at = held_.find({client, part.stream});
  if (at == held_.end()) {
    // Parts may count from anywhere, but a last one alone is a message of which the rest was lost, unless its
    // number says that there is no rest.
    if (part.last && part.number != 0) {
      return absl::AbortedError(fmt::format("message stream {} is unknown: begin again", part.stream));
    }
    if (part.last) return data;
    if (held_.size() >= kMessageStreamsMax) {
      return absl::ResourceExhaustedError(fmt::format("{} message streams are under way", held_.size()));
    }
    at = held_.emplace(Key{client, part.stream}, Held{.group = group, .next = part.number, .data = {}}).first;
  }
  Held& held = at->second;
  held.touched = now;
  if (part.number < held.next && !part.last) return std::nullopt;
  if (part.number != held.next || held.group != group) {
    const uint64_t expected = held.next;
    Forget(at);
    return absl::AbortedError(
        fmt::format("message stream {}: part {} came, {} was expected", part.stream, part.number, expected));
  }
  if (held.data.size() + data.size() > kMessageBytesMax || bytes_ + data.size() > kMessageStreamBytesMax) {
    const std::string text = fmt::format("message stream {}: {} bytes, at most {} fit into an entry",
                                         part.stream, held.data.size() + data.size(), kMessageBytesMax);
    Forget(at);
    return absl::ResourceExhaustedError(text);
  }
  bytes_ += data.size();
  held.data.Append(data);
  ++held.next;
  if (!part.last) return std::nullopt;
  Bytes whole = held.data;
  Forget(at);
  return whole;
}

void MessageStreams::Drop(const GroupId& group) {
  std::lock_guard lock(mutex_);
  for (auto it = held_.begin(); it != held_.end();) {
    it = it->second.group == group ? Forget(it) : std::next(it);
  }
}

}  // namespace sluice::edge::ratis
