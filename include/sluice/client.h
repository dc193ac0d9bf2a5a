// A client of replicated state machines: what Apache Ratis calls a RaftClient.
//
//   sluice::RaftClientOptions options = {.servers = {"127.0.0.1:7400"}, .group = counter};
//   ASSIGN_OR_RETURN(auto client, sluice::RaftClient::Create(options));
//   ASSIGN_OR_RETURN(sluice::RaftReply reply, client->Blocking().Send(sluice::Bytes::Copy("INCREMENT")));
//   ASSIGN_OR_RETURN(reply, client->Blocking().SendReadOnly(sluice::Bytes::Copy("GET")));
//
// The client finds the leader by itself, follows it when it changes, and repeats a request under the same
// call id, so that it takes effect once. Threading: thread-safe; callbacks of futures run on a thread of the
// client (sluice/future.h). Ownership: the client owns its connections; calls in flight at its destruction
// end with CANCELLED. Errors: what the state machine answered, with its code; DEADLINE_EXCEEDED after
// timeout_ms (the request may still take effect); UNAVAILABLE when every server refused the connection for
// 3 s; NOT_FOUND when the server does not run the group; RESOURCE_EXHAUSTED beyond 4,096 calls or 64 MiB in
// flight. From: Apache Ratis' RaftClient, over its gRPC protocol: Java servers answer too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "sluice/data_stream.h"
#include "sluice/future.h"

namespace sluice {

struct RaftClientOptions {
  std::vector<std::string> servers;  // "host:port", gRPC; one member of the group is enough
  GroupId group = kDefaultGroup;
  int64_t timeout_ms = 30'000;  // of one request, all its retries together
};

// What a watch waits for: the entry is held by, or known committed at, a majority or all of the group.
enum class ReplicationLevel : uint8_t { kMajority = 0, kAll = 1, kMajorityCommitted = 2, kAllCommitted = 3 };

// Requests that do not wait. Any number of calls may be under way.
class AsyncApi {
 public:
  virtual ~AsyncApi() = default;
  // Executed by the state machine in the order of the calls of Send, also across a change of leaders. When
  // one of them fails for good, those behind it may be executed nevertheless.
  virtual Future<RaftReply> Send(Bytes message) = 0;
  // Executed in any order; a little cheaper, and no request waits for another one.
  virtual Future<RaftReply> SendUnordered(Bytes message) = 0;
  // A linearizable read: sees every write that was answered before it began.
  virtual Future<RaftReply> SendReadOnly(Bytes message) = 0;
  // A read of a server's state once it has applied `min_index`; may be behind the leader's.
  // FAILED_PRECONDITION if the server is not that far.
  virtual Future<RaftReply> SendStaleRead(Bytes message, Index min_index) = 0;
  // Answers once the entry at `index` is replicated as `level` says; DEADLINE_EXCEEDED if that takes the
  // server more than 10 s.
  virtual Future<RaftReply> Watch(Index index, ReplicationLevel level) = 0;
};

// The same, waiting. Not to be called from a callback.
class BlockingApi {
 public:
  virtual ~BlockingApi() = default;
  virtual absl::StatusOr<RaftReply> Send(Bytes message) = 0;
  virtual absl::StatusOr<RaftReply> SendReadOnly(Bytes message) = 0;
  virtual absl::StatusOr<RaftReply> SendStaleRead(Bytes message, Index min_index) = 0;
  virtual absl::StatusOr<RaftReply> Watch(Index index, ReplicationLevel level) = 0;
};

// One write that travels in several requests. For bulk data use DataStream: here the leader keeps all of it
// in memory and in one log entry, 4 MiB at most.
class MessageStreamApi {
 public:
  virtual ~MessageStreamApi() = default;
  // Sends `message` in parts of `part_bytes` and executes it as one write. ABORTED when a broken
  // connection or a change of leaders lost parts: it may have been executed or not, as after a timeout; never
  // a piece of it. A part that fails fails the whole. INVALID_ARGUMENT, before anything is sent, for parts of
  // 0 bytes and messages of more than 4 MiB.
  virtual Future<RaftReply> StreamAsync(Bytes message, uint64_t part_bytes = 1u << 20) = 0;
};

// One server of a group, as its configuration names it.
struct RaftGroupMember {
  PeerId id;
  std::string address;              // gRPC, "host:port"
  std::string data_stream_address;  // empty: none
  bool listener = false;            // does not vote
};

// A group as one server sees it.
struct RaftGroupInfo {
  enum class Role : uint8_t { kLeader, kCandidate, kFollower, kListener };
  GroupId id;
  std::vector<RaftGroupMember> members;
  PeerId server;  // the one that answered
  Role role = Role::kFollower;
  PeerId leader;               // empty: unknown to this server
  Index applied = kNoIndex;    // the last entry that its state machine executed
  Index committed = kNoIndex;  // the last that it knows to be committed
  bool storage_healthy = true;
};

// Questions about servers and groups; each call waits for its answer. `server` is the "host:port" to ask;
// empty: the first that answers.
class AdminApi {
 public:
  virtual ~AdminApi() = default;
  // Ids of the groups that the server is a member of.
  virtual absl::StatusOr<std::vector<GroupId>> GroupList(const std::string& server = "") = 0;
  // NOT_FOUND if the server does not run the group.
  virtual absl::StatusOr<RaftGroupInfo> GroupInfo(const GroupId& group, const std::string& server = "") = 0;
};

class RaftClient {
 public:
  // INVALID_ARGUMENT for options that cannot be; does not connect yet.
  static absl::StatusOr<std::unique_ptr<RaftClient>> Create(RaftClientOptions options);
  virtual ~RaftClient() = default;

  // Live as long as the client.
  virtual AsyncApi& Async() = 0;
  virtual BlockingApi& Blocking() = 0;
  virtual AdminApi& Admin() = 0;
  virtual DataStreamApi& DataStream() = 0;
  virtual MessageStreamApi& MessageStream() = 0;
  // Sixteen random bytes that name this client to servers.
  virtual const ClientId& id() const = 0;
};

}  // namespace sluice
