#include "blob/format.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/strings.h"

namespace sluice::blob {
namespace {

const UploadId kId{*ClientId::FromBytes("client-of-a-test"), CallId{0x0102}};

ChunkList Chunks(size_t size) {
  ChunkList chunks;
  chunks.Extend(Bytes::Copy(std::string(size, 'x')));
  return chunks;
}

std::string Tail(const std::string& footer) { return footer.substr(footer.size() - kTrailerBytes); }

TEST(BlobFormat, ChunksDoNotDependOnHowTheBytesArrive) {
  const std::string text(3 * kChunkBytes + 5, 'x');
  for (const size_t piece : {size_t{1000}, size_t{kChunkBytes - 1}, size_t{kChunkBytes}, text.size()}) {
    ChunkList chunks;
    for (size_t at = 0; at < text.size(); at += piece) chunks.Extend(Bytes::Copy(text.substr(at, piece)));
    EXPECT_EQ(chunks.crcs(), Chunks(text.size()).crcs()) << piece;
    EXPECT_EQ(chunks.length(), text.size());
  }
  EXPECT_EQ(Chunks(text.size()).crcs()[3], Crc32c("xxxxx"));
  EXPECT_EQ(ChunkCount(0), 0u);
  EXPECT_EQ(ChunkCount(1), 1u);
  EXPECT_EQ(ChunkCount(kChunkBytes), 1u);
  EXPECT_EQ(ChunkCount(kChunkBytes + 1), 2u);
  EXPECT_EQ(ChunkCount(~uint64_t{0}), (uint64_t{1} << 48));
}

// Golden bytes: a change here is a change of what older servers wrote (F-21).
TEST(BlobFormat, F21_FooterBytes) {
  const ChunkList chunks = Chunks(5);
  const Footer footer{kId, kDefaultGroup, 7, {5, chunks.Checksum(), std::nullopt}};
  const std::string bytes = EncodeFooter(footer, chunks);
  EXPECT_EQ(ToHex(bytes.substr(0, 4 + 16)),
            "4679b3f7"
            "0500000000000000"
            "d3e7d944"
            "00000000");
  EXPECT_EQ(ToHex(bytes.substr(4 + 48, 48)),
            "636c69656e742d6f662d612d74657374"
            "0201000000000000"
            "00000000000000000000736c75696365"
            "0700000000000000");
  EXPECT_EQ(ToHex(bytes.substr(4 + 96, 12)),
            "00000100"
            "01000000"
            "00000000");
  EXPECT_EQ(bytes.substr(4 + 112), "SLUBLOB\n");
}

TEST(BlobFormat, FooterComesBack) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{3 * kChunkBytes + 1}}) {
    const ChunkList chunks = Chunks(size);
    Sha256 digest;
    digest.bytes[3] = 9;
    const Footer footer{kId, kDefaultGroup, 7, {size, chunks.Checksum(), digest}};
    const std::string bytes = EncodeFooter(footer, chunks);
    auto decoded = DecodeTrailer(Tail(bytes), size + bytes.size());
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->id, kId);
    EXPECT_EQ(decoded->epoch, 7u);
    EXPECT_EQ(decoded->sealed, footer.sealed);
    auto crcs = DecodeChunks(bytes.substr(0, bytes.size() - kTrailerBytes), decoded->sealed);
    ASSERT_TRUE(crcs.ok());
    EXPECT_EQ(*crcs, chunks.crcs());
    EXPECT_FALSE(DecodeTrailer(Tail(bytes), size + bytes.size() + 1).ok());
    EXPECT_FALSE(DecodeTrailer(Tail(bytes).substr(1), size + bytes.size()).ok());
  }
}

TEST(BlobFormat, F21_ANewerVersionIsRefusedByNumber) {
  const ChunkList chunks = Chunks(5);
  std::string bytes =
      Tail(EncodeFooter({kId, kDefaultGroup, 7, {5, chunks.Checksum(), std::nullopt}}, chunks));
  bytes[100] = 2;
  const uint32_t crc = Crc32c(bytes.substr(0, 108));
  for (size_t i = 0; i < 4; ++i) bytes[108 + i] = static_cast<char>(crc >> (8 * i));
  const absl::Status refused = DecodeTrailer(bytes, 5 + 4 + kTrailerBytes).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(Message(refused)).find("version 2"), std::string::npos);
}

TEST(BlobFormat, SideFileComesBackAndEveryCutIsATornTail) {
  const UploadSpec spec{kId, kDefaultGroup, 7, true, "context"};
  const ChunkList first = Chunks(kChunkBytes + 10);
  const ChunkList second = Chunks(3 * kChunkBytes);
  const Sealed sealed{3 * kChunkBytes, second.Checksum(), Sha256()};
  std::vector<size_t> ends;
  std::string file = EncodeSideStart(spec);
  ends.push_back(file.size());
  file += EncodeFlushRecord(first, 0);
  ends.push_back(file.size());
  file += EncodeFlushRecord(second, first.length());
  ends.push_back(file.size());
  file += EncodeSealRecord(sealed);
  ends.push_back(file.size());
  for (size_t size = 0; size <= file.size(); ++size) {
    auto state = DecodeSide(std::string_view(file).substr(0, size));
    ASSERT_EQ(state.ok(), size >= ends[0]) << size;
    if (!state.ok()) continue;
    EXPECT_EQ(state->spec.id, kId);
    EXPECT_EQ(state->spec.context, "context");
    EXPECT_TRUE(state->spec.compute_digest);
    EXPECT_EQ(state->durable.length(), size < ends[1]   ? 0
                                       : size < ends[2] ? first.length()
                                                        : second.length());
    EXPECT_EQ(state->sealed.has_value(), size == ends[3]);
    EXPECT_EQ(state->valid_bytes, *(std::upper_bound(ends.begin(), ends.end(), size) - 1));
  }
  auto whole = DecodeSide(file);
  EXPECT_EQ(whole->durable.crcs(), second.crcs());
  EXPECT_EQ(*whole->sealed, sealed);
}

TEST(BlobFormat, FlushRecordsThatDoNotFollowAreIgnored) {
  const std::string start = EncodeSideStart({kId, kDefaultGroup, 7, false, ""});
  const ChunkList small = Chunks(10);
  const ChunkList large = Chunks(3 * kChunkBytes);
  EXPECT_EQ(DecodeSide(start + EncodeFlushRecord(large, 2 * kChunkBytes))->durable.length(), 0u);
  auto shrunk = DecodeSide(start + EncodeFlushRecord(large, 0) + EncodeFlushRecord(small, 0));
  EXPECT_EQ(shrunk->durable.length(), large.length());
}

TEST(BlobFormat, EveryBitFlipInASideFileIsNoticed) {
  const ChunkList chunks = Chunks(kChunkBytes + 10);
  const std::string start = EncodeSideStart({kId, kDefaultGroup, 7, false, "context"});
  const std::string file = start + EncodeFlushRecord(chunks, 0);
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    std::string damaged = file;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    auto state = DecodeSide(damaged);
    if (state.ok()) {
      EXPECT_EQ(state->durable.length(), 0u) << bit;
      EXPECT_GE(bit / 8, start.size());
    }
  }
}

}  // namespace
}  // namespace sluice::blob
