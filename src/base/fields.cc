#include "base/fields.h"

namespace sluice {

bool FieldReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest_.empty()) return false;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    *value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool FieldReader::Next() {
  if (!ok_ || rest_.empty()) return false;
  uint64_t key = 0;
  if (!ReadVarint(&key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) return Fail();
  tag_ = static_cast<uint32_t>(key >> 3);
  varint_ = 0;
  text_ = {};
  uint64_t skip = 0;
  switch (key & 7) {
    case 0:
      return ReadVarint(&varint_) || Fail();
    case 1:
      skip = 8;
      break;
    case 2: {
      uint64_t size = 0;
      if (!ReadVarint(&size) || size > rest_.size()) return Fail();
      text_ = rest_.substr(0, size);
      skip = size;
      break;
    }
    case 5:
      skip = 4;
      break;
    default:
      return Fail();
  }
  if (skip > rest_.size()) return Fail();
  rest_.remove_prefix(skip);
  return true;
}

}  // namespace sluice
