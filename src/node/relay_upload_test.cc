#include "node/relay_upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/log.h"
#include "blob/chunks.h"
#include "node/silent_bytes_for_test.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::node {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

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

// Successors that take down what they get; each answers, fails or stays silent as it is told.
class Successors final : public SilentBytes {
 public:
  struct One {
    std::string got;
    std::optional<uint64_t> closed_at;
    bool silent = false;
    env::Duration answers_after = 5ms;
    absl::Status fails;
    bool gone = false;  // its sink was dropped
    bool taken_over = false;
    uint32_t damage = 0;  // to the checksum of what it seals
    uint64_t in_flight = 0;
    uint64_t most_in_flight = 0;
  };
  std::map<std::string, One> peers;

  std::unique_ptr<ByteSink> Open(env::Executor* home, const raft::Peer& to, const StreamHeader& header,
                                 ByteSink::Opened opened) override {
    One& one = peers[to.id.value];
    EXPECT_EQ(header.take_over.has_value(), opened != nullptr);
    one.taken_over = header.take_over.has_value();
    if (opened && !one.silent) {
      home->PostAfter(5ms, [&one, opened = std::move(opened)]() mutable {
        if (!one.fails.ok()) return opened(one.fails);
        opened(one.got.size());
      });
    }
    return std::make_unique<Sink>(home, one);
  }

 private:
  class Sink final : public ByteSink {
   public:
    Sink(env::Executor* home, One& one) : home_(home), one_(one) {}
    ~Sink() override {
      EXPECT_TRUE(home_->RunsHere());
      one_.gone = true;
    }
    void Append(uint64_t offset, Bytes piece, Done done) override {
      EXPECT_EQ(offset, one_.got.size());
      one_.got += piece.ToString();
      one_.in_flight += piece.size();
      one_.most_in_flight = std::max(one_.most_in_flight, one_.in_flight);
      Answer([&one = one_, size = piece.size(), done = std::move(done)](absl::Status status) mutable {
        one.in_flight -= size;
        done(std::move(status));
      });
    }
    void Close(uint64_t offset, Closed done) override {
      one_.closed_at = offset;
      blob::ChunkList chunks;
      chunks.Extend(Bytes::Copy(one_.got));
      const blob::Sealed held{one_.got.size(), chunks.Checksum() ^ one_.damage, {}};
      Answer([done = std::move(done), held](absl::Status status) mutable {
        if (!status.ok()) return done(status);
        done(held);
      });
    }

   private:
    void Answer(Done done) {
      if (one_.silent) return;
      home_->PostAfter(one_.answers_after,
                       [done = std::move(done), status = one_.fails]() mutable { done(std::move(status)); });
    }
    env::Executor* home_;
    One& one_;
  };
};

