#include "log/batch_encoder.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"

namespace sluice::log {

void BatchEncoder::Begin(const Place& place) {
  place_ = place;
  blocks_.clear();
  // A file of the simulator may keep what it was given.
  if (buffer_ == nullptr || buffer_.use_count() > 1) buffer_ = std::make_shared<std::string>();
  cursor_ = block_end_ = place.segment_header ? block_bytes_ : 0;
  if (buffer_->size() < block_end_) buffer_->resize(block_end_);
  if (place.segment_header) {
    std::memset(at(0), 0, block_bytes_);
    EncodeSegmentHeader(*place.segment_header, at(0));
  }
}

uint64_t BatchEncoder::BlocksFor(uint64_t payload_bytes, size_t block_bytes) {
  const uint64_t body = block_bytes - BlockBodyOffset(block_bytes);
  return (kRecordHeaderBytes + payload_bytes + body - 1) / body;
}

bool BatchEncoder::Fits(uint64_t payload_bytes) const {
  const uint64_t body = block_bytes_ - BlockBodyOffset(block_bytes_);
  const uint64_t here = room() < kRecordHeaderBytes ? 0 : room();
  const uint64_t needed = kRecordHeaderBytes + payload_bytes;
  const uint64_t more = needed <= here ? 0 : (needed - here + body - 1) / body;
  return blocks_.size() + more <= place_.blocks_max;
}

void BatchEncoder::OpenBlock() {
  CloseBlock();
  const size_t start = block_end_;
  block_end_ = start + block_bytes_;
  cursor_ = start + BlockBodyOffset(block_bytes_);
  if (buffer_->size() < block_end_) buffer_->resize(std::max(block_end_, buffer_->size() * 2));
  blocks_.emplace_back();
}

void BatchEncoder::CloseBlock() {
  if (blocks_.empty()) return;
  blocks_.back().used = static_cast<uint32_t>(cursor_ - (block_end_ - block_bytes_));
  std::memset(at(cursor_), 0, block_end_ - cursor_);
}

uint64_t BatchEncoder::Add(RecordHeader header, const Bytes& payload) {
  SLUICE_CHECK(Fits(payload.size())) << "a record of " << payload.size() << " bytes";
  if (room() < kRecordHeaderBytes) OpenBlock();
  const size_t start = cursor_;
  if (blocks_.back().first_record == 0) {
    blocks_.back().first_record = static_cast<uint32_t>(start - (block_end_ - block_bytes_));
  }
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  uint32_t crc = 0;
  cursor_ += kRecordHeaderBytes;
  payload.ForEachChunk([&](std::string_view chunk) {
    crc = ExtendCrc32c(crc, chunk);
    while (!chunk.empty()) {
      if (room() == 0) OpenBlock();
      const size_t part = std::min(chunk.size(), room());
      std::memcpy(at(cursor_), chunk.data(), part);
      cursor_ += part;
      chunk.remove_prefix(part);
    }
  });
  header.payload_crc = crc;
  EncodeRecordHeader(header, at(start));
  return start;
}

Bytes BatchEncoder::Finish() {
  CloseBlock();
  const size_t first = place_.segment_header ? block_bytes_ : 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    SealBlock({.used = blocks_[i].used,
               .generation = place_.generation,
               .sequence = place_.sequence + i,
               .position = static_cast<uint32_t>(i),
               .count = static_cast<uint32_t>(blocks_.size()),
               .first_record = blocks_[i].first_record},
              at(first + i * block_bytes_), block_bytes_);
  }
  return Bytes::Wrap(buffer_->data(), block_end_, [keep = buffer_] {});
}

}  // namespace sluice::log
