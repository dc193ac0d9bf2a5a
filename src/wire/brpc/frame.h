// The frames of a baidu_std connection, without I/O:
// bytes in, calls and pieces of stream messages out, and back.
//
//   FrameReader reader;
//   reader.Feed({slab, n}, slab_owner);
//   while (true) {
//     FrameEvent event;
//     absl::StatusOr<bool> more = reader.Next(&event);
//     if (!more.ok()) close the connection;          // framing is lost
//     if (!*more) break;                             // all of the slab was taken: feed again
//   }
//
// A frame is "PRPC" (a call or its answer) or "STRM" (a piece of a stream's message, or a word about a
// stream), body size and meta size (32 bits, big-endian), meta, payload. The payload of a STRM frame comes
// out while its rest still arrives, in pieces that refer to the memory that was fed (small ones are copied: a
// few bytes must not pin a slab); a PRPC frame comes out whole.
// Next never waits for more than 12 bytes and a meta.
//
// Threading: one thread at a time. Bounds: one meta, and one PRPC frame of at most frame_bytes_max, which
// grows as it arrives. Failure: INVALID_ARGUMENT for bytes that are no frame, RESOURCE_EXHAUSTED for a frame
// above the limit; judged by the first 12 bytes, before anything is kept. A reader that failed says the same
// again. A STRM frame above frame_bytes_max but not above skip_bytes_max is no failure: its meta comes out
// with `too_large`, its payload is skipped, so that one stream fails and not the connection (F-58). Facts:
// brpc 1.17, baidu_std with Streaming RPC.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sluice::wire::brpc {

constexpr size_t kFrameFrontBytes = 12;
constexpr int64_t kNoStream = -1;  // "no stream" on the wire; 0 is an id like any other

enum class FrameType : uint8_t { kUnknown = 0, kRst = 1, kClose = 2, kData = 3, kFeedback = 4 };

// Meta of a STRM frame (StreamFrameMeta).
struct StreamMeta {
  int64_t to = kNoStream;                // stream_id: the id at the receiver of the frame
  std::optional<int64_t> from = {};      // source_stream_id: the id at its sender
  FrameType type = FrameType::kUnknown;  // kUnknown also for numbers that nobody knows
  bool has_continuation = false;         // of DATA: the message goes on in another frame
  std::optional<int64_t> consumed = {};  // of FEEDBACK: payload bytes consumed since the start of the stream

  friend bool operator==(const StreamMeta&, const StreamMeta&) = default;
};

// Appends the whole front of a STRM frame: 12 bytes and the meta, as brpc's writer does (fields in ascending
// order, has_continuation of DATA even when false, RST without `from`). `payload_bytes` follow it.
void AppendStreamFront(const StreamMeta& meta, size_t payload_bytes, std::string& out);
// Bytes that AppendStreamFront may append at most.
constexpr size_t kStreamFrontBytesMax = 64;
// The same into memory with room for kStreamFrontBytesMax; returns the end. Hot: one message may be 64 bytes.
char* WriteStreamFront(const StreamMeta& meta, size_t payload_bytes, char* out);
// False when the bytes are no StreamFrameMeta or the required field 1 is missing.
bool ParseStreamMeta(std::string_view raw, StreamMeta* meta);

struct FrameLimits {
  uint32_t frame_bytes_max = 64u << 20;  // body of one frame; brpc's own default
  // Body of a STRM frame that is skipped instead of ending the connection.
  uint32_t skip_bytes_max = 1u << 30;
  uint32_t stream_meta_bytes_max = 4u << 10;
};

struct FrameEvent {
  enum class Kind : uint8_t {
    kStream,     // a piece of a STRM frame's payload; `first` and `last` of the frame may be the same piece
    kCall,       // a whole PRPC frame: `meta` and `body`
    kBadStream,  // a STRM frame whose meta is no StreamFrameMeta was dropped; the connection goes on
  };
  Kind kind = Kind::kStream;
  StreamMeta stream;  // of kStream, in every piece
  bool first = false;
  bool last = false;
  bool too_large = false;    // of kStream, with first and last: the payload is skipped
  uint32_t frame_bytes = 0;  // of kStream: payload of the whole frame
  std::string meta;          // of kCall: the serialised RpcMeta
  Bytes body;                // of kStream: the piece; of kCall: everything behind the meta
};

class FrameReader {
 public:
  explicit FrameReader(FrameLimits limits = {}) : limits_(limits) {}

  // `data` stays valid as long as `owner` has a holder. Everything fed before was taken by Next.
  void Feed(std::string_view data, std::shared_ptr<const void> owner);
  // The same for bytes that own themselves, in any number of pieces.
  // For tests and for frames inside messages.
  void Feed(const Bytes& data);

  // False when more input is needed.
  absl::StatusOr<bool> Next(FrameEvent* event);

  // True between frames: a connection that ends here ends cleanly.
  bool idle() const;
  // The first bytes of a connection that are no frame: what they were, at most 16, for a hint to whoever sent
  // them (an HTTP request to a binary port).
  std::string_view unknown_magic() const { return unknown_magic_; }

 private:
  enum class Phase : uint8_t { kFront, kStream, kSkip, kCall, kFailed };

  // Parts of Next; each of them takes what there is. True when `event` is ready.
  bool TakeFront(FrameEvent* event);
  bool TakeCutFront(FrameEvent* event);  // through held_
  bool BeginStream(std::string_view meta, FrameEvent* event);
  bool TakePiece(FrameEvent* event);
  bool BeginCall(FrameEvent* event);
  bool TakeCall(FrameEvent* event);

  bool Judge(std::string_view front);  // the 12 bytes; false when it has failed
  void FailUnknownMagic();
  void Fail(absl::Status status);
  bool has_input() const { return !slab_.empty() || more_at_ < more_.size(); }
  bool NextChunk();
  std::string_view TakeView(size_t most);
  Bytes TakeBytes(size_t most);

  const FrameLimits limits_;
  Phase phase_ = Phase::kFront;
  bool is_first_frame_ = true;
  bool is_stream_ = false;  // the frame that is being read
  bool too_large_ = false;
  bool is_first_piece_ = false;
  uint32_t meta_left_ = 0;    // of the meta
  uint32_t left_ = 0;         // of what follows the meta
  uint32_t frame_bytes_ = 0;  // payload of the stream frame
  std::string_view slab_;     // what was fed and not taken
  std::shared_ptr<const void> owner_;
  std::vector<std::string_view> more_;  // pieces behind slab_
  size_t more_at_ = 0;
  StreamMeta stream_;
  std::string held_;  // 12 bytes and a meta that the end of a slab cut
  std::string call_meta_;
  Bytes call_body_;
  absl::Status failure_;
  std::string unknown_magic_;
};

}  // namespace sluice::wire::brpc
