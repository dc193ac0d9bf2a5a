// What the stream benches load: a server of example.EchoService, the connections to it, and streams there.
//
//   auto target = StreamTarget::Open("", 1);                       // "": a `bench stream-server` of its own
//   auto sinks = SinkStreams::Open(**target, {.streams = 4, .bytes_each = 1 << 30});
//   auto took = (*sinks)->Run();                                   // seconds until the server had it all
//
// One thread at a time, except for what handlers are told. Streams close with their object, and it waits for
// that; the server that a target started ends with it, or with this process. Errors say which server and
// what it answered; every wait has an end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "sluice/rpc.h"
#include "sluice/stream.h"

namespace sluice::app {

constexpr absl::Duration kBenchPatience = absl::Seconds(60);

// `sluice bench stream-server` on a free port, as a child.
class StreamServerChild {
 public:
  static absl::StatusOr<std::unique_ptr<StreamServerChild>> Start();
  ~StreamServerChild();
  const std::string& address() const { return address_; }

 private:
  explicit StreamServerChild(pid_t pid) : pid_(pid) {}
  const pid_t pid_;
  std::string address_;
};

class StreamTarget {
 public:
  struct Cost {
    double cpu_seconds = 0;
    uint64_t resident_bytes = 0;
  };
  // Asks the server for its cost, so that one that is not there is found out at once.
  static absl::StatusOr<std::unique_ptr<StreamTarget>> Open(const std::string& server, size_t connections);
  absl::StatusOr<Cost> Stat();
  // Opens `ids`, made with `controller`, by a call with this text.
  absl::Status Call(Channel& channel, Controller& controller, const std::string& text);
  Channel& channel(size_t i) { return *channels_[i % channels_.size()]; }

 private:
  std::unique_ptr<StreamServerChild> child_;
  std::string address_;
  std::vector<std::unique_ptr<Channel>> channels_;
};

// Handler of streams that are written to: counts messages and ends, and keeps the first failure.
class StreamTally : public StreamInputHandler {
 public:
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override;
  void on_failed(StreamId id, int error_code, const std::string& error_text) override;
  void on_closed(StreamId id) override;
  // Fails as soon as one of the streams has ended.
  absl::Status AwaitMessages(uint64_t count, absl::Duration patience = kBenchPatience);
  // Not before then may the handler go; comes always.
  void AwaitClosed(uint64_t count);
  void Fail(const absl::Status& status);

 private:
  absl::Mutex mutex_;
  uint64_t messages_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t closed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

struct SinkOptions {
  uint32_t streams = 1;
  uint32_t writers = 1;
  uint64_t message_bytes = 64 << 10;
  uint64_t messages_each = 1;
  int64_t window_bytes = 2 << 20;
};

// Streams that the server reads and forgets.
class SinkStreams {
 public:
  static absl::StatusOr<std::unique_ptr<SinkStreams>> Open(StreamTarget& target, const SinkOptions& options);
  ~SinkStreams();
  // Writes everything; returns the seconds from the first write until the server had counted the last byte.
  absl::StatusOr<double> Run();
  uint64_t Stalls() const;  // refused writes

 private:
  explicit SinkStreams(const SinkOptions& options) : options_(options) {}
  void WriteAll(const StreamIds& ids);
  bool WaitForRoom(StreamId id);

  const SinkOptions options_;
  std::vector<Bytes> messages_;  // written again and again
  StreamTally tally_;
  StreamIds ids_;
};

// Waits for room as long as a bench is patient; what StreamWait gives.
int WaitWithPatience(StreamId id);

}  // namespace sluice::app
