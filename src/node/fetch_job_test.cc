#include "node/fetch_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "blob/chunks.h"
#include "blob/format.h"
#include "node/silent_bytes_for_test.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::node {
namespace {

using namespace std::chrono_literals;

UploadId Id(uint64_t call) { return {*ClientId::FromBytes("client-of-a-test"), CallId{call}}; }

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  uint32_t seed = 7;
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

// Servers that give out parts of a text, or nothing.
class Holders final : public SilentBytes {
 public:
  struct One {
    std::string text;
    uint64_t answers = UINT64_MAX;  // how often it answers before it is gone
    uint64_t asked = 0;
  };
  std::map<std::string, One> peers;
  uint64_t in_flight = 0;
  uint64_t in_flight_most = 0;
  explicit Holders(sim::World& world) : world_(world) {}

  void Fetch(const raft::Peer& to, const FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, Done<Bytes> done) override {
    EXPECT_EQ(wanted.length, 1'000'000u);
    One& one = peers[to.id.value];
    absl::StatusOr<Bytes> data = absl::UnavailableError("connection refused");
    if (one.asked++ < one.answers && !one.text.empty()) data = Bytes::Copy(one.text.substr(offset, count));
    in_flight_most = std::max(in_flight_most, ++in_flight);
    // Answers overtake each other.
    const env::Duration delay = 1ms * (1 + world_.random().Next64() % 20);
    reply_on->PostAfter(delay, [this, done = std::move(done), data = std::move(data)]() mutable {
      --in_flight;
      done(std::move(data));
    });
  }

 private:
  sim::World& world_;
};

class FetchJobTest : public ::testing::Test {
 protected:
  FetchJobTest() : home_(executors_.NewExecutor("home")), disk_(executors_.NewExecutor("disk")) {
    options_.reserve_bytes = 0;
    auto store = blob::Store::Open(files_, executors_, world_, "/blob", options_);
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = std::move(store).value();
    blob::ChunkList chunks;
    chunks.Extend(Bytes::Copy(text_));
    sealed_ = {.length = text_.size(), .checksum = chunks.Checksum(), .digest = {}};
  }
  absl::StatusOr<blob::Sealed> Fetch(std::vector<std::string> sources, bool replace_held = false,
                                     bool entered = false) {
    FetchParts parts;
    parts.home = home_.get();
    parts.files = disk_.get();
    parts.store = store_.get();
    parts.bytes = &holders_;
    parts.group = kDefaultGroup;
    parts.wanted.upload = Id(1);
    parts.wanted.sealed = sealed_;
    for (std::string& id : sources) parts.sources.emplace_back().id.value = std::move(id);
    parts.piece_bytes = 64 << 10;
    parts.replace_held = replace_held;
    parts.entered = entered || replace_held;
    std::optional<absl::StatusOr<blob::Sealed>> result;
    home_->Post([&] {
      FetchUpload(std::move(parts), [&](absl::StatusOr<blob::Sealed> held) {
        EXPECT_FALSE(result.has_value());
        result = std::move(held);
      });
    });
    EXPECT_TRUE(world_.RunUntil([&] { return result.has_value(); }, 10min));
    EXPECT_TRUE(world_.RunUntilIdle(10min));
    return std::move(*result);
  }
  std::string Stored() {
    auto source = store_->OpenSource(kDefaultGroup, Id(1));
    if (!source.ok()) return std::string(source.status().message());
    std::optional<absl::StatusOr<Bytes>> data;
    (*source)->Read(0, blob::kReadBytesMax, home_.get(), [&](absl::StatusOr<Bytes> read) { data = read; });
    world_.RunUntil([&] { return data.has_value(); }, 10s);
    return data->ok() ? (*data)->ToString() : std::string(data->status().message());
  }

