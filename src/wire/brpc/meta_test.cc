#include "wire/brpc/meta.h"

#include <gtest/gtest.h>

#include <limits>

#include "wire/brpc/frame.h"
#include "wire/brpc/test_captures.h"

namespace sluice::wire::brpc {
namespace {

using namespace std::string_literals;

constexpr size_t kBodyMax = 1 << 20;
constexpr CompressType kTypes[] = {CompressType::kNone, CompressType::kSnappy, CompressType::kGzip,
                                   CompressType::kZlib};

// The one frame that these bytes are.
FrameEvent ReadFrame(const Bytes& bytes) {
  FrameReader reader;
  reader.Feed(bytes);
  FrameEvent event;
  absl::StatusOr<bool> more = reader.Next(&event);
  EXPECT_TRUE(more.ok() && *more) << more.status();
  EXPECT_TRUE(event.last && reader.idle());
  return event;
}

RpcMeta SomeRequest() {
  RpcMeta meta;
  meta.mutable_request()->set_service_name("example.EchoService");
  meta.mutable_request()->set_method_name("Echo");
  meta.set_correlation_id(5);
  return meta;
}

absl::StatusCode OpenCode(const RpcMeta& meta, const std::string& body, size_t bytes_max = kBodyMax) {
  return OpenBody({meta, Bytes::Copy(body)}, bytes_max).status().code();
}

// Bytes in pieces that absl does not join.
Bytes InPieces(const std::string& text, size_t step) {
  Bytes pieces;
  for (size_t at = 0; at < text.size(); at += step) {
    auto piece = std::make_shared<std::string>(text.substr(at, step));
    pieces.Append(Bytes::Wrap(piece->data(), piece->size(), [piece] {}));
  }
  return pieces;
}

std::string Mixed(size_t size) {
  std::string text;
  for (uint32_t state = 1; text.size() < size; state = state * 1664525 + 1013904223) {
    text += (state >> 28) < 8 ? std::string(1 + (state >> 26), 'r')
                              : std::string(1, static_cast<char>(state >> 16));
  }
  text.resize(size);
  return text;
}

void ExpectSameCall(const Bytes& frame, const std::string& where) {
  const FrameEvent event = ReadFrame(frame);
  ASSERT_EQ(event.kind, FrameEvent::Kind::kCall) << where;
  absl::StatusOr<CallFrame> call = DecodeCall(event.meta, event.body);
  ASSERT_TRUE(call.ok()) << where << ": " << call.status();
  absl::StatusOr<CallBody> body = OpenBody(*call, kBodyMax);
  ASSERT_TRUE(body.ok()) << where << ": " << body.status();
  const Bytes again = EncodeCall(call->meta, body->message, body->attachment,
                                 static_cast<CompressType>(call->meta.compress_type()),
                                 static_cast<ChecksumType>(call->meta.checksum_type()));
  EXPECT_EQ(again, frame) << where;
}

TEST(BrpcCall, EveryCapturedCallIsWrittenAsItCame) {
  size_t bare = 0;
  size_t wrapped = 0;
  for (const char* name : kCaptures) {
    for (const CapturedFrame& frame : LoadCapture(name)) {
      const FrameEvent event = ReadFrame(Bytes::Copy(frame.bytes));
      if (event.kind == FrameEvent::Kind::kCall) {
        ++bare;
        ExpectSameCall(Bytes::Copy(frame.bytes), name);
      } else if (event.body.ToString().starts_with("PRPC")) {
        ++wrapped;
        ExpectSameCall(event.body, name);
      }
    }
  }
  EXPECT_EQ(bare, 17u);     // a request in each capture, and the answer of the unary call
  EXPECT_EQ(wrapped, 15u);  // the answer in each other capture
}

TEST(BrpcCall, ARequestThatOpensAStreamIsTheFactsBytes) {
  RpcMeta meta = SomeRequest();
  meta.set_correlation_id(4294967298);
  meta.mutable_stream_settings()->set_stream_id(3);
  meta.mutable_stream_settings()->set_need_feedback(true);
  meta.mutable_stream_settings()->set_writable(true);
  EXPECT_EQ(EncodeCall(meta, Bytes::Copy("\x0a\x07logecho"), Bytes()),
            LoadCapture("echo-basic").front().bytes);
}

TEST(BrpcCall, FieldsThatAreAlwaysWritten) {
  RpcMeta meta;
  meta.mutable_response();
  meta.mutable_stream_settings()->set_stream_id(0);
  meta.set_attachment_size(7);  // not the caller's to say
  meta.set_checksum_with_attachment(false);
  EXPECT_EQ(EncodeCall(meta, Bytes(), Bytes()),
            "PRPC\0\0\0\x16\0\0\0\x16"
            "\x12\x02\x08\x00\x18\x00\x20\x00\x42\x06\x08\x00\x10\x00\x18\x00"
            "\x50\x00\x58\x00\x62\x00"s);
}

TEST(BrpcCall, F59_StreamIdsAndCorrelationsOfAnyValue) {
  using Limits = std::numeric_limits<int64_t>;
  for (int64_t id : {int64_t{0}, int64_t{-1}, int64_t{8589934592}, Limits::max(), Limits::min()}) {
    RpcMeta meta = SomeRequest();
    meta.set_correlation_id(id);
    meta.mutable_stream_settings()->set_stream_id(id);
    meta.mutable_stream_settings()->add_extra_stream_ids(id);
    meta.mutable_stream_settings()->add_extra_stream_ids(1);
    const FrameEvent event = ReadFrame(EncodeCall(meta, Bytes(), Bytes()));
    absl::StatusOr<CallFrame> call = DecodeCall(event.meta, event.body);
    ASSERT_TRUE(call.ok());
    EXPECT_EQ(call->meta.correlation_id(), id);
    EXPECT_EQ(call->meta.stream_settings().stream_id(), id);
    EXPECT_EQ(call->meta.stream_settings().extra_stream_ids(0), id);
    EXPECT_EQ(call->meta.stream_settings().extra_stream_ids_size(), 2);
  }
}

TEST(BrpcCall, F59_AnAttachmentThatDoesNotFit) {
  RpcMeta meta = SomeRequest();
  for (int32_t bytes : {-1, std::numeric_limits<int32_t>::min(), 7, std::numeric_limits<int32_t>::max()}) {
    meta.set_attachment_size(bytes);
    EXPECT_EQ(OpenCode(meta, "sixsix"), absl::StatusCode::kInvalidArgument) << bytes;
  }
  meta.set_attachment_size(6);
  absl::StatusOr<CallBody> body = OpenBody({meta, Bytes::Copy("sixsix")}, kBodyMax);
  ASSERT_TRUE(body.ok());
  EXPECT_TRUE(body->message.empty());
  EXPECT_EQ(body->attachment, "sixsix");
}

TEST(BrpcCall, F61_MetasThatAreNone) {
  std::string no_settings_id = SomeRequest().SerializeAsString() + "\x42\x02\x10\x01"s;
  std::string groups(1 << 20, '\x33');
  for (const std::string& raw : {"\x0a"s, "\x0a\x05\x0a\x01x"s, "\x0a\x03\x0a\x01x"s, "\x12\x02\x08"s,
                                 "\xff\xff"s, "\x00"s, "\x34"s, no_settings_id, groups}) {
    EXPECT_EQ(DecodeCall(raw, Bytes()).status().code(), absl::StatusCode::kInvalidArgument)
        << testing::PrintToString(raw.substr(0, 40));
  }
}

TEST(BrpcCall, F61_MetasThatAreOdd) {
  EXPECT_TRUE(DecodeCall("", Bytes()).ok());
  // An unknown field.
  EXPECT_TRUE(DecodeCall(SomeRequest().SerializeAsString() + "\xa2\x06\x02hi"s, Bytes()).ok());
  EXPECT_TRUE(DecodeCall(SomeRequest().SerializeAsString() + "\x18\x00\x18\x02"s, Bytes()).ok());
  RpcMeta meta = SomeRequest();
  meta.mutable_request()->set_service_name("\xff\xfe");  // no UTF-8; proto2 does not mind
  absl::StatusOr<CallFrame> call = DecodeCall(meta.SerializeAsString(), Bytes());
  ASSERT_TRUE(call.ok());
  EXPECT_EQ(call->meta.request().service_name(), "\xff\xfe");
}

TEST(BrpcCall, ChecksumsOfTheFacts) {
  EXPECT_EQ(ChecksumOf(Bytes::Copy("\x0a\x04stat")), "\x4d\xe3\x17\x5b");
  const FrameEvent event = ReadFrame(Bytes::Copy(LoadCapture("gzip-crc-attachment").front().bytes));
  EXPECT_EQ(event.body.size(), 32u);
  EXPECT_EQ(ChecksumOf(event.body.Slice(0, 29)), "\x3c\x20\xc7\x34");
  EXPECT_EQ(ChecksumOf(InPieces(event.body.Slice(0, 29).ToString(), 5)), "\x3c\x20\xc7\x34");
}

TEST(BrpcCall, F61_AChecksumThatDoesNotFit) {
  RpcMeta meta = SomeRequest();
  const std::string body = "\x0a\x04stat";
  const std::string value = "\x4d\xe3\x17\x5b";
  meta.set_checksum_type(1);
  EXPECT_EQ(OpenCode(meta, body), absl::StatusCode::kInvalidArgument);  // none
  for (const std::string& wrong : {value.substr(0, 3), value + "x", "\x4d\xe3\x17\x5c"s, ""s}) {
    meta.set_checksum_value(wrong);
    EXPECT_EQ(OpenCode(meta, body), absl::StatusCode::kInvalidArgument);
    meta.set_checksum_type(0);  // an echo
    EXPECT_EQ(OpenCode(meta, body), absl::StatusCode::kOk);
    meta.set_checksum_type(1);
  }
  meta.set_checksum_value(value);
  EXPECT_EQ(OpenCode(meta, body), absl::StatusCode::kOk);
  EXPECT_EQ(OpenCode(meta, "\x0a\x04stau"), absl::StatusCode::kInvalidArgument);
  for (int type : {2, -1, 255}) {
    meta.set_checksum_type(type);
    EXPECT_EQ(OpenCode(meta, body), absl::StatusCode::kInvalidArgument) << type;
  }
}

TEST(BrpcCall, AChecksumCoversTheAttachmentIfItSaysSo) {
  for (bool with_attachment : {false, true}) {
    RpcMeta meta = SomeRequest();
    if (with_attachment) meta.set_checksum_with_attachment(true);
    std::string frame = EncodeCall(meta, Bytes::Copy("message"), Bytes::Copy("attachment"),
                                   CompressType::kNone, ChecksumType::kCrc32c)
                            .ToString();
    frame.back() = 'X';
    const FrameEvent event = ReadFrame(Bytes::Copy(frame));
    absl::StatusOr<CallFrame> call = DecodeCall(event.meta, event.body);
    ASSERT_TRUE(call.ok());
    EXPECT_EQ(OpenBody(*call, kBodyMax).ok(), !with_attachment);
  }
}

TEST(BrpcCall, AFailedResponseHasNoBody) {
  RpcMeta meta;
  meta.mutable_response()->set_error_code(kNoMethod);
  meta.set_compress_type(2);  // said, though nothing was packed
  absl::StatusOr<CallBody> body = OpenBody({meta, Bytes()}, kBodyMax);
  ASSERT_TRUE(body.ok()) << body.status();
  EXPECT_TRUE(body->message.empty() && body->attachment.empty());
}

TEST(BrpcCall, CallsSurviveEveryCompression) {
  const std::string message = Mixed(300'000);
  for (CompressType compress : kTypes) {
    for (ChecksumType checksum : {ChecksumType::kNone, ChecksumType::kCrc32c}) {
      RpcMeta meta = SomeRequest();
      (*meta.mutable_user_fields())["key"] = "value";
      const Bytes frame = EncodeCall(meta, InPieces(message, 70'001), Bytes::Copy("att"), compress, checksum);
      const FrameEvent event = ReadFrame(frame);
      absl::StatusOr<CallFrame> call = DecodeCall(event.meta, event.body);
      ASSERT_TRUE(call.ok());
      EXPECT_EQ(call->meta.user_fields().at("key"), "value");
      absl::StatusOr<CallBody> body = OpenBody(*call, message.size());
      ASSERT_TRUE(body.ok()) << body.status();
      EXPECT_EQ(body->message, message);
      EXPECT_EQ(body->attachment, "att");
      EXPECT_EQ(OpenBody(*call, message.size() - 1).status().code(), absl::StatusCode::kResourceExhausted);
    }
  }
}

TEST(BrpcCall, F61_CompressionsNobodyKnows) {
  for (int type : {-1, 4, 5, 256, 258}) {
    RpcMeta meta = SomeRequest();
    meta.set_compress_type(type);
    EXPECT_EQ(OpenCode(meta, "body"), absl::StatusCode::kInvalidArgument) << type;
  }
}

TEST(BrpcCompress, RoundTripsOfEverySize) {
  for (CompressType type : kTypes) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65'535}, size_t{65'536},
                        size_t{65'537}, size_t{1'000'000}}) {
      const std::string raw = Mixed(size);
      const Bytes packed = Compress(type, Bytes::Copy(raw));
      for (const Bytes& form : {packed, InPieces(packed.ToString(), 600)}) {
        absl::StatusOr<Bytes> unpacked = Decompress(type, form, size);
        ASSERT_TRUE(unpacked.ok()) << static_cast<int>(type) << " " << size << ": " << unpacked.status();
        EXPECT_EQ(*unpacked, raw);
      }
      EXPECT_TRUE(Decompress(type, packed, std::numeric_limits<size_t>::max()).ok());
      if (size > 0) {
        EXPECT_EQ(Decompress(type, packed, size - 1).status().code(), absl::StatusCode::kResourceExhausted);
      }
    }
  }
}

TEST(BrpcCompress, F58_ABombIsStoppedAtTheLimit) {
  const Bytes zeros = Bytes::Take(std::string(32 << 20, '\0'));
  for (CompressType type : {CompressType::kSnappy, CompressType::kGzip, CompressType::kZlib}) {
    const Bytes bomb = Compress(type, zeros);
    EXPECT_LT(bomb.size(), zeros.size() / 20);
    EXPECT_EQ(Decompress(type, bomb, kBodyMax).status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(Decompress(type, bomb, zeros.size()).ok());
  }
}

TEST(BrpcCompress, F59_APromiseOfSnappyIsNotBelieved) {
  // 2^32 - 1 bytes in one literal of one byte.
  EXPECT_EQ(Decompress(CompressType::kSnappy, Bytes::Copy("\xff\xff\xff\xff\x0f\x00x"s), size_t{1} << 40)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(BrpcCompress, F61_CutOffAndDamagedBodies) {
  const std::string raw = Mixed(3000);
  for (CompressType type : {CompressType::kSnappy, CompressType::kGzip, CompressType::kZlib}) {
    const std::string packed = Compress(type, Bytes::Copy(raw)).ToString();
    for (size_t size = 0; size < packed.size(); ++size) {
      EXPECT_EQ(Decompress(type, Bytes::Copy(packed.substr(0, size)), kBodyMax).status().code(),
                absl::StatusCode::kInvalidArgument)
          << static_cast<int>(type) << " cut at " << size;
    }
    EXPECT_EQ(Decompress(type, Bytes::Copy(packed + "x"), kBodyMax).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(Decompress(type, Bytes::Copy("\x99" + packed.substr(1)), kBodyMax).ok());
  }
  // One is not the other.
  EXPECT_FALSE(
      Decompress(CompressType::kZlib, Compress(CompressType::kGzip, Bytes::Copy(raw)), kBodyMax).ok());
  EXPECT_FALSE(
      Decompress(CompressType::kGzip, Compress(CompressType::kZlib, Bytes::Copy(raw)), kBodyMax).ok());
}

TEST(BrpcCompress, AGzipBodyMayHaveSeveralMembers) {
  const std::string one = Compress(CompressType::kGzip, Bytes::Copy("one ")).ToString();
  const std::string two = Compress(CompressType::kGzip, Bytes::Copy("two")).ToString();
  for (size_t step : {size_t{1000}, one.size(), size_t{1}}) {
    Bytes packed;
    for (size_t at = 0; at < (one + two).size(); at += step)
      packed.Append(Bytes::Copy((one + two).substr(at, step)));
    absl::StatusOr<Bytes> raw = Decompress(CompressType::kGzip, packed, 7);
    ASSERT_TRUE(raw.ok()) << raw.status();
    EXPECT_EQ(*raw, "one two");
    EXPECT_FALSE(Decompress(CompressType::kGzip, packed, 6).ok());
  }
  EXPECT_FALSE(Decompress(CompressType::kGzip, Bytes::Copy(one + two.substr(0, 5)), 7).ok());
}

}  // namespace
}  // namespace sluice::wire::brpc
