// Tagged fields for durable records and entries, in protobuf's wire format, without protobuf.
//
//   FieldWriter out;
//   out.PutText(1, name);
//   out.PutVarint(2, length);   // fields with default values are left out
//
//   FieldReader in(record);
//   while (in.Next()) {
//     if (in.tag() == 1) name = in.text();
//     if (in.tag() == 2) length = in.varint();
//   }
//   if (!in.ok()) return DataLoss;
//
// Records written this way can be read by any protobuf library and extended by new fields; readers skip
// fields that they do not know. Only varint (0) and length-delimited (2) fields are used; a reader skips
// fixed ones. A reader never allocates, and refuses anything truncated or over-long.
// Threading: one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace sluice {

class FieldWriter {
 public:
  void PutVarint(uint32_t tag, uint64_t value) {
    if (value == 0) return;
    Varint(uint64_t{tag} << 3);
    Varint(value);
  }
  void PutText(uint32_t tag, std::string_view text) {
    if (text.empty()) return;
    PutRecord(tag, text);
  }
  // Like PutText, but writes an empty one too: an element of a repeated field, or a present record.
  void PutRecord(uint32_t tag, std::string_view record) {
    Varint(uint64_t{tag} << 3 | 2);
    Varint(record.size());
    out_.append(record);
  }
  // The key and length of a field of `size` bytes that the caller appends by reference after Take().
  void PutLength(uint32_t tag, uint64_t size) {
    Varint(uint64_t{tag} << 3 | 2);
    Varint(size);
  }
  std::string Take() { return std::move(out_); }

 private:
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<char>(value));
  }
  std::string out_;
};

class FieldReader {
 public:
  // `record` must outlive the reader and every text() taken from it.
  explicit FieldReader(std::string_view record) : rest_(record) {}

  // Steps to the next field; false at the end and at the first malformed byte (then ok() is false).
  bool Next();
  uint32_t tag() const { return tag_; }
  uint64_t varint() const { return varint_; }      // 0 for a field that is not a varint
  std::string_view text() const { return text_; }  // empty for a field that is not length-delimited
  bool ok() const { return ok_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool Fail() {
    ok_ = false;
    return false;
  }
  std::string_view rest_;
  uint32_t tag_ = 0;
  uint64_t varint_ = 0;
  std::string_view text_;
  bool ok_ = true;
};

}  // namespace sluice
