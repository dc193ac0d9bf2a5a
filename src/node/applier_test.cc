// The applied half of a group on a disk that has no room for a while.
#include "node/applier.h"

#include <gtest/gtest.h>

#include "node/command.h"
#include "node/group_facts.h"
#include "node/log_clock.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::node {
namespace {

// An index on a disk that is full, or cannot be read, for a while.
class FullIndex final : public blob::Index {
 public:
  explicit FullIndex(std::unique_ptr<blob::Index> under) : under_(std::move(under)) {}
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    if (unreadable == 0) return under_->Get(key);
    --unreadable;
    return absl::ResourceExhaustedError("too many open files");
  }
  absl::Status Write(const blob::IndexBatch& batch) override {
    if (full == 0) return under_->Write(batch);
    if (full_after > 0) {
      --full_after;
      return under_->Write(batch);
    }
    --full;
    return absl::ResourceExhaustedError("no space left on device");
  }
  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return under_->Scan(prefix, from, visit);
  }
  absl::Status DeletePrefix(std::string_view prefix) override { return under_->DeletePrefix(prefix); }
  std::unique_ptr<blob::IndexView> View() override { return under_->View(); }
  absl::Status Flush() override { return under_->Flush(); }
  void Stop() override { under_->Stop(); }

  int full = 0;        // the next writes
  int full_after = 0;  // but so many
  int unreadable = 0;  // the next reads

 private:
  std::unique_ptr<blob::Index> under_;
};

raft::Entry EntryOf(int64_t index, Bytes payload) {
  return {{Term{1}, Index{index}}, raft::EntryKind::kCommand, std::move(payload)};
}

class ApplierTest : public testing::Test {
 protected:
  ApplierTest() {
    EXPECT_TRUE(disk_.MakeDirs("/data").ok());
    OpenIndex();
    Open();
  }
  void PowerFails() {
    applier_.reset();
    index_.reset();
    disk_.Crash(1);
    OpenIndex();
    start_ = Applier::Start();
    Open();
  }
  void OpenIndex() {
    auto under = blob::OpenMapIndex(disk_, "/data/index");
    ASSERT_TRUE(under.ok()) << under.status();
    index_ = std::make_unique<FullIndex>(std::move(*under));
  }
  // A server's start.
  void Open() {
    applier_.reset();
    Applier::Parts parts;
    parts.spec.id = kDefaultGroup;
    parts.spec.machine = machine_;
    parts.store = store_.get();
    parts.session_bytes_max = 1u << 20;
    parts.session_keep_ms = 60'000;
    parts.files = &disk_;
    parts.index = index_.get();
    parts.cluster = &cluster_;
    parts.snapshot_path = "/data/in";
    auto applier = Applier::Open(std::move(parts), &start_);
    ASSERT_TRUE(applier.ok()) << applier.status();
    applier_ = std::move(*applier);
  }
  Cluster cluster_{{"n0"}, &env::RealClock()};
  static std::vector<raft::Entry> OneIncrement() {
    raft::Configuration configuration;
    configuration.voters = {{{"n0"}, "h:1", "", "", "", 0}};
    return {
        {{Term{1}, Index{0}}, raft::EntryKind::kConfiguration, raft::EncodeConfiguration(configuration)},
        EntryOf(1, EncodeFactsEntry({GroupMode::kSluice, "counter"})),
        EntryOf(2, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{1}, Bytes::Copy("INCREMENT")}))};
  }
  std::string Count() {
    const auto seen = applier_->Query(Bytes::Copy("GET"));
    return seen.ok() ? seen->ToString() : seen.status().ToString();
  }
  // A snapshot with a count of one; the state here is empty again.
  void SaveOne() {
    ASSERT_TRUE(applier_->Apply(OneIncrement()).ok());
    const auto view = applier_->TakeView();
    ASSERT_TRUE(view.ok()) << view.status();
    ASSERT_TRUE(WriteSnapshot(disk_, *view, "/data/out").ok());
    ASSERT_TRUE(index_->DeletePrefix("").ok());
    Open();
    ASSERT_FALSE(start_.applied.index.valid());
    ASSERT_EQ(Count(), kNone);
  }

  const std::string kNone = std::string("\0\0\0\0", 4);
  const std::string kOne = std::string("\0\0\0\1", 4);
  sim::SimFiles disk_;
  std::unique_ptr<FullIndex> index_;
  std::string machine_ = "counter";
  std::unique_ptr<blob::Store> store_;
  Applier::Start start_;
  std::unique_ptr<Applier> applier_;
};

