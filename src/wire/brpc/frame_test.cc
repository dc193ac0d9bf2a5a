#include "wire/brpc/frame.h"

#include <gtest/gtest.h>

#include <limits>

#include "sluice/brpc/rpc_meta.pb.h"
#include "wire/brpc/test_captures.h"

namespace sluice::wire::brpc {
namespace {

using Kind = FrameEvent::Kind;
using namespace std::string_literals;

// A frame as it came out, in a form that does not depend on how the input was cut.
struct Seen {
  Kind kind = Kind::kStream;
  StreamMeta stream;
  bool too_large = false;
  uint32_t frame_bytes = 0;
  std::string meta;
  std::string body;
  friend bool operator==(const Seen&, const Seen&) = default;
};

// Takes everything that is ready; checks that the pieces of a frame are consistent with one another.
absl::Status Drain(FrameReader& reader, std::vector<Seen>& seen) {
  FrameEvent event;
  while (true) {
    absl::StatusOr<bool> more = reader.Next(&event);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    if (event.first) seen.push_back({event.kind, event.stream, event.too_large, event.frame_bytes, "", ""});
    Seen& frame = seen.back();
    EXPECT_EQ(event.stream, frame.stream);
    EXPECT_EQ(event.frame_bytes, frame.frame_bytes);
    if (event.kind == Kind::kCall) frame.meta = event.meta;
    frame.body += event.body.ToString();
    if (event.kind == Kind::kStream && !event.too_large) {
      EXPECT_EQ(event.last, frame.body.size() == frame.frame_bytes);
      EXPECT_TRUE(!event.body.empty() || event.frame_bytes == 0);
    }
  }
}

struct Outcome {
  std::vector<Seen> seen;
  absl::Status status;
  bool idle = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Each piece has memory of its own that ends with the slab, as a socket's would.
Outcome Read(const std::vector<std::string_view>& pieces, FrameLimits limits = {}) {
  FrameReader reader(limits);
  Outcome outcome;
  for (std::string_view piece : pieces) {
    auto slab = std::make_shared<std::vector<char>>(piece.begin(), piece.end());
    reader.Feed({slab->data(), slab->size()}, slab);
    slab.reset();
    outcome.status = Drain(reader, outcome.seen);
    if (!outcome.status.ok()) break;
  }
  outcome.idle = reader.idle();
  return outcome;
}

Outcome ReadByteByByte(std::string_view bytes, FrameLimits limits = {}) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < bytes.size(); ++at) pieces.push_back(bytes.substr(at, 1));
  return Read(pieces, limits);
}

absl::StatusCode CodeOf(std::string_view bytes, FrameLimits limits = {}) {
  return Read({bytes}, limits).status.code();
}

std::string BigEndian(uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

std::string Frame(const std::string& magic, const std::string& meta, const std::string& payload) {
  return magic + BigEndian(static_cast<uint32_t>(meta.size() + payload.size())) +
         BigEndian(static_cast<uint32_t>(meta.size())) + meta + payload;
}

StreamMeta Data(int64_t to, int64_t from) { return {.to = to, .from = from, .type = FrameType::kData}; }

std::string Encode(const StreamMeta& meta, std::string_view payload) {
  std::string out;
  AppendStreamFront(meta, payload.size(), out);
  return out.append(payload);
}

TEST(BrpcFrame, EveryCapturedStreamFrameIsWrittenAsItCame) {
  size_t stream_frames = 0;
  size_t calls = 0;
  for (const char* name : kCaptures) {
    const std::vector<CapturedFrame> frames = LoadCapture(name);
    ASSERT_FALSE(frames.empty()) << name;
    for (const CapturedFrame& frame : frames) {
      const Outcome outcome = Read({frame.bytes});
      ASSERT_TRUE(outcome.status.ok() && outcome.idle) << name << ": " << outcome.status;
      ASSERT_EQ(outcome.seen.size(), 1u) << name;
      const Seen& seen = outcome.seen.front();
      if (seen.kind == Kind::kCall) {
        ++calls;
        EXPECT_EQ(Frame("PRPC", seen.meta, seen.body), frame.bytes) << name;
      } else {
        ++stream_frames;
        ASSERT_EQ(seen.kind, Kind::kStream);
        EXPECT_EQ(Encode(seen.stream, seen.body), frame.bytes) << name;
      }
    }
  }
  EXPECT_EQ(calls, 17u);  // a request in each capture, and one bare answer
  EXPECT_EQ(stream_frames, 169u);
}

TEST(BrpcFrame, F62_EveryCaptureCutAnywhereReadsTheSame) {
  for (const char* name : kCaptures) {
    for (bool client : {true, false}) {
      const std::string sent = SentBy(client, LoadCapture(name));
      const Outcome whole = Read({sent});
      ASSERT_TRUE(whole.status.ok() && whole.idle && !whole.seen.empty()) << name;
      for (size_t cut = 1; cut < sent.size(); ++cut) {
        const std::string_view all = sent;
        ASSERT_EQ(Read({all.substr(0, cut), all.substr(cut)}), whole) << name << " cut at " << cut;
      }
      EXPECT_EQ(ReadByteByByte(sent), whole) << name;
    }
  }
}

TEST(BrpcFrame, F62_BytesInManyPiecesReadLikeASlab) {
  const std::string sent = SentBy(false, LoadCapture("batch3"));
  const Outcome whole = Read({sent});
  Bytes pieces;
  for (size_t at = 0; at < sent.size(); at += 600) {  // absl joins shorter ones
    auto piece = std::make_shared<std::string>(sent.substr(at, 600));
    pieces.Append(Bytes::Wrap(piece->data(), piece->size(), [piece] {}));
  }
  FrameReader reader;
  reader.Feed(pieces);
  pieces = Bytes();
  EXPECT_FALSE(reader.idle());
  std::vector<Seen> seen;
  ASSERT_TRUE(Drain(reader, seen).ok());
  EXPECT_EQ(seen, whole.seen);
  EXPECT_TRUE(reader.idle());
}

TEST(BrpcFrame, F62_AHundredFramesInOneSlab) {
  std::string bytes;
  for (int64_t i = 0; i < 100; ++i) bytes += Encode(Data(i, -i), std::string(static_cast<size_t>(i), 'x'));
  const Outcome whole = Read({bytes});
  ASSERT_EQ(whole.seen.size(), 100u);
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(whole.seen[static_cast<size_t>(i)].stream, Data(i, -i));
    EXPECT_EQ(whole.seen[static_cast<size_t>(i)].body.size(), static_cast<size_t>(i));
  }
  EXPECT_EQ(ReadByteByByte(bytes), whole);
}

TEST(BrpcFrame, BytesThatTheFactsFix) {
  StreamMeta meta = Data(5, 6);
  EXPECT_EQ(Encode(meta, ""), "STRM\0\0\0\x08\0\0\0\x08\x08\x05\x10\x06\x18\x03\x20\0"s);
  meta.has_continuation = true;
  EXPECT_EQ(Encode(meta, "ab"), "STRM\0\0\0\x0a\0\0\0\x08\x08\x05\x10\x06\x18\x03\x20\x01"s + "ab");
  meta = {.to = 5, .from = 6, .type = FrameType::kFeedback, .consumed = 300};
  EXPECT_EQ(Encode(meta, ""), "STRM\0\0\0\x0b\0\0\0\x0b\x08\x05\x10\x06\x18\x04\x2a\x03\x08\xac\x02"s);
  EXPECT_EQ(Encode({.to = 5, .from = 6, .type = FrameType::kClose}, ""),
            "STRM\0\0\0\x06\0\0\0\x06\x08\x05\x10\x06\x18\x02"s);
  // RST names no source: it must not be answered.
  for (std::optional<int64_t> from : {std::optional<int64_t>(), std::optional<int64_t>(6)}) {
    EXPECT_EQ(Encode({.to = 5, .from = from, .type = FrameType::kRst}, ""),
              "STRM\0\0\0\x04\0\0\0\x04\x08\x05\x18\x01"s);
  }
}

TEST(BrpcFrame, F59_EveryIdAndTotalSurvives) {
  using Limits = std::numeric_limits<int64_t>;
  const int64_t numbers[] = {0, 1, 127, 128, 8589934592, -1, -2, Limits::max(), Limits::min()};
  for (int64_t to : numbers) {
    for (int64_t number : numbers) {
      for (StreamMeta meta :
           {Data(to, number),
            StreamMeta{.to = to, .from = number, .type = FrameType::kFeedback, .consumed = number},
            StreamMeta{.to = to, .type = FrameType::kRst}}) {
        const std::string bytes = Encode(meta, "");
        EXPECT_LE(bytes.size(), kStreamFrontBytesMax);
        const Outcome outcome = Read({bytes});
        ASSERT_EQ(outcome.seen.size(), 1u);
        EXPECT_EQ(outcome.seen.front().stream, meta);
      }
    }
  }
  EXPECT_EQ(Encode(Data(kNoStream, 0), "").substr(12, 11), "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s);
}

TEST(BrpcFrame, PiecesComeWhileTheRestArrives) {
  const std::string payload(3000, 'p');
  const std::string bytes = Encode(Data(1, 2), payload);
  FrameReader reader;
  FrameEvent event;
  const auto feed = [&](size_t at, size_t count) {
    auto slab = std::make_shared<std::string>(bytes.substr(at, count));
    reader.Feed(*slab, slab);
    return std::weak_ptr<std::string>(slab);
  };

  std::weak_ptr<std::string> slab = feed(0, 20);  // the front alone is no event
  EXPECT_FALSE(*reader.Next(&event));
  EXPECT_TRUE(slab.expired());
  EXPECT_FALSE(reader.idle());

  slab = feed(20, 1000);  // short: copied
  ASSERT_TRUE(*reader.Next(&event));
  EXPECT_TRUE(event.first && !event.last);
  EXPECT_EQ(event.body.size(), 1000u);
  EXPECT_FALSE(*reader.Next(&event));
  EXPECT_TRUE(slab.expired());

  slab = feed(1020, 2000);  // long: by reference
  ASSERT_TRUE(*reader.Next(&event));
  EXPECT_TRUE(!event.first && event.last);
  EXPECT_EQ(event.frame_bytes, 3000u);
  EXPECT_FALSE(*reader.Next(&event));
  EXPECT_FALSE(slab.expired());
  EXPECT_EQ(event.body, payload.substr(0, 2000));
  event.body = Bytes();
  EXPECT_TRUE(slab.expired());
  EXPECT_TRUE(reader.idle());
}

TEST(BrpcFrame, F58_JudgedOnTheFirstTwelveBytes) {
  const uint32_t limit = 64u << 20;
  const auto front = [](const char* magic, uint32_t body, uint32_t meta) {
    return magic + BigEndian(body) + BigEndian(meta);
  };
  for (const char* magic : {"PRPC", "STRM"}) {
    EXPECT_EQ(CodeOf(front(magic, 0xffffffff, 8)), absl::StatusCode::kResourceExhausted) << magic;
    EXPECT_EQ(CodeOf(front(magic, 0xffffffff, 0xffffffff)), absl::StatusCode::kResourceExhausted) << magic;
    EXPECT_EQ(CodeOf(front(magic, 8, 9)), absl::StatusCode::kInvalidArgument) << magic;
    EXPECT_EQ(CodeOf(front(magic, 0, 0xffffffff)), absl::StatusCode::kInvalidArgument) << magic;
    EXPECT_EQ(CodeOf(front(magic, limit, 8)), absl::StatusCode::kOk) << magic;
  }
  EXPECT_EQ(CodeOf(front("PRPC", limit + 1, 8)), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CodeOf(front("STRM", limit + 1, 8)), absl::StatusCode::kOk);  // its stream fails, see below
  EXPECT_EQ(CodeOf(front("STRM", (1u << 30) + 1, 8)), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CodeOf(front("STRM", 4097, 4097)), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CodeOf(front("STRM", 4097, 4096)), absl::StatusCode::kOk);
}

TEST(BrpcFrame, F58_AReaderThatFailedStaysFailed) {
  FrameReader reader;
  reader.Feed(Bytes::Copy("PRPC" + BigEndian(1) + BigEndian(2)));
  FrameEvent event;
  const absl::Status status = reader.Next(&event).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  reader.Feed(Bytes::Copy(Encode(Data(1, 2), "x")));
  EXPECT_EQ(reader.Next(&event).status(), status);
  EXPECT_FALSE(reader.idle());
}

TEST(BrpcFrame, F58_ATooLargeStreamFrameIsSkippedAndNamed) {
  const FrameLimits limits = {.frame_bytes_max = 100, .skip_bytes_max = 200, .stream_meta_bytes_max = 50};
  const std::string fits = Encode(Data(7, 8), std::string(92, 'a'));
  const std::string large = Encode(Data(7, 8), std::string(93, 'b'));
  const std::string largest = Encode(Data(7, 8), std::string(192, 'c'));
  const std::string bytes = large + fits + largest + fits;
  const Outcome outcome = Read({bytes}, limits);
  ASSERT_TRUE(outcome.status.ok() && outcome.idle) << outcome.status;
  const Seen skipped = {Kind::kStream, Data(7, 8), true, 93, "", ""};
  const Seen taken = {Kind::kStream, Data(7, 8), false, 92, "", std::string(92, 'a')};
  Seen skipped_too = skipped;
  skipped_too.frame_bytes = 192;
  EXPECT_EQ(outcome.seen, (std::vector<Seen>{skipped, taken, skipped_too, taken}));
  EXPECT_EQ(ReadByteByByte(bytes, limits), outcome);
  EXPECT_EQ(CodeOf(Encode(Data(7, 8), std::string(193, 'd')), limits), absl::StatusCode::kResourceExhausted);

  // Named as soon as its meta is there.
  EXPECT_EQ(Read({std::string_view(large).substr(0, 20)}, limits).seen, std::vector<Seen>{skipped});
}

TEST(BrpcFrame, F58_ACallHasTheLimitOfAFrame) {
  const FrameLimits limits = {.frame_bytes_max = 100};
  const std::string fits = Frame("PRPC", std::string(40, 'm'), std::string(60, 'b'));
  const Outcome outcome = Read({fits + fits}, limits);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.seen.size(), 2u);
  EXPECT_EQ(outcome.seen.front().meta, std::string(40, 'm'));
  EXPECT_EQ(outcome.seen.front().body, std::string(60, 'b'));
  EXPECT_EQ(ReadByteByByte(fits + fits, limits), outcome);
  EXPECT_EQ(CodeOf(Frame("PRPC", std::string(40, 'm'), std::string(61, 'b')), limits),
            absl::StatusCode::kResourceExhausted);
}

TEST(BrpcFrame, ACallOfNothingIsACall) {
  const std::string bytes = Frame("PRPC", "", "");
  const Outcome outcome = Read({bytes});
  ASSERT_EQ(outcome.seen.size(), 1u);
  EXPECT_EQ(outcome.seen.front().kind, Kind::kCall);
  EXPECT_TRUE(outcome.idle);
}

TEST(BrpcFrame, F60_OneWrongByteDecides) {
  for (std::string_view magic : {"PRPC", "STRM"}) {
    for (size_t wrong = 0; wrong < 4; ++wrong) {
      std::string bytes(magic.substr(0, wrong + 1));
      EXPECT_EQ(CodeOf(bytes), absl::StatusCode::kOk);
      bytes.back() = 'x';
      EXPECT_EQ(CodeOf(bytes), absl::StatusCode::kInvalidArgument) << bytes;
      EXPECT_EQ(ReadByteByByte(bytes).status, Read({bytes}).status);
    }
  }
  EXPECT_EQ(CodeOf("PTRM"), absl::StatusCode::kInvalidArgument);
}

TEST(BrpcFrame, F60_AForeignProtocolIsRemembered) {
  const auto magic_of = [](std::initializer_list<std::string> pieces) {
    FrameReader reader;
    for (const std::string& piece : pieces) {
      reader.Feed(Bytes::Copy(piece));
      FrameEvent event;
      absl::StatusOr<bool> more = true;
      while (more.ok() && *more) more = reader.Next(&event);
    }
    return std::string(reader.unknown_magic());
  };
  EXPECT_EQ(magic_of({"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}), "GET / HTTP/1.1\r\n");
  EXPECT_EQ(magic_of({"GET /"}), "GET /");
  EXPECT_EQ(magic_of({"P", "OST / HTTP/1.1\r\n"}), "POST / HTTP/1.1\r");
  EXPECT_EQ(magic_of({"\x16\x03\x01"}), "\x16\x03\x01");  // TLS
  EXPECT_EQ(magic_of({Encode(Data(1, 2), ""), "GET / HTTP/1.1\r\n"}), "");
  EXPECT_EQ(magic_of({Encode(Data(1, 2), "")}), "");
}

// Metas that are none, and what protobuf says to each.
TEST(BrpcFrame, F61_AMetaThatIsNoneIsDroppedAlone) {
  const std::string groups = [] {
    std::string nested = "\x08\x01"s;
    for (int i = 0; i < 101; ++i) nested += "\x33"s;
    for (int i = 0; i < 101; ++i) nested += "\x34"s;
    return nested;
  }();
  const std::string next = Encode(Data(1, 2), "next");
  for (const std::string& meta :
       {""s, "\x08"s, "\x10\x05\x18\x03"s, "\x08\x01\x2a\x05\x08\x01"s, "\x08\x01\x00"s,
        "\x08\x01\x2a\x01\x08"s, "\x08\x01\x34"s, "\x0a\x01x"s, "\x08\x01\x02\x00"s,
        "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, "\x08\x01\x33"s, groups}) {
    StreamMeta parsed;
    EXPECT_FALSE(ParseStreamMeta(meta, &parsed)) << testing::PrintToString(meta);
    ::sluice::brpc::StreamFrameMeta proto;
    EXPECT_FALSE(proto.ParsePartialFromString(meta) && proto.IsInitialized()) << testing::PrintToString(meta);
    const std::string bytes = Frame("STRM", meta, "payload") + next;
    const Outcome outcome = Read({bytes});
    ASSERT_TRUE(outcome.status.ok() && outcome.idle);
    ASSERT_EQ(outcome.seen.size(), 2u);
    EXPECT_EQ(outcome.seen.front(), (Seen{Kind::kBadStream, StreamMeta(), false, 7, "", ""}));
    EXPECT_EQ(outcome.seen.back().body, "next");
    EXPECT_EQ(ReadByteByByte(bytes), outcome);
  }
}

TEST(BrpcFrame, F61_AMetaThatIsOddIsRead) {
  const auto parse = [](const std::string& raw) {
    StreamMeta meta;
    EXPECT_TRUE(ParseStreamMeta(raw, &meta)) << testing::PrintToString(raw);
    return meta;
  };
  EXPECT_EQ(parse("\x08\x01"s), StreamMeta{.to = 1});
  EXPECT_EQ(parse("\x18\x03\x08\x01"s), (StreamMeta{.to = 1, .type = FrameType::kData}));
  EXPECT_EQ(parse("\x08\x01\x08\x02"s), StreamMeta{.to = 2});  // the last one holds
  EXPECT_EQ(parse("\x08\x01\x18\x09"s), StreamMeta{.to = 1});  // nobody knows 9
  EXPECT_EQ(parse("\x08\x01\x18\x00"s), StreamMeta{.to = 1});
  EXPECT_EQ(parse("\x08\x01\x30\x07\x3a\x02xy\x45zzzz"s), StreamMeta{.to = 1});  // fields of the future
  EXPECT_EQ(parse("\x08\x01\x33\x38\x05\x34"s), StreamMeta{.to = 1});            // a group
  EXPECT_EQ(parse("\x08\x01\x12\x01x"s), StreamMeta{.to = 1});                   // field 2 as a string
  EXPECT_EQ(parse("\x08\x81\x80\x00"s), StreamMeta{.to = 1});                    // a long form of 1
  EXPECT_EQ(parse("\x08\x01\x2a\x00"s), (StreamMeta{.to = 1, .consumed = 0}));
  EXPECT_EQ(parse("\x08\x01\x2a\x02\x08\x05\x2a\x00"s), (StreamMeta{.to = 1, .consumed = 5}));  // merged
  EXPECT_EQ(parse("\x08\x01\x10\x02\x18\x03\x20\x02"s),
            (StreamMeta{.to = 1, .from = 2, .type = FrameType::kData, .has_continuation = true}));
}

}  // namespace
}  // namespace sluice::wire::brpc
