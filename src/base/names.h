// Names of blobs: what is allowed, and which promise a digest. One rule for node, edges and clients (D-17).
//
//   RETURN_IF_ERROR(CheckName(name));
//   if (const auto digest = DigestName(name)) { ... }     // "sha256:HEX"
//
// `/` and `..` mean nothing: a name is never a file path. Pure functions; any thread. INVALID_ARGUMENT says
// which rule is broken, and where.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "base/digest.h"
#include "base/status.h"

namespace sluice {

inline constexpr size_t kNameBytesMax = 1024;

// Valid UTF-8 of 1 to kNameBytesMax bytes without NUL. `sha256:` followed by anything but 64 lower-case hex
// digits is refused, so that a mistyped digest never becomes an ordinary name.
absl::Status CheckName(std::string_view name);

// The digest in a name of the form "sha256:HEX"; nullopt for any other name.
std::optional<Sha256> DigestName(std::string_view name);

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

}  // namespace sluice
