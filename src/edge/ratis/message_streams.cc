#include "edge/ratis/message_streams.h"

#include <fmt/format.h>

#include "base/strings.h"

namespace sluice::edge::ratis {
namespace {

// Shorter parts are copied one behind the other: many small pieces would cost more than what they hold.
constexpr size_t kSharedPartBytes = 4 << 10;

void Append(const Bytes& part, absl::Cord* data) {
  if (part.size() >= kSharedPartBytes) return data->Append(part.cord());
  part.ForEachChunk([data](std::string_view chunk) { data->Append(ToAbsl(chunk)); });
}

}  // namespace

std::map<MessageStreams::Key, MessageStreams::Held>::iterator MessageStreams::Forget(
    std::map<Key, Held>::iterator at) {
  cost_ -= at->second.cost;
  return held_.erase(at);
}

void MessageStreams::Expire(env::Instant now) {
  for (auto it = held_.begin(); it != held_.end();) {
    it = now - it->second.touched > kMessageStreamIdle ? Forget(it) : std::next(it);
  }
}

absl::Status MessageStreams::RoomFor(const ClientId& client) const {
  if (held_.size() >= kMessageStreamsMax) {
    return absl::ResourceExhaustedError(fmt::format("{} message streams are under way", held_.size()));
  }
  size_t own = 0;
  for (auto it = held_.lower_bound({client, GroupId{}, 0});
       it != held_.end() && std::get<ClientId>(it->first) == client; ++it) {
    ++own;
  }
  if (own < kMessageStreamsPerClient) return absl::OkStatus();
  return absl::ResourceExhaustedError(fmt::format("{} message streams of this client are under way", own));
}

absl::StatusOr<std::optional<Bytes>> MessageStreams::Add(const GroupId& group, const ClientId& client,
                                                         const MessagePart& part, Bytes data,
                                                         env::Instant now) {
  std::lock_guard lock(mutex_);
  Expire(now);
  const Key key{client, group, part.stream};
  auto at = held_.find(key);
  if (at == held_.end()) {
    // Parts may follow one that was lost here (limits, idleness, another leader): the rest is no message.
    if (part.number != 0) {
      return absl::AbortedError(fmt::format("message stream {} is unknown: begin again", part.stream));
    }
    if (part.last) return data;
    RETURN_IF_ERROR(RoomFor(client));
    at = held_.try_emplace(key).first;
  }
  Held& held = at->second;
  held.touched = now;
  if (part.number < held.next && !part.last) return std::nullopt;
  if (part.number != held.next) {
    const uint64_t expected = held.next;
    Forget(at);
    return absl::AbortedError(
        fmt::format("message stream {}: part {} came, {} was expected", part.stream, part.number, expected));
  }
  const uint64_t bytes = held.data.size() + data.size();
  const uint64_t cost = data.size() + kMessagePartCost;
  if (bytes > kMessageBytesMax || cost_ + cost > kMessageStreamBytesMax) {
    Forget(at);
    return absl::ResourceExhaustedError(
        bytes > kMessageBytesMax
            ? fmt::format("message stream {}: {} bytes, at most {} fit into an entry", part.stream, bytes,
                          kMessageBytesMax)
            : fmt::format("message stream {}: too much is held for streams under way", part.stream));
  }
  cost_ += cost;
  held.cost += cost;
  Append(data, &held.data);
  ++held.next;
  if (!part.last) return std::nullopt;
  Bytes whole = Bytes::FromCord(std::move(held.data));
  Forget(at);
  return whole;
}

void MessageStreams::Drop(const GroupId& group) {
  std::lock_guard lock(mutex_);
  for (auto it = held_.begin(); it != held_.end();) {
    it = std::get<GroupId>(it->first) == group ? Forget(it) : std::next(it);
  }
}

}  // namespace sluice::edge::ratis
