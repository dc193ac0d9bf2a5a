// Memory that O_DIRECT takes.
//
//   AlignedMemory buffer = AllocateAligned(WholeBlocks(size));
//   if (buffer == nullptr) return absl::ResourceExhaustedError(...);
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace sluice::env {

// What O_DIRECT wants offsets, sizes and memory to be multiples of.
inline constexpr size_t kBlockBytes = 4096;
inline constexpr size_t kSectorBytes = 512;  // the smallest unit of a device

constexpr size_t WholeBlocks(size_t size) { return (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

struct FreeMemory {
  void operator()(char* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<char, FreeMemory>;

// `size` is a multiple of kBlockBytes; nullptr when there is no memory.
inline AlignedMemory AllocateAligned(size_t size) {
  return AlignedMemory(static_cast<char*>(std::aligned_alloc(kBlockBytes, size)));
}

}  // namespace sluice::env
