// Reads protobuf fields by hand where the bytes must not be copied, or where a message object costs too much.
//
//   FlatSource source{text};
//   uint32_t tag;
//   while (ReadTag(source, &tag)) {
//     if (tag == 0x08) ReadVarint(source, &v) ...
//     else SkipField(source, tag) ...
//   }
//   return source.AtEnd();   // ReadTag also stops at malformed input
//
// Accepts and refuses the same bytes as the protobuf parser, including its limits: tags and lengths of at
// most five bytes, groups nested at most a hundred deep. A source is used by one thread and borrows its
// bytes. Every function returns false on malformed or truncated input and then leaves the source at some
// position within its bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace sluice::wire {

// A contiguous buffer.
struct FlatSource {
  std::string_view rest;
  size_t Remaining() const { return rest.size(); }
  bool AtEnd() const { return rest.empty(); }
  uint8_t TakeByte() {  // not at the end
    const auto byte = static_cast<uint8_t>(rest.front());
    rest.remove_prefix(1);
    return byte;
  }
  void Skip(size_t n) { rest.remove_prefix(n); }  // n <= Remaining()
  std::string_view TakeView(size_t n) {           // n <= Remaining()
    std::string_view taken = rest.substr(0, n);
    rest.remove_prefix(n);
    return taken;
  }
};

// Bytes in any number of pieces; what is taken out of it shares their memory.
class BytesSource {
 public:
  explicit BytesSource(const Bytes& bytes) : at_(bytes.cord().char_begin()), remaining_(bytes.size()) {}
  size_t Remaining() const { return remaining_; }
  bool AtEnd() const { return remaining_ == 0; }
  uint8_t TakeByte() {
    const auto byte = static_cast<uint8_t>(*at_);
    absl::Cord::Advance(&at_, 1);
    --remaining_;
    return byte;
  }
  void Skip(size_t n) {
    absl::Cord::Advance(&at_, n);
    remaining_ -= n;
  }
  Bytes TakeBytes(size_t n) {
    remaining_ -= n;
    return Bytes::FromCord(absl::Cord::AdvanceAndRead(&at_, n));
  }

 private:
  absl::Cord::CharIterator at_;
  size_t remaining_;
};

enum WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kDelimited = 2,
  kStartGroup = 3,
  kEndGroup = 4,
  kFixed32 = 5
};

template <typename Source>
bool ReadVarint(Source& source, uint64_t* value) {
  uint64_t result = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (source.AtEnd()) return false;
    const uint8_t byte = source.TakeByte();
    result |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return false;
}

// At most five bytes; what exceeds 32 bits is dropped, as protobuf does with tags.
template <typename Source>
bool ReadVarint32(Source& source, uint64_t* value) {
  uint64_t result = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (source.AtEnd()) return false;
    const uint8_t byte = source.TakeByte();
    result |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return false;
}

template <typename Source>
bool ReadTag(Source& source, uint32_t* tag) {
  uint64_t value = 0;
  if (!ReadVarint32(source, &value)) return false;
  *tag = static_cast<uint32_t>(value);
  return (*tag >> 3) != 0;
}

// A length that the source really has, so that nothing is allocated for a promise.
template <typename Source>
bool ReadLength(Source& source, size_t* length) {
  uint64_t value = 0;
  if (!ReadVarint32(source, &value) || value > source.Remaining()) return false;
  *length = static_cast<size_t>(value);
  return true;
}

// Skips the value that belongs to `tag`.
template <typename Source>
bool SkipField(Source& source, uint32_t tag, int depth = 0) {
  uint64_t ignored = 0;
  size_t length = 0;
  switch (tag & 7) {
    case kVarint:
      return ReadVarint(source, &ignored);
    case kFixed64:
      length = 8;
      break;
    case kFixed32:
      length = 4;
      break;
    case kDelimited:
      if (!ReadLength(source, &length)) return false;
      break;
    case kStartGroup: {
      constexpr int kMaxDepth = 100;
      if (depth >= kMaxDepth) return false;
      uint32_t inner = 0;
      while (ReadTag(source, &inner)) {
        if ((inner & 7) == kEndGroup) return (inner >> 3) == (tag >> 3);
        if (!SkipField(source, inner, depth + 1)) return false;
      }
      return false;
    }
    default:
      return false;
  }
  if (length > source.Remaining()) return false;
  source.Skip(length);
  return true;
}

// Appends `value` in the shortest form.
inline void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

}  // namespace sluice::wire
