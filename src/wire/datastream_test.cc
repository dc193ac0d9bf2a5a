#include "wire/datastream.h"

#include <gtest/gtest.h>

#include <random>

#include "wire/test_vectors.h"

namespace sluice::wire {
namespace {

using Kind = RequestEvent::Kind;

constexpr const char* kFiles[] = {"ratis-datastream-chain.hex", "ratis-datastream-star.hex",
                                  "ratis-datastream-read.hex", "ratis-datastream-errors.hex"};

// What came out of a decoder, in an order and form that do not depend on how the input was cut.
struct Packet {
  PacketHeader header;
  std::string data;
  std::vector<uint64_t> piece_sizes;
  friend bool operator==(const Packet&, const Packet&) = default;
};

// Takes everything that is ready; checks that events are consistent with one another.
absl::Status Drain(RequestDecoder& decoder, std::vector<Packet>& packets) {
  RequestEvent event;
  while (true) {
    absl::StatusOr<bool> more = decoder.Next(&event);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    if (event.kind == Kind::kPacket) {
      EXPECT_EQ(event.header.type, PacketType::kStreamData);
      packets.push_back({event.header, "", {}});
      continue;
    }
    if (event.kind == Kind::kStreamHeader) {
      EXPECT_EQ(event.header.type, PacketType::kStreamHeader);
      EXPECT_TRUE(event.last);
      packets.push_back({event.header, "", {}});
    }
    Packet& packet = packets.back();
    EXPECT_EQ(event.header, packet.header);
    EXPECT_EQ(event.offset, packet.header.offset + packet.data.size());
    packet.data += event.data.ToString();
    packet.piece_sizes.push_back(event.data.size());
    EXPECT_EQ(event.last, packet.data.size() == packet.header.data_length);
  }
}

absl::StatusOr<std::vector<Packet>> DecodeAll(std::string_view bytes, size_t step,
                                              DataStreamLimits limits = {}) {
  RequestDecoder decoder(limits);
  std::vector<Packet> packets;
  for (size_t at = 0; at < bytes.size(); at += step) {
    decoder.Feed(Bytes::Copy(bytes.substr(at, step)));
    absl::Status status = Drain(decoder, packets);
    if (!status.ok()) return status;
  }
  EXPECT_TRUE(decoder.idle());
  return packets;
}

// The status of the decoder after these bytes; OK while it waits for more.
absl::Status StatusOf(std::string_view bytes, DataStreamLimits limits = {}) {
  RequestDecoder decoder(limits);
  decoder.Feed(Bytes::Copy(bytes));
  std::vector<Packet> packets;
  return Drain(decoder, packets);
}

absl::StatusOr<std::vector<DataStreamReply>> DecodeReplies(std::string_view bytes, size_t step) {
  ReplyDecoder decoder;
  std::vector<DataStreamReply> replies;
  for (size_t at = 0; at < bytes.size(); at += step) {
    decoder.Feed(Bytes::Copy(bytes.substr(at, step)));
    DataStreamReply reply;
    while (true) {
      absl::StatusOr<bool> more = decoder.Next(&reply);
      if (!more.ok()) return more.status();
      if (!*more) break;
      replies.push_back(reply);
    }
  }
  return replies;
}

PacketHeader SomeHeader() {
  PacketHeader header;
  for (size_t i = 0; i < 16; ++i) header.client.bytes[i] = static_cast<uint8_t>(i + 1);
  header.type = PacketType::kStreamData;
  header.stream = {7};
  header.offset = 3;
  return header;
}

std::string BigEndian(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

// A packet around a hand-made protobuf header.
std::string Frame(const std::string& proto, const std::string& data) {
  return BigEndian(proto.size() + data.size(), 8) + BigEndian(proto.size(), 4) + proto + data;
}

ratis::common::DataStreamRequestHeaderProto ProtoOf(const PacketHeader& header) {
  ratis::common::DataStreamRequestHeaderProto proto;
  auto* packet = proto.mutable_packet_header();
  packet->set_client_id(std::string(header.client.AsBytes()));
  packet->set_type(static_cast<ratis::common::DataStreamPacketHeaderProto::Type>(header.type));
  packet->set_stream_id(header.stream.value);
  packet->set_stream_offset(header.offset);
  packet->set_data_length(header.data_length);
  if (header.sync) packet->add_options(ratis::common::DataStreamPacketHeaderProto::SYNC);
  if (header.close) packet->add_options(ratis::common::DataStreamPacketHeaderProto::CLOSE);
  return proto;
}

TEST(DataStreamVectors, RequestsDecodeAndEncodeByteForByte) {
  size_t seen = 0;
  for (const char* file : kFiles) {
    for (const Vector& vector : LoadVectors(file)) {
      if (!vector.is_request) continue;
      ++seen;
      absl::StatusOr<std::vector<Packet>> packets = DecodeAll(vector.bytes, vector.bytes.size());
      ASSERT_TRUE(packets.ok()) << packets.status() << " in " << file;
      ASSERT_EQ(packets->size(), 1u);
      const Packet& packet = packets->front();
      EXPECT_EQ(ToHex(EncodeRequest(packet.header, Bytes::Copy(packet.data)).ToString()),
                ToHex(vector.bytes));
    }
  }
  EXPECT_EQ(seen, 12u + 9u + 2u + 13u);
}

TEST(DataStreamVectors, RepliesDecodeAndEncodeByteForByte) {
  size_t seen = 0;
  for (const char* file : kFiles) {
    for (const Vector& vector : LoadVectors(file)) {
      if (vector.is_request) continue;
      ++seen;
      absl::StatusOr<std::vector<DataStreamReply>> replies = DecodeReplies(vector.bytes, vector.bytes.size());
      ASSERT_TRUE(replies.ok()) << replies.status() << " in " << file;
      ASSERT_EQ(replies->size(), 1u);
      DataStreamReply reply = replies->front();
      EXPECT_EQ(ToHex(EncodeReply(reply).ToString()), ToHex(vector.bytes));
      absl::StatusOr<CommitInfos> infos = DecodeCommitInfos(reply.commit_infos);
      ASSERT_TRUE(infos.ok());
      EXPECT_EQ(EncodeCommitInfos(*infos), reply.commit_infos);
      for (const auto& info : *infos) EXPECT_EQ(info.server().id().size(), 2u);
    }
  }
  EXPECT_EQ(seen, 12u + 9u + 3u + 12u);
}

TEST(DataStreamVectors, ChainCarriesWhatTheReferenceSays) {
  std::vector<Packet> sent;
  for (const Vector& vector : LoadVectors("ratis-datastream-chain.hex")) {
    if (!vector.is_request || vector.line_name != "client-n0") continue;
    absl::StatusOr<std::vector<Packet>> packets = DecodeAll(vector.bytes, 5);
    ASSERT_TRUE(packets.ok());
    sent.push_back(packets->front());
  }
  ASSERT_EQ(sent.size(), 4u);
  EXPECT_EQ(sent[0].header.client.ToString(), "702fe986-5451-4d17-b34a-134fe87ea808");
  EXPECT_EQ(sent[0].header.type, PacketType::kStreamHeader);
  EXPECT_EQ(sent[0].data.size(), 93u);
  EXPECT_EQ(sent[1].header.offset, 0u);
  EXPECT_FALSE(sent[1].header.sync);
  EXPECT_EQ(sent[2].header.offset, 10u);
  EXPECT_TRUE(sent[2].header.sync);
  EXPECT_FALSE(sent[2].header.close);
  EXPECT_EQ(sent[3].header.offset, 20u);
  EXPECT_TRUE(sent[3].header.close);
  EXPECT_EQ(sent[3].data, "");
  ratis::common::RaftClientRequestProto request;
  ASSERT_TRUE(request.ParseFromString(sent[0].data));
  EXPECT_EQ(request.rpc_request().reply_id(), "n0");
  EXPECT_EQ(request.rpc_request().call_id(), sent[0].header.stream.value);
  EXPECT_TRUE(request.has_data_stream());
}

TEST(DataStreamVectors, F62_EverySplitPointGivesTheSameRequests) {
  std::string all;
  for (const char* file : kFiles) {
    for (const Vector& vector : LoadVectors(file)) {
      if (vector.is_request) all += vector.bytes;
    }
  }
  const absl::StatusOr<std::vector<Packet>> whole = DecodeAll(all, all.size());
  ASSERT_TRUE(whole.ok());
  ASSERT_EQ(whole->size(), 36u);
  for (size_t cut = 1; cut < all.size(); ++cut) {
    RequestDecoder decoder;
    std::vector<Packet> packets;
    decoder.Feed(Bytes::Copy(std::string_view(all).substr(0, cut)));
    ASSERT_TRUE(Drain(decoder, packets).ok());
    decoder.Feed(Bytes::Copy(std::string_view(all).substr(cut)));
    ASSERT_TRUE(Drain(decoder, packets).ok());
    ASSERT_EQ(packets, *whole) << "cut at " << cut;
  }
  for (size_t step : {1u, 2u, 3u, 7u, 13u, 64u}) EXPECT_EQ(*DecodeAll(all, step), *whole) << step;
}

TEST(DataStreamVectors, F62_EverySplitPointGivesTheSameReplies) {
  for (const char* file : kFiles) {
    for (const Vector& vector : LoadVectors(file)) {
      if (vector.is_request) continue;
      const size_t dense = std::min<size_t>(vector.bytes.size(), 400);  // the fronts lie within it
      for (size_t cut = 1; cut < dense; ++cut) {
        ReplyDecoder decoder;
        DataStreamReply reply;
        decoder.Feed(Bytes::Copy(std::string_view(vector.bytes).substr(0, cut)));
        absl::StatusOr<bool> early = decoder.Next(&reply);
        ASSERT_TRUE(early.ok());
        ASSERT_FALSE(*early) << "complete too early at " << cut;
        decoder.Feed(Bytes::Copy(std::string_view(vector.bytes).substr(cut)));
        absl::StatusOr<bool> ready = decoder.Next(&reply);
        ASSERT_TRUE(ready.ok() && *ready);
        ASSERT_EQ(EncodeReply(reply).ToString(), vector.bytes);
      }
      absl::StatusOr<std::vector<DataStreamReply>> bytewise = DecodeReplies(vector.bytes, 1);
      ASSERT_TRUE(bytewise.ok());
      ASSERT_EQ(bytewise->size(), 1u);
    }
  }
}

TEST(DataStreamDecoder, D07_LargePacketComesInPiecesWhileItsRestArrives) {
  std::string data(600'000, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 >> 3);
  PacketHeader header = SomeHeader();
  header.sync = header.close = true;
  const std::string bytes = EncodeRequest(header, Bytes::Copy(data)).ToString();

  RequestDecoder decoder;
  std::vector<Packet> packets;
  const size_t front = bytes.size() - data.size();
  decoder.Feed(Bytes::Copy(std::string_view(bytes).substr(0, front + 262'143)));
  ASSERT_TRUE(Drain(decoder, packets).ok());
  ASSERT_EQ(packets.size(), 1u);  // its header is known, no piece is complete
  EXPECT_TRUE(packets[0].piece_sizes.empty());
  decoder.Feed(Bytes::Copy(std::string_view(bytes).substr(front + 262'143, 1)));
  ASSERT_TRUE(Drain(decoder, packets).ok());
  EXPECT_EQ(packets[0].piece_sizes, (std::vector<uint64_t>{262'144}));

  for (size_t step : {1000u, 65'536u, 262'145u, 700'000u}) {
    absl::StatusOr<std::vector<Packet>> cut = DecodeAll(bytes, step);
    ASSERT_TRUE(cut.ok());
    EXPECT_EQ(cut->front().piece_sizes, (std::vector<uint64_t>{262'144, 262'144, 75'712}));
    EXPECT_EQ(cut->front().data, data);
  }
}

TEST(DataStreamDecoder, PayloadSharesTheMemoryThatWasFed) {
  const std::string bytes = EncodeRequest(SomeHeader(), Bytes::Copy(std::string(100'000, 'x'))).ToString();
  int released = 0;
  RequestDecoder decoder;
  decoder.Feed(Bytes::Wrap(bytes.data(), bytes.size(), [&](auto&&...) { ++released; }));
  RequestEvent event;
  ASSERT_TRUE(*decoder.Next(&event));
  ASSERT_TRUE(*decoder.Next(&event));
  event.data.ForEachChunk([&](std::string_view chunk) {
    EXPECT_GE(chunk.data(), bytes.data());
    EXPECT_LE(chunk.data() + chunk.size(), bytes.data() + bytes.size());
  });
  EXPECT_TRUE(decoder.idle());
  EXPECT_EQ(released, 0);
  event.data = Bytes();
  EXPECT_EQ(released, 1);
}

TEST(DataStreamDecoder, EmptyDataPacketIsOneEmptyPiece) {
  PacketHeader header = SomeHeader();
  header.close = true;
  absl::StatusOr<std::vector<Packet>> packets = DecodeAll(EncodeRequest(header, Bytes()).ToString(), 1);
  ASSERT_TRUE(packets.ok());
  EXPECT_EQ(packets->front().piece_sizes, (std::vector<uint64_t>{0}));
  EXPECT_TRUE(packets->front().header.close);
}

TEST(DataStreamDecoder, OptionsUnpackedPackedAndUnknown) {
  const std::string client = "\x0a\x10" + std::string(16, 'c');
  const auto parse = [&](const std::string& options) {
    PacketHeader header;
    const std::string inner = client + options;
    EXPECT_TRUE(
        ParseRequestHeader("\x0a" + std::string(1, static_cast<char>(inner.size())) + inner, &header).ok());
    return std::pair(header.sync, header.close);
  };
  using std::string_literals::operator""s;
  EXPECT_EQ(parse("\x30\x00\x30\x01"s), std::pair(true, true));
  EXPECT_EQ(parse("\x32\x02\x00\x01"s), std::pair(true, true));
  EXPECT_EQ(parse("\x32\x01\x01"s), std::pair(false, true));
  EXPECT_EQ(parse("\x32\x01\x02"s), std::pair(false, false));  // Java's local FLUSH
  EXPECT_EQ(parse("\x32\x03\x02\x00\x63"s), std::pair(true, false));
  EXPECT_EQ(parse("\x32\x00"s), std::pair(false, false));
  EXPECT_EQ(parse("\x10\x00\x20\x00\x28\x00"s), std::pair(false, false));  // explicit zeros
}

TEST(DataStreamDecoder, F58_AbsurdLengthsAreRefusedOnThePrefixAlone) {
  const struct {
    uint64_t body;
    uint64_t header;
  } cases[] = {{4ull << 30, 30},         // 4 GiB
               {(1ull << 31) + 40, 20},  // data above int32
               {100, 101},               // header longer than the body
               {1 << 20, 65'537},        // header above its limit
               {100, 0},                 // no header: no client id
               {0, 0}};
  for (const auto& c : cases) {
    EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(c.body, 8) + BigEndian(c.header, 4)))) << c.body;
  }
}

TEST(DataStreamDecoder, F58_PacketAboveTheLimitNamesItsStreamSoThatTheSenderLearns) {
  DataStreamLimits limits;
  limits.frame_bytes_max = 1000;
  PacketHeader header = SomeHeader();
  header.data_length = 1001;
  RequestDecoder decoder(limits);
  decoder.Feed(Bytes::Take(EncodeRequestFront(header)));  // no byte of its data has come
  RequestEvent event;
  absl::StatusOr<bool> result = decoder.Next(&event);
  EXPECT_TRUE(absl::IsResourceExhausted(result.status()));
  ASSERT_TRUE(decoder.failed_packet().has_value());
  EXPECT_EQ(*decoder.failed_packet(), header);
  decoder.Feed(Bytes::Copy(EncodeRequest(SomeHeader(), Bytes()).ToString()));
  EXPECT_EQ(decoder.Next(&event).status(), result.status());  // dead for good

  header.data_length = 1000;
  EXPECT_TRUE(StatusOf(EncodeRequestFront(header), limits).ok());
}

TEST(DataStreamDecoder, F58_StreamHeaderIsBoundedBecauseItIsHeldWhole) {
  PacketHeader header = SomeHeader();
  header.type = PacketType::kStreamHeader;
  header.offset = 0;
  header.data_length = (1 << 20) + 1;
  EXPECT_TRUE(absl::IsResourceExhausted(StatusOf(EncodeRequestFront(header))));
  header.data_length = 1 << 20;
  EXPECT_TRUE(StatusOf(EncodeRequestFront(header)).ok());
}

TEST(DataStreamDecoder, F59_NegativeAndOverflowingLengthsAndOffsets) {
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(UINT64_MAX, 8))));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(uint64_t{1} << 63, 8))));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(uint64_t{INT64_MAX}, 8))));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(100, 8) + BigEndian(0xffffffff, 4))));
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(BigEndian(100, 8) + BigEndian(0x80000000, 4))));
  PacketHeader header = SomeHeader();
  for (uint64_t offset : {UINT64_MAX, uint64_t{INT64_MAX}, uint64_t{1} << 63}) {
    header.offset = offset;
    EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(EncodeRequest(header, Bytes::Copy("ab")).ToString())))
        << offset;
  }
  header.offset = uint64_t{INT64_MAX} - 2;
  EXPECT_TRUE(StatusOf(EncodeRequest(header, Bytes::Copy("ab")).ToString()).ok());
}

TEST(DataStreamDecoder, F59_BodyLengthOtherThanHeaderPlusDataIsAProtocolError) {
  const std::string packet = EncodeRequest(SomeHeader(), Bytes::Copy("payload")).ToString();
  for (int delta : {-7, -1, 1, 50}) {
    std::string wrong = packet;
    const uint64_t body = packet.size() - 12 + static_cast<uint64_t>(delta);
    wrong.replace(0, 8, BigEndian(body, 8));
    RequestDecoder decoder;
    decoder.Feed(Bytes::Copy(wrong));
    RequestEvent event;
    EXPECT_TRUE(absl::IsInvalidArgument(decoder.Next(&event).status())) << delta;
    EXPECT_TRUE(decoder.failed_packet().has_value());
  }
}

TEST(DataStreamDecoder, F60_OtherProtocolsAreRefusedWithinSixteenBytes) {
  using std::string_literals::operator""s;
  for (const std::string& hello :
       {"GET / HTTP/1.1\r\n"s, "PRI * HTTP/2.0\r\n"s, "SSH-2.0-OpenSSH_9"s, "PRPC\0\0\0\x40"s,
        "\x16\x03\x01\x02\x00\x01\x00\x01"s, std::string(16, '\xff'), std::string(16, '\0')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(std::string_view(hello).substr(0, 16)))) << ToHex(hello);
  }
}

TEST(DataStreamDecoder, F61_MalformedHeadersAreRefused) {
  using std::string_literals::operator""s;
  const std::string id15 = "\x0a\x11\x0a\x0f" + std::string(15, 'c');
  const std::string id17 = "\x0a\x13\x0a\x11" + std::string(17, 'c');
  const std::string id16 = "\x0a\x10" + std::string(16, 'c');
  std::string deep;
  for (int i = 0; i < 2000; ++i) deep.push_back('\x0b');
  const std::string cases[] = {id15,
                               id17,
                               "\x0a\x00"s,                           // no client id
                               "\x0a\x14"s + id16 + "\x10\x02",       // type 2
                               "\x0a\x14"s + id16 + "\x10\x63",       // type 99
                               "\x0a\x20"s + id16,                    // truncated
                               "\x0a\x14"s + id16 + "\x18\xff",       // unfinished varint
                               "\x0a\x15"s + id16 + "\x32\x05\x00"s,  // options longer than the message
                               "\x0a\x15"s + id16 + "\x37\x00\x00"s,  // wire type 7
                               "\x0a\x12"s + id16 + "\x0c",           // end of a group that never began
                               "\x0a\x13"s + id16 + "\x00"s,          // field 0
                               deep};
  for (const std::string& proto : cases) {
    const absl::Status status = StatusOf(Frame(proto, ""));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << ToHex(proto) << " " << status;
  }
}

TEST(DataStreamDecoder, F61_UnknownFieldsAreIgnored) {
  using std::string_literals::operator""s;
  const std::string inner = "\x0a\x10" + std::string(16, 'c') + "\x18\x07" + "\x38\x01"s + "\x42\x01z" +
                            "\x4d\x01\x02\x03\x04" + "\x51\x01\x02\x03\x04\x05\x06\x07\x08" +
                            "\x5b\x08\x01\x5c";
  PacketHeader header;
  const absl::Status status = ParseRequestHeader(
      "\x0a" + std::string(1, static_cast<char>(inner.size())) + inner + "\x10\x05", &header);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(header.stream.value, 7u);
}

TEST(DataStreamDecoder, F62_HundredPacketsInOneSegment) {
  std::string all;
  for (uint64_t i = 0; i < 100; ++i) {
    PacketHeader header = SomeHeader();
    header.offset = i * 3;
    all += EncodeRequest(header, Bytes::Copy("abc")).ToString();
  }
  absl::StatusOr<std::vector<Packet>> packets = DecodeAll(all, all.size());
  ASSERT_TRUE(packets.ok());
  ASSERT_EQ(packets->size(), 100u);
  EXPECT_EQ(packets->back().header.offset, 297u);
  EXPECT_EQ(*DecodeAll(all, 1), *packets);
}

TEST(DataStreamReplies, AbsurdRepliesAreRefused) {
  DataStreamReply reply;
  for (const std::string& bytes : {BigEndian(0, 4), BigEndian(0xffffffff, 4), BigEndian(65'537, 4)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeReplies(bytes, 4).status()));
  }
  reply.header = SomeHeader();
  reply.body = Bytes::Copy(std::string(101, 'b'));
  ReplyDecoder decoder(100);
  decoder.Feed(EncodeReply(reply).Slice(0, 60));
  DataStreamReply out;
  EXPECT_TRUE(absl::IsResourceExhausted(decoder.Next(&out).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(decoder.Next(&out).status()));
}

TEST(DataStreamHeaders, EncodersAgreeWithProtobuf) {
  std::mt19937_64 random(42);
  for (int round = 0; round < 5000; ++round) {
    PacketHeader header;
    for (uint8_t& byte : header.client.bytes) byte = static_cast<uint8_t>(random());
    header.type = random() % 2 ? PacketType::kStreamData : PacketType::kStreamHeader;
    header.stream = {random() >> random() % 64};
    header.offset = random() >> random() % 64;
    header.data_length = random() >> (33 + random() % 31);
    header.sync = random() % 2;
    header.close = random() % 2;
    const std::string proto = ProtoOf(header).SerializeAsString();
    ASSERT_EQ(EncodeRequestFront(header).substr(12), proto);
    PacketHeader back;
    ASSERT_TRUE(ParseRequestHeader(proto, &back).ok());
    ASSERT_EQ(back, header);
  }
}

// Damaged headers: the hand-written parser accepts what protobuf accepts, and reads the same.
TEST(DataStreamHeaders, ParserAgreesWithProtobufOnDamagedInput) {
  std::mt19937_64 random(7);
  int accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    PacketHeader header = SomeHeader();
    header.data_length = random() % 1000;
    header.sync = true;
    std::string text = ProtoOf(header).SerializeAsString();
    for (uint64_t n = random() % 3; n > 0; --n) text[random() % text.size()] = static_cast<char>(random());
    if (random() % 8 == 0) text.resize(random() % text.size());
    if (random() % 8 == 0) text += ProtoOf(header).SerializeAsString();
    ratis::common::DataStreamRequestHeaderProto proto;
    const bool parsed = proto.ParseFromString(text);
    const auto& packet = proto.packet_header();
    const bool valid = parsed && packet.client_id().size() == 16 && packet.type() >= 0 && packet.type() <= 1;
    PacketHeader ours;
    ASSERT_EQ(ParseRequestHeader(text, &ours).ok(), valid) << ToHex(text);
    if (!valid) continue;
    ++accepted;
    ASSERT_EQ(ours.client.AsBytes(), packet.client_id());
    ASSERT_EQ(ours.stream.value, packet.stream_id());
    ASSERT_EQ(ours.offset, packet.stream_offset());
    ASSERT_EQ(ours.data_length, packet.data_length());
  }
  EXPECT_GT(accepted, 5000);
}

}  // namespace
}  // namespace sluice::wire
