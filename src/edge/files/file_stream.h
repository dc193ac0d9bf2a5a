// One stream of the file service: what Put and Get share. Records in and out, on one executor, and its end.
//
//   class PutCall final : public FileStream { ... };
//   auto call = std::make_shared<PutCall>(...);
//   if (!call->Accept(controller)) return refuse();    // then OnMessages, ..., OnGone, on the lane
//
// Threading: Accept on the handler's thread; the library's callbacks hop to the lane, everything else lives
// there. Ownership: it owns itself from Accept to OnGone. Failure: a write to a stream that has ended is
// dropped; OnGone tells. Bounds: what is received is consumed only when Credit says so, which holds the
// client back; Write is for who waits for OnWritten.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "edge/files/records.h"
#include "env/executor.h"
#include "sluice/stream.h"

namespace sluice::edge::brpc {
class StreamEnd;
}

namespace sluice::edge::files {

// One of the calls that may be under way; held as long as its stream.
using CallPlace = std::shared_ptr<void>;

class FileStream : public StreamInputHandler, public std::enable_shared_from_this<FileStream> {
 public:
  FileStream(env::Executor* lane, uint32_t silence_ms, CallPlace place);

  // Takes the stream of the call; false if there is none, or several, or the connection has no place for it:
  // then nothing is kept.
  bool Accept(Controller& controller);

  // --- StreamInputHandler ---
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) final;
  void on_idle_timeout(StreamId id) final;
  void on_closed(StreamId id) final;

 protected:
  // --- On the lane, for who derives ---
  // Whole messages, in order. Never after OnGone.
  virtual void OnMessages(std::vector<Bytes> messages) = 0;
  // Everything written has left, or waits within the window.
  virtual void OnWritten() {}
  // Nothing came for silence_ms.
  virtual void OnSilence() {}
  // The stream has ended. Called once, last.
  virtual void OnGone() = 0;

  void Credit(uint64_t bytes);
  void Write(Bytes record);
  bool AllWritten() const { return unwritten_.empty(); }
  // The last record. The client closes then; else this side does, a little later.
  void EndWith(const absl::Status& status, FileResult result);
  bool ended() const { return ended_; }
  bool gone() const { return gone_; }
  env::Executor* lane() const { return lane_; }
  template <typename Derived>
  std::shared_ptr<Derived> Self(Derived*) {
    return std::static_pointer_cast<Derived>(shared_from_this());
  }

 private:
  void WriteOn();
  void WaitForRoom();
  void Linger();

  env::Executor* const lane_;
  const uint32_t silence_ms_;
  const CallPlace place_;
  std::shared_ptr<brpc::StreamEnd> end_;  // shared with the library
  std::shared_ptr<FileStream> self_;      // until the stream has ended: the library knows a plain pointer
  std::deque<Bytes> unwritten_;
  bool waiting_ = false;
  bool ended_ = false;
  bool gone_ = false;
  env::TimerId linger_ = env::TimerId::kNone;
};

}  // namespace sluice::edge::files
