// A client of replicated state machines: what Apache Ratis calls a RaftClient.
//
//   ASSIGN_OR_RETURN(auto client, sluice::RaftClient::Create({.servers = {"127.0.0.1:7400"}, .group =
//   counter})); ASSIGN_OR_RETURN(sluice::RaftReply reply,
//   client->Blocking().Send(sluice::Bytes::Copy("INCREMENT"))); ASSIGN_OR_RETURN(reply,
//   client->Blocking().SendReadOnly(sluice::Bytes::Copy("GET")));
//
// The client finds the leader by itself, follows it when it changes, and repeats a request under the same
// call id, so that it takes effect once. Threading: thread-safe. Ownership: callbacks are called once each,
// on a thread of the client; they must not block nor destroy the client; calls in flight at its destruction
// end with CANCELLED. Errors: what the state machine answered, with its code; DEADLINE_EXCEEDED after
// timeout_ms (the request may still take effect); UNAVAILABLE when no server is there; RESOURCE_EXHAUSTED
// beyond 4,096 calls or 64 MiB in flight. From: Apache Ratis' RaftClient, over its gRPC protocol: Java
// servers answer too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "sluice/data_stream.h"

namespace sluice {

struct RaftClientOptions {
  std::vector<std::string> servers;  // "host:port", gRPC; one member of the group is enough
  GroupId group = kDefaultGroup;
  int64_t timeout_ms = 30'000;  // of one request, all its retries together
};

// What the group answered.
struct RaftReply {
  Bytes message;               // of the state machine
  Index log_index = kNoIndex;  // of the entry, for writes
};

// What a watch waits for: the entry is held by, or known committed at, a majority or all of the group.
enum class ReplicationLevel : uint8_t { kMajority = 0, kAll = 1, kMajorityCommitted = 2, kAllCommitted = 3 };

// Requests whose callbacks come when they are answered. Any number of calls may be under way.
class AsyncApi {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<RaftReply>)>;
  virtual ~AsyncApi() = default;
  // Executed by the state machine in the order of the calls of Send, also across a change of leaders.
  virtual void Send(Bytes message, Done done) = 0;
  // Executed in any order; a little cheaper, and no request waits for another one.
  virtual void SendUnordered(Bytes message, Done done) = 0;
  // A linearizable read: sees every write that was answered before it began.
  virtual void SendReadOnly(Bytes message, Done done) = 0;
  // A read of a server's state once it has applied `min_index`; may be behind the leader's.
  virtual void SendStaleRead(Bytes message, Index min_index, Done done) = 0;
  // Answers once the entry at `index` is replicated as `level` says.
  virtual void Watch(Index index, ReplicationLevel level, Done done) = 0;
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

class RaftClient {
 public:
  // INVALID_ARGUMENT for options that cannot be; does not connect yet.
  static absl::StatusOr<std::unique_ptr<RaftClient>> Create(RaftClientOptions options);
  virtual ~RaftClient() = default;

  // Live as long as the client.
  virtual AsyncApi& Async() = 0;
  virtual BlockingApi& Blocking() = 0;
  virtual DataStreamApi& DataStream() = 0;
  // Sixteen random bytes that name this client to servers.
  virtual const ClientId& id() const = 0;
};

}  // namespace sluice
