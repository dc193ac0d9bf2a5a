// Frames of streams as short lines, for tests: what leaves and what arrives can be read and compared.
//
//   EXPECT_THAT(Words(SentBy(streams)),
//               ElementsAre("DATA 7<3 hello", "FEEDBACK 7<3 =26", "CLOSE 7<3", "RST 7"));
//   Deliver(streams, Data(3, 7, "ab", true));
//
// Threading: none. Failure: bytes that are no frames give the line "BROKEN".
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "wire/brpc/frame.h"
#include "wire/brpc/streams.h"

namespace sluice::wire::brpc {

inline std::string SentBy(Streams& streams, size_t bytes_max = SIZE_MAX) {
  Output out;
  std::string sent;
  streams.Pull(&out, bytes_max);
  for (std::string_view piece : out.pieces) sent += piece;
  return sent;
}

inline std::vector<std::string> Words(std::string_view bytes) {
  FrameReader reader;
  reader.Feed(Bytes::Copy(bytes));
  std::vector<std::string> words;
  FrameEvent event;
  while (true) {
    const absl::StatusOr<bool> more = reader.Next(&event);
    if (!more.ok()) words.push_back("BROKEN");
    if (!more.ok() || !*more) break;
    if (event.kind == FrameEvent::Kind::kCall) {
      words.push_back("CALL " + event.meta + event.body.ToString());
      continue;
    }
    if (!event.first) {
      words.back() += event.body.ToString();
      continue;
    }
    const StreamMeta& meta = event.stream;
    const std::string_view names[] = {"UNKNOWN", "RST", "CLOSE", "DATA", "FEEDBACK"};
    std::string word = fmt::format("{} {}", names[static_cast<size_t>(meta.type)], meta.to);
    if (meta.from) word += fmt::format("<{}", *meta.from);
    if (meta.consumed) word += fmt::format(" ={}", *meta.consumed);
    if (meta.type == FrameType::kData) {
      word += (meta.has_continuation ? " +" : " ") + event.body.ToString();
    }
    words.push_back(std::move(word));
  }
  if (!reader.idle()) words.push_back("BROKEN");
  return words;
}

inline std::string Frame(const StreamMeta& meta, std::string_view payload = {}) {
  std::string frame;
  AppendStreamFront(meta, payload.size(), frame);
  frame += payload;
  return frame;
}
inline std::string Data(int64_t to, std::optional<int64_t> from, std::string_view payload,
                        bool goes_on = false) {
  return Frame({.to = to, .from = from, .type = FrameType::kData, .has_continuation = goes_on}, payload);
}
inline std::string Feedback(int64_t to, std::optional<int64_t> from, int64_t total) {
  return Frame({.to = to, .from = from, .type = FrameType::kFeedback, .consumed = total});
}
inline std::string Close(int64_t to, std::optional<int64_t> from) {
  return Frame({.to = to, .from = from, .type = FrameType::kClose});
}
inline std::string Rst(int64_t to) { return Frame({.to = to, .type = FrameType::kRst}); }
// No writer of ours gives an RST a source. Ids below 128.
inline std::string RstFrom(int64_t to, int64_t from) {
  std::string frame("STRM\0\0\0\6\0\0\0\6\x08.\x10.\x18\x01", 18);
  frame[13] = static_cast<char>(to);
  frame[15] = static_cast<char>(from);
  return frame;
}

// Gives whole frames to `streams`; the last answer to an opening call that came with them.
inline std::optional<OpeningAnswer> Deliver(Streams& streams, std::string_view bytes,
                                            FrameLimits limits = {}) {
  FrameReader reader(limits);
  reader.Feed(Bytes::Copy(bytes));
  std::optional<OpeningAnswer> answer;
  FrameEvent event;
  while (true) {
    const absl::StatusOr<bool> more = reader.Next(&event);
    if (!more.ok() || !*more) return answer;
    if (event.kind != FrameEvent::Kind::kStream) continue;
    std::optional<OpeningAnswer> found = streams.Receive(event);
    if (found) answer = std::move(found);
  }
}

}  // namespace sluice::wire::brpc