  const std::string text_ = Pattern(1'000'000);
  sim::World world_{3};
  sim::Process process_;
  sim::SimExecutors executors_{world_, process_};
  sim::SimFiles files_;
  std::unique_ptr<env::Executor> home_;
  std::unique_ptr<env::Executor> disk_;
  blob::StoreOptions options_;
  std::unique_ptr<blob::Store> store_;
  Holders holders_{world_};
  blob::Sealed sealed_;
};

TEST_F(FetchJobTest, BringsSealsAndDoesNotBringAgain) {
  holders_.peers["n1"].text = text_;
  auto held = Fetch({"n1"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(*held, sealed_);
  EXPECT_TRUE(Stored() == text_);
  EXPECT_EQ(holders_.in_flight_most, 4u);
  const uint64_t asked = holders_.peers["n1"].asked;
  EXPECT_EQ(asked, 16u);
  EXPECT_TRUE(Fetch({"n1"}).ok());
  EXPECT_EQ(holders_.peers["n1"].asked, asked);
}

TEST_F(FetchJobTest, F25_GoesOnAtTheNextHolderWhenOneDies) {
  holders_.peers["n1"] = {.text = text_, .answers = 6};
  holders_.peers["n2"].text = text_;
  auto held = Fetch({"n1", "n2"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(Stored() == text_);
  EXPECT_LE(holders_.peers["n2"].asked, 12u);  // not from the start
}

TEST_F(FetchJobTest, GivesUpAfterSomeRoundsAndLeavesNoStage) {
  auto held = Fetch({"n1", "n2"});
  EXPECT_EQ(held.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
  EXPECT_LE(holders_.peers["n1"].asked + holders_.peers["n2"].asked, 30u);
}

TEST_F(FetchJobTest, OtherBytesAreRefusedByTheirChecksum) {
  holders_.peers["n1"].text = text_;
  holders_.peers["n1"].text[500'000] ^= 1;
  auto held = Fetch({"n1"});
  EXPECT_EQ(held.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(FetchJobTest, AfterOtherBytesTheNextHolderIsAskedFromTheStart) {
  holders_.peers["n1"].text = text_;
  holders_.peers["n1"].text[500'000] ^= 1;
  holders_.peers["n2"].text = text_;
  auto held = Fetch({"n1", "n2"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(Stored() == text_);
}

TEST_F(FetchJobTest, ShortAnswersAreErrorsOfTheirSource) {
  holders_.peers["n1"].text = text_.substr(0, 999'999);
  holders_.peers["n2"].text = text_;
  auto held = Fetch({"n1", "n2"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(Stored() == text_);
}

TEST_F(FetchJobTest, AnUnfinishedStageIsReplaced) {
  auto stage = store_->Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(stage.ok());
  bool appended = false;
  (*stage)->Append(0, Bytes::Copy("other bytes"), home_.get(), [&](auto) { appended = true; });
  ASSERT_TRUE(world_.RunUntil([&] { return appended; }, 1s));
  holders_.peers["n1"].text = text_;
  ASSERT_TRUE(Fetch({"n1"}).ok());
  EXPECT_TRUE(Stored() == text_);
}

TEST_F(FetchJobTest, F24_ADamagedCopyIsReplacedWhenAskedFor) {
  holders_.peers["n1"].text = text_;
  ASSERT_TRUE(Fetch({"n1"}).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  ASSERT_TRUE(store_->SyncLinks().ok());
  const std::string path = "/blob/blobs/" + blob::ContentFolder(Id(1)) + "/" + Id(1).ToHex();
  ASSERT_TRUE(files_.FlipBit(path, 70'000).ok());
  EXPECT_FALSE(Stored() == text_);
  ASSERT_TRUE(Fetch({"n1"}, /*replace_held=*/true).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  EXPECT_TRUE(Stored() == text_);
}

// A crash may undo a link: the damaged copy is back, beside the stage that was to replace it.
TEST_F(FetchJobTest, F24_AStageBesideADamagedCopyIsOfUse) {
  for (const bool stage_is_damaged_too : {false, true}) {
    const std::string path = "/blob/blobs/" + blob::ContentFolder(Id(1)) + "/" + Id(1).ToHex();
    const uint64_t in_the_footer = text_.size() + 4 * (text_.size() / (64 << 10) + 1) + 8;
    holders_.peers["n1"] = {.text = text_};
    ASSERT_TRUE(Fetch({"n1"}).ok());
    ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
    ASSERT_TRUE(store_->SyncLinks().ok());
    ASSERT_TRUE(files_.FlipBit(path, in_the_footer).ok());
    ASSERT_TRUE(absl::IsDataLoss(store_->SealedState(kDefaultGroup, Id(1)).status()));
    ASSERT_TRUE(Fetch({"n1"}, /*replace_held=*/true).ok());
    if (stage_is_damaged_too) {
      ASSERT_TRUE(files_.FlipBit(path + ".stage", in_the_footer).ok());
    }
    holders_.peers["n1"].asked = 0;
    const auto fetched = Fetch({"n1"}, /*replace_held=*/false, /*entered=*/true);
    ASSERT_TRUE(fetched.ok()) << fetched.status();
    EXPECT_EQ(holders_.peers["n1"].asked > 0, stage_is_damaged_too);
    ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1), sealed_).ok());
    EXPECT_TRUE(Stored() == text_);
    ASSERT_TRUE(store_->Remove(Id(1)).ok());
    ASSERT_TRUE(store_->SyncLinks().ok());
  }
}

TEST_F(FetchJobTest, K6_WhatTheLogEnteredIsNotFetchedOver) {
  auto published = store_->Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(published.ok());
  (*published)->Append(0, Bytes::Copy("published"), home_.get(), [](const auto&) {});
  (*published)->Seal({}, home_.get(), [](const auto&) {});
  ASSERT_TRUE(world_.RunUntilIdle(1min));
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  holders_.peers["b"].text = text_;
  const auto fetched = Fetch({"b"});
  EXPECT_TRUE(absl::IsAlreadyExists(fetched.status())) << fetched.status();
  EXPECT_EQ(Stored(), "published");
  EXPECT_EQ(holders_.peers["b"].asked, 0u);
}

TEST_F(FetchJobTest, K13_AStageThatIsBeingSealedIsWaitedForAndNotAborted) {
  for (const bool same : {true, false}) {
    const std::string there = same ? text_ : Pattern(900'000);
    auto stage = store_->Create({.id = Id(1), .group = kDefaultGroup});
    ASSERT_TRUE(stage.ok());
    (*stage)->Append(0, Bytes::Copy(there), home_.get(), [](const auto&) {});
    absl::StatusOr<blob::Sealed> sealed = absl::UnknownError("not answered");
    (*stage)->Seal({}, home_.get(), [&](absl::StatusOr<blob::Sealed> ended) { sealed = ended; });
    ASSERT_EQ((*stage)->state(), blob::StageState::kSealing);
    holders_.peers["b"] = {.text = text_};
    const auto fetched = Fetch({"b"}, /*replace_held=*/false, /*entered=*/true);
    ASSERT_TRUE(sealed.ok()) << sealed.status();
    EXPECT_EQ(sealed->length, there.size());
    ASSERT_TRUE(fetched.ok()) << fetched.status();
    EXPECT_EQ(fetched->length, text_.size());
    EXPECT_EQ(holders_.peers["b"].asked > 0, !same) << "what was sealed meanwhile is what was wanted";
    EXPECT_EQ(Stored(), text_);
    store_->Find(kDefaultGroup, Id(1))->Drop();
    ASSERT_TRUE(world_.RunUntilIdle(1min));
  }
}

// A server without a descriptor cannot say what it has sealed. A CLOSE may have counted on that.
TEST_F(FetchJobTest, F14_D10_ASealedStageThatCannotBeLookedAtIsNotThrownAway) {
  auto stage = store_->Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(stage.ok());
  (*stage)->Append(0, Bytes::Copy(text_), home_.get(), [](const auto&) {});
  (*stage)->Seal({}, home_.get(), [](const auto&) {});
  ASSERT_TRUE(world_.RunUntilIdle(1min));
  ASSERT_TRUE((*stage)->sealed());
  holders_.peers["b"].text = text_;
  files_.FailNextOpen(".stage");
  const auto fetched = Fetch({"b"});
  EXPECT_TRUE(absl::IsResourceExhausted(fetched.status())) << fetched.status();
  EXPECT_TRUE((*stage)->sealed());
  EXPECT_EQ(Stored(), text_);
  EXPECT_EQ(holders_.peers["b"].asked, 0u);
}

// It may be one of a majority. Only what the log has entered may take its place.
TEST_F(FetchJobTest, D10_D11_ASealedStageOfOtherBytesIsNotThrownAway) {
  auto stage = store_->Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(stage.ok());
  (*stage)->Append(0, Bytes::Copy("other bytes"), home_.get(), [](const auto&) {});
  (*stage)->Seal({}, home_.get(), [](const auto&) {});
  ASSERT_TRUE(world_.RunUntilIdle(1min));
  holders_.peers["b"].text = text_;
  const auto fetched = Fetch({"b"});
  EXPECT_TRUE(absl::IsAlreadyExists(fetched.status())) << fetched.status();
  EXPECT_TRUE(Stored() == "other bytes");
  EXPECT_EQ(holders_.peers["b"].asked, 0u);
  EXPECT_TRUE(Fetch({"b"}, /*replace_held=*/false, /*entered=*/true).ok());
  EXPECT_TRUE(Stored() == text_);
}

TEST_F(FetchJobTest, AnEmptyUploadIsFetchedToo) {
  sealed_ = {.length = 0, .checksum = blob::ChunkList().Checksum(), .digest = {}};
  auto held = Fetch({"n1"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(Stored(), "");
}

}  // namespace
}  // namespace sluice::node
