#include "base/names.h"

#include "base/strings.h"

namespace sluice {
namespace {

constexpr std::string_view kDigestPrefix = "sha256:";

// Length of the UTF-8 sequence at the start of `text`, which is not empty; 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xc0) == 0x80; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!continues(1) || !continues(2)) return 0;
    const bool overlong = lead == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = lead == 0xed && byte(1) > 0x9f;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    const bool overlong = lead == 0xf0 && byte(1) < 0x90;
    const bool beyond = lead == 0xf4 && byte(1) > 0x8f;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

// Bytes of `text` before the first that is not UTF-8.
size_t Utf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

}  // namespace

absl::Status CheckName(std::string_view name) {
  if (name.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("the name is empty: 1 to {} bytes of UTF-8 expected", kNameBytesMax));
  }
  if (name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("the name has {} bytes: at most {}", name.size(), kNameBytesMax));
  }
  if (const size_t valid = Utf8Prefix(name); valid < name.size()) {
    return absl::InvalidArgumentError(fmt::format("the name is not valid UTF-8 at byte {}", valid));
  }
  if (const size_t nul = name.find('\0'); nul != name.npos) {
    return absl::InvalidArgumentError(fmt::format("the name has a NUL at byte {}", nul));
  }
  if (name.starts_with(kDigestPrefix) && !DigestName(name)) {
    return absl::InvalidArgumentError("a digest name is sha256: and 64 lower-case hex digits");
  }
  return absl::OkStatus();
}

std::optional<Sha256> DigestName(std::string_view name) {
  if (!name.starts_with(kDigestPrefix)) return std::nullopt;
  return Sha256::FromHex(name.substr(kDigestPrefix.size()));
}

bool IsValidUtf8(std::string_view text) { return Utf8Prefix(text) == text.size(); }

}  // namespace sluice
