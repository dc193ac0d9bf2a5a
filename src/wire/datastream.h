// The framing of Ratis DataStream packets, without I/O: bytes in, packets out, and back.
//
//   RequestDecoder decoder;
//   decoder.Feed(Bytes::Wrap(slab, n, release));
//   RequestEvent event;
//   while (true) {
//     absl::StatusOr<bool> more = decoder.Next(&event);
//     if (!more.ok()) { reply to decoder.failed_packet() if there is one; close the connection; }
//     if (!*more) break;                       // feed again
//     if (event.kind == RequestEvent::Kind::kPiece) {
//       Write(event.header, event.offset, event.data, event.last);
//     } else {
//       ...
//     }
//   }
//   socket.Write(EncodeReply(reply));
//
// A data packet comes out in pieces of exactly piece_bytes while its rest still arrives (the last is what is
// left), however the input was cut; it is never buffered whole. A header packet comes out whole. Payload is
// passed on by reference to the memory that was fed; only packet headers are copied. A caller that reads
// small segments should fill one slab with several of them:
// a slab stays alive as long as one of its bytes is held here.
//
// Threading: one thread at a time. Bounds: at most what was fed and not taken, plus one piece or one header.
// Failure: INVALID_ARGUMENT for malformed bytes, RESOURCE_EXHAUSTED for a packet above a limit. A decoder
// that failed is dead, says the same again, and its connection must be closed, because the framing is lost.
// Lengths are judged before anything is allocated for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::wire {

enum class PacketType : uint8_t { kStreamHeader = 0, kStreamData = 1 };

struct PacketHeader {
  ClientId client;
  PacketType type = PacketType::kStreamHeader;
  CallId stream;
  uint64_t offset = 0;
  uint64_t data_length = 0;  // encoders that take the payload set it from there
  bool sync = false;
  bool close = false;

  UploadId upload() const { return {client, stream}; }
  friend bool operator==(const PacketHeader&, const PacketHeader&) = default;
};

// Limits of one connection. The defaults fit a Java client.
struct DataStreamLimits {
  uint64_t frame_bytes_max = 64ull << 20;      // data of one packet; larger ones are refused
  uint64_t stream_header_bytes_max = 1 << 20;  // data of a header packet, which is held whole
  uint64_t packet_header_bytes_max = 64 << 10;
  uint64_t piece_bytes = 256 << 10;
};

struct RequestEvent {
  enum class Kind : uint8_t {
    kPacket,  // a data packet begins; `header` is all there is
    // `data` belongs at `offset` of the stream; `last` ends the packet. An empty packet has one piece.
    kPiece,
    kStreamHeader,  // a header packet; `data` is its serialised RaftClientRequestProto
  };
  Kind kind = Kind::kPacket;
  PacketHeader header;
  uint64_t offset = 0;
  Bytes data;
  bool last = false;
};

// Collects the fixed-size front parts of packets (copied) and their bodies (by reference).
class FrameInput {
 public:
  void Feed(Bytes more) { pending_.Append(more); }
  size_t size() const { return pending_.size(); }
  // Fills `part` up to `want` bytes by copying; true when it has them.
  bool Gather(std::string& part, size_t want);
  // The next n bytes by reference; n <= size().
  Bytes Take(size_t n);

 private:
  Bytes pending_;
};

// Server side: requests of a client or of a forwarding server.
class RequestDecoder {
 public:
  explicit RequestDecoder(DataStreamLimits limits = {}) : limits_(limits) {}

  void Feed(Bytes more) { input_.Feed(std::move(more)); }
  // False when more input is needed.
  absl::StatusOr<bool> Next(RequestEvent* event);

  // After a failure: the packet that caused it, if its header was understood, so that its sender can be told.
  const std::optional<PacketHeader>& failed_packet() const { return failed_packet_; }
  // True between packets: a connection that ends here ends cleanly.
  bool idle() const { return state_ == State::kPrefix && front_.empty() && input_.size() == 0; }

 private:
  enum class State : uint8_t { kPrefix, kHeader, kStreamHeader, kData, kFailed };
  absl::StatusOr<bool> Step(RequestEvent* event);
  absl::Status OnPrefix();
  absl::Status OnHeader();
  absl::Status CheckLengths();

  DataStreamLimits limits_;
  FrameInput input_;
  State state_ = State::kPrefix;
  std::string front_;           // what has come of the prefix or of the header
  uint64_t header_length_ = 0;  // from the prefix
  uint64_t data_length_ = 0;    // from the prefix: body length minus header length
  uint64_t taken_ = 0;          // of the data, handed on
  PacketHeader header_;
  absl::Status failure_;
  std::optional<PacketHeader> failed_packet_;
};

struct DataStreamReply {
  PacketHeader header;  // client, type, stream and offset of the request
  uint64_t bytes_written = 0;
  bool success = false;
  // From EncodeCommitInfos, or empty; opaque so that a reply per packet costs little.
  std::string commit_infos;
  Bytes body;  // a serialised RaftClientReplyProto for failures; data for read streams
};

// Client side, and the side that forwards.
class ReplyDecoder {
 public:
  // Bodies above `body_bytes_max` fail.
  explicit ReplyDecoder(uint64_t body_bytes_max = 4 << 20) : body_bytes_max_(body_bytes_max) {}

  void Feed(Bytes more) { input_.Feed(std::move(more)); }
  absl::StatusOr<bool> Next(DataStreamReply* reply);

 private:
  enum class State : uint8_t { kPrefix, kHeader, kBody, kFailed };
  absl::StatusOr<bool> Step(DataStreamReply* reply);
  absl::Status OnHeader();

  uint64_t body_bytes_max_;
  FrameInput input_;
  State state_ = State::kPrefix;
  std::string front_;
  uint64_t header_length_ = 0;
  DataStreamReply reply_;
  absl::Status failure_;
};

// A whole packet: a small flat front, and the payload by reference. Byte-identical to what Java sends.
Bytes EncodeRequest(PacketHeader header, const Bytes& payload);
// Its front alone, for header.data_length bytes that follow.
std::string EncodeRequestFront(const PacketHeader& header);
Bytes EncodeReply(const DataStreamReply& reply);

using CommitInfos = google::protobuf::RepeatedPtrField<ratis::common::CommitInfoProto>;
std::string EncodeCommitInfos(const CommitInfos& infos);
absl::StatusOr<CommitInfos> DecodeCommitInfos(std::string_view encoded);

// The two protobuf messages at the front of packets. Exposed for tests and fuzzing: they agree with protobuf.
absl::Status ParseRequestHeader(std::string_view raw, PacketHeader* header);
absl::Status ParseReplyHeader(std::string_view raw, DataStreamReply* reply);

}  // namespace sluice::wire
