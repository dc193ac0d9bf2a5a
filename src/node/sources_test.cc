#include "node/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "node/silent_bytes_for_test.h"
#include "sim/sim_executor.h"
#include "sim/world.h"

namespace sluice::node {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// Servers that give out parts of a text, fail, or never answer.
class Holders final : public SilentBytes {
 public:
  FetchWanted last_wanted;
  struct One {
    absl::StatusOr<std::string> text = absl::NotFoundError("no such upload");
    bool silent = false;
    uint64_t asked = 0;
  };
  std::map<std::string, One> peers;

  void Fetch(const raft::Peer& to, const FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, Done<Bytes> done) override {
    last_wanted = wanted;
    One& one = peers[to.id.value];
    ++one.asked;
    if (one.silent) return;
    absl::StatusOr<Bytes> data = Bytes();
    if (one.text.ok()) {
      data = Bytes::Copy(one.text->substr(offset, count));
    } else {
      data = one.text.status();
    }
    reply_on->PostAfter(
        2ms, [done = std::move(done), data = std::move(data)]() mutable { done(std::move(data)); });
  }
};

// A local copy whose bytes from `good` on are damaged.
class DamagedSource final : public blob::Source {
 public:
  DamagedSource(std::string text, uint64_t good) : text_(std::move(text)), good_(good) {}
  uint64_t length() const override { return text_.size(); }
  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on,
            blob::Upload::Done<Bytes> done) override {
    ++reads;
    absl::StatusOr<Bytes> data = Bytes::Copy(text_.substr(offset, count));
    if (offset + count > good_) data = absl::DataLossError("chunk 0 of blobs/aa/x at 0: checksum");
    reply_on->Post([done = std::move(done), data = std::move(data)]() mutable { done(std::move(data)); });
  }
  int reads = 0;

 private:
  const std::string text_;
  const uint64_t good_;
};

class SourcesTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Read(blob::Source& source, uint64_t offset, uint64_t count) {
    std::optional<absl::StatusOr<Bytes>> data;
    source.Read(offset, count, home_.get(), [&](absl::StatusOr<Bytes> read) {
      EXPECT_FALSE(data.has_value());
      EXPECT_TRUE(home_->RunsHere());
      data = std::move(read);
    });
    EXPECT_FALSE(data.has_value());
    EXPECT_TRUE(world_.RunUntil([&] { return data.has_value(); }, 1min));
    if (!data->ok()) return data->status();
    return (*data)->ToString();
  }
  std::shared_ptr<RemoteSource> Remote(std::vector<std::string> sources,
                                       absl::Status here = absl::OkStatus()) {
    RemoteParts parts;
    parts.here = std::move(here);
    parts.bytes = &holders_;
    parts.clock = &world_;
    parts.wanted = {kDefaultGroup, {ClientId{{1}}, CallId{2}}, 10, 77};
    for (std::string& id : sources) parts.sources.emplace_back().id.value = std::move(id);
    return std::make_shared<RemoteSource>(std::move(parts));
  }

  sim::World world_{3};
  sim::Process process_;
  sim::SimExecutors executors_{world_, process_};
  std::unique_ptr<env::Executor> home_ = executors_.NewExecutor("home");
  Holders holders_;
};

