#include "base/server_id.h"

#include "base/log.h"
#include "base/names.h"
#include "base/strings.h"

namespace sluice {
namespace {

// C0, DEL, and C1 as UTF-8 writes it.
bool HasControlCharacter(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xa0) return true;
  }
  return false;
}

}  // namespace

absl::Status CheckServerId(std::string_view id) {
  if (id.empty() || id.size() > kServerIdBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("a server id has 1 to {} bytes, not {}", kServerIdBytesMax, id.size()));
  }
  if (!IsValidUtf8(id) || HasControlCharacter(id)) {
    return absl::InvalidArgumentError(
        fmt::format("a server id is UTF-8 without control characters, not \"{}\"", Printable(id)));
  }
  return absl::OkStatus();
}

}  // namespace sluice
