#include "wire/bytestream.h"

#include <gtest/gtest.h>

#include <random>

#include "base/strings.h"
#include "sluice/bytestream/bytestream.pb.h"

namespace sluice::wire {
namespace {

using namespace std::string_literals;

// The text in pieces of `step` bytes, each memory of its own.
Bytes Sliced(std::string_view text, size_t step) {
  Bytes bytes;
  for (size_t at = 0; at < text.size(); at += step) {
    auto* piece = new std::string(text.substr(at, step));
    bytes.Append(Bytes::Wrap(piece->data(), piece->size(), [piece](auto&&...) { delete piece; }));
  }
  return bytes;
}

::sluice::bytestream::WriteRequest RandomRequest(std::mt19937_64& random) {
  ::sluice::bytestream::WriteRequest request;
  if (random() % 2) request.set_resource_name(std::string(random() % 1025, 'n'));
  if (random() % 2) request.set_write_offset(static_cast<int64_t>(random() >> random() % 64));
  request.set_finish_write(random() % 2);
  std::string data(random() % 2 ? random() % 5000 : 0, '\0');
  for (char& c : data) c = static_cast<char>(random());
  request.set_data(data);
  return request;
}

void ExpectEqual(const WriteRequest& ours, const ::sluice::bytestream::WriteRequest& proto) {
  EXPECT_EQ(ours.resource_name, proto.resource_name());
  EXPECT_EQ(ours.write_offset, proto.write_offset());
  EXPECT_EQ(ours.finish_write, proto.finish_write());
  EXPECT_EQ(ours.data, proto.data());
}

TEST(ByteStreamCodec, AgreesWithProtobufOnRandomMessages) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    const ::sluice::bytestream::WriteRequest proto = RandomRequest(random);
    const std::string text = proto.SerializeAsString();
    absl::StatusOr<WriteRequest> ours = ParseWriteRequest(Sliced(text, 1 + random() % 700));
    ASSERT_TRUE(ours.ok()) << ours.status();
    ExpectEqual(*ours, proto);
    ASSERT_EQ(EncodeWriteRequest(*ours), text);
  }
}

TEST(ByteStreamCodec, F61_AgreesWithProtobufOnDamagedMessages) {
  std::mt19937_64 random(2);
  int accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    ::sluice::bytestream::WriteRequest sent;
    sent.set_resource_name("name-\xc3\xa9");
    sent.set_write_offset(static_cast<int64_t>(random()));
    sent.set_finish_write(true);
    sent.set_data("0123456789");
    std::string text = sent.SerializeAsString();
    for (uint64_t n = random() % 3; n > 0; --n) text[random() % text.size()] = static_cast<char>(random());
    if (random() % 4 == 0) text.resize(random() % text.size());
    if (random() % 4 == 0) text += text;
    ::sluice::bytestream::WriteRequest proto;
    absl::StatusOr<WriteRequest> ours = ParseWriteRequest(Sliced(text, 1 + random() % 40));
    ASSERT_EQ(ours.ok(), proto.ParseFromString(text)) << ToHex(text) << " " << ours.status();
    if (!ours.ok()) continue;
    ++accepted;
    ExpectEqual(*ours, proto);
  }
  EXPECT_GT(accepted, 10'000);
}

TEST(ByteStreamCodec, F62_EverySplitPoint) {
  ::sluice::bytestream::WriteRequest proto;
  proto.set_resource_name("a/b");
  proto.set_write_offset(-1);
  proto.set_finish_write(true);
  proto.set_data(std::string(300, 'd'));
  const std::string text = proto.SerializeAsString();
  for (size_t cut = 1; cut < text.size(); ++cut) {
    Bytes bytes = Sliced(std::string_view(text).substr(0, cut), cut);
    bytes.Append(Sliced(std::string_view(text).substr(cut), text.size()));
    absl::StatusOr<WriteRequest> ours = ParseWriteRequest(bytes);
    ASSERT_TRUE(ours.ok());
    ExpectEqual(*ours, proto);
    ASSERT_FALSE(ParseWriteRequest(bytes.Slice(0, 3 + cut % 2)).ok());  // within the name
  }
  EXPECT_TRUE(ParseWriteRequest(Bytes())->resource_name.empty());
}

TEST(ByteStreamCodec, DataSharesTheMemoryOfTheMessage) {
  const std::string text = EncodeReadResponse(Bytes::Copy(std::string(100'000, 'x'))).ToString();
  int released = 0;
  absl::StatusOr<Bytes> data = Bytes();
  {
    data = ParseReadResponse(Bytes::Wrap(text.data(), text.size(), [&](auto&&...) { ++released; }));
  }
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->size(), 100'000u);
  data->ForEachChunk([&](std::string_view chunk) { EXPECT_GE(chunk.data(), text.data()); });
  EXPECT_EQ(released, 0);
  *data = Bytes();
  EXPECT_EQ(released, 1);
}

TEST(ByteStreamCodec, ReadResponsesAgreeWithProtobuf) {
  std::mt19937_64 random(3);
  for (size_t size : {0u, 1u, 127u, 128u, 16'383u, 16'384u, 300'000u}) {
    ::sluice::bytestream::ReadResponse proto;
    proto.set_data(std::string(size, 'r'));
    const std::string text = proto.SerializeAsString();
    EXPECT_EQ(EncodeReadResponse(Sliced(proto.data(), 70'000)), text);
    absl::StatusOr<Bytes> data = ParseReadResponse(Sliced(text, 1 + random() % 9000));
    ASSERT_TRUE(data.ok());
    EXPECT_EQ(*data, proto.data());
  }
  EXPECT_FALSE(ParseReadResponse(Bytes::Copy("\x52\x05"
                                             "abc"))
                   .ok());
}

TEST(ByteStreamCodec, F59_LengthsThatThePieceDoesNotHave) {
  for (const std::string& text : {"\x52\xff\xff\xff\xff\x07"s, "\x52\xff\xff\xff\xff\x0f"s, "\x0a\x05\x61"s,
                                  "\x52\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, "\x3a\x7f\x00"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseWriteRequest(Bytes::Copy(text)).status())) << ToHex(text);
  }
}

TEST(ByteStreamCodec, F61_NestedGroupsHaveALimit) {
  std::string deep(1 << 20, '\x1b');
  EXPECT_TRUE(absl::IsInvalidArgument(ParseWriteRequest(Bytes::Copy(deep)).status()));
}

TEST(ByteStreamCodec, F74_LongAndIllFormedNamesAreRefused) {
  EXPECT_TRUE(ParseWriteRequest(EncodeWriteRequest({.resource_name = std::string(1024, 'n')})).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      ParseWriteRequest(EncodeWriteRequest({.resource_name = std::string(10'240, 'n')})).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(ParseWriteRequest(EncodeWriteRequest({.resource_name = "\xff"})).status()));
}

}  // namespace
}  // namespace sluice::wire
