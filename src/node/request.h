// What a client asks of a group and what it is answered, in plain values:
// edges translate them to and from protocols.
//
//   host.Submit({.group = id, .kind = RequestKind::kWrite, .client = c, .call = n, .message = bytes},
//               [](ClientReply reply) { ... });
//
// Threading: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status.h"
#include "raft/types.h"

namespace sluice::node {

enum class RequestKind : uint8_t {
  kWrite,      // append, apply, answer with the machine's reply
  kRead,       // query after a read index; at any server (see `linearizable`)
  kStaleRead,  // query at once if commit >= min_index
  kWatch,      // answer once `min_index` is replicated as `replication` says; leader only
  kForward,    // enter the finished stream `upload` (Ratis FORWARD); leader only
};

// Ratis' levels: what a watch, or a write after its apply, waits for.
enum class Replication : uint8_t { kMajority = 0, kAll = 1, kMajorityCommitted = 2, kAllCommitted = 3 };

// What opens an upload to a `blob` group (sluice.BlobHeader on the wire, D-12).
struct BlobHeader {
  std::string name;  // empty: known by its digest only
  std::optional<uint64_t> expected_length;
  std::optional<Sha256> expected_digest;
  bool compute_digest = true;  // the receiving server computes SHA-256 (D-09)
  std::string writer = {};     // of an upload by name: who writes it (WriteKey)
};

// An upload by name that goes on where it stopped. Of several writers of one name each has its own, if they say
// who they are: nobody goes on with the bytes of another one. Those who do not say share the empty one (D-20).
struct WriteKey {
  std::string name;
  std::string writer = {};
  auto operator<=>(const WriteKey&) const = default;
};
inline constexpr size_t kWriterBytesMax = 64;
inline WriteKey KeyOf(const BlobHeader& header) { return {header.name, header.writer}; }

struct ClientRequest {
  GroupId group;
  RequestKind kind = RequestKind::kWrite;
  ClientId client;
  CallId call;
  Bytes message;
  Index min_index = kNoIndex;  // kStaleRead, kWatch
  Replication replication = Replication::kMajority;
  bool linearizable = true;   // kRead: false asks the leader's machine without a round
  bool after_writes = false;  // kRead: sees the writes that arrived before it, also those without an answer
  // kForward: the stream, and what its header said.
  UploadId upload;
  BlobHeader header;
};

enum class ReplyCode : uint8_t {
  kOk,
  kNotLeader,       // `leader` if known, `peers`
  kLeaderNotReady,  // elected, has not committed an entry of its term yet
  kSteppingDown,    // leadership is being transferred
  kStateMachine,    // `error` is the machine's
  kNotReplicated,   // a watch timed out
  kReadIndex,       // leader unknown, or it could not confirm that it leads
  kReadTimeout,     // applied did not reach the read index in time
  kNoSuchGroup,
  kResource,     // too much is pending: `error` says what
  kDataStream,   // the stream's bytes are not held by a majority, or were abandoned
  kUnavailable,  // stopping, or the disk failed
};

struct ClientReply {
  ReplyCode code = ReplyCode::kOk;
  absl::Status error;  // not ok unless code is kOk
  Bytes message;
  Index log_index = kNoIndex;
  std::optional<raft::Peer> leader;  // kNotLeader
  std::vector<raft::Peer> peers;     // kNotLeader: the configuration in force
};

// Called exactly once, on the group's shard: hand the reply on, do not block.
using ReplyFn = absl::AnyInvocable<void(ClientReply)>;

// Commit index of each peer as far as this server knows, its own first (Ratis' CommitInfo).
struct CommitInfo {
  raft::Peer peer;
  Index commit;
};

}  // namespace sluice::node
