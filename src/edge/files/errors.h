// The codes of the file service: canonical status codes, and the numbers that a FileResult carries.
//
//   result.set_code(ToCode(status));     absl::Status status = ToStatus(result.code(), result.text());
//
// One table, used in both directions. Pure functions. A number that nobody knows is kUnknown.
#pragma once

#include <string_view>

#include "base/status.h"
#include "sluice/files.pb.h"

namespace sluice::edge::files {

FileCode ToCode(const absl::Status& status);
absl::Status ToStatus(int code, std::string_view text);

// What a call is answered that opens no stream; numbers of baidu_std.
inline constexpr int kNoStreamCame = 22;    // EINVAL
inline constexpr int kTooManyCalls = 2004;  // ELIMIT

}  // namespace sluice::edge::files
