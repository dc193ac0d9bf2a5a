#include "base/log.h"

#include "absl/strings/escaping.h"
#include "base/strings.h"

namespace sluice {

std::string Printable(std::string_view text) {
  constexpr size_t kPrintableBytesMax = 128;
  std::string out = absl::Utf8SafeCEscape(ToAbsl(text.substr(0, kPrintableBytesMax)));
  if (text.size() > kPrintableBytesMax) out += "…";
  return out;
}

}  // namespace sluice
