#include "node/blob_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace sluice::node {
namespace {

class MapState final : public State {
 public:
  std::optional<std::string> Get(std::string_view key) const override {
    const auto it = map.find(key);
    return it == map.end() ? std::nullopt : std::optional(it->second);
  }
  void Scan(std::string_view prefix, std::string_view from,
            const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    for (auto it = map.lower_bound(std::max(prefix, from));
         it != map.end() && it->first.starts_with(prefix) && visit(it->first, it->second); ++it) {
    }
  }
  void Put(std::string_view key, std::string_view value) override {
    map.insert_or_assign(std::string(key), std::string(value));
  }
  void Delete(std::string_view key) override {
    if (const auto it = map.find(key); it != map.end()) map.erase(it);
  }
  size_t Count(std::string_view prefix) const {
    size_t count = 0;
    Scan(prefix, prefix, [&](std::string_view, std::string_view) { return ++count > 0; });
    return count;
  }
  std::map<std::string, std::string, std::less<>> map;
};

UploadId Id(uint64_t call) { return {*ClientId::FromBytes("client-of-a-test"), CallId{call}}; }

class BlobMachineTest : public ::testing::Test {
 protected:
  absl::StatusOr<Bytes> Apply(const BlobCommand& blob) {
    ::sluice::Command command;
    command.at = {Term{1}, Index{++index_}};
    command.data = EncodeBlobCommand(blob);
    return machine_.Apply(command, state_);
  }
  absl::StatusOr<Bytes> Abandon(uint64_t call, int64_t stamp_ms) {
    BlobCommand blob;
    blob.op = BlobOp::kAbandon;
    blob.upload = Id(call);
    blob.stamp_ms = stamp_ms;
    return Apply(blob);
  }
  absl::StatusOr<Bytes> Publish(uint64_t call, const std::string& name = "a") {
    BlobCommand blob;
    blob.name = name;
    blob.upload = Id(call);
    blob.sealed = {.length = 3, .checksum = 7, .digest = {}};
    blob.stamp_ms = 1;
    return Apply(blob);
  }

  MapState state_;
  BlobMachine machine_;
  int64_t index_ = 0;
};

constexpr int64_t kHour = 3'600'000;

TEST_F(BlobMachineTest, D10_APublishAfterAbandonIsRefusedAndItsStageDropped) {
  ASSERT_TRUE(Abandon(1, kHour).ok());
  ASSERT_TRUE(Abandon(1, 2 * kHour).ok());  // of two servers that held it
  EXPECT_EQ(state_.Count("x/"), 1u);
  EXPECT_EQ(state_.Count("y/"), 1u);
  (void)machine_.TakeChanges();
  EXPECT_TRUE(absl::IsAborted(Publish(1).status()));
  const auto changes = machine_.TakeChanges();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, ContentChange::Kind::kDropStage);
  EXPECT_FALSE(BlobMachine::FindName("a", state_));
}

TEST_F(BlobMachineTest, D10_AnUploadThatWasEnteredIsNotAbandoned) {
  ASSERT_TRUE(Publish(1).ok());
  (void)machine_.TakeChanges();
  ASSERT_TRUE(Abandon(1, kHour).ok());
  EXPECT_THAT(machine_.TakeChanges(), ::testing::IsEmpty());
  EXPECT_TRUE(Publish(1).ok());
}

TEST_F(BlobMachineTest, D10_TheOldAndManyAbandonedAreForgottenTheRestIsNot) {
  constexpr uint64_t kMany = BlobMachine::kAbandonedKept + 500;
  const int64_t start = 1'700'000'000'000;
  for (uint64_t i = 0; i < kMany; ++i) ASSERT_TRUE(Abandon(i, start + static_cast<int64_t>(i)).ok());
  EXPECT_EQ(state_.Count("x/"), kMany) << "one of them is young";
  // Old, but among the youngest so many: kept. Each further one forgets a few, the oldest first.
  const int64_t later = start + BlobMachine::kAbandonedKeptMs + kHour;
  for (uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(Abandon(kMany + i, later).ok());
  EXPECT_EQ(state_.Count("x/"), BlobMachine::kAbandonedKept);
  EXPECT_EQ(state_.Count("y/"), BlobMachine::kAbandonedKept);
  EXPECT_FALSE(BlobMachine::IsAbandoned(Id(699), state_));
  EXPECT_TRUE(BlobMachine::IsAbandoned(Id(700), state_));
  EXPECT_TRUE(absl::IsAborted(Publish(700).status()));
  EXPECT_TRUE(absl::IsAborted(Publish(kMany + 5).status()));
}

TEST_F(BlobMachineTest, D10_AClockThatGoesBackForgetsNothing) {
  for (uint64_t i = 0; i < BlobMachine::kAbandonedKept + 10; ++i) {
    ASSERT_TRUE(Abandon(i, 1'700'000'000'000 - static_cast<int64_t>(i) * kHour).ok());
  }
  EXPECT_EQ(state_.Count("x/"), BlobMachine::kAbandonedKept + 10);
  ASSERT_TRUE(Abandon(5000, -1).ok());  // no stamp brings it down
  EXPECT_TRUE(BlobMachine::IsAbandoned(Id(5000), state_));
}

}  // namespace
}  // namespace sluice::node
