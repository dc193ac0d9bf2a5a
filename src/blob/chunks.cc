#include "blob/chunks.h"

#include <algorithm>

#include "base/crc32c.h"

namespace sluice::blob {

void ChunkList::Extend(const Bytes& data) {
  data.ForEachChunk([this](std::string_view piece) {
    while (!piece.empty()) {
      const uint64_t within = length_ % kChunkBytes;
      if (within == 0) crcs_.push_back(0);
      const size_t take = std::min<size_t>(piece.size(), kChunkBytes - within);
      crcs_.back() = ExtendCrc32c(crcs_.back(), piece.substr(0, take));
      length_ += take;
      piece.remove_prefix(take);
    }
  });
}

uint32_t ChunkList::Checksum() const { return Crc32c(EncodeChunks(crcs_)); }

std::string EncodeChunks(const std::vector<uint32_t>& crcs, size_t first) {
  std::string out;
  out.reserve((crcs.size() - first) * 4);
  for (size_t i = first; i < crcs.size(); ++i) {
    for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(crcs[i] >> shift));
  }
  return out;
}

}  // namespace sluice::blob
