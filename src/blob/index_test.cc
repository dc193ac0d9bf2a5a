// One contract, both implementations. What they keep through a power loss is in blob_crash_test.cc.
#include "blob/index.h"
#include "base/temp_folder_for_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

namespace sluice::blob {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

using OpenIndex = absl::StatusOr<std::unique_ptr<Index>> (*)(env::Files&, const std::string&,
                                                             const IndexOptions&, IndexHooks);

// Draws what makes the map flush, each time.
class Always final : public env::Random {
 public:
  uint64_t Next64() override { return 0; }
};

class IndexContract : public ::testing::TestWithParam<OpenIndex> {
 protected:
  void SetUp() override { Open(); }
  void TearDown() override { index_.reset(); }
  void Open(const IndexOptions& options = {.ballast_bytes = 0}, IndexHooks hooks = {}) {
    index_.reset();
    auto index = GetParam()(env::RealFiles(), dir_ + "/a/index", options, std::move(hooks));
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = std::move(index).value();
  }
  void Put(const std::vector<std::pair<std::string, std::string>>& entries) {
    IndexBatch batch;
    for (const auto& [key, value] : entries) batch.Put(key, value);
    ASSERT_TRUE(index_->Write(batch).ok());
  }
  std::vector<std::string> Keys(std::string_view prefix, std::string_view from = "", size_t limit = 100) {
    std::vector<std::string> keys;
    EXPECT_TRUE(index_
                    ->Scan(prefix, from,
                           [&](std::string_view key, std::string_view) {
                             keys.emplace_back(key);
                             return keys.size() < limit;
                           })
                    .ok());
    return keys;
  }

