// Bridges between std::string_view and Debian's absl::string_view, which is a type of its own, and hex.
//
//   absl::Cord cord(ToAbsl(view));   std::string_view text = Message(status);
//
// Compose messages with fmt::format (it takes std::string_view), not absl::StrCat.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }
// The message of a status, valid as long as the status.
inline std::string_view Message(const absl::Status& status) { return ToStd(status.message()); }

// Lower-case hex of `raw`, and back (either case); nullopt for an odd length or any other character.
std::string ToHex(std::string_view raw);
std::optional<std::string> FromHex(std::string_view hex);

}  // namespace sluice