TEST_F(SourcesTest, InlineKeepsTheRulesOfASource) {
  InlineSource source(Bytes::Copy("0123456789"));
  EXPECT_EQ(*Read(source, 2, 3), "234");
  EXPECT_EQ(*Read(source, 8, 100), "89");
  EXPECT_EQ(*Read(source, 10, 1), "");
  EXPECT_EQ(Read(source, 11, 1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Read(source, 0, blob::kReadBytesMax + 1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SourcesTest, F25_RemoteReadsFromTheFirstThatHasItAndStaysThere) {
  holders_.peers["n2"].text = "0123456789";
  auto source = Remote({"n1", "n2", "n3"});
  EXPECT_EQ(*Read(*source, 2, 3), "234");
  EXPECT_EQ(*Read(*source, 8, 100), "89");
  EXPECT_EQ(holders_.peers["n1"].asked, 1u);
  EXPECT_EQ(holders_.peers["n2"].asked, 2u);
  EXPECT_EQ(holders_.peers["n3"].asked, 0u);
}

TEST_F(SourcesTest, RemoteKeepsTheRulesOfASource) {
  holders_.peers["n1"].text = "0123456789";
  auto source = Remote({"n1"});
  EXPECT_EQ(*Read(*source, 10, 5), "");
  EXPECT_EQ(Read(*source, 11, 1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Read(*source, 0, blob::kReadBytesMax + 1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SourcesTest, RemoteNeverGivesAShortRead) {
  holders_.peers["n1"].text = "01234";
  holders_.peers["n2"].text = "0123456789";
  EXPECT_EQ(*Read(*Remote({"n1", "n2"}), 3, 4), "3456");
}

TEST_F(SourcesTest, ASilentHolderIsPassedOver) {
  holders_.peers["n1"].silent = true;
  holders_.peers["n2"].text = "0123456789";
  const env::Instant start = world_.MonotonicNow();
  EXPECT_EQ(*Read(*Remote({"n1", "n2"}), 0, 10), "0123456789");
  EXPECT_LT(world_.MonotonicNow() - start, 4s);
}

TEST_F(SourcesTest, D14_RemoteIsUnavailableAfterTenSecondsAndNamesWhomItAsked) {
  holders_.peers["n2"].silent = true;
  const env::Instant start = world_.MonotonicNow();
  auto read = Read(*Remote({"n1", "n2"}), 0, 10);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("[n1, n2]"));
  EXPECT_GE(world_.MonotonicNow() - start, 10s);
  EXPECT_LE(world_.MonotonicNow() - start, 11s);
  EXPECT_GT(holders_.peers["n1"].asked, 1u);
  // What each says that it lacks may have been removed meanwhile; what is damaged everywhere is lost.
  EXPECT_EQ(Read(*Remote({"n1", "n3"}), 0, 10).status().code(), absl::StatusCode::kUnavailable);
  for (const char* peer : {"n1", "n3"}) holders_.peers[peer].text = absl::DataLossError("a bad chunk");
  EXPECT_EQ(Read(*Remote({"n1", "n3"}), 0, 10).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read(*Remote({}), 0, 1).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read(*Remote({}, absl::NotFoundError("no file")), 0, 1).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(SourcesTest, AHolderThatComesBackInTimeServesTheRead) {
  auto source = Remote({"n1"});
  world_.After(5s, [&] { holders_.peers["n1"].text = "0123456789"; });
  EXPECT_EQ(*Read(*source, 0, 10), "0123456789");
}

TEST_F(SourcesTest, F24_ADamagedCopyIsReportedOnceAndReadFromAHolder) {
  holders_.peers["n1"].text = "0123456789";
  auto local = std::make_shared<DamagedSource>("01234XXXXX", 5);
  int damages = 0;
  int fallbacks = 0;
  auto source = std::make_shared<RepairingSource>(
      local,
      [&] {
        ++fallbacks;
        return Remote({"n1"});
      },
      [&] { ++damages; });
  EXPECT_EQ(*Read(*source, 0, 4), "0123");
  EXPECT_EQ(damages, 0);
  EXPECT_EQ(fallbacks, 0);
  EXPECT_EQ(*Read(*source, 4, 4), "4567");
  EXPECT_EQ(*Read(*source, 0, 4), "0123");
  EXPECT_EQ(*Read(*source, 6, 4), "6789");
  EXPECT_EQ(damages, 1);
  EXPECT_EQ(fallbacks, 1);
  EXPECT_EQ(holders_.peers["n1"].asked, 2u) << "what is whole here is read here";
}

TEST_F(SourcesTest, F24_WithoutAnotherCopyNoWrongByteLeaves) {
  for (const bool damaged : {true, false}) {
    holders_.peers["n1"].text = damaged ? absl::DataLossError("a bad chunk") : absl::UnavailableError("away");
    auto local = std::make_shared<DamagedSource>("01234XXXXX", 5);
    auto source = std::make_shared<RepairingSource>(
        local, [&] { return Remote({"n1"}); }, nullptr);
    const absl::Status lost = Read(*source, 4, 4).status();
    EXPECT_EQ(lost.code(), damaged ? absl::StatusCode::kDataLoss : absl::StatusCode::kUnavailable) << lost;
    if (damaged) {
      EXPECT_THAT(std::string(lost.message()), HasSubstr("chunk 0 of blobs/aa/x at 0"));
    }
    EXPECT_EQ(*Read(*source, 1, 3), "123") << "what is whole here is served";
  }
}

TEST_F(SourcesTest, K6_WhatIsAskedOfAnotherServerIsNamedWithLengthAndChecksum) {
  holders_.peers["b"].text = "0123456789";
  EXPECT_EQ(*Read(*Remote({"b"}), 2, 3), "234");
  EXPECT_EQ(holders_.last_wanted.upload.call.value, 2u);
  EXPECT_EQ(holders_.last_wanted.length, 10u);
  EXPECT_EQ(holders_.last_wanted.checksum, 77u);
}

TEST_F(SourcesTest, K8_ContentsAreComparedToTheLastByte) {
  const std::string text(3'500'000, 'x');
  std::string last = text;
  last.back() = 'y';
  const auto compare = [&](std::shared_ptr<blob::Source> a, std::shared_ptr<blob::Source> b) {
    std::optional<absl::StatusOr<bool>> same;
    CompareBytes(std::move(a), std::move(b), home_.get(), [&](absl::StatusOr<bool> ended) { same = ended; });
    EXPECT_TRUE(world_.RunUntil([&] { return same.has_value(); }, 1min));
    return *same;
  };
  const auto inlined = [](const std::string& bytes) {
    return std::make_shared<InlineSource>(Bytes::Copy(bytes));
  };
  EXPECT_TRUE(*compare(inlined(text), inlined(text)));
  EXPECT_FALSE(*compare(inlined(text), inlined(last)));
  EXPECT_FALSE(*compare(inlined(text), inlined(text + "x")));
  EXPECT_TRUE(*compare(inlined(""), inlined("")));
  const auto damaged = compare(inlined(text), std::make_shared<DamagedSource>(text, 2'000'000));
  EXPECT_TRUE(absl::IsDataLoss(damaged.status()));
}

}  // namespace
}  // namespace sluice::node