  const TempFolder folder_;
  const std::string dir_ = folder_.path();
  std::unique_ptr<Index> index_;
};

TEST_P(IndexContract, D23_BatchesAreVisibleAtOnceAndInOrder) {
  IndexBatch batch;
  EXPECT_TRUE(batch.empty());
  batch.Put("a", "1");
  batch.Put("a", "2");
  batch.Put("b", "1");
  batch.Delete("b");
  batch.Put(std::string("z\0z", 3), std::string(100'000, 'v'));
  ASSERT_TRUE(index_->Write(batch).ok());
  EXPECT_EQ(**index_->Get("a"), "2");
  EXPECT_EQ(*index_->Get("b"), std::nullopt);
  EXPECT_EQ(*index_->Get("nothing"), std::nullopt);
  EXPECT_EQ(**index_->Get(std::string_view("z\0z", 3)), std::string(100'000, 'v'));
  ASSERT_TRUE(index_->Write(IndexBatch()).ok());
}

TEST_P(IndexContract, D23_ScansFollowUnsignedBytes) {
  Put({{"n/\xff", ""}, {"n/a", ""}, {"n/", ""}, {"m", ""}, {"n0", ""}, {"n/\x01", ""}, {"n/a/b", ""}});
  EXPECT_THAT(Keys("n/"), ElementsAre("n/", "n/\x01", "n/a", "n/a/b", "n/\xff"));
  EXPECT_THAT(Keys("n/", "n/a"), ElementsAre("n/a", "n/a/b", "n/\xff"));
  EXPECT_THAT(Keys("n/", "m"), ElementsAre("n/", "n/\x01", "n/a", "n/a/b", "n/\xff"));
  EXPECT_THAT(Keys("n/", "n/", 2), ElementsAre("n/", "n/\x01"));
  EXPECT_THAT(Keys("n/", "n1"), ElementsAre());
  EXPECT_THAT(Keys("", "n0"), ElementsAre("n0"));
  EXPECT_EQ(Keys("").size(), 7u);
}

TEST_P(IndexContract, DeletePrefixTakesExactlyThePrefix) {
  Put({{"a", ""},
       {"b", ""},
       {"b\xff", ""},
       {"b\xff\xff", ""},
       {"b/1", ""},
       {"c", ""},
       {"\xff", ""},
       {"\xff\xff", ""}});
  ASSERT_TRUE(index_->DeletePrefix("b").ok());
  EXPECT_THAT(Keys(""), ElementsAre("a", "c", "\xff", "\xff\xff"));
  ASSERT_TRUE(index_->DeletePrefix("\xff\xff").ok());
  EXPECT_THAT(Keys(""), ElementsAre("a", "c", "\xff"));
  ASSERT_TRUE(index_->DeletePrefix("none").ok());
  EXPECT_THAT(Keys(""), ElementsAre("a", "c", "\xff"));
  ASSERT_TRUE(index_->DeletePrefix("").ok());
  EXPECT_THAT(Keys(""), ElementsAre());
  ASSERT_TRUE(index_->DeletePrefix("").ok());
}

TEST_P(IndexContract, ABatchDeletesARange) {
  Put({{"a", ""}, {"b", ""}, {"b\xff", ""}, {"c", ""}, {"d", ""}});
  IndexBatch batch;
  batch.Put("b", "again");
  batch.DeleteRange("b", "c");
  batch.Put("b/1", "");
  ASSERT_TRUE(index_->Write(batch).ok());
  EXPECT_THAT(Keys(""), ElementsAre("a", "b/1", "c", "d"));
}

TEST_P(IndexContract, FlushedEntriesAreThereAfterOpening) {
  Put({{"a", "1"}, {"b", "2"}});
  IndexBatch batch;
  batch.Delete("b");
  ASSERT_TRUE(index_->Write(batch).ok());
  ASSERT_TRUE(index_->Flush().ok());
  ASSERT_TRUE(index_->Flush().ok());
  Open();
  EXPECT_EQ(**index_->Get("a"), "1");
  EXPECT_EQ(*index_->Get("b"), std::nullopt);
  Put({{"c", "3"}});
  ASSERT_TRUE(index_->Flush().ok());
  Open();
  EXPECT_THAT(Keys(""), ElementsAre("a", "c"));
}

TEST_P(IndexContract, AScanMayWrite) {
  Put({{"a", ""}, {"b", ""}, {"c", ""}});
  ASSERT_TRUE(index_
                  ->Scan("", "",
                         [&](std::string_view key, std::string_view) {
                           IndexBatch batch;
                           batch.Delete(std::string(key));
                           return index_->Write(batch).ok();
                         })
                  .ok());
  EXPECT_THAT(Keys(""), ElementsAre());
}

TEST_P(IndexContract, K14_NothingGetsDurableBeforeWhatItReliesOn) {
  Always always;
  std::atomic<int> calls = 0;
  std::atomic<bool> fail = false;
  IndexHooks hooks;
  hooks.before_durable = [&]() -> absl::Status {
    ++calls;
    return fail ? absl::DataLossError("the links cannot be synced") : absl::OkStatus();
  };
  Open({.write_buffer_bytes = 64 << 10, .ballast_bytes = 0}, hooks);
  Put({{"a", "1"}});
  ASSERT_TRUE(index_->Flush().ok());
  EXPECT_GE(calls, 1);

  // By itself, too: more is written than memory takes.
  hooks.flush_at_random = &always;
  Open({.write_buffer_bytes = 64 << 10, .ballast_bytes = 0}, hooks);
  fail = true;
  calls = 0;
  absl::Status written;
  for (int i = 0; written.ok() && i < 10'000; ++i) {
    IndexBatch batch;
    batch.Put(fmt::format("b{}", i), std::string(1 << 10, 'v'));
    written = index_->Write(batch);
  }
  EXPECT_GE(calls, 1);
  EXPECT_FALSE(written.ok());  // nobody was told before
  EXPECT_FALSE(index_->Flush().ok());
  Open();
  EXPECT_THAT(Keys(""), ElementsAre("a"));
}

TEST_P(IndexContract, K14_AStoppedIndexCallsNobody) {
  std::atomic<int> calls = 0;
  IndexHooks hooks;
  hooks.before_durable = [&] {
    ++calls;
    return absl::OkStatus();
  };
  Open({.ballast_bytes = 0}, hooks);
  Put({{"a", "1"}});
  index_->Stop();
  EXPECT_FALSE(index_->Flush().ok());
  index_.reset();
  EXPECT_EQ(calls, 0);
}

TEST_P(IndexContract, K2_AViewStaysAsItWas) {
  Put({{"a/1", "x"}, {"a/2", "y"}, {"b", ""}});
  const std::unique_ptr<IndexView> view = index_->View();
  Put({{"a/1", "changed"}, {"a/3", "new"}});
  ASSERT_TRUE(index_->DeletePrefix("a/2").ok());
  ASSERT_TRUE(index_->Flush().ok());
  std::vector<std::string> seen;
  ASSERT_TRUE(view->Scan("a/", "a/",
                         [&](std::string_view key, std::string_view value) {
                           seen.push_back(std::string(key) + "=" + std::string(value));
                           return true;
                         })
                  .ok());
  EXPECT_THAT(seen, ElementsAre("a/1=x", "a/2=y"));
  EXPECT_THAT(Keys("a/"), ElementsAre("a/1", "a/3"));
}

INSTANTIATE_TEST_SUITE_P(Both, IndexContract, ::testing::Values(&OpenRocksIndex, &OpenMapIndex),
                         [](const auto& test) { return test.index == 0 ? "Rocks" : "Map"; });

}  // namespace
}  // namespace sluice::blob
