#include "wire/brpc/frame.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "fmt/format.h"
#include "wire/proto_reader.h"

namespace sluice::wire::brpc {
namespace {

constexpr std::string_view kCallMagic = "PRPC";
constexpr std::string_view kStreamMagic = "STRM";
constexpr size_t kUnknownMagicBytes = 16;
// Shorter pieces are copied: cheaper than a reference, and a few bytes must not pin a slab.
constexpr size_t kCopyBytesMax = 1024;

// Fields of StreamFrameMeta and Feedback, each with its wire type.
constexpr uint32_t kToTag = 0x08;
constexpr uint32_t kFromTag = 0x10;
constexpr uint32_t kTypeTag = 0x18;
constexpr uint32_t kContinuationTag = 0x20;
constexpr uint32_t kFeedbackTag = 0x2a;
constexpr uint32_t kConsumedTag = 0x08;

uint32_t LoadBigEndian(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}

char* StoreBigEndian(size_t value, char* out) {
  const uint32_t swapped = __builtin_bswap32(static_cast<uint32_t>(value));
  std::memcpy(out, &swapped, sizeof swapped);
  return out + sizeof swapped;
}

// Negative numbers take ten bytes, as protobuf's int64 does.
char* StoreVarint(int64_t number, char* out) {
  auto value = static_cast<uint64_t>(number);
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
  *out++ = static_cast<char>(value);
  return out;
}

// Both magics and every beginning of them.
bool MayBeMagic(std::string_view front) {
  const std::string_view magic = front.substr(0, kCallMagic.size());
  return kCallMagic.starts_with(magic) || kStreamMagic.starts_with(magic);
}

// The meta of DATA exactly as brpc writes it: 08 <to> 10 <from> 18 03 20 <continues>.
// False for anything else.
bool ParsePlainData(std::string_view raw, StreamMeta* meta) {
  FlatSource source{raw};
  uint64_t to = 0;
  uint64_t from = 0;
  if (raw.size() < 8 || source.TakeByte() != kToTag || !ReadVarint(source, &to)) return false;
  if (source.AtEnd() || source.TakeByte() != kFromTag || !ReadVarint(source, &from)) return false;
  if (source.rest.size() != 4 || std::memcmp(source.rest.data(), "\x18\x03\x20", 3) != 0) return false;
  const char continues = source.rest[3];
  if (continues != 0 && continues != 1) return false;
  meta->to = static_cast<int64_t>(to);
  meta->from = static_cast<int64_t>(from);
  meta->type = FrameType::kData;
  meta->has_continuation = continues != 0;
  meta->consumed.reset();
  return true;
}

bool ParseFeedback(std::string_view raw, StreamMeta* meta) {
  meta->consumed = meta->consumed.value_or(0);
  for (FlatSource source{raw}; !source.AtEnd();) {
    uint32_t tag = 0;
    uint64_t value = 0;
    if (!ReadTag(source, &tag)) return false;
    if (tag == kConsumedTag) {
      if (!ReadVarint(source, &value)) return false;
      meta->consumed = static_cast<int64_t>(value);
    } else if (!SkipField(source, tag, 1)) {
      return false;
    }
  }
  return true;
}

// The value of a varint field that is ours.
void SetField(uint32_t tag, uint64_t value, StreamMeta* meta) {
  switch (tag) {
    case kToTag:
      meta->to = static_cast<int64_t>(value);
      break;
    case kFromTag:
      meta->from = static_cast<int64_t>(value);
      break;
    case kTypeTag:
      // An enum has 32 bits; numbers outside it leave the field as it was.
      if (const auto type = static_cast<uint32_t>(value); type <= 4)
        meta->type = static_cast<FrameType>(type);
      break;
    default:
      meta->has_continuation = value != 0;
      break;
  }
}

}  // namespace

bool ParseStreamMeta(std::string_view raw, StreamMeta* meta) {
  if (ParsePlainData(raw, meta)) return true;
  *meta = {};
  bool has_to = false;
  for (FlatSource source{raw}; !source.AtEnd();) {
    uint32_t tag = 0;
    uint64_t value = 0;
    size_t length = 0;
    if (!ReadTag(source, &tag)) return false;
    switch (tag) {
      case kToTag:
      case kFromTag:
      case kTypeTag:
      case kContinuationTag:
        if (!ReadVarint(source, &value)) return false;
        SetField(tag, value, meta);
        has_to |= tag == kToTag;
        break;
      case kFeedbackTag:
        if (!ReadLength(source, &length) || !ParseFeedback(source.TakeView(length), meta)) return false;
        break;
      default:
        if (!SkipField(source, tag)) return false;
    }
  }
  return has_to;
}

char* WriteStreamFront(const StreamMeta& meta, size_t payload_bytes, char* out) {
  SLUICE_CHECK(payload_bytes <= std::numeric_limits<uint32_t>::max() - kStreamFrontBytesMax);
  char* const meta_begin = out + kFrameFrontBytes;
  char* end = meta_begin;
  *end++ = static_cast<char>(kToTag);
  end = StoreVarint(meta.to, end);
  if (meta.from && meta.type != FrameType::kRst) {
    *end++ = static_cast<char>(kFromTag);
    end = StoreVarint(*meta.from, end);
  }
  *end++ = static_cast<char>(kTypeTag);
  *end++ = static_cast<char>(meta.type);
  if (meta.type == FrameType::kData) {
    *end++ = static_cast<char>(kContinuationTag);
    *end++ = meta.has_continuation ? 1 : 0;
  } else if (meta.type == FrameType::kFeedback) {
    *end++ = static_cast<char>(kFeedbackTag);
    char* const length = end++;
    *end++ = static_cast<char>(kConsumedTag);
    end = StoreVarint(meta.consumed.value_or(0), end);
    *length = static_cast<char>(end - length - 1);
  }
  const auto meta_bytes = static_cast<size_t>(end - meta_begin);
  std::memcpy(out, kStreamMagic.data(), kStreamMagic.size());
  StoreBigEndian(meta_bytes, StoreBigEndian(meta_bytes + payload_bytes, out + kStreamMagic.size()));
  return end;
}

void AppendStreamFront(const StreamMeta& meta, size_t payload_bytes, std::string& out) {
  char front[kStreamFrontBytesMax];
  out.append(front, WriteStreamFront(meta, payload_bytes, front));
}

void FrameReader::Feed(std::string_view data, std::shared_ptr<const void> owner) {
  if (phase_ == Phase::kFailed) return;
  SLUICE_CHECK(!has_input());
  slab_ = data;
  owner_ = std::move(owner);
}

void FrameReader::Feed(const Bytes& data) {
  if (phase_ == Phase::kFailed) return;
  SLUICE_CHECK(!has_input());
  more_.clear();
  more_at_ = 0;
  auto kept = std::make_shared<const Bytes>(data);
  kept->ForEachChunk([this](std::string_view chunk) { more_.push_back(chunk); });
  owner_ = std::move(kept);
}

bool FrameReader::idle() const { return phase_ == Phase::kFront && held_.empty() && !has_input(); }

absl::StatusOr<bool> FrameReader::Next(FrameEvent* event) {
  while (phase_ != Phase::kFailed) {
    if (slab_.empty() && !NextChunk()) return false;
    bool is_event = false;
    switch (phase_) {
      case Phase::kFront:
        is_event = TakeFront(event);
        break;
      case Phase::kStream:
        is_event = TakePiece(event);
        break;
      case Phase::kCall:
        is_event = TakeCall(event);
        break;
      case Phase::kSkip:
        left_ -= static_cast<uint32_t>(TakeView(left_).size());
        if (left_ == 0) phase_ = Phase::kFront;
        break;
      case Phase::kFailed:
        break;
    }
    if (is_event) return true;
  }
  return failure_;
}

bool FrameReader::NextChunk() {
  while (more_at_ < more_.size() && slab_.empty()) slab_ = more_[more_at_++];
  if (!slab_.empty()) return true;
  more_.clear();
  more_at_ = 0;
  owner_.reset();  // nobody waits for a slab that is used up
  return false;
}

std::string_view FrameReader::TakeView(size_t most) {
  const std::string_view taken = slab_.substr(0, most);
  slab_.remove_prefix(taken.size());
  return taken;
}

Bytes FrameReader::TakeBytes(size_t most) {
  const std::string_view taken = TakeView(most);
  if (taken.size() <= kCopyBytesMax) return Bytes::Copy(taken);
  return Bytes::Wrap(taken.data(), taken.size(), [owner = owner_] {});
}

void FrameReader::Fail(absl::Status status) {
  phase_ = Phase::kFailed;
  failure_ = std::move(status);
  slab_ = {};
  more_.clear();
  owner_.reset();
}

bool FrameReader::Judge(std::string_view front) {
  const bool is_stream = front.starts_with(kStreamMagic);
  if (!is_stream && !front.starts_with(kCallMagic)) {
    FailUnknownMagic();
    return false;
  }
  const uint32_t body_bytes = LoadBigEndian(front.data() + 4);
  meta_left_ = LoadBigEndian(front.data() + 8);
  if (meta_left_ > body_bytes) {
    Fail(absl::InvalidArgumentError(
        fmt::format("frame with {} bytes of meta in a body of {}", meta_left_, body_bytes)));
    return false;
  }
  const uint32_t most =
      is_stream ? std::max(limits_.frame_bytes_max, limits_.skip_bytes_max) : limits_.frame_bytes_max;
  if (body_bytes > most) {
    Fail(absl::ResourceExhaustedError(fmt::format("frame of {} bytes, the limit is {}", body_bytes, most)));
    return false;
  }
  if (is_stream && meta_left_ > limits_.stream_meta_bytes_max) {
    Fail(absl::ResourceExhaustedError(fmt::format("stream frame with {} bytes of meta, the limit is {}",
                                                  meta_left_, limits_.stream_meta_bytes_max)));
    return false;
  }
  is_stream_ = is_stream;
  too_large_ = body_bytes > limits_.frame_bytes_max;
  left_ = body_bytes - meta_left_;
  return true;
}

void FrameReader::FailUnknownMagic() {
  if (is_first_frame_) {
    unknown_magic_ = held_;
    unknown_magic_.append(TakeView(kUnknownMagicBytes - held_.size()));
  }
  Fail(absl::InvalidArgumentError("bytes that are no frame"));
}

bool FrameReader::TakeFront(FrameEvent* event) {
  if (!held_.empty() || slab_.size() < kFrameFrontBytes) return TakeCutFront(event);
  if (!Judge(slab_)) return false;
  if (!is_stream_) {
    TakeView(kFrameFrontBytes);
    return BeginCall(event);
  }
  if (slab_.size() < kFrameFrontBytes + meta_left_) return TakeCutFront(event);
  return BeginStream(TakeView(kFrameFrontBytes + meta_left_).substr(kFrameFrontBytes), event);
}

bool FrameReader::TakeCutFront(FrameEvent* event) {
  if (held_.size() < kFrameFrontBytes) held_.append(TakeView(kFrameFrontBytes - held_.size()));
  if (held_.size() < kFrameFrontBytes) {
    if (!MayBeMagic(held_)) FailUnknownMagic();
    return false;
  }
  if (!Judge(held_)) return false;
  if (!is_stream_) {
    held_.clear();
    return BeginCall(event);
  }
  const size_t front_bytes = kFrameFrontBytes + meta_left_;
  held_.append(TakeView(front_bytes - held_.size()));
  if (held_.size() < front_bytes) return false;
  const bool is_event = BeginStream(std::string_view(held_).substr(kFrameFrontBytes), event);
  held_.clear();
  return is_event;
}

bool FrameReader::BeginStream(std::string_view meta, FrameEvent* event) {
  is_first_frame_ = false;
  const bool is_meta = ParseStreamMeta(meta, &event->stream);
  if (is_meta && !too_large_ && slab_.size() < left_) {
    stream_ = event->stream;
    frame_bytes_ = left_;
    is_first_piece_ = true;
    phase_ = Phase::kStream;
    return false;
  }
  event->kind = is_meta ? FrameEvent::Kind::kStream : FrameEvent::Kind::kBadStream;
  if (!is_meta) event->stream = {};
  event->first = event->last = true;
  event->too_large = is_meta && too_large_;
  event->frame_bytes = left_;
  if (is_meta && !too_large_) {
    event->body = TakeBytes(left_);
    phase_ = Phase::kFront;
  } else {
    event->body = Bytes();
    phase_ = left_ > 0 ? Phase::kSkip : Phase::kFront;
  }
  return true;
}

bool FrameReader::TakePiece(FrameEvent* event) {
  event->kind = FrameEvent::Kind::kStream;
  event->stream = stream_;
  event->first = std::exchange(is_first_piece_, false);
  event->too_large = false;
  event->frame_bytes = frame_bytes_;
  event->body = TakeBytes(left_);
  left_ -= static_cast<uint32_t>(event->body.size());
  event->last = left_ == 0;
  if (event->last) phase_ = Phase::kFront;
  return true;
}

bool FrameReader::BeginCall(FrameEvent* event) {
  is_first_frame_ = false;
  phase_ = Phase::kCall;
  return TakeCall(event);
}

bool FrameReader::TakeCall(FrameEvent* event) {
  const std::string_view meta = TakeView(meta_left_);
  call_meta_.append(meta);
  meta_left_ -= static_cast<uint32_t>(meta.size());
  if (meta_left_ == 0 && left_ > 0 && !slab_.empty()) {
    const Bytes piece = TakeBytes(left_);
    left_ -= static_cast<uint32_t>(piece.size());
    call_body_.Append(piece);
  }
  if (meta_left_ > 0 || left_ > 0) return false;
  event->kind = FrameEvent::Kind::kCall;
  event->stream = {};
  event->first = event->last = true;
  event->too_large = false;
  event->frame_bytes = 0;
  event->meta = std::exchange(call_meta_, {});
  event->body = std::exchange(call_body_, {});
  phase_ = Phase::kFront;
  return true;
}

}  // namespace sluice::wire::brpc