TEST_F(ApplierTest, F12_FullDiskAppliesOnceItHasRoom) {
  index_->full = 2;
  for (int i = 0; i < 2; ++i) {
    const auto refused = applier_->Apply(OneIncrement());
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_TRUE(absl::IsResourceExhausted(applier_->Checkpoint().status()));
    EXPECT_EQ(Count(), kNone) << "not visible before it is written";
  }
  const auto applied = applier_->Apply(OneIncrement());
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->upto.index, Index{2});
  ASSERT_EQ(applied->outcomes.size(), 1u);
  EXPECT_EQ(Count(), kOne) << "counted once";
}

// A machine that could not read has executed half a batch: not the same as no room for what came of it.
TEST_F(ApplierTest, F10_FailedReadWhileExecutingIsFinal) {
  index_->unreadable = 1;
  const auto failed = applier_->Apply(OneIncrement());
  ASSERT_FALSE(failed.ok());
  EXPECT_FALSE(absl::IsResourceExhausted(failed.status())) << failed.status();
  EXPECT_EQ(applier_->Apply(OneIncrement()).status(), failed.status()) << "not executed again";
  EXPECT_FALSE(applier_->Checkpoint().ok()) << "it would cover what is not there";
  EXPECT_FALSE(applier_->TakeView().ok());
  EXPECT_EQ(Count(), kNone) << "still readable";
  // A restart finds the state as it was, and the entries in the log.
  Open();
  EXPECT_FALSE(start_.applied.index.valid());
  EXPECT_TRUE(applier_->Apply(OneIncrement()).ok());
  EXPECT_EQ(Count(), kOne);
}

TEST_F(ApplierTest, F12_SnapshotThatFoundNoRoomIsTakenUpAgain) {
  SaveOne();
  ASSERT_TRUE(applier_->BeginReplacing().ok());
  for (const int room_for : {0, 1}) {  // nothing; all but the applied index
    SCOPED_TRACE(room_for);
    index_->full_after = room_for;
    index_->full = 1;
    const auto refused = applier_->Replace("/data/out");
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_TRUE(applier_->replaced());
    EXPECT_FALSE(applier_->Query(Bytes::Copy("GET")).ok()) << "neither the old state nor the new one";
    EXPECT_FALSE(applier_->Checkpoint().ok());
    EXPECT_FALSE(applier_->TakeView().ok());
  }
  const auto installed = applier_->Replace("/data/out");
  ASSERT_TRUE(installed.ok()) << installed.status();
  EXPECT_FALSE(applier_->replaced());
  applier_->EndReplacing();
  EXPECT_EQ(installed->applied.index, Index{2});
  EXPECT_EQ(Count(), kOne);
}