class RelayUploadTest : public ::testing::Test {
 protected:
  RelayUploadTest() : home_(executors_.NewExecutor("home")), disk_(executors_.NewExecutor("disk")) {
    options_.reserve_bytes = 0;
    OpenStore();
    parts_.header.group = kDefaultGroup;
    parts_.header.upload = Id(1);
    parts_.header.blob.compute_digest = false;
    parts_.context = "header";
    parts_.home = home_.get();
    parts_.files = disk_.get();
    parts_.bytes = &successors_;
    parts_.window_bytes = 1000;
    parts_.self = {"n0"};
  }
  void OpenStore() {
    store_.reset();
    auto store = blob::Store::Open(files_, executors_, world_, "/blob", options_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(store).value();
    parts_.store = store_.get();
  }
  void ConfirmWith(absl::Status status) {
    parts_.confirm = [this, status](SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done) {
      EXPECT_TRUE(home_->RunsHere());
      confirmed_.push_back(std::move(upload));
      // Answered from a thread that is not home.
      disk_->Post([done = std::move(done), status]() mutable { done(status); });
    };
  }
  void Make() { relay_ = std::make_shared<RelayUpload>(std::move(parts_)); }
  void Open(std::vector<std::string> peers) {
    std::vector<Downstream> list;
    for (std::string& id : peers) list.emplace_back().peer.id.value = std::move(id);
    OpenTo(std::move(list));
  }
  void OpenTo(std::vector<Downstream> list) {
    home_->Post([this, list] { relay_->Open(list, [this](absl::Status status) { opened_ = status; }); });
  }
  // n1, which passes on to n2, and so on.
  static Downstream ChainOf(size_t first, size_t last) {
    Downstream head;
    head.peer.id.value = fmt::format("n{}", first);
    if (first < last) head.below.push_back(ChainOf(first + 1, last));
    return head;
  }
  // Calls are made in one task of home each; their ends are noted under `label`.
  void Append(uint64_t offset, std::string text, std::string label, std::shared_ptr<Relay> to = nullptr) {
    if (to == nullptr) to = relay_;
    home_->Post([this, to, offset, text, label] {
      to->Append(offset, Bytes::Copy(text), [this, label](absl::Status status) { Note(label, status); });
    });
  }
  void Close(std::string label = "close", std::shared_ptr<Relay> to = nullptr) {
    if (to == nullptr) to = relay_;
    home_->Post([this, to, label] {
      to->Close([this, label](absl::StatusOr<blob::Sealed> sealed) {
        Note(label, sealed.status());
        if (sealed.ok()) sealed_ = *sealed;
      });
    });
  }
  void Note(const std::string& label, absl::Status status) {
    EXPECT_TRUE(home_->RunsHere());
    EXPECT_FALSE(ends_.contains(label)) << label << " is answered twice";
    order_.push_back(label);
    ends_[label] = std::move(status);
  }
  absl::StatusCode CodeOf(const std::string& label) {
    EXPECT_TRUE(ends_.contains(label)) << label << " is not answered";
    return ends_[label].code();
  }
  bool RunUntilAnswered(const std::string& label) {
    return world_.RunUntil([&] { return ends_.contains(label); }, 60s);
  }
  std::string Stored() {
    auto source = store_->OpenSource(kDefaultGroup, Id(1));
    if (!source.ok()) return std::string(source.status().message());
    std::optional<absl::StatusOr<Bytes>> data;
    (*source)->Read(0, 1 << 20, home_.get(), [&](absl::StatusOr<Bytes> read) { data = std::move(read); });
    world_.RunUntil([&] { return data.has_value(); }, 10s);
    return data->ok() ? (*data)->ToString() : std::string(data->status().message());
  }

  // What a dropped relay still answers comes while the notes of it are there.
  void TearDown() override {
    relay_.reset();
    world_.RunFor(std::chrono::milliseconds(10));
  }

  sim::World world_{11};
  sim::Process process_;
  sim::SimExecutors executors_{world_, process_};
  sim::SimFiles files_;
  Successors successors_;  // outlives the executors: what they still run drops its streams
  std::unique_ptr<env::Executor> home_;
  std::unique_ptr<env::Executor> disk_;
  blob::StoreOptions options_;
  std::unique_ptr<blob::Store> store_;
  RelayParts parts_;
  std::shared_ptr<RelayUpload> relay_;
  std::optional<absl::Status> opened_;
  std::map<std::string, absl::Status> ends_;
  std::vector<std::string> order_;
  std::optional<blob::Sealed> sealed_;
  std::vector<SealedUpload> confirmed_;
};

TEST_F(RelayUploadTest, WritesPassesOnAndConfirmsWithAllHolders) {
  ConfirmWith(absl::OkStatus());
  Make();
  Append(0, "abc", "early");  // before it is open
  Open({"n1", "n2"});
  Append(3, "defg", "second");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_THAT(order_, ElementsAre("early", "second", "close"));
  for (const auto& [label, status] : ends_) EXPECT_TRUE(status.ok()) << label << status;
  EXPECT_TRUE(opened_ && opened_->ok());
  ASSERT_TRUE(sealed_);
  EXPECT_EQ(sealed_->length, 7u);
  EXPECT_EQ(Stored(), "abcdefg");
  for (const char* id : {"n1", "n2"}) {
    EXPECT_EQ(successors_.peers[id].got, "abcdefg");
    EXPECT_EQ(successors_.peers[id].closed_at, 7u);
    EXPECT_TRUE(successors_.peers[id].gone);
  }
  ASSERT_EQ(confirmed_.size(), 1u);
  EXPECT_THAT(confirmed_[0].holders, ElementsAre(PeerId{"n0"}, PeerId{"n1"}, PeerId{"n2"}));
  EXPECT_EQ(confirmed_[0].sealed, *sealed_);

  // A second Close has the same answer and asks nobody; nothing can be added.
  Close("again");
  Append(7, "x", "late");
  ASSERT_TRUE(RunUntilAnswered("late"));
  EXPECT_EQ(CodeOf("again"), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf("late"), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(confirmed_.size(), 1u);
  EXPECT_FALSE(relay_->failed());
}

TEST_F(RelayUploadTest, APieceIsAnsweredOnlyWhenEverySuccessorHasAnswered) {
  parts_.silence = 1h;
  Make();
  successors_.peers["n1"].silent = true;
  Open({"n1"});
  Append(0, "abc", "piece");
  world_.RunFor(10s);
  EXPECT_FALSE(ends_.contains("piece"));
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1))->length(), 3u);
}

