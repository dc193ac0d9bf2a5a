// Packs the records of one batch into blocks, ready for one write.
//
//   encoder.Begin({.generation = g, .sequence = s, .blocks_max = n});
//   while (encoder.Fits(payload.size())) offset = encoder.Add(header, payload);
//   file->WriteDurably(where, encoder.Finish());
//
// One thread at a time. Finish() lends the encoder's own buffer:
// it is used again when nobody refers to the bytes any more.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "log/format.h"

namespace sluice::log {

class BatchEncoder {
 public:
  struct Place {
    uint64_t generation = 0;
    uint64_t sequence = 0;                        // of the first data block
    uint64_t blocks_max = 0;                      // data blocks at most
    std::optional<SegmentHeader> segment_header;  // written before the data blocks, in a block of its own
  };

  explicit BatchEncoder(size_t block_bytes) : block_bytes_(block_bytes) {}

  void Begin(const Place& place);
  // True if a record with this payload still fits.
  bool Fits(uint64_t payload_bytes) const;
  // Adds a record that Fits; payload_bytes and payload_crc are filled in.
  // Returns its offset from the batch's start.
  uint64_t Add(RecordHeader header, const Bytes& payload);
  bool empty() const { return blocks_.empty(); }
  uint64_t data_blocks() const { return blocks_.size(); }
  // The whole write: the segment header's block, if any, and the data blocks.
  Bytes Finish();

  // Data blocks that one record takes in an empty batch.
  static uint64_t BlocksFor(uint64_t payload_bytes, size_t block_bytes);

 private:
  struct Block {
    uint32_t used = 0;
    uint32_t first_record = 0;
  };
  char* at(size_t offset) { return buffer_->data() + offset; }
  size_t room() const { return blocks_.empty() ? 0 : block_end_ - cursor_; }
  void OpenBlock();
  void CloseBlock();

  const size_t block_bytes_;
  Place place_;
  std::shared_ptr<std::string> buffer_;  // shared with the Bytes of an earlier Finish() while they live
  std::vector<Block> blocks_;
  size_t cursor_ = 0;
  size_t block_end_ = 0;
};

}  // namespace sluice::log
