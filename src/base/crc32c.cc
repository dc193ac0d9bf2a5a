#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace sluice {

uint32_t ExtendCrc32c(uint32_t crc, std::string_view data) {
  // isa-l takes and gives the register without the customary inversions, a signed length, and a non-const
  // pointer that it does not write through.
  auto* bytes = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(data.data()));
  size_t left = data.size();
  uint32_t state = ~crc;
  while (left > 0) {
    const int step = static_cast<int>(left < (1u << 30) ? left : (1u << 30));
    state = crc32_iscsi(bytes, step, state);
    bytes += step;
    left -= static_cast<size_t>(step);
  }
  return ~state;
}

uint32_t Crc32c(const Bytes& data) {
  uint32_t crc = 0;
  data.ForEachChunk([&](std::string_view chunk) { crc = ExtendCrc32c(crc, chunk); });
  return crc;
}

}  // namespace sluice
