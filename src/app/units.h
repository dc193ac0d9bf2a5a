// Sizes and times as people write them: "64KiB", "1GiB", "250ms", "10s".
//
//   ASSIGN_OR_RETURN(uint64_t bytes, ParseSize("64KiB"));   FormatSize(65536) == "64 KiB"
//
// Pure functions; any thread. INVALID_ARGUMENT for anything else, also for what does not fit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice::app {

absl::StatusOr<uint64_t> ParseSize(std::string_view text);          // plain numbers are bytes
absl::StatusOr<uint64_t> ParseMilliseconds(std::string_view text);  // plain numbers are milliseconds
absl::StatusOr<uint64_t> ParseCount(std::string_view text);

std::string FormatSize(uint64_t bytes);           // "1.5 GiB"
std::string FormatRate(double bytes_per_second);  // "712 MiB/s"
std::string FormatSeconds(double seconds);        // "850 ms", "12.3 s", "2:05"
// "HOST:PORT" with its port moved by `offset`. INVALID_ARGUMENT if it is none, or the port leaves its range.
absl::StatusOr<std::string> MovePort(std::string_view address, int offset);

}  // namespace sluice::app
