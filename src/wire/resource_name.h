// Names of blobs as clients write them: what is allowed, which promise a digest, which belong to the remote
// cache.
//
//   ASSIGN_OR_RETURN(ResourceName name, ParseResourceName(request.resource_name));
//   if (name.kind == ResourceName::Kind::kRemoteCache) return Unimplemented();
//
// D-17: valid UTF-8, 1 to 1,024 bytes, no NUL. `/` and `..` mean nothing: a name is never a file path. Only
// names that parse wholly as the remote-cache grammar belong to the remote cache; "blobs/readme" is an
// ordinary name. Pure functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice::wire {

inline constexpr size_t kMaxNameBytes = 1024;

struct ResourceName {
  enum class Kind { kGeneric, kDigest, kRemoteCache };
  Kind kind = Kind::kGeneric;
  // SHA-256 that the name promises; kDigest only.
  std::array<uint8_t, 32> sha256{};
};

// INVALID_ARGUMENT when the text is no legal name.
absl::Status CheckName(std::string_view name);

// CheckName, then the kind. `sha256:` followed by anything but 64 lower-case hex digits is INVALID_ARGUMENT,
// so that a mistyped digest never becomes an ordinary name.
absl::StatusOr<ResourceName> ParseResourceName(std::string_view name);

// True for upload and read names of the remote cache, compressed or not.
bool IsRemoteCacheName(std::string_view name);

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

}  // namespace sluice::wire
