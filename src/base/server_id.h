// Ids of servers: what a user may choose.
//
//   RETURN_IF_ERROR(CheckServerId("n0"));
//
// Pure; any thread. INVALID_ARGUMENT says which rule is broken.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/status.h"

namespace sluice {

inline constexpr size_t kServerIdBytesMax = 256;

// Valid UTF-8 of 1 to kServerIdBytesMax bytes without control characters, which would break the lines of every log that
// names it (F-82).
absl::Status CheckServerId(std::string_view id);

}  // namespace sluice
