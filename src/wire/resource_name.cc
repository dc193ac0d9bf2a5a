#include "wire/resource_name.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/names.h"

namespace sluice::wire {
namespace {

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Decimal without sign that fits an int64. Returns nullopt otherwise.
std::optional<uint64_t> ParseSize(std::string_view text) {
  if (text.empty() || text.size() > 19) return std::nullopt;
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > INT64_MAX) return std::nullopt;
  return value;
}

std::vector<std::string_view> Split(std::string_view name) {
  std::vector<std::string_view> segments;
  while (true) {
    size_t slash = name.find('/');
    segments.push_back(name.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    name.remove_prefix(slash + 1);
  }
}

// One of the lengths that stand without the name of their function.
bool IsHash(std::string_view hash) {
  constexpr size_t kLengths[] = {32, 40, 64, 66, 96, 128};
  return std::find(std::begin(kLengths), std::end(kLengths), hash.size()) != std::end(kLengths) &&
         IsLowerHex(hash);
}

bool IsHashOf(std::string_view function, std::string_view hash) {
  if (function == "gitsha1") return hash.size() == 40 && IsLowerHex(hash);
  if (function != "sha256" && function != "sha256tree" && function != "blake3") return false;
  return hash.size() == 64 && IsLowerHex(hash);
}

}  // namespace

bool IsRemoteCacheName(std::string_view name) {
  if (!name.empty() && name.front() == '/') name.remove_prefix(1);  // some old clients with an empty instance
  const std::vector<std::string_view> segments = Split(name);
  if (std::find(segments.begin(), segments.end(), "") != segments.end()) return false;

  // The first keyword ends the instance; other reserved words may not stand in an instance at all.
  size_t at = 0;
  for (; at < segments.size(); ++at) {
    const std::string_view s = segments[at];
    if (s == "uploads" || s == "blobs" || s == "compressed-blobs") break;
    if (s == "actions" || s == "actionResults" || s == "operations" || s == "capabilities") return false;
  }
  const auto left = [&] { return segments.size() - at; };
  const auto next = [&] { return segments[at++]; };
  if (left() == 0) return false;

  bool upload = segments[at] == "uploads";
  if (upload) {
    at += 2;  // the word and a UUID, whose form real servers do not check
    if (at >= segments.size()) return false;
  }
  const std::string_view form = next();
  if (form == "compressed-blobs") {
    if (left() == 0) return false;
    const std::string_view compressor = next();
    if (compressor != "zstd" && compressor != "deflate" && compressor != "brotli" &&
        compressor != "identity") {
      return false;
    }
  } else if (form != "blobs") {
    return false;
  }
  if (left() < 2) return false;
  if (!IsHash(segments[at])) {
    const std::string_view function = next();
    if (left() < 2 || !IsHashOf(function, segments[at])) return false;
  }
  ++at;
  if (!ParseSize(next())) return false;
  return upload || left() == 0;  // only uploads may carry trailing metadata
}

absl::StatusOr<ResourceName> ParseResourceName(std::string_view name) {
  RETURN_IF_ERROR(CheckName(name));
  ResourceName parsed;
  if (const auto digest = DigestName(name)) {
    parsed.kind = ResourceName::Kind::kDigest;
    parsed.digest = *digest;
  } else if (IsRemoteCacheName(name)) {
    parsed.kind = ResourceName::Kind::kRemoteCache;
  }
  return parsed;
}

}  // namespace sluice::wire
