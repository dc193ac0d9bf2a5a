// Sealed bytes, read back and verified.
//
//   source->Read(0, 256 << 10, &executor, [](absl::StatusOr<Bytes> data) { ... });
//
// Every chunk is checked against its CRC32C before a byte of it is given out; DATA_LOSS names file and
// offset, and the store then counts this copy as damaged (F-24). Reads run on a blob thread; calls may be
// made from any thread. A source keeps its content readable although it is removed meanwhile (D-18).
#pragma once

#include <cstdint>

#include "blob/upload.h"

namespace sluice::blob {

// The most that one Read may ask for.
inline constexpr uint64_t kReadBytesMax = 16u << 20;

class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t length() const = 0;
  // Up to `count` bytes at `offset`; fewer only at the end. OUT_OF_RANGE beyond the end, INVALID_ARGUMENT for
  // a count above kReadBytesMax.
  virtual void Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Upload::Done<Bytes> done) = 0;
};

}  // namespace sluice::blob
