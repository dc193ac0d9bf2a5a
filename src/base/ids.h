// Strong types for ids: mixing an Index with a Term, or a GroupId with a ClientId, does not compile.
//
//   Index next = last.Next();  GroupId g = *GroupId::Parse("00000000-0000-0000-0000-736c75696365");
//
// All are small immutable values; thread-safe as such.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

// Raft term. 0 is "before any election".
struct Term {
  uint64_t value = 0;
  constexpr auto operator<=>(const Term&) const = default;
  constexpr Term Next() const { return {value + 1}; }
  template <typename H>
  friend H AbslHashValue(H h, const Term& t) {
    return H::combine(std::move(h), t.value);
  }
};

// Raft log index. The first entry of a log has index 0; kNone (-1) is "no entry", as in Ratis.
struct Index {
  int64_t value = -1;
  constexpr auto operator<=>(const Index&) const = default;
  constexpr Index Next() const { return {value + 1}; }
  constexpr Index Prev() const { return {value - 1}; }
  constexpr bool valid() const { return value >= 0; }
  template <typename H>
  friend H AbslHashValue(H h, const Index& i) {
    return H::combine(std::move(h), i.value);
  }
};
inline constexpr Index kNoIndex{-1};
constexpr Index operator+(Index a, int64_t n) { return {a.value + n}; }
constexpr Index operator-(Index a, int64_t n) { return {a.value - n}; }
constexpr int64_t operator-(Index a, Index b) { return a.value - b.value; }

// Id of a server within groups: non-empty UTF-8 text, e.g. "n0".
struct PeerId {
  std::string value;
  auto operator<=>(const PeerId&) const = default;
  bool empty() const { return value.empty(); }
  template <typename H>
  friend H AbslHashValue(H h, const PeerId& p) {
    return H::combine(std::move(h), p.value);
  }
};

// Sixteen bytes in the order in which a UUID is printed.
template <typename Tag>
struct Uuid {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
  bool IsZero() const { return *this == Uuid{}; }
  // The sixteen raw bytes, as they travel.
  std::string_view AsBytes() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  // nullopt unless there are exactly sixteen bytes.
  static std::optional<Uuid> FromBytes(std::string_view raw) {
    if (raw.size() != 16) return std::nullopt;
    Uuid id;
    for (size_t i = 0; i < 16; ++i) id.bytes[i] = static_cast<uint8_t>(raw[i]);
    return id;
  }
  // Parses "8-4-4-4-12" hex text; nullopt when it is anything else.
  static std::optional<Uuid> Parse(std::string_view text);
  // "8-4-4-4-12" lower-case hex text.
  std::string ToString() const;
  template <typename H>
  friend H AbslHashValue(H h, const Uuid& u) {
    return H::combine(std::move(h), u.bytes);
  }
};
struct GroupTag;
struct ClientTag;
using GroupId = Uuid<GroupTag>;
using ClientId = Uuid<ClientTag>;

// The group that exists unless another is configured: 00000000-0000-0000-0000-736c75696365.
inline constexpr GroupId kDefaultGroup{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 's', 'l', 'u', 'i', 'c', 'e'}};

// Unique per client; a retry of a request repeats it.
struct CallId {
  uint64_t value = 0;
  constexpr auto operator<=>(const CallId&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const CallId& c) {
    return H::combine(std::move(h), c.value);
  }
};

// Names one upload on every server: the client that streams it and the call id of its header (its stream id).
struct UploadId {
  ClientId client;
  CallId call;
  auto operator<=>(const UploadId&) const = default;
  // 48 lower-case hex digits; also the name of its stage file.
  std::string ToHex() const;
  static std::optional<UploadId> FromHex(std::string_view hex);
  template <typename H>
  friend H AbslHashValue(H h, const UploadId& u) {
    return H::combine(std::move(h), u.client, u.call);
  }
};

// Position of an entry in the replicated log.
struct TermIndex {
  Term term;
  Index index;
  constexpr auto operator<=>(const TermIndex&) const = default;
};

}  // namespace sluice
