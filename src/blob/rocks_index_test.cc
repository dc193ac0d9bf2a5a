// What a look-up costs in a large index. The contract is in index_test.cc.
#include <gtest/gtest.h>
#include <rocksdb/perf_context.h>
#include <rocksdb/perf_level.h>

#include <fmt/format.h>

#include <filesystem>

#include "base/temp_folder_for_test.h"
#include "blob/index.h"

namespace sluice::blob {
namespace {

namespace fs = std::filesystem;

std::string NameOf(uint64_t number) {
  // Spread over the keys, as digests are.
  return fmt::format("name/{:016x}/of-a-blob", number * 0x9e3779b97f4a7c15u);
}

// Names by the hundred thousand beside a cache that holds neither their filters nor their indexes: a look-up
// reads a few blocks of 4 KiB, not whole filters of some hundred KiB (it was 2.5 MiB at 220,000 names).
TEST(RocksIndex, K19_ALookUpInALargeIndexReadsAFewBlocks) {
  constexpr uint64_t kNames = 200'000;
  constexpr uint64_t kLookUps = 1'000;
  const TempFolder folder;
  {
    auto index =
        OpenRocksIndex(env::RealFiles(), folder.path(),
                       {.cache_bytes = 256u << 10, .write_buffer_bytes = 8u << 20, .ballast_bytes = 0});
    ASSERT_TRUE(index.ok()) << index.status();
    for (uint64_t number = 0; number < kNames;) {
      IndexBatch batch;
      for (uint64_t end = number + 1'000; number < end; ++number) {
        batch.Put(NameOf(number), std::string(60, 'v'));
      }
      ASSERT_TRUE((*index)->Write(batch).ok());
    }
    ASSERT_TRUE((*index)->Flush().ok());

    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kEnableCount);
    const auto read_per_look_up = [&](uint64_t first, bool there) {
      rocksdb::get_perf_context()->Reset();
      for (uint64_t i = 0; i < kLookUps; ++i) {
        const auto value = (*index)->Get(NameOf(first + i * 197 % kNames));
        EXPECT_TRUE(value.ok() && value->has_value() == there);
      }
      return rocksdb::get_perf_context()->block_read_byte / kLookUps;
    };
    EXPECT_LT(read_per_look_up(0, true), 20'000u);
    EXPECT_LT(read_per_look_up(kNames, false), 20'000u);
    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);
  }
}

}  // namespace
}  // namespace sluice::blob
