// What waits to leave on a connection: small frames gathered in buffers, large messages by reference and cut
// into frames only when their turn comes.
//
//   OutQueue queue;
//   char* at = queue.Reserve(64, 64 << 10);  ... write n bytes ...  queue.Commit(n);
//   queue.AddMessage(message);
//   queue.PullTurn({.to = 7, .from = 3, .segment_bytes = 64 << 10, .turn_bytes = 64 << 10}, &output);
//
// Threading: one thread at a time; an Output may be written and cleared on another thread than the queue's.
// Ownership: Pull hands buffers and references over to the Output.
// Bounds: the owner's; `charged_bytes` is the memory held.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "wire/brpc/frame.h"
#include "wire/brpc/ring.h"

namespace sluice::wire::brpc {

struct StreamState;

// What goes to the socket in one call. Pieces stay valid until Clear.
struct Output {
  std::vector<std::string_view> pieces;
  size_t bytes = 0;
  void Clear();

  // What pieces point into.
  std::vector<std::unique_ptr<char[]>> buffers;
  std::vector<Bytes> held;
  std::unique_ptr<char[]> fronts;  // fronts of frames whose payload is elsewhere; kept by Clear
  size_t fronts_used = 0;

  void AddPiece(std::string_view piece);
  void AddFront(const StreamMeta& meta, size_t payload_bytes);
  void AddBytes(Bytes bytes);
};

// Bytes of frames that wait, in order.
class OutQueue {
 public:
  // What a queued thing costs beside its bytes.
  static constexpr uint64_t kItemBytes = 128;

  bool empty() const { return begin_ == items_.size(); }
  uint64_t charged_bytes() const { return charged_bytes_; }

  // Room for `bytes` in one piece, until the next call.
  // Buffers grow from small ones up to `buffer_bytes_max`.
  char* Reserve(size_t bytes, size_t buffer_bytes_max) {
    if (!empty()) {
      Item& tail = items_.back();
      if (tail.capacity - tail.size >= bytes) return tail.buffer.get() + tail.size;
    }
    return AddBuffer(bytes, buffer_bytes_max);
  }
  void Commit(size_t bytes) { items_.back().size += static_cast<uint32_t>(bytes); }

  // The payload of one message, which PullTurn cuts into DATA frames.
  void AddMessage(const Bytes& message) { AddReference(message, /*framed=*/false); }
  // Bytes that are frames already.
  void AddFramed(const Bytes& frames) { AddReference(frames, /*framed=*/true); }

  struct Turn {
    int64_t to = kNoStream;
    int64_t from = kNoStream;
    size_t segment_bytes = 0;
    size_t turn_bytes = 0;  // at most, unless one thing alone is larger
  };
  void PullTurn(const Turn& turn, Output* out);

  // Takes the messages out of a queue that holds nothing else.
  std::vector<Bytes> TakeMessages();
  // Empty and small again.
  void Clear();

 private:
  struct Item {
    std::unique_ptr<char[]> buffer;
    uint32_t size = 0;
    uint32_t capacity = 0;  // 0: by reference
    bool framed = false;
    uint64_t offset = 0;  // of `bytes`, where the next segment begins
    Bytes bytes;
  };

  char* AddBuffer(size_t bytes, size_t buffer_bytes_max);
  void AddReference(const Bytes& bytes, bool framed);
  size_t PullSegments(const Turn& turn, size_t bytes_max, Item* item, Output* out);
  void PopFront();

  std::vector<Item> items_;
  size_t begin_ = 0;
  size_t next_capacity_ = 0;
  uint64_t charged_bytes_ = 0;
};

// What is queued to leave for one stream; exists only while there is something. It outlives its stream: CLOSE
// waits behind data that was written before.
struct StreamOutbox {
  OutQueue queue;
  StreamState* stream = nullptr;  // nullptr once the stream has ended
  int64_t to = kNoStream;
  int64_t from = kNoStream;
  size_t segment_bytes = 0;
  bool early = false;           // waits for the opening call
  size_t slot = 0;              // where it is owned
  RingLink<StreamOutbox> link;  // of the turns, or of those that wait for their opening call
};

}  // namespace sluice::wire::brpc
