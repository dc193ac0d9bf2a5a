#include "base/names.h"

#include <gtest/gtest.h>

#include <string>

#include "base/server_id.h"
#include "base/strings.h"

namespace sluice {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): for "…"s

TEST(Names, D17_Utf8OfOneTo1024BytesWithoutNul) {
  for (const std::string& name : {"a"s, "../../etc/passwd"s, "/"s, ".."s, "a b"s, "\xc3\xa9t\xc3\xa9"s,
                                  "\xf0\x9f\x8c\x8a"s, "\xef\xbf\xbf"s, std::string(1024, 'x')}) {
    EXPECT_TRUE(CheckName(name).ok()) << name << CheckName(name);
    EXPECT_FALSE(DigestName(name).has_value()) << name;
  }
}

TEST(Names, F74_IllegalNames) {
  for (const std::string& name :
       {""s, std::string(1025, 'x'), "a\0b"s, "\x80"s, "\xc3"s, "\xc0\xaf"s, "\xe0\x80\xaf"s, "\xed\xa0\x80"s,
        "\xf4\x90\x80\x80"s, "\xf5\x80\x80\x80"s, "\xe2\x82"s, "\xf0\x9f\x8c"s, "a\xff"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckName(name))) << ToHex(name);
  }
  EXPECT_EQ(ToStd(CheckName("a\xff").message()), "the name is not valid UTF-8 at byte 1");
}

TEST(Names, F82_AServerIdBreaksNoLine) {
  for (const std::string& id : {"n0"s, "a@b"s, "\xc3\xa9"s, "\xc2\xa0"s, std::string(256, 'x')}) {
    EXPECT_TRUE(CheckServerId(id).ok()) << CheckServerId(id);
  }
  for (const std::string& id :
       {""s, std::string(257, 'x'), "n\n0"s, "\x1b[31m"s, "n\0"s, "\x7f"s, "\xc2\x9b"s, "\xff"s}) {
    const absl::Status refused = CheckServerId(id);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << ToHex(id);
    EXPECT_EQ(refused.message().find('\n'), absl::string_view::npos) << refused;
  }
}

TEST(Names, D17_MistypedDigestIsNoName) {
  const std::string name = "sha256:00ff" + std::string(60, '1');
  EXPECT_TRUE(CheckName(name).ok());
  ASSERT_TRUE(DigestName(name).has_value());
  EXPECT_EQ(DigestName(name)->bytes[1], 255u);
  EXPECT_EQ(DigestName(name)->bytes[31], 0x11u);
  for (const std::string& bad :
       {"sha256:"s, "sha256:" + std::string(63, 'a'), "sha256:" + std::string(65, 'a'),
        "sha256:" + std::string(64, 'A'), "sha256:" + std::string(64, 'g')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckName(bad))) << bad;
    EXPECT_FALSE(DigestName(bad).has_value()) << bad;
  }
  EXPECT_TRUE(CheckName("SHA256:abc").ok());
}

TEST(Names, Utf8) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("a\0b"s));
  EXPECT_FALSE(IsValidUtf8("caf\xe9"));
}

}  // namespace
}  // namespace sluice
