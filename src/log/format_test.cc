// The format, byte by byte: what is written today must be what was written when the golden file was made.
#include "log/format.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "log/batch_encoder.h"
#include "log/inspect.h"
#include "log/log_test_support.h"
#include "log/segment_scan.h"

namespace sluice::log {
namespace {

constexpr char kGolden[] = SLUICE_SOURCE_DIR "/src/log/testdata/segment.hex";

// A batch with each kind of record, one of them over two blocks; then a hard-state block.
// Runs of zeros are left out.
std::string GoldenText() {
  BatchEncoder encoder(4096);
  encoder.Begin({.generation = 3,
                 .sequence = 40,
                 .blocks_max = 8,
                 .segment_header = SegmentHeader{
                     .block_bytes = 4096, .segment_bytes = 1 << 20, .generation = 3, .first_sequence = 40}});
  RecordHeader header;
  header.group = kDefaultGroup;
  const auto add = [&](RecordKind kind, TermIndex at, Bytes payload) {
    header.kind = kind;
    header.at = at;
    encoder.Add(header, payload);
    header.previous_term = at.term;
  };
  const Promise promise{{Term{2}, Index{9}}, true};
  add(RecordKind::kState, {Term{1}, Index{4}}, Bytes::Take(EncodeStateMark({{Term{2}, Index{6}}, promise})));
  add(RecordKind::kEntry, {Term{2}, Index{7}}, Bytes::Copy("seven"));
  header.entry_kind = raft::EntryKind::kConfiguration;
  add(RecordKind::kEntry, {Term{2}, Index{8}}, Bytes::Copy("a configuration"));
  header.entry_kind = raft::EntryKind::kCommand;
  add(RecordKind::kEntry, {Term{2}, Index{9}}, Bytes::Take(std::string(4000, 'x')));
  add(RecordKind::kCopy, {Term{1}, Index{5}}, Bytes::Copy("five"));
  add(RecordKind::kCompact, {Term{1}, Index{5}}, Bytes());
  add(RecordKind::kRestart, {Term{3}, Index{20}}, Bytes());
  add(RecordKind::kDrop, {Term{0}, kNoIndex}, Bytes());
  std::string all = encoder.Finish().ToString();
  const auto hard = EncodeHardState(
      {.sequence = 5, .log_sequence = 42, .group = kDefaultGroup, .state = {Term{3}, PeerId{"n1"}}});
  EXPECT_TRUE(hard.ok());
  all += *hard;
  std::string text;
  for (size_t at = 0; at < all.size(); at += 32) {
    const std::string line = all.substr(at, 32);
    if (line.find_first_not_of('\0') == std::string::npos) continue;
    text += fmt::format("{:06x} {}\n", at, ToHex(line));
  }
  return text;
}

TEST(LogFormat, GoldenFile) {
  if (std::getenv("SLUICE_REWRITE") != nullptr) std::ofstream(kGolden) << GoldenText();
  std::ifstream file(kGolden);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(GoldenText(), golden.str());
}

TEST(LogFormat, EveryFlippedBitOfAHeaderIsNoticed) {
  std::string block(4096, 'p');
  SealBlock({.used = 4096, .generation = 2, .sequence = 9, .position = 1, .count = 3, .first_record = 104},
            block.data(), block.size());
  std::string record(kRecordHeaderBytes, '\0');
  EncodeRecordHeader({}, record.data());
  RecordHeader header;
  header.at = {Term{3}, Index{4}};
  EncodeRecordHeader(header, record.data());
  const std::string hard = *EncodeHardState({.sequence = 1, .log_sequence = 2, .group = {}, .state = {}});
  std::string segment(kSegmentHeaderBytes, '\0');
  EncodeSegmentHeader({.block_bytes = 4096, .segment_bytes = 65536, .generation = 1}, segment.data());
  ASSERT_TRUE(DecodeBlockHeader(block, 4096) && DecodeRecordHeader(record) && DecodeHardState(hard) &&
              DecodeSegmentHeader(segment));
  const auto flipped = [](std::string bytes, size_t bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    return bytes;
  };
  for (size_t bit = 0; bit < kBlockHeaderBytes * 8; ++bit) {
    EXPECT_FALSE(DecodeBlockHeader(flipped(block, bit), 4096)) << bit;
  }
  for (size_t bit = 0; bit < kRecordHeaderBytes * 8; ++bit) {
    EXPECT_FALSE(DecodeRecordHeader(flipped(record, bit))) << bit;
  }
  for (size_t bit = 0; bit < kHardStateBytesMax * 8; ++bit) {
    EXPECT_FALSE(DecodeHardState(flipped(hard, bit))) << bit;
  }
  for (size_t bit = 0; bit < kSegmentHeaderBytes * 8; ++bit) {
    EXPECT_FALSE(DecodeSegmentHeader(flipped(segment, bit))) << bit;
  }
  std::string open = block;
  ASSERT_TRUE(UnsealBlock(*DecodeBlockHeader(block, 4096), open.data(), open.size()));
  EXPECT_EQ(open.substr(104), std::string(4096 - 104, 'p'));
  EXPECT_TRUE(BlockBodyIsValid(*DecodeBlockHeader(block, 4096), open));
  EXPECT_FALSE(BlockBodyIsValid(*DecodeBlockHeader(block, 4096), flipped(open, 4096 * 8 - 1)));
}

// Each sector of a block tells by itself whether it was written, and damage never looks like "it was not".
TEST(LogFormat, F02_K9_ASectorThatWasNotWrittenIsToldFromADamagedOne) {
  const auto sealed = [](uint64_t generation, char text) {
    std::string block(4096, text);
    SealBlock(
        {.used = 4096, .generation = generation, .sequence = 9, .position = 0, .count = 1, .first_record = 0},
        block.data(), block.size());
    return block;
  };
  const std::string block = sealed(3, 'n');
  EXPECT_FALSE(HasOldSector(block, 3));
  for (const std::string& before : {std::string(4096, '\0'), sealed(2, 'o')}) {
    for (size_t sector = 0; sector < 8; ++sector) {
      std::string torn = block;
      torn.replace(sector * 512, 512, before, sector * 512, 512);
      EXPECT_TRUE(HasOldSector(torn, 3)) << sector;
      if (sector > 0) {
        EXPECT_FALSE(UnsealBlock({.generation = 3}, torn.data(), torn.size())) << sector;
      }
    }
  }
  for (size_t bit = 0; bit < block.size() * 8; ++bit) {
    std::string damaged = block;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(HasOldSector(damaged, 3)) << bit;
  }
}

TEST(LogFormat, NamesAreParsedExactly) {
  EXPECT_EQ(ParseGeneration(SegmentName(0xabc), "segment-"), 0xabcu);
  EXPECT_FALSE(ParseGeneration("segment-00000000000000AB", "segment-"));
  EXPECT_FALSE(ParseGeneration("segment-ab", "segment-"));
  EXPECT_FALSE(ParseGeneration("spare-0000000000000001", "segment-"));
  EXPECT_EQ(ParseHardStateName(HardStateName(kDefaultGroup)), kDefaultGroup);
  EXPECT_FALSE(ParseHardStateName("state-0"));
  EXPECT_FALSE(ParseHardStateName(HardStateName(kDefaultGroup) + "00"));
}

TEST(LogFormat, TooLongPeerIdIsRefused) {
  EXPECT_EQ(
      EncodeHardState(
          {.sequence = 1, .log_sequence = 0, .group = {}, .state = {Term{1}, PeerId{std::string(451, 'n')}}})
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
}

// Records of every size that could meet a block's end come back as they were.
TEST(LogFormat, RecordsOfAllSizesComeBack) {
  for (size_t bytes = 3900; bytes < 4200; bytes += 3) {
    BatchEncoder encoder(4096);
    encoder.Begin({.generation = 1, .sequence = 0, .blocks_max = 15, .segment_header = std::nullopt});
    RecordHeader header;
    int64_t count = 0;
    for (; encoder.Fits(bytes) && count < 8; ++count) {
      header.at = {Term{1}, Index{count}};
      encoder.Add(header, Bytes::Take(PayloadOf(kDefaultGroup, header.at, bytes)));
      header.previous_term = Term{1};
    }
    ASSERT_GE(count, 3);
    auto segment = JudgeSegment(std::string(4096, '\0') + encoder.Finish().ToString(), "test", 1, 4096, {});
    ASSERT_TRUE(segment.ok());
    Replay replay;
    EXPECT_EQ(WalkRecords(*segment, FindEnd(*segment), replay), 0u);
    const auto groups = replay.Finish({});
    ASSERT_EQ(groups.at(GroupId{}).entries.size(), static_cast<size_t>(count)) << bytes;
    EXPECT_FALSE(groups.at(GroupId{}).promise.has_value());
  }
}

TEST(LogInspect, TellsGroupsSegmentsAndDamage) {
  sim::SimFiles disk;
  {
    SimLog log(disk);
    ASSERT_TRUE(log.Store(kDefaultGroup, 2, "n1").ok());
    for (int64_t i = 0; i < 20; ++i) ASSERT_TRUE(log.Append(kDefaultGroup, i, 1, 2).ok());
  }
  auto found = Inspect(disk, kDir, SmallOptions());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->verifies());
  ASSERT_EQ(found->groups.size(), 1u);
  EXPECT_EQ(found->groups[0].entries, 20u);
  EXPECT_EQ(found->groups[0].last, (TermIndex{Term{2}, Index{19}}));
  ASSERT_FALSE(found->segments.empty());
  ASSERT_TRUE(disk.FlipBit(found->segments[0].path, 5 * 4096 + 200).ok());
  found = Inspect(disk, kDir, SmallOptions());
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->verifies());
  EXPECT_EQ(found->segments[0].damaged_blocks, 1u);
  EXPECT_NE(found->damage[0].find("offset 20480"), std::string::npos) << found->damage[0];
}

}  // namespace
}  // namespace sluice::log