// D-05: the table of replies and the time that it ages by travel in snapshots, and outlive a restart.
TEST_F(ApplierTest, K5_RepliesAndTheLogsTimeTravelInSnapshots) {
  std::vector<raft::Entry> entries = OneIncrement();
  entries.push_back(EntryOf(3, EncodeClockEntry(5000)));
  entries.push_back(
      EntryOf(4, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{2}, Bytes::Copy("INCREMENT")})));
  ASSERT_TRUE(applier_->Apply(entries).ok());
  const auto view = applier_->TakeView();
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_TRUE(WriteSnapshot(disk_, *view, "/data/out").ok());
  ASSERT_TRUE(index_->DeletePrefix("").ok());
  Open();
  ASSERT_FALSE(start_.replies->Find(ClientId{{1}}, CallId{1}));
  ASSERT_TRUE(applier_->BeginReplacing().ok());
  const auto installed = applier_->Replace("/data/out");
  applier_->EndReplacing();
  ASSERT_TRUE(installed.ok()) << installed.status();
  EXPECT_EQ(installed->clock_ms, 5000);
  const auto reply = installed->replies->Find(ClientId{{1}}, CallId{2});
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->index, Index{4});
  EXPECT_EQ(*reply->reply, std::string_view("\0\0\0\2", 4));
  EXPECT_EQ(reply->content, applier_->ContentOf(Bytes::Copy("INCREMENT")));
  // A minute after the first one it is forgotten, the second one is not.
  const auto aged = applier_->Apply({EntryOf(5, EncodeClockEntry(62'000))});
  ASSERT_TRUE(aged.ok()) << aged.status();
  EXPECT_EQ(aged->first_kept, Index{3});
  start_ = Applier::Start();
  Open();
  EXPECT_EQ(start_.clock_ms, 62'000);
  EXPECT_FALSE(start_.replies->Find(ClientId{{1}}, CallId{1}));
  EXPECT_TRUE(start_.replies->Find(ClientId{{1}}, CallId{2}));
}

// However the entries come in batches: every server keeps the same.
TEST_F(ApplierTest, K5_F68_AReplyThatIsAskedForAgainIsKeptFromThenOn) {
  for (const bool at_once : {true, false}) {
    ASSERT_TRUE(index_->DeletePrefix("").ok());
    start_ = Applier::Start();
    Open();
    std::vector<raft::Entry> entries = OneIncrement();
    entries.push_back(EntryOf(3, EncodeClockEntry(5000)));
    entries.push_back(EntryOf(4, EncodeAskedAgain(Index{2})));
    entries.push_back(EntryOf(5, EncodeAskedAgain(Index{4})));
    entries.push_back(EntryOf(6, EncodeAskedAgain(Index{3})));  // under which nothing is kept
    entries.push_back(EntryOf(7, EncodeClockEntry(62'000)));
    if (at_once) {
      ASSERT_TRUE(applier_->Apply(entries).ok());
    } else {
      for (const raft::Entry& entry : entries) ASSERT_TRUE(applier_->Apply({entry}).ok());
    }
    EXPECT_EQ(Count(), kOne);
    start_ = Applier::Start();
    Open();
    const auto reply = start_.replies->Find(ClientId{{1}}, CallId{1});
    ASSERT_TRUE(reply) << at_once;
    EXPECT_EQ(reply->index, Index{5});
    EXPECT_EQ(reply->entry(), Index{2});
    EXPECT_EQ(*reply->reply, std::string_view("\0\0\0\1", 4));
    ASSERT_TRUE(
        applier_->Apply({EntryOf(8, EncodeClockEntry(67'000)), EntryOf(9, EncodeAskedAgain(Index{5}))}).ok());
    start_ = Applier::Start();
    Open();
    EXPECT_FALSE(start_.replies->Find(ClientId{{1}}, CallId{1})) << "what is forgotten stays so";
  }
}

TEST_F(ApplierTest, F29_K23_RestartGoesOnWithAHalfInstalledSnapshot) {
  SaveOne();
  index_->full_after = 1;
  index_->full = 1;
  ASSERT_TRUE(applier_->BeginReplacing().ok());
  ASSERT_FALSE(applier_->Replace("/data/out").ok());
  index_->full_after = 0;
  index_->full = 1;
  Open();  // on a disk that is still full (K23)
  EXPECT_TRUE(start_.interrupted);
  EXPECT_FALSE(applier_->Query(Bytes::Copy("GET")).ok()) << "neither the old state nor the new one";
  EXPECT_TRUE(absl::IsResourceExhausted(applier_->Replace({}).status()));
  const auto installed = applier_->Replace({});
  ASSERT_TRUE(installed.ok()) << installed.status();
  applier_->EndReplacing();
  EXPECT_EQ(installed->applied.index, Index{2});
  EXPECT_EQ(Count(), kOne);
}

// Loaded once more it would take the state back.
TEST_F(ApplierTest, F32_ASnapshotThatTheStateIsBeyondIsDroppedAtTheStart) {
  SaveOne();
  std::vector<raft::Entry> entries = OneIncrement();
  entries.push_back(
      EntryOf(3, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{2}, Bytes::Copy("INCREMENT")})));
  ASSERT_TRUE(applier_->Apply(entries).ok());
  ASSERT_TRUE(disk_.Rename("/data/out", "/data/in").ok());
  start_ = Applier::Start();
  Open();
  EXPECT_FALSE(start_.interrupted);
  EXPECT_EQ(start_.applied.index, Index{3});
  EXPECT_EQ(Count(), std::string("\0\0\0\2", 4));
  EXPECT_FALSE(*disk_.Exists("/data/in"));
}

// The log is cut up to what a checkpoint says, and starts behind a snapshot: neither may be in memory only.
TEST_F(ApplierTest, D23_F29_WhatTheLogNoLongerHoldsOutlivesAPowerFailure) {
  ASSERT_TRUE(applier_->Apply(OneIncrement()).ok());
  const auto covered = applier_->Checkpoint();
  ASSERT_TRUE(covered.ok()) << covered.status();
  ASSERT_EQ(covered->index, Index{2});
  const auto view = applier_->TakeView();
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_TRUE(WriteSnapshot(disk_, *view, "/data/out").ok());
  PowerFails();
  EXPECT_EQ(start_.applied.index, Index{2});
  EXPECT_EQ(Count(), kOne);
  ASSERT_TRUE(index_->DeletePrefix("").ok());
  ASSERT_TRUE(index_->Flush().ok());
  Open();
  ASSERT_EQ(Count(), kNone);
  ASSERT_TRUE(applier_->BeginReplacing().ok());
  ASSERT_TRUE(applier_->Replace("/data/out").ok());
  PowerFails();
  EXPECT_FALSE(start_.interrupted);
  EXPECT_EQ(start_.applied.index, Index{2});
  EXPECT_EQ(Count(), kOne);
}

// A view is the state of one moment, whatever is applied while it is written.
TEST_F(ApplierTest, K2_ViewStaysAsItWasWhileEntriesAreApplied) {
  ASSERT_TRUE(applier_->Apply(OneIncrement()).ok());
  const auto view = applier_->TakeView();
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_TRUE(applier_
                  ->Apply({EntryOf(3, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{2},
                                                     Bytes::Copy("INCREMENT")}))})
                  .ok());
  ASSERT_TRUE(WriteSnapshot(disk_, *view, "/data/out").ok());
  const auto head = applier_->CheckSnapshot("/data/out");
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->at.index, Index{2});
  ASSERT_TRUE(applier_->BeginReplacing().ok());
  ASSERT_TRUE(applier_->Replace("/data/out").ok());
  applier_->EndReplacing();
  EXPECT_EQ(Count(), kOne);
}

// Every byte of a snapshot counts: with any of them wrong it is refused, and nothing that it would replace is
// touched.
// A machine may make one value of many entries; larger than any of them.
TEST_F(ApplierTest, K1_ASnapshotTakesValuesOfAnySize) {
  const std::string large(40u << 20, 'v');
  raft::Configuration configuration;
  configuration.voters.emplace_back().id = PeerId{"n0"};
  blob::IndexBatch batch;
  batch.Put("xslarge", large);
  ASSERT_TRUE(index_->Write(batch).ok());
  const SnapshotView view{{{Term{3}, Index{7}}, configuration, std::nullopt}, "x", index_->View()};
  ASSERT_TRUE(WriteSnapshot(disk_, view, "/data/made").ok());
  auto reader = SnapshotReader::Open(disk_, "/data/made");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto record = reader->Next();
  ASSERT_TRUE(record.ok()) << record.status();
  ASSERT_TRUE(record->has_value());
  EXPECT_EQ((*record)->key, "slarge");
  EXPECT_TRUE((*record)->value == large);
}

TEST_F(ApplierTest, F31_K24_DamagedSnapshotReplacesNothing) {
  SaveOne();
  const auto whole = env::ReadWholeFile(disk_, "/data/out", 1 << 20);
  ASSERT_TRUE(whole.ok());
  for (size_t i = 0; i < whole->size(); ++i) {
    std::string damaged = *whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/damaged", Bytes::Copy(damaged)).ok());
    EXPECT_FALSE(applier_->CheckSnapshot("/data/damaged").ok()) << "byte " << i;
    ASSERT_TRUE(
        env::WriteFileDurably(disk_, "/data/cut", Bytes::Copy(std::string_view(*whole).substr(0, i))).ok());
    EXPECT_FALSE(applier_->CheckSnapshot("/data/cut").ok()) << i << " bytes";
  }
  EXPECT_TRUE(applier_->CheckSnapshot("/data/out").ok());
}

// Whole, its checksum right, and yet not what a server can have written.
TEST_F(ApplierTest, K24_ImpossibleHeadsAndRecordsAreRefused) {
  raft::Configuration good;
  good.voters = {{{"n0"}, "h:1", "", "", "", 0}};
  raft::Configuration twice = good;
  twice.voters.push_back(twice.voters[0]);
  const auto check = [&](TermIndex at, const raft::Configuration& configuration, const std::string& key,
                         const std::string& value) {
    blob::IndexBatch batch;
    batch.Put("x" + key, value);
    EXPECT_TRUE(index_->Write(batch).ok());
    const SnapshotView view{{at, configuration, std::nullopt}, "x", index_->View()};
    EXPECT_TRUE(WriteSnapshot(disk_, view, "/data/made").ok());
    EXPECT_TRUE(index_->DeletePrefix("x").ok());
    return applier_->CheckSnapshot("/data/made").status();
  };
  const TermIndex at{Term{3}, Index{7}};
  EXPECT_TRUE(check(at, good, "sn", "5").ok());
  EXPECT_FALSE(check({Term{~uint64_t{0}}, Index{7}}, good, "sn", "5").ok());
  EXPECT_FALSE(check({Term{uint64_t{1} << 62}, Index{7}}, good, "sn", "5").ok());
  EXPECT_FALSE(check({Term{3}, Index{int64_t{1} << 62}}, good, "sn", "5").ok());
  EXPECT_FALSE(check({Term{3}, kNoIndex}, good, "sn", "5").ok());
  EXPECT_FALSE(check(at, twice, "sn", "5").ok());
  EXPECT_FALSE(check(at, {}, "sn", "5").ok());
  EXPECT_FALSE(check(at, good, "sn", "five").ok());
  EXPECT_FALSE(check(at, good, "sm", "5").ok());
  EXPECT_FALSE(check(at, good, "rshort", "").ok());
  const auto reply = [](uint64_t index) {
    std::string key = "r";
    for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(index >> shift));
    return key;
  };
  const std::string record = EncodeReply({ClientId{{1}}, CallId{4}}, {Index{7}, Bytes::Copy("x")});
  EXPECT_TRUE(check(at, good, reply(7), record).ok());
  EXPECT_FALSE(check(at, good, reply(8), record).ok());
  EXPECT_FALSE(check(at, good, reply(~uint64_t{0}), record).ok());
  EXPECT_FALSE(check(at, good, reply(7), "no record").ok());
}

// --- Contents ----------------------------------------------------------------------------------------------

class ApplierContents : public ApplierTest {
 protected:
  ApplierContents() : shard_(executors_.NewExecutor("shard")) {
    auto store = blob::Store::Open(disk_, executors_, world_, "/data/blobs", {});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    machine_ = "blob";
    Open();
  }
  ~ApplierContents() override {
    applier_.reset();
    store_.reset();  // before its executors
  }
  static UploadId Id(uint64_t call) { return {ClientId{{3}}, CallId{call}}; }
  // A sealed stage with these bytes.
  blob::Sealed Seal(const UploadId& id, const std::string& bytes) {
    auto upload = store_->Create({.id = id, .group = kDefaultGroup});
    EXPECT_TRUE(upload.ok()) << upload.status();
    std::optional<absl::StatusOr<blob::Sealed>> sealed;
    (*upload)->Append(0, Bytes::Copy(bytes), shard_.get(), [](const auto&) {});
    (*upload)->Seal({}, shard_.get(), [&sealed](absl::StatusOr<blob::Sealed> done) { sealed = done; });
    world_.RunUntil([&] { return sealed.has_value(); }, std::chrono::seconds(10));
    EXPECT_TRUE(sealed && sealed->ok());
    return sealed && sealed->ok() ? **sealed : blob::Sealed{};
  }
  Applied Enter(const BlobCommand& command) {
    std::vector<raft::Entry> entries;
    if (index_at_ == 0) {
      entries.push_back(EntryOf(index_at_++, EncodeFactsEntry({GroupMode::kSluice, "blob"})));
    }
    const CallId call{static_cast<uint64_t>(index_at_)};
    entries.push_back(EntryOf(index_at_++, EncodeCommand({CommandType::kDataStream, ClientId{{3}}, call,
                                                          EncodeBlobCommand(command)})));
    auto applied = applier_->Apply(entries);
    EXPECT_TRUE(applied.ok()) << applied.status();
    if (!applied.ok()) return {};
    EXPECT_TRUE(applied->outcomes.back().stored.reply.ok()) << applied->outcomes.back().stored.reply.status();
    return std::move(*applied);
  }
  Applied Publish(const UploadId& id, const blob::Sealed& sealed) {
    BlobCommand command;
    command.name = "a";
    command.upload = id;
    command.sealed = sealed;
    command.holders = {{"n1"}};
    return Enter(command);
  }
  // What a start would fetch.
  size_t MissingAtStart() {
    start_ = Applier::Start();
    Open();
    return start_.missing.size();
  }

  sim::World world_{1};
  sim::Process process_;
  sim::SimExecutors executors_{world_, process_};
  std::unique_ptr<env::Executor> shard_;
  int64_t index_at_ = 0;
};

TEST_F(ApplierContents, D09_AStageWithOtherBytesThanTheLogSaysIsNotLinked) {
  blob::Sealed sealed = Seal(Id(1), "these bytes");
  sealed.checksum ^= 1;
  const Applied applied = Publish(Id(1), sealed);
  ASSERT_EQ(applied.missing.size(), 1u) << "to be fetched";
  EXPECT_EQ(applied.missing[0].upload.sealed, sealed);
  const auto stage = store_->Find(kDefaultGroup, Id(1));
  EXPECT_TRUE(stage == nullptr || stage->state() != blob::StageState::kLinked);
  EXPECT_EQ(MissingAtStart(), 1u);
}

// Left of a fetch that came second: the random runs of seed 2696 kept one for ever.
TEST_F(ApplierContents, K14_AStageThatIsLeftUnderAnEnteredIdBecomesTheContentOrGoes) {
  const blob::Sealed sealed = Seal(Id(1), "these bytes");
  EXPECT_TRUE(Publish(Id(1), sealed).missing.empty());
  for (const std::string bytes : {"these bytes", "other bytes"}) {
    auto second = store_->Create({.id = Id(1), .group = kDefaultGroup}, /*replace_content=*/true);
    ASSERT_TRUE(second.ok()) << second.status();
    std::optional<absl::StatusOr<blob::Sealed>> done;
    (*second)->Append(0, Bytes::Copy(bytes), shard_.get(), [](const auto&) {});
    (*second)->Seal({}, shard_.get(), [&done](absl::StatusOr<blob::Sealed> ended) { done = ended; });
    ASSERT_TRUE(world_.RunUntil([&] { return done.has_value(); }, std::chrono::seconds(10)) && done->ok());
    second->reset();
    ASSERT_NE(store_->Find(kDefaultGroup, Id(1)), nullptr);
    EXPECT_TRUE(applier_->SettleStage(Id(1)).ok());
    EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr) << bytes;
    EXPECT_TRUE(store_->OpenSource(kDefaultGroup, Id(1), sealed).ok()) << bytes;
  }
  // One that was not entered is the log's to abandon.
  Seal(Id(2), "not entered");
  EXPECT_TRUE(applier_->SettleStage(Id(2)).ok());
  EXPECT_NE(store_->Find(kDefaultGroup, Id(2)), nullptr);
}

TEST_F(ApplierContents, D09_AStageWithTheBytesThatTheLogSaysIsLinked) {
  const blob::Sealed sealed = Seal(Id(1), "these bytes");
  EXPECT_TRUE(Publish(Id(1), sealed).missing.empty());
  EXPECT_TRUE(store_->OpenSource(kDefaultGroup, Id(1), sealed).ok());
  EXPECT_EQ(MissingAtStart(), 0u);
}

TEST_F(ApplierContents, D14_WhatIsRemovedIsMissedNoLonger) {
  EXPECT_EQ(Publish(Id(1), {.length = 3, .checksum = 7, .digest = {}}).missing.size(), 1u);
  EXPECT_EQ(MissingAtStart(), 1u) << "until it is fetched";
  BlobCommand remove;
  remove.op = BlobOp::kRemove;
  remove.name = "a";
  EXPECT_EQ(Enter(remove).no_longer_missing, std::vector<UploadId>{Id(1)});
  EXPECT_EQ(MissingAtStart(), 0u);
}

// The file that waited to be installed went bad. The state that it was to replace is still whole: it stays.
TEST_F(ApplierTest, K24_BadFileThatWaitsDoesNotStopTheStart) {
  ASSERT_TRUE(applier_->Apply(OneIncrement()).ok());
  ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/in", Bytes::Copy("sluicesnap1 and no more")).ok());
  Open();
  EXPECT_EQ(start_.applied.index, Index{2});
  EXPECT_EQ(Count(), kOne);
  EXPECT_FALSE(*disk_.Exists("/data/in"));
}

}  // namespace
}  // namespace sluice::node
