// CRC32C (Castagnoli) by isa-l: 10.9 GB/s a core where it was measured.
//
//   uint32_t crc = Crc32c("abc");            // whole
//   crc = ExtendCrc32c(crc, "def");          // == Crc32c("abcdef")
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace sluice {

// Checksum of `data` following bytes whose checksum is `crc` (0 for none).
uint32_t ExtendCrc32c(uint32_t crc, std::string_view data);
inline uint32_t Crc32c(std::string_view data) { return ExtendCrc32c(0, data); }
uint32_t Crc32c(const Bytes& data);

}  // namespace sluice
