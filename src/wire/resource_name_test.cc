#include "wire/resource_name.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace sluice::wire {
namespace {

using Kind = ResourceName::Kind;
using std::string_literals::operator""s;

const std::string kHash(64, 'a');
const std::string kUuid = "8d2ba2a4-5b0e-4d4b-9f0e-1c2d3e4f5a6b";

TEST(ResourceName, D17_Utf8OfOneTo1024BytesWithoutNul) {
  for (const std::string& name : {"a"s, "../../etc/passwd"s, "/"s, ".."s, "a b"s, "\xc3\xa9t\xc3\xa9"s,
                                  "\xf0\x9f\x8c\x8a"s, "\xef\xbf\xbf"s, std::string(1024, 'x')}) {
    absl::StatusOr<ResourceName> parsed = ParseResourceName(name);
    ASSERT_TRUE(parsed.ok()) << name << parsed.status();
    EXPECT_EQ(parsed->kind, Kind::kGeneric);
  }
}

TEST(ResourceName, F74_IllegalNames) {
  for (const std::string& name :
       {""s, std::string(1025, 'x'), "a\0b"s, "\x80"s, "\xc3"s, "\xc0\xaf"s, "\xe0\x80\xaf"s, "\xed\xa0\x80"s,
        "\xf4\x90\x80\x80"s, "\xf5\x80\x80\x80"s, "a\xff"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseResourceName(name).status())) << ToHex(name);
  }
}

TEST(ResourceName, D17_DigestNames) {
  absl::StatusOr<ResourceName> name = ParseResourceName("sha256:00ff" + std::string(60, '1'));
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->kind, Kind::kDigest);
  EXPECT_EQ(name->sha256[0], 0u);
  EXPECT_EQ(name->sha256[1], 255u);
  EXPECT_EQ(name->sha256[31], 0x11u);
  for (const std::string& bad :
       {"sha256:"s, "sha256:" + std::string(63, 'a'), "sha256:" + std::string(65, 'a'),
        "sha256:" + std::string(64, 'A'), "sha256:" + std::string(64, 'g')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseResourceName(bad).status())) << bad;
  }
  EXPECT_EQ(ParseResourceName("SHA256:abc")->kind, Kind::kGeneric);
}

TEST(ResourceName, D17_NamesThatParseWhollyBelongToTheRemoteCache) {
  const std::string sized = kHash + "/123";
  for (const std::string& name :
       {"blobs/" + sized, "/blobs/" + sized, "main/blobs/" + sized, "a/b/blobs/" + sized,
        "blobs/blake3/" + sized, "blobs/sha256/" + sized, "compressed-blobs/zstd/" + sized,
        "x/compressed-blobs/zstd/blake3/" + sized, "uploads/" + kUuid + "/blobs/" + sized,
        "main/uploads/any/blobs/" + sized + "/meta/data",
        "uploads/" + kUuid + "/compressed-blobs/deflate/sha256tree/" + sized,
        "blobs/" + std::string(32, '0') + "/0", "blobs/" + std::string(128, 'f') + "/9223372036854775807"}) {
    EXPECT_TRUE(IsRemoteCacheName(name)) << name;
    EXPECT_EQ(ParseResourceName(name)->kind, Kind::kRemoteCache) << name;
  }
}

TEST(ResourceName, D17_OthersAreOrdinaryNames) {
  const std::string sized = kHash + "/123";
  for (const std::string& name : {"blobs/readme"s,
                                  "blobs"s,
                                  "uploads"s,
                                  "uploads/x"s,
                                  "uploads/x/blobs"s,
                                  "uploads/x/y/" + sized,
                                  "blobs/" + kHash,
                                  "blobs/" + kHash + "/",
                                  "blobs/" + kHash + "/-1",
                                  "blobs/" + kHash + "/+1",
                                  "blobs/" + kHash + "/9223372036854775808",
                                  "blobs/" + kHash + "/99999999999999999999",
                                  "blobs/" + sized + "/more",
                                  "blobs/" + std::string(64, 'A') + "/1",
                                  "blobs/" + std::string(63, 'a') + "/1",
                                  "blobs//" + sized,
                                  "a//blobs/" + sized,
                                  "actions/blobs/" + sized,
                                  "compressed-blobs/" + sized,
                                  "compressed-blobs/lz4/" + sized,
                                  "blobs/md4/" + sized,
                                  "blobs/blake3/" + std::string(40, 'a') + "/1",
                                  "compressed-blobs"s,
                                  "compressed-blobs/zstd"s,
                                  "uploads/" + kUuid + "/compressed-blobs"}) {
    EXPECT_FALSE(IsRemoteCacheName(name)) << name;
    EXPECT_EQ(ParseResourceName(name)->kind, Kind::kGeneric) << name;
  }
}

}  // namespace
}  // namespace sluice::wire
