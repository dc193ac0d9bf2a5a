// Arbitrary bytes as segments and as hard state: recovery never crashes,
// and never allocates more than it was given.
//
// The first byte chooses: raw bytes as one segment, or bytes as the records of well-formed blocks (the fuzzer
// cannot guess checksums), walked with some blocks spoilt.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "log/segment_scan.h"

namespace sluice::log {
namespace {

constexpr size_t kBlock = 4096;
constexpr size_t kBody = BlockBodyOffset(kBlock);

void Walk(std::string data) {
  absl::StatusOr<ScannedSegment> segment = JudgeSegment(std::move(data), "fuzz", 7, kBlock, {});
  if (!segment.ok()) return;
  Replay replay;
  if (segment->first_sequence) WalkRecords(*segment, FindEnd(*segment), replay);
  (void)replay.Finish({{kDefaultGroup, Term{3}}});
}

// Record headers get right checksums too where the input asks for them.
std::string Blocks(std::string_view input) {
  std::string data(kBlock, '\0');
  uint64_t sequence = 100;
  EncodeSegmentHeader(
      {.block_bytes = kBlock, .segment_bytes = 1 << 16, .generation = 7, .first_sequence = 100}, data.data());
  while (input.size() >= 4 && data.size() < 16 * kBlock) {
    const uint8_t flags = static_cast<uint8_t>(input[0]);
    const uint32_t count = 1u + static_cast<uint8_t>(input[1]) % 4;
    const uint32_t position = static_cast<uint8_t>(input[2]) % count;
    const size_t used = std::min<size_t>(kBlock - kBody, static_cast<uint8_t>(input[3]) * 17u);
    input.remove_prefix(4);
    std::string block(kBlock, '\0');
    const std::string_view body = input.substr(0, used);
    std::copy(body.begin(), body.end(), block.begin() + kBody);
    for (size_t at = kBody; at + kRecordHeaderBytes <= kBody + body.size();) {
      const uint8_t small = static_cast<uint8_t>(block[at]);
      RecordHeader header;
      header.kind = static_cast<RecordKind>(1 + small % 6);
      header.group.bytes[0] = small >> 6;
      header.at = {Term{static_cast<uint8_t>(block[at + 1])}, Index{static_cast<uint8_t>(block[at + 2])}};
      header.previous_term = Term{static_cast<uint8_t>(block[at + 3])};
      header.payload_bytes =
          header.kind == RecordKind::kState ? kStateMarkBytes : static_cast<uint8_t>(block[at + 4]) * 40u;
      std::memcpy(&header.payload_crc, &block[at + 5], sizeof(header.payload_crc));
      EncodeRecordHeader(header, &block[at]);
      at += kRecordHeaderBytes + header.payload_bytes;
    }
    SealBlock({.used = static_cast<uint32_t>(kBody + body.size()),
               .generation = flags % 8 == 0 ? 6u : 7u,
               .sequence = sequence++,
               .position = position,
               .count = count,
               .first_record = body.empty() ? 0 : static_cast<uint32_t>(kBody)},
              block.data(), kBlock);
    input.remove_prefix(body.size());
    if ((flags & 0x30) == 0x30) block[flags] = static_cast<char>(~block[flags]);
    if ((flags & 0xc0) == 0xc0) block[2000] = static_cast<char>(~block[2000]);
    data += block;
  }
  return data;
}

}  // namespace
}  // namespace sluice::log

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 == 0) {
    sluice::log::Walk(std::string(input));
    (void)sluice::log::DecodeHardState(input);
    (void)sluice::log::DecodeStateMark(input);
    (void)sluice::log::DecodeRecordHeader(input);
  } else {
    sluice::log::Walk(sluice::log::Blocks(input));
  }
  return 0;
}
