// The chunk checksums of one blob while it grows: CRC32C of each 64 KiB, the last one of what there is of it.
//
//   ChunkList chunks;  chunks.Extend(data);  footer.sealed.checksum = chunks.Checksum();
//
// A plain value: one thread at a time. Four bytes of memory per 64 KiB.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "blob/upload.h"

namespace sluice::blob {

constexpr uint64_t ChunkCount(uint64_t length) { return length / kChunkBytes + (length % kChunkBytes != 0); }

class ChunkList {
 public:
  ChunkList() = default;
  // `crcs` has ChunkCount(length) elements.
  ChunkList(uint64_t length, std::vector<uint32_t> crcs) : length_(length), crcs_(std::move(crcs)) {}

  // Adds bytes that follow those before.
  void Extend(const Bytes& data);
  uint64_t length() const { return length_; }
  const std::vector<uint32_t>& crcs() const { return crcs_; }
  // CRC32C of the list: what servers compare.
  uint32_t Checksum() const;

 private:
  uint64_t length_ = 0;
  std::vector<uint32_t> crcs_;
};

// The list as it stands in files.
std::string EncodeChunks(const std::vector<uint32_t>& crcs, size_t first = 0);

}  // namespace sluice::blob
