// The applied half of a group on a disk that has no room for a while.
#include "node/applier.h"

#include <gtest/gtest.h>

#include "node/command.h"
#include "node/group_facts.h"
#include "node/log_clock.h"
#include "sim/sim_files.h"

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
    auto under = blob::OpenMapIndex(disk_, "/data/index");
    EXPECT_TRUE(under.ok()) << under.status();
    index_ = std::make_unique<FullIndex>(std::move(*under));
    Open();
  }
  // A server's start.
  void Open() {
    applier_.reset();
    Applier::Parts parts;
    parts.spec.id = kDefaultGroup;
    parts.spec.machine = "counter";
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
    return {
        EntryOf(0, EncodeFactsEntry({GroupMode::kSluice, "counter"})),
        EntryOf(1, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{1}, Bytes::Copy("INCREMENT")}))};
  }
  std::string Count() {
    const auto seen = applier_->Query(Bytes::Copy("GET"));
    return seen.ok() ? seen->ToString() : seen.status().ToString();
  }
  // A snapshot with a count of one; the state here is empty again.
  void SaveOne() {
    ASSERT_TRUE(applier_->Apply(OneIncrement()).ok());
    const auto saved = applier_->SaveSnapshot("/data/out");
    ASSERT_TRUE(saved.ok()) << saved.status();
    ASSERT_TRUE(index_->DeletePrefix("").ok());
    Open();
    ASSERT_FALSE(start_.applied.index.valid());
    ASSERT_EQ(Count(), kNone);
  }

  const std::string kNone = std::string("\0\0\0\0", 4);
  const std::string kOne = std::string("\0\0\0\1", 4);
  sim::SimFiles disk_;
  std::unique_ptr<FullIndex> index_;
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
  EXPECT_EQ(applied->upto.index, Index{1});
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
  EXPECT_FALSE(applier_->SaveSnapshot("/data/out").ok());
  EXPECT_EQ(Count(), kNone) << "still readable";
  // A restart finds the state as it was, and the entries in the log.
  Open();
  EXPECT_FALSE(start_.applied.index.valid());
  EXPECT_TRUE(applier_->Apply(OneIncrement()).ok());
  EXPECT_EQ(Count(), kOne);
}

TEST_F(ApplierTest, F12_SnapshotThatFoundNoRoomIsTakenUpAgain) {
  SaveOne();
  for (const int room_for : {0, 1}) {  // nothing; all but the applied index
    SCOPED_TRACE(room_for);
    index_->full_after = room_for;
    index_->full = 1;
    const auto refused = applier_->InstallSnapshot("/data/out");
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_TRUE(applier_->replacing());
    EXPECT_FALSE(applier_->Query(Bytes::Copy("GET")).ok()) << "neither the old state nor the new one";
    EXPECT_FALSE(applier_->Checkpoint().ok());
    EXPECT_FALSE(applier_->SaveSnapshot("/data/other").ok());
  }
  const auto installed = applier_->InstallSnapshot("/data/out");
  ASSERT_TRUE(installed.ok()) << installed.status();
  EXPECT_FALSE(applier_->replacing());
  EXPECT_EQ(installed->applied.index, Index{1});
  EXPECT_EQ(Count(), kOne);
}

// D-05: the table of replies and the time that it ages by travel in snapshots, and outlive a restart.
TEST_F(ApplierTest, K5_RepliesAndTheLogsTimeTravelInSnapshots) {
  std::vector<raft::Entry> entries = OneIncrement();
  entries.push_back(EntryOf(2, EncodeClockEntry(5000)));
  entries.push_back(
      EntryOf(3, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{2}, Bytes::Copy("INCREMENT")})));
  ASSERT_TRUE(applier_->Apply(entries).ok());
  ASSERT_TRUE(applier_->SaveSnapshot("/data/out").ok());
  ASSERT_TRUE(index_->DeletePrefix("").ok());
  Open();
  ASSERT_FALSE(start_.replies->Find(ClientId{{1}}, CallId{1}));
  const auto installed = applier_->InstallSnapshot("/data/out");
  ASSERT_TRUE(installed.ok()) << installed.status();
  EXPECT_EQ(installed->clock_ms, 5000);
  const auto reply = installed->replies->Find(ClientId{{1}}, CallId{2});
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->index, Index{3});
  EXPECT_EQ(*reply->reply, std::string_view("\0\0\0\2", 4));
  EXPECT_EQ(reply->content, applier_->ContentOf(Bytes::Copy("INCREMENT")));
  // A minute after the first one it is forgotten, the second one is not.
  const auto aged = applier_->Apply({EntryOf(4, EncodeClockEntry(62'000))});
  ASSERT_TRUE(aged.ok()) << aged.status();
  EXPECT_EQ(aged->first_kept, Index{2});
  start_ = Applier::Start();
  Open();
  EXPECT_EQ(start_.clock_ms, 62'000);
  EXPECT_FALSE(start_.replies->Find(ClientId{{1}}, CallId{1}));
  EXPECT_TRUE(start_.replies->Find(ClientId{{1}}, CallId{2}));
}

TEST_F(ApplierTest, F32_RestartGoesOnWithAHalfInstalledSnapshot) {
  SaveOne();
  index_->full_after = 1;
  index_->full = 1;
  ASSERT_FALSE(applier_->InstallSnapshot("/data/out").ok());
  Open();
  EXPECT_TRUE(start_.installed_snapshot);
  EXPECT_EQ(start_.applied.index, Index{1});
  EXPECT_EQ(Count(), kOne);
}

}  // namespace
}  // namespace sluice::node