TEST_F(RelayUploadTest, F69_WrongOffsetFailsHereAndDownstreamBeforeAnythingIsWritten) {
  for (const uint64_t wrong : {0u, 2u, 9u}) {  // replayed, overlapping, ahead
    ends_.clear();
    successors_.peers.clear();
    parts_.header.upload = Id(1);
    RelayParts again;
    again.header = parts_.header;
    again.home = home_.get();
    again.files = disk_.get();
    again.store = store_.get();
    again.bytes = &successors_;
    relay_ = std::make_shared<RelayUpload>(std::move(again));
    Open({"n1"});
    Append(0, "abc", "good");
    ASSERT_TRUE(RunUntilAnswered("good"));
    Append(wrong, "zz", "wrong");
    ASSERT_TRUE(RunUntilAnswered("wrong"));
    EXPECT_EQ(CodeOf("good"), absl::StatusCode::kOk);
    EXPECT_EQ(CodeOf("wrong"), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(successors_.peers["n1"].got, "abc");
    ASSERT_TRUE(world_.RunUntil([&] { return successors_.peers["n1"].gone; }, 1s));
    EXPECT_TRUE(relay_->failed());
    EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
    Append(3, "d", "after");
    ASSERT_TRUE(RunUntilAnswered("after"));
    EXPECT_EQ(CodeOf("after"), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(RelayUploadTest, D19_ByNameAWrongOffsetRefusesTheCallAndKeepsWhatIsThere) {
  parts_.keep_on_bad_offset = true;
  parts_.header.blob.expected_length = 6;
  Make();
  Open({"n1"});
  Append(0, "abc", "one");
  Append(7, "zz", "wrong");
  Append(3, "defg", "too long");
  Close("too early");
  Append(3, "def", "two");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_THAT(order_, ElementsAre("one", "wrong", "too long", "too early", "two", "close"));
  for (const char* label : {"wrong", "too long", "too early"}) {
    EXPECT_EQ(CodeOf(label), absl::StatusCode::kInvalidArgument) << label;
  }
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdef");
}

TEST_F(RelayUploadTest, LengthOtherThanAnnouncedFailsTheUpload) {
  parts_.header.blob.expected_length = 4;
  Make();
  Open({});
  Append(0, "abc", "one");
  Close("short");
  ASSERT_TRUE(RunUntilAnswered("short"));
  EXPECT_EQ(CodeOf("short"), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(relay_->failed());
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(RelayUploadTest, F72_D09_OneThatSealsOtherBytesIsNoHolder) {
  ConfirmWith(absl::OkStatus());
  Make();
  successors_.peers["n1"].damage = 1;
  Open({"n1", "n2"});
  Append(0, "abc", "one");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_THAT(confirmed_.at(0).holders, ElementsAre(PeerId{"n0"}, PeerId{"n2"}));
}

TEST_F(RelayUploadTest, K6_F70_AnIdThatMayNotBeUsedIsRefusedBeforeAStageIsMade) {
  parts_.may_open = [](const UploadId& id) {
    return id == Id(1) ? absl::AlreadyExistsError("it was entered already") : absl::OkStatus();
  };
  Make();
  Open({"n1"});
  Append(0, "abc", "one");
  ASSERT_TRUE(RunUntilAnswered("one"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
  EXPECT_EQ(successors_.peers["n1"].got, "");
}

TEST_F(RelayUploadTest, K16_ADroppedRelayLeavesItsStageAtRest) {
  options_.uploads_max = 1;
  OpenStore();
  for (int round = 0; round < 3; ++round) {
    parts_.header.upload = Id(static_cast<uint64_t>(round) + 1);
    RelayParts parts;
    parts.header = parts_.header;
    parts.home = home_.get();
    parts.files = disk_.get();
    parts.store = store_.get();
    parts.bytes = &successors_;
    relay_ = std::make_shared<RelayUpload>(std::move(parts));
    Open({});
    const std::string name = fmt::format("round {}", round);
    Append(0, "abc", name);
    ASSERT_TRUE(RunUntilAnswered(name));
    EXPECT_EQ(CodeOf(name), absl::StatusCode::kOk);
    relay_.reset();
    ASSERT_TRUE(world_.RunUntilIdle(1s));
    EXPECT_EQ(store_->Find(kDefaultGroup, parts_.header.upload)->durable_length(), 3u);
  }
}

TEST_F(RelayUploadTest, D15_ASuccessorThatFailsIsLeftBehindAndIsNoHolder) {
  ConfirmWith(absl::OkStatus());
  Make();
  successors_.peers["n1"].fails = absl::UnavailableError("connection reset");
  Open({"n1", "n2"});
  Append(0, "abc", "one");
  ASSERT_TRUE(RunUntilAnswered("one"));
  Append(3, "def", "two");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(successors_.peers["n1"].got, "abc");
  ASSERT_EQ(confirmed_.size(), 1u);
  EXPECT_THAT(confirmed_[0].holders, ElementsAre(PeerId{"n0"}, PeerId{"n2"}));
}

TEST_F(RelayUploadTest, F72_ASuccessorThatAnswersOutOfOrderIsLeftBehindAndIsNoHolder) {
  ConfirmWith(absl::OkStatus());
  Make();
  successors_.peers["n1"].answers_after = 50ms;
  Open({"n1", "n2"});
  Append(0, "abc", "one");
  ASSERT_TRUE(world_.RunUntil([&] { return !successors_.peers["n1"].got.empty(); }, 1s));
  successors_.peers["n1"].answers_after = 5ms;
  Append(3, "def", "two");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_TRUE(successors_.peers["n1"].gone);
  ASSERT_EQ(confirmed_.size(), 1u);
  EXPECT_THAT(confirmed_[0].holders, ElementsAre(PeerId{"n0"}, PeerId{"n2"}));
}

TEST_F(RelayUploadTest, D15_ASilentSuccessorIsLeftBehindAfterTheSilence) {
  ConfirmWith(absl::OkStatus());
  Make();
  successors_.peers["n2"].silent = true;
  const env::Instant start = world_.MonotonicNow();
  Open({"n1", "n2"});
  Append(0, "abc", "one");
  Close();
  ASSERT_TRUE(RunUntilAnswered("one"));
  EXPECT_GE(world_.MonotonicNow() - start, 2s);
  EXPECT_LE(world_.MonotonicNow() - start, 3s);
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_THAT(confirmed_.at(0).holders, ElementsAre(PeerId{"n0"}, PeerId{"n1"}));
  // Nothing is left that ticks.
  EXPECT_TRUE(world_.RunUntilIdle(1min));
}

TEST_F(RelayUploadTest, D15_SilenceIsNotCountedWhileNothingIsAskedOfASuccessor) {
  ConfirmWith(absl::OkStatus());
  Make();
  Open({"n1"});
  for (uint64_t i = 0; i < 3; ++i) {
    Append(i, "a", fmt::format("{}", i));
    ASSERT_TRUE(RunUntilAnswered(fmt::format("{}", i)));
    world_.RunFor(10s);
  }
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_THAT(confirmed_.at(0).holders, ElementsAre(PeerId{"n0"}, PeerId{"n1"}));
}

// The second of three is lost; the third, which has a part, gets the rest from here.
class RelayTakeOver : public RelayUploadTest {
 protected:
  // Pieces of 100 bytes, one after the other.
  void AppendTo(uint64_t end) {
    for (; sent_ < end; sent_ += 100) {
      const std::string label = fmt::format("{}", sent_);
      Append(sent_, content_.substr(sent_, 100), label);
      ASSERT_TRUE(RunUntilAnswered(label));
      EXPECT_EQ(CodeOf(label), absl::StatusCode::kOk);
    }
  }
  void ExpectClosed(std::vector<std::string> holders) {
    Close();
    ASSERT_TRUE(RunUntilAnswered("close"));
    EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
    EXPECT_EQ(Stored(), content_);
    ASSERT_EQ(confirmed_.size(), 1u);
    std::vector<std::string> ids;
    for (const PeerId& id : confirmed_[0].holders) ids.push_back(id.value);
    EXPECT_EQ(ids, holders);
    EXPECT_TRUE(world_.RunUntilIdle(1min)) << "something goes on ticking";
  }
  std::string content_ = Pattern(4000);
  uint64_t sent_ = 0;
};

TEST_F(RelayTakeOver, D15_TheServerBehindADeadOneGetsTheRestOutOfTheStage) {
  ConfirmWith(absl::OkStatus());
  Make();
  OpenTo({ChainOf(1, 2)});
  AppendTo(3000);
  auto& last = successors_.peers["n2"];
  last.got = content_.substr(0, 1234);  // what came through n1
  successors_.peers["n1"].fails = absl::UnavailableError("connection reset");
  AppendTo(4000);
  ExpectClosed({"n0", "n2"});
  EXPECT_TRUE(last.taken_over);
  EXPECT_EQ(last.got, content_);
  EXPECT_EQ(last.closed_at, 4000u);
  EXPECT_LE(last.most_in_flight, 500u) << "half of the window";
}

TEST_F(RelayTakeOver, D15_F50_AFrozenServerIsPassedByAfterItsSilence) {
  ConfirmWith(absl::OkStatus());
  Make();
  OpenTo({ChainOf(1, 2)});
  AppendTo(2000);
  successors_.peers["n2"].got = content_.substr(0, 2000);
  successors_.peers["n1"].silent = true;
  const env::Instant start = world_.MonotonicNow();
  AppendTo(2100);
  // Longer than for the last of a chain: the one before it must be the first to notice.
  EXPECT_GE(world_.MonotonicNow() - start, 3s);
  EXPECT_LE(world_.MonotonicNow() - start, 4s);
  AppendTo(4000);
  ExpectClosed({"n0", "n2"});
  EXPECT_EQ(successors_.peers["n2"].got, content_);
}

TEST_F(RelayTakeOver, D15_ServersThatFailInTurnArePassedByInTurn) {
  ConfirmWith(absl::OkStatus());
  Make();
  for (const char* id : {"n1", "n2"}) successors_.peers[id].fails = absl::UnavailableError("down");
  OpenTo({ChainOf(1, 4)});
  AppendTo(4000);
  ExpectClosed({"n0", "n3"});
  EXPECT_TRUE(successors_.peers["n3"].taken_over);
  EXPECT_EQ(successors_.peers["n3"].got, content_);
  EXPECT_FALSE(successors_.peers.contains("n4")) << "that one is n3's to reach";
}

TEST_F(RelayTakeOver, D15_AfterTheSealTheRestComesOutOfTheSealedStage) {
  ConfirmWith(absl::OkStatus());
  Make();
  OpenTo({ChainOf(1, 2)});
  AppendTo(4000);
  successors_.peers["n1"].silent = true;  // at the close
  ExpectClosed({"n0", "n2"});
  EXPECT_EQ(successors_.peers["n2"].got, content_);
  EXPECT_EQ(successors_.peers["n2"].closed_at, 4000u);
}

TEST_F(RelayTakeOver, D15_OneThatHasMoreThanIsHereIsLeftBehind) {
  ConfirmWith(absl::OkStatus());
  Make();
  successors_.peers["n1"].fails = absl::UnavailableError("down");
  successors_.peers["n2"].got = std::string(5000, 'x');  // of before a crash that took the end here
  OpenTo({ChainOf(1, 2)});
  AppendTo(4000);
  ExpectClosed({"n0"});
  EXPECT_EQ(successors_.peers["n2"].got.size(), 5000u);
}

TEST_F(RelayTakeOver, D15_ATakenOverServerThatFallsSilentIsLeftBehind) {
  ConfirmWith(absl::OkStatus());
  Make();
  OpenTo({ChainOf(1, 2)});
  successors_.peers["n1"].fails = absl::UnavailableError("down");
  AppendTo(2000);
  successors_.peers["n2"].silent = true;
  AppendTo(4000);
  ExpectClosed({"n0"});
}

TEST_F(RelayTakeOver, D15_AppendsDoNotWaitWhileItCatchesUpAndDoAfterwards) {
  ConfirmWith(absl::OkStatus());
  Make();
  OpenTo({ChainOf(1, 2)});
  AppendTo(3000);
  successors_.peers["n1"].fails = absl::UnavailableError("down");
  Append(3000, content_.substr(3000, 100), "3000");
  ASSERT_TRUE(RunUntilAnswered("3000"));
  EXPECT_LT(successors_.peers["n2"].got.size(), 3000u);
  sent_ = 3100;
  ASSERT_TRUE(world_.RunUntil([&] { return successors_.peers["n2"].got.size() == 3100; }, 10s));
  world_.RunFor(10ms);
  successors_.peers["n2"].silent = true;
  Append(3100, content_.substr(3100, 100), "waits");
  world_.RunFor(1s);
  EXPECT_FALSE(ends_.contains("waits"));
  ASSERT_TRUE(RunUntilAnswered("waits"));  // left behind
}

TEST_F(RelayTakeOver, D15_ARelayThatTakesOverGoesOnWithTheStageAndFencesTheOneBefore) {
  const auto parts = [&](bool take_over) {
    RelayParts made;
    made.header = parts_.header;
    if (take_over) made.header.take_over = 6;
    made.home = home_.get();
    made.files = disk_.get();
    made.store = store_.get();
    made.bytes = &successors_;
    return made;
  };
  relay_ = std::make_shared<RelayUpload>(parts(false));
  Open({});
  Append(0, "abc", "before");
  ASSERT_TRUE(RunUntilAnswered("before"));
  auto before = relay_;
  Append(3, "def", "on its way", before);
  home_->Post([before] { before->GiveWay(absl::AbortedError("another way")); });
  relay_ = std::make_shared<RelayUpload>(parts(true));
  opened_.reset();
  OpenTo({ChainOf(1, 1)});
  Append(6, "late", "fenced", before);
  ASSERT_TRUE(RunUntilAnswered("fenced"));
  EXPECT_EQ(CodeOf("fenced"), absl::StatusCode::kAborted);
  ASSERT_TRUE(world_.RunUntil([&] { return opened_.has_value(); }, 1s));
  EXPECT_TRUE(opened_->ok()) << *opened_;
  EXPECT_EQ(relay_->length(), 6u);
  Append(6, "ghi", "after");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdefghi");
  EXPECT_TRUE(successors_.peers["n1"].taken_over);
  EXPECT_EQ(successors_.peers["n1"].got, "abcdefghi");
}

TEST_F(RelayTakeOver, D15_F35_OneThatHasMoreThanTheSenderBeginsAgain) {
  auto longer = store_->Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(longer.ok());
  std::optional<absl::StatusOr<uint64_t>> appended;
  (*longer)->Append(0, Bytes::Copy("abcXYZ"), home_.get(), [&](auto length) { appended = length; });
  ASSERT_TRUE(world_.RunUntil([&] { return appended.has_value(); }, 1s));
  parts_.header.take_over = 3;
  Make();
  Open({});
  ASSERT_TRUE(world_.RunUntil([&] { return opened_.has_value(); }, 1s));
  EXPECT_TRUE(opened_->ok()) << *opened_;
  EXPECT_EQ(relay_->length(), 0u);
  Append(0, "abc", "again");
  Append(3, "def", "and on");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdef");
}

TEST_F(RelayUploadTest, D15_InRatisModeAFailingSuccessorFailsTheUpload) {
  parts_.lenient = false;
  Make();
  successors_.peers["n1"].fails = absl::UnavailableError("connection reset");
  Open({"n1", "n2"});
  Append(0, "abc", "one");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kUnavailable);
}

TEST_F(RelayUploadTest, D11_CloseIsRefusedUntilAMajorityIsConfirmedAndMayBeRepeated) {
  int asked = 0;
  parts_.confirm = [&](SealedUpload, absl::AnyInvocable<void(absl::Status)> done) {
    done(++asked == 1 ? absl::UnavailableError("one of three holds it") : absl::OkStatus());
  };
  Make();
  Open({});
  Append(0, "abc", "one");
  Close("first");
  ASSERT_TRUE(RunUntilAnswered("first"));
  EXPECT_EQ(CodeOf("first"), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(relay_->sealed());
  Close("second");
  ASSERT_TRUE(RunUntilAnswered("second"));
  EXPECT_EQ(CodeOf("second"), absl::StatusCode::kOk);
  EXPECT_EQ(asked, 2);
}

TEST_F(RelayUploadTest, WhatExceedsTheWindowIsRefusedAndTheRestGoesOn) {
  Make();
  Open({"n1"});
  Append(0, Pattern(600), "one");
  Append(600, Pattern(401), "beyond");
  Append(600, Pattern(400), "two");
  ASSERT_TRUE(RunUntilAnswered("two"));
  EXPECT_THAT(order_, ElementsAre("one", "beyond", "two"));
  EXPECT_EQ(CodeOf("beyond"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CodeOf("two"), absl::StatusCode::kOk);
  Append(1000, Pattern(1000), "three");  // the window is free again
  ASSERT_TRUE(RunUntilAnswered("three"));
  EXPECT_EQ(CodeOf("three"), absl::StatusCode::kOk);
}

TEST_F(RelayUploadTest, DigestOtherThanAnnouncedFailsTheClose) {
  ConfirmWith(absl::OkStatus());
  parts_.header.blob.compute_digest = true;
  DigestBuilder other;
  other.Update("something else");
  parts_.header.blob.expected_digest = other.Finish();
  Make();
  Open({});
  Append(0, "abc", "one");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(confirmed_.empty());
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(RelayUploadTest, ADigestMayBeExpectedAsLateAsBeforeTheClose) {
  ConfirmWith(absl::OkStatus());
  parts_.header.blob.compute_digest = true;
  Make();
  Open({});
  Append(0, "abc", "one");
  home_->Post([this] {
    DigestBuilder other;
    other.Update("something else");
    relay_->ExpectDigest(other.Finish());
  });
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(confirmed_.empty());
}

TEST_F(RelayUploadTest, ARefusedHeaderFailsWhatWasQueued) {
  Make();
  Append(0, "abc", "one");
  Close();
  home_->Post([this] {
    relay_->Open(absl::NotFoundError("no such group"), [this](absl::Status status) { opened_ = status; });
  });
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_THAT(order_, ElementsAre("one", "close"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kNotFound);
  EXPECT_EQ(opened_->code(), absl::StatusCode::kNotFound);
}

TEST_F(RelayUploadTest, ASecondUploadOfAnIdIsRefusedAndTheFirstIsUntouched) {
  ASSERT_TRUE(store_->Create({.id = Id(1), .group = kDefaultGroup}).ok());
  Make();
  Open({});
  Append(0, "abc", "one");
  ASSERT_TRUE(RunUntilAnswered("one"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(RelayUploadTest, F27_ADroppedRelayAnswersGivesItsStreamsUpAndLeavesTheStage) {
  Make();
  successors_.peers["n1"].silent = true;
  Open({"n1"});
  Append(0, "abc", "one");
  ASSERT_TRUE(world_.RunUntil(
      [&] {
        return store_->Find(kDefaultGroup, Id(1)) != nullptr &&
               store_->Find(kDefaultGroup, Id(1))->length() == 3;
      },
      1s));
  relay_.reset();  // not on home
  ASSERT_TRUE(RunUntilAnswered("one"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kAborted);
  EXPECT_TRUE(successors_.peers["n1"].gone);
  EXPECT_NE(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(RelayUploadTest, F40_K18_WhatGivesWayWhileItIsOpenedAnswersAtOnce) {
  Make();
  Open({});
  Append(0, "abc", "one");
  home_->Post([this] {
    relay_->GiveWay(absl::UnavailableError("the server is stopping"));
    ASSERT_TRUE(opened_.has_value()) << "waits for a stage that a stopped executor never brings";
    EXPECT_EQ(opened_->code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(ends_.contains("one"));
  });
  ASSERT_TRUE(RunUntilAnswered("one"));
  EXPECT_EQ(CodeOf("one"), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(world_.RunUntilIdle(1min));
}

TEST_F(RelayUploadTest, AbortDropsAnOpenStageButNeverASealedOne) {
  Make();
  Open({});
  Append(0, "abc", "one");
  ASSERT_TRUE(RunUntilAnswered("one"));
  Close();
  home_->Post([this] { relay_->Abort(); });  // while it is being sealed
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kCancelled);
  ASSERT_TRUE(world_.RunUntil([&] { return store_->Find(kDefaultGroup, Id(1))->sealed(); }, 1s));
  EXPECT_EQ(Stored(), "abc");
}

TEST_F(RelayUploadTest, D20_ATakenUpUploadGoesOnAtItsDurableLengthAfterARestart) {
  ConfirmWith(absl::OkStatus());
  RelayParts first;
  first.header = parts_.header;
  first.home = home_.get();
  first.files = disk_.get();
  first.store = store_.get();
  first.bytes = &successors_;
  relay_ = std::make_shared<RelayUpload>(std::move(first));
  Open({});
  Append(0, "abc", "one");
  std::optional<absl::StatusOr<uint64_t>> durable;
  home_->Post([&] { relay_->Flush([&](absl::StatusOr<uint64_t> length) { durable = length; }); });
  ASSERT_TRUE(world_.RunUntil([&] { return durable.has_value(); }, 1s));
  ASSERT_TRUE(durable->ok());
  EXPECT_EQ(**durable, 3u);
  Append(3, "lost", "unflushed");
  ASSERT_TRUE(RunUntilAnswered("unflushed"));

  relay_.reset();
  files_.Halt();
  store_.reset();
  sim::CrashPolicy policy;
  files_.Crash(5, policy);
  OpenStore();
  auto stage = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(stage, nullptr);
  Make();
  home_->Post([&] {
    relay_->Resume(stage);
    EXPECT_EQ(relay_->length(), 3u);
  });
  Append(3, "def", "two");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdef");
  EXPECT_THAT(confirmed_.at(0).holders, ElementsAre(PeerId{"n0"}));
}

TEST_F(RelayUploadTest, F28_AnotherRelayGoesOnWithTheStageOfOneThatMetAFullDisk) {
  const auto parts = [&] {
    RelayParts again;
    again.header = parts_.header;
    again.home = home_.get();
    again.files = disk_.get();
    again.store = store_.get();
    again.bytes = &successors_;
    again.keep_on_bad_offset = true;
    return again;
  };
  relay_ = std::make_shared<RelayUpload>(parts());
  Open({});
  Append(0, "abc", "one");
  ASSERT_TRUE(RunUntilAnswered("one"));
  files_.SetCapacity(1);
  Append(3, Pattern(100'000), "full");
  ASSERT_TRUE(RunUntilAnswered("full"));
  EXPECT_EQ(CodeOf("full"), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(relay_->failed());
  files_.ClearFaults();
  auto stage = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(stage, nullptr);
  relay_ = std::make_shared<RelayUpload>(parts());
  home_->Post([&] { relay_->Resume(stage); });
  Append(3, "def", "two");
  Close();
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdef");
}

TEST_F(RelayUploadTest, D20_ANewHandleFencesTheOneBefore) {
  Make();
  Open({});
  auto old = relay_->Handle();
  Append(0, "abc", "old", old);
  ASSERT_TRUE(RunUntilAnswered("old"));
  auto newer = relay_->Handle();
  Append(3, "zzz", "fenced", old);
  Close("fenced close", old);
  home_->Post([&] { old->Abort(); });  // does nothing any more
  Append(3, "def", "new", newer);
  Close("close", newer);
  ASSERT_TRUE(RunUntilAnswered("close"));
  EXPECT_EQ(CodeOf("old"), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf("fenced"), absl::StatusCode::kAborted);
  EXPECT_EQ(CodeOf("fenced close"), absl::StatusCode::kAborted);
  EXPECT_EQ(CodeOf("close"), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(), "abcdef");
}

}  // namespace
}  // namespace sluice::node
