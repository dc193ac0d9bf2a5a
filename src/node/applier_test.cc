// The applied half of a group on a disk that has no room for a while.
#include "node/applier.h"

#include <gtest/gtest.h>

#include "node/command.h"
#include "node/group_facts.h"
#include "sim/sim_files.h"

namespace sluice::node {
namespace {

// An index on a disk that is full for the next `full` writes.
class FullIndex final : public blob::Index {
 public:
  explicit FullIndex(std::unique_ptr<blob::Index> under) : under_(std::move(under)) {}
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override { return under_->Get(key); }
  absl::Status Write(const blob::IndexBatch& batch) override {
    if (full == 0) return under_->Write(batch);
    --full;
    return absl::ResourceExhaustedError("no space left on device");
  }
  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return under_->Scan(prefix, from, visit);
  }
  absl::Status DeletePrefix(std::string_view prefix) override { return under_->DeletePrefix(prefix); }
  absl::Status Flush() override { return under_->Flush(); }

  int full = 0;

 private:
  std::unique_ptr<blob::Index> under_;
};

raft::Entry EntryOf(int64_t index, Bytes payload) {
  return {{Term{1}, Index{index}}, raft::EntryKind::kCommand, std::move(payload)};
}

TEST(Applier, F12_FullDiskAppliesOnceItHasRoom) {
  sim::SimFiles disk;
  ASSERT_TRUE(disk.MakeDirs("/data").ok());
  auto under = blob::OpenMapIndex(disk, "/data/index");
  ASSERT_TRUE(under.ok()) << under.status();
  FullIndex index(std::move(*under));
  Applier::Parts parts;
  parts.spec.id = kDefaultGroup;
  parts.spec.machine = "counter";
  parts.session_replies_max = 10;
  parts.files = &disk;
  parts.index = &index;
  parts.snapshot_path = "/data/in";
  Applier::Start start;
  auto applier = Applier::Open(std::move(parts), &start);
  ASSERT_TRUE(applier.ok()) << applier.status();

  const std::vector<raft::Entry> entries{
      EntryOf(0, EncodeFactsEntry({GroupMode::kSluice, "counter"})),
      EntryOf(1, EncodeCommand({CommandType::kWrite, ClientId{{1}}, CallId{1}, Bytes::Copy("INCREMENT")}))};
  index.full = 2;
  for (int i = 0; i < 2; ++i) {
    const auto refused = (*applier)->Apply(entries);
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_TRUE(absl::IsResourceExhausted((*applier)->Checkpoint().status()));
    const auto seen = (*applier)->Query(Bytes::Copy("GET"));
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_EQ(seen->ToString(), std::string("\0\0\0\0", 4)) << "not visible before it is written";
  }
  const auto applied = (*applier)->Apply(entries);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->upto.index, Index{1});
  ASSERT_EQ(applied->outcomes.size(), 1u);
  EXPECT_EQ((*applier)->Query(Bytes::Copy("GET"))->ToString(), std::string("\0\0\0\1", 4)) << "counted once";
}

}  // namespace
}  // namespace sluice::node
