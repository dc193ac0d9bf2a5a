#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"

namespace sluice {
namespace {

TEST(Crc32c, KnownVectorAndExtension) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(ExtendCrc32c(Crc32c("1234"), "56789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
  Bytes bytes = Bytes::Copy("1234");
  bytes.Append(Bytes::Copy("56789"));
  EXPECT_EQ(Crc32c(bytes), 0xE3069283u);
}

TEST(Md5, KnownVector) {
  Md5Builder builder;
  builder.Update("ab");
  builder.Update("c");
  EXPECT_EQ(ToHex(builder.Finish()), "900150983cd24fb0d6963f7d28e17f72");
}

TEST(Sha256, KnownVectorAndHex) {
  DigestBuilder builder;
  builder.Update("ab");
  builder.Update("c");
  const Sha256 digest = builder.Finish();
  EXPECT_EQ(digest.ToHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256::FromHex(digest.ToHex()), digest);
  EXPECT_FALSE(Sha256::FromHex("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  EXPECT_FALSE(Sha256::FromHex("ba"));
}

TEST(Ids, UuidRoundTripsAndRefusesOtherShapes) {
  auto group = GroupId::Parse("00000000-0000-0000-0000-736c75696365");
  ASSERT_TRUE(group);
  EXPECT_EQ(*group, kDefaultGroup);
  EXPECT_EQ(group->ToString(), "00000000-0000-0000-0000-736c75696365");
  EXPECT_FALSE(GroupId::Parse("00000000-0000-0000-0000-736c7569636"));
  EXPECT_FALSE(GroupId::Parse("0000000000000-0000-0000-736c75696365"));
  EXPECT_FALSE(GroupId::Parse("00000000-0000-0000-0000-736c7569636g"));
  EXPECT_FALSE(GroupId::FromBytes(std::string(15, 'x')));
  EXPECT_FALSE(GroupId::FromBytes(std::string(17, 'x')));
}

TEST(Ids, UploadIdRoundTrips) {
  const UploadId id{*ClientId::FromBytes("0123456789abcdef"), CallId{0x1122334455667788}};
  EXPECT_EQ(id.ToHex(), "303132333435363738396162636465661122334455667788");
  EXPECT_EQ(UploadId::FromHex(id.ToHex()), id);
  EXPECT_FALSE(UploadId::FromHex("30"));
}

TEST(Bytes, SlicesShareAndReleaseOnce) {
  int released = 0;
  const std::string memory(4096, 'x');  // Shorter pieces are copied at once.
  {
    Bytes whole = Bytes::Wrap(memory.data(), memory.size(), [&released] { ++released; });
    Bytes part = whole.Slice(4000, 1000);
    whole = Bytes();
    EXPECT_EQ(released, 0);
    EXPECT_EQ(part, std::string(96, 'x'));
  }
  EXPECT_EQ(released, 1);
}

TEST(Log, PrintableEscapesAndCuts) {
  EXPECT_EQ(Printable("a\nb"), "a\\nb");
  EXPECT_LT(Printable(std::string(1 << 20, 'x')).size(), 140u);
}

}  // namespace
}  // namespace sluice
