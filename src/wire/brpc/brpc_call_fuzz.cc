// Fuzzes calls of baidu_std. The first byte chooses: a whole PRPC frame, or a packed body.
//
// Checked beside the sanitizers: nothing unpacks to more than the limit, and what is decoded encodes to
// something that decodes to the same, byte for byte the second time.
#include <cstdlib>
#include <optional>
#include <utility>

#include "wire/brpc/frame.h"
#include "wire/brpc/meta.h"

namespace sluice::wire::brpc {
namespace {

constexpr size_t kBodyMax = 1 << 16;

void Require(bool ok) {
  if (!ok) std::abort();
}

void Unpack(CompressType type, const Bytes& packed) {
  const absl::StatusOr<Bytes> raw = Decompress(type, packed, kBodyMax);
  const absl::StatusOr<Bytes> tight = Decompress(type, packed, 100);
  Require(!tight.ok() || (raw.ok() && *raw == *tight && tight->size() <= 100));
  if (!raw.ok()) return;
  Require(raw->size() <= kBodyMax);
  const absl::StatusOr<Bytes> again = Decompress(type, Compress(type, *raw), raw->size());
  Require(again.ok() && *again == *raw);
}

// The call in a frame and what it carries; nullopt when it is none.
std::optional<std::pair<CallFrame, CallBody>> Open(const Bytes& frame) {
  FrameReader reader({.frame_bytes_max = 1 << 20});
  reader.Feed(frame);
  FrameEvent event;
  const absl::StatusOr<bool> more = reader.Next(&event);
  if (!more.ok() || !*more || event.kind != FrameEvent::Kind::kCall) return std::nullopt;
  absl::StatusOr<CallFrame> call = DecodeCall(event.meta, event.body);
  if (!call.ok()) return std::nullopt;
  Require(call->meta.IsInitialized());
  absl::StatusOr<CallBody> body = OpenBody(*call, kBodyMax);
  if (!body.ok()) return std::nullopt;
  Require(body->message.size() <= kBodyMax && body->attachment.size() <= event.body.size());
  return std::pair(*std::move(call), *std::move(body));
}

Bytes Encode(const CallFrame& call, const CallBody& body) {
  // A failed response may say anything of a body that it does not have.
  const int type = call.meta.compress_type();
  const auto compress = type >= 0 && type <= 3 ? static_cast<CompressType>(type) : CompressType::kNone;
  const auto checksum = call.meta.checksum_type() == 1 ? ChecksumType::kCrc32c : ChecksumType::kNone;
  return EncodeCall(call.meta, body.message, body.attachment, compress, checksum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0 || size > 65'536) return 0;
  const Bytes input = Bytes::Copy({reinterpret_cast<const char*>(bytes) + 1, size - 1});
  const int choice = bytes[0] & 3;
  if (choice != 0) {
    Unpack(static_cast<CompressType>(choice), input);
    return 0;
  }
  const auto call = Open(input);
  if (!call) return 0;
  const Bytes encoded = Encode(call->first, call->second);
  const auto again = Open(encoded);
  Require(again.has_value());
  Require(again->second.message == call->second.message &&
          again->second.attachment == call->second.attachment);
  Require(again->first.meta.correlation_id() == call->first.meta.correlation_id());
  Require(Encode(again->first, again->second) == encoded);
  return 0;
}

}  // namespace sluice::wire::brpc
