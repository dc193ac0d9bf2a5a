// This process' end of one stream: its rules (wire), its reader, and who waits for room.
//
//   std::shared_ptr<StreamEnd> end = StreamEnd::New(options);      // may be written to at once
//   connection->Attach(end);  ...  end->Write(message);  end->Close();
//   std::shared_ptr<StreamEnd> same = FindStream(end->id);         // until it is closed
//
// Threading: any thread. Everything but `id` and the options belongs to the lock of the stream's connection,
// or, before there is one, to one lock for all streams without a connection; With() takes the right one.
// Ownership: shared by the table of ids (until Close or the end), by the connection (from Attach until the
// end was told) and by callers.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "env/executor.h"
#include "sluice/stream.h"
#include "wire/brpc/streams.h"

namespace sluice::edge::brpc {

class Connection;

// Told once: 0 or an errno, on any thread, without a lock. Never blocks: code of others is posted.
using Writable = absl::AnyInvocable<void(int code)>;

class StreamEnd : public wire::brpc::StreamState, public std::enable_shared_from_this<StreamEnd> {
 public:
  static std::shared_ptr<StreamEnd> New(const StreamOptions& options);
  StreamEnd(StreamId id, const StreamOptions& options);

  int Write(const Bytes& message);
  // `writable` is called as soon as a write would be taken or the stream has ended; at once if that is so
  // now. Returns a number for StopWaiting.
  uint64_t WaitForRoom(Writable writable);
  // Ends a wait with `code`, unless it is over.
  void StopWaiting(uint64_t wait, int code);
  void Close();
  // Ends it with a reason; the reader is told.
  void Fail(int error_code, const std::string& text);
  // Credit for messages that were consumed after on_received_messages had returned (`credits_later`).
  void Consumed(uint64_t bytes);

  StreamInfo Info() const;

  const StreamId id;
  StreamInputHandler* const handler;
  const size_t messages_in_batch;
  const int64_t idle_timeout_ms;
  const std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  bool credits_later = false;  // set before it is attached

  // --- Of the connection, under its lock ---
  std::shared_ptr<StreamEnd> self;  // while the connection needs it
  std::vector<Writable> TakeWaiters();
  env::TimerId idle_timer = env::TimerId::kNone;
  bool awaits_slack = false;                           // a timer is set
  std::chrono::steady_clock::time_point drained_at{};  // when its handler came back the last time

  // Called by the connection that takes the stream, with its lock: early messages go to it.
  void SetConnection(std::shared_ptr<Connection> connection);
  std::shared_ptr<Connection> connection() const;
  // The end of a stream that never had a connection.
  void EndUnattached(int error_code, const std::string& text);

 private:
  struct Waiter {
    uint64_t number;
    Writable writable;
  };

  std::shared_ptr<Connection> connection_;  // written once, before `attached_`
  std::atomic<Connection*> attached_{nullptr};
  std::unique_ptr<std::vector<Bytes>> early_;  // written before there was a connection
  std::unique_ptr<std::vector<Waiter>> waiters_;
  uint64_t last_wait_ = 0;
};

// The stream of that id, unless it has ended or was closed here.
std::shared_ptr<StreamEnd> FindStream(StreamId id);
void ForgetStreamId(StreamId id);

// Every stream that has an id.
std::vector<std::shared_ptr<StreamEnd>> AllStreams();

// Bytes of the streams of this process.
wire::brpc::StreamBudget& ProcessBudget();

}  // namespace sluice::edge::brpc
