#include "wire/resource_name.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice::wire {
namespace {

using Kind = ResourceName::Kind;
using namespace std::string_literals;  // NOLINT(google-build-using-namespace): for "…"s

const std::string kHash(64, 'a');
const std::string kUuid = "8d2ba2a4-5b0e-4d4b-9f0e-1c2d3e4f5a6b";

TEST(ResourceName, D17_DigestNames) {
  absl::StatusOr<ResourceName> name = ParseResourceName("sha256:00ff" + std::string(60, '1'));
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->kind, Kind::kDigest);
  EXPECT_EQ(name->digest.bytes[1], 255u);
  EXPECT_EQ(ParseResourceName("SHA256:abc")->kind, Kind::kGeneric);
}

TEST(ResourceName, F74_IllegalNames) {
  for (const std::string& name : {""s, "a\0b"s, "a\xff"s, "sha256:abc"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseResourceName(name).status()));
  }
}

TEST(ResourceName, D17_NamesThatParseWhollyBelongToTheRemoteCache) {
  const std::string sized = kHash + "/123";
  for (const std::string& name :
       {"blobs/" + sized, "/blobs/" + sized, "main/blobs/" + sized, "a/b/blobs/" + sized,
        "blobs/blake3/" + sized, "blobs/sha256/" + sized, "compressed-blobs/zstd/" + sized,
        "x/compressed-blobs/zstd/blake3/" + sized, fmt::format("uploads/{}/blobs/{}", kUuid, sized),
        "main/uploads/any/blobs/" + sized + "/meta/data",
        fmt::format("uploads/{}/compressed-blobs/deflate/sha256tree/{}", kUuid, sized),
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
