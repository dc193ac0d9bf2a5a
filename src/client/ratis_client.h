// A Raft client of one group: writes, reads, watches and FORWARDs, many in flight,
// retried until one leader answers.
//
//   RatisClient client(connection, {.group = group});
//   client.Send(Call::Write(Bytes::Copy("INCREMENT")), [](absl::StatusOr<RatisClient::Reply> reply) { ... });
//
// A call keeps its id in every retry, so that it takes effect once. An ordered client has its calls executed
// in the order of Send, also across a change of leaders. Threading: thread-safe; callbacks run on a thread of
// the client and must not block nor destroy it. Bounds: calls_max and bytes_max in flight, RESOURCE_EXHAUSTED
// beyond. Failure: a call ends with what the leader answered, with DEADLINE_EXCEEDED after its timeout, or
// with UNAVAILABLE when no server was there from the beginning.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "client/connection.h"

namespace sluice::ratis::common {
class RaftClientRequestProto;
class RaftClientReplyProto;
}  // namespace sluice::ratis::common

namespace sluice::client {

// Sixteen random bytes, never zero.
ClientId NewClientId();

struct RatisClientOptions {
  GroupId group = kDefaultGroup;
  ClientId client = {};  // zero: a new one
  bool ordered = false;
  Duration timeout = std::chrono::seconds(30);
  Duration silence = kAttemptTimeout;  // a server that answers nothing for so long is left
  size_t calls_max = 4096;
  uint64_t bytes_max = 64u << 20;
};

// What a client may ask of a group.
struct RatisCall {
  enum class Kind : uint8_t { kWrite, kRead, kStaleRead, kWatch, kForward, kMessagePart };
  Kind kind = Kind::kWrite;
  Bytes message;
  Index index = kNoIndex;  // kStaleRead: at least this; kWatch: of the entry
  int replication = 0;     // kWatch: Ratis' ReplicationLevel
  uint64_t stream = 0;     // kMessagePart: all parts of one message have the same
  uint64_t part = 0;       // kMessagePart: 0, 1, …
  bool last_part = false;  // kMessagePart: now execute the whole as a write
};

class RatisClient {
 public:
  struct Reply {
    Bytes message;
    Index log_index = kNoIndex;
  };
  using Done = absl::AnyInvocable<void(absl::StatusOr<Reply>)>;

  RatisClient(std::shared_ptr<Connection> connection, RatisClientOptions options);
  ~RatisClient();  // calls in flight end with CANCELLED

  void Send(RatisCall call, Done done);
  absl::StatusOr<Reply> SendAndWait(RatisCall call);
  // A call id that no other call of this client has: for a stream.
  CallId NextCall();
  const ClientId& id() const { return options_.client; }

 private:
  class Stream;
  using Request = ::sluice::ratis::common::RaftClientRequestProto;
  struct Pending {
    std::shared_ptr<Request> request;
    uint64_t bytes = 0;
    Done done;
    Clock::time_point deadline;
  };

  void Keep();  // the thread that connects, expires and leaves silent servers
  void Expire(Clock::time_point now, std::unique_lock<std::mutex>& lock);
  void ConnectLocked();
  void PumpLocked();
  void OnReply(Stream* stream, const ::sluice::ratis::common::RaftClientReplyProto& reply);
  void OnWritten(Stream* stream, bool ok);
  void OnReadsEnded(Stream* stream);
  void OnEnded(Stream* stream, absl::Status status);
  void MoveLocked(const std::string& address, Duration pause);
  void FailAll(absl::Status status, std::unique_lock<std::mutex>& lock);

  const std::shared_ptr<Connection> connection_;
  RatisClientOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Pending> pending_;  // guarded by mutex_, as is all below; by call id
  uint64_t pending_bytes_ = 0;
  uint64_t next_call_ = 1;
  uint64_t next_seq_ = 1;
  std::deque<uint64_t> to_send_;
  std::shared_ptr<Request> writing_;
  Stream* stream_ = nullptr;                    // in ended_ after OnDone
  int streams_ = 0;                             // before OnDone
  std::vector<std::unique_ptr<Stream>> ended_;  // the keeper deletes them
  bool leaving_ = false;                        // stream_ is cancelled
  bool reads_ended_ = false;                    // stream_ is about to end: no more writes to it
  bool first_of_stream_ = true;
  std::string target_;
  bool answered_ = false;  // some server answered once
  std::map<std::string, absl::Status> said_;
  Clock::time_point contact_end_{};
  Clock::time_point connect_at_{};
  Clock::time_point last_heard_{};
  bool stopping_ = false;
  std::thread keeper_;
};

}  // namespace sluice::client
