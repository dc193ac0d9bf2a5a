// Fuzzes the frame reader of baidu_std. The first byte chooses how the rest is cut.
//
// Checked beside the sanitizers: the result does not depend on the cuts, no frame is larger than the limit,
// what is decoded encodes to something that decodes to the same, and the hand-written reader of stream metas
// accepts what protobuf accepts.
#include <cstdlib>
#include <memory>
#include <vector>

#include "sluice/brpc/rpc_meta.pb.h"
#include "wire/brpc/frame.h"

namespace sluice::wire::brpc {
namespace {

constexpr FrameLimits kLimits = {
    .frame_bytes_max = 2048, .skip_bytes_max = 8192, .stream_meta_bytes_max = 256};

void Require(bool ok) {
  if (!ok) std::abort();
}

struct Frame {
  FrameEvent::Kind kind = FrameEvent::Kind::kStream;
  StreamMeta stream;
  bool too_large = false;
  uint32_t frame_bytes = 0;
  std::string meta;
  std::string payload;
  friend bool operator==(const Frame&, const Frame&) = default;
};

struct Outcome {
  std::vector<Frame> frames;
  absl::StatusCode code = absl::StatusCode::kOk;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

void Take(const FrameEvent& event, std::vector<Frame>& frames) {
  if (event.first) frames.push_back({event.kind, event.stream, event.too_large, event.frame_bytes, "", ""});
  Require(!frames.empty());
  Frame& frame = frames.back();
  Require(event.kind == frame.kind && event.stream == frame.stream && event.frame_bytes == frame.frame_bytes);
  frame.payload += event.body.ToString();
  if (event.kind == FrameEvent::Kind::kCall) frame.meta = event.meta;
  Require(frame.meta.size() + frame.payload.size() <= kLimits.frame_bytes_max);
  if (event.kind != FrameEvent::Kind::kStream || event.too_large) {
    Require(event.first && event.last);
  } else {
    Require(event.last == (frame.payload.size() == frame.frame_bytes));
  }
}

Outcome Decode(std::string_view input, size_t step) {
  FrameReader reader(kLimits);
  Outcome outcome;
  for (size_t at = 0; at < input.size(); at += step) {
    const std::string_view cut = input.substr(at, step);
    auto slab = std::make_shared<std::vector<char>>(cut.begin(), cut.end());
    reader.Feed({slab->data(), slab->size()}, slab);
    slab.reset();
    FrameEvent event;
    while (true) {
      absl::StatusOr<bool> more = reader.Next(&event);
      if (!more.ok()) {
        outcome.code = more.status().code();
        return outcome;
      }
      if (!*more) break;
      Take(event, outcome.frames);
    }
  }
  return outcome;
}

std::string Encode(const Frame& frame) {
  std::string out;
  if (frame.kind == FrameEvent::Kind::kStream && !frame.too_large) {
    AppendStreamFront(frame.stream, frame.payload.size(), out);
    Require(out.size() <= kStreamFrontBytesMax);
    out += frame.payload;
  }
  return out;
}

// What a writer does not write falls away.
StreamMeta AsWritten(StreamMeta meta) {
  if (meta.type == FrameType::kRst) meta.from.reset();
  if (meta.type != FrameType::kData) meta.has_continuation = false;
  if (meta.type == FrameType::kFeedback) meta.consumed = meta.consumed.value_or(0);
  if (meta.type != FrameType::kFeedback) meta.consumed.reset();
  return meta;
}

void RoundTrip(const std::vector<Frame>& frames) {
  for (const Frame& frame : frames) {
    const std::string bytes = Encode(frame);
    // An unfinished payload became whole; a meta in its shortest form only makes a frame smaller, except that
    // fields may be written that were not there.
    if (bytes.empty() || bytes.size() > kLimits.frame_bytes_max) continue;
    const Outcome again = Decode(bytes, 7);
    Require(again.code == absl::StatusCode::kOk && again.frames.size() == 1);
    Require(again.frames[0].stream == AsWritten(frame.stream) && again.frames[0].payload == frame.payload);
  }
}

void CompareWithProtobuf(std::string_view input) {
  ::sluice::brpc::StreamFrameMeta proto;
  const bool valid =
      proto.ParsePartialFromArray(input.data(), static_cast<int>(input.size())) && proto.IsInitialized();
  StreamMeta meta;
  Require(ParseStreamMeta(input, &meta) == valid);
  if (!valid) return;
  Require(meta.to == proto.stream_id());
  Require(meta.from.has_value() == proto.has_source_stream_id());
  Require(meta.from.value_or(0) == proto.source_stream_id());
  Require(static_cast<int>(meta.type) == static_cast<int>(proto.frame_type()));
  Require(meta.has_continuation == proto.has_continuation());
  Require(meta.consumed.has_value() == proto.has_feedback());
  Require(meta.consumed.value_or(0) == proto.feedback().consumed_size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0 || size > 16'384) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const Outcome outcome = Decode(input, 1 + bytes[0]);
  Require(outcome == Decode(input, size));
  RoundTrip(outcome.frames);
  CompareWithProtobuf(input);
  return 0;
}

}  // namespace sluice::wire::brpc
