// google.bytestream.ByteStream at one server: the calls that put and get are made of.
//
//   ASSIGN_OR_RETURN(uint64_t committed, WriteStream(connection, address, name, content, 0, watcher));
//   RETURN_IF_ERROR(ReadStream(connection, address, name, offset, take));
//
// Functions block; any thread. Payload is not copied on its way to gRPC. Failure: a call without progress is
// cancelled with DEADLINE_EXCEEDED as SilenceLimits says; errors are the server's own codes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "client/connection.h"
#include "sluice/blob.h"

namespace sluice::client {

inline constexpr uint64_t kSmallBytesMax = 64u << 10;  // D-16: goes in one message, and inside the log entry

struct CommittedSize {
  uint64_t bytes = 0;
  bool complete = false;
};

// One resource at one server.
struct ByteStreamTarget {
  std::string address;
  std::string name;
  GroupId group = kDefaultGroup;
  bool digest = true;  // false: the server need not compute SHA-256 of what is written
  std::optional<Sha256> expected_digest = {};  // of a write: other bytes are refused
  // Of a write, one for all tries of a put: what others began under the name is not gone on with.
  std::string writer = {};
  // Of a read: only this content (BlobView::content_id), else ABORTED; empty: whatever the name has.
  std::string content_id = {};
};

// How long a call may make no progress.
struct SilenceLimits {
  Duration silence;
  // Asked meanwhile, on a thread of the call, by another way, again and again: a server that says that it is alive has
  // the whole silence, as it may wait for another one; one that does not is left. Null: nobody is asked.
  std::function<bool()> alive = nullptr;
};

// Writes content from `offset` to its end and finishes; gives the size that the server committed.
absl::StatusOr<uint64_t> WriteStream(Connection& connection, const ByteStreamTarget& target,
                                     BlobContent& content, uint64_t offset, const SilenceLimits& silence,
                                     const std::function<void(uint64_t)>& on_progress);
// NOT_FOUND: no such upload.
absl::StatusOr<CommittedSize> QueryWrite(Connection& connection, const ByteStreamTarget& target);
// `take` gets the bytes from `offset` on; its error ends the call.
absl::Status ReadStream(Connection& connection, const ByteStreamTarget& target, uint64_t offset,
                        const SilenceLimits& silence, const std::function<absl::Status(const Bytes&)>& take);

}  // namespace sluice::client
