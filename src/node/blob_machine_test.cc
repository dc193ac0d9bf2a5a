#include "node/blob_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/log.h"

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

// --- Which bytes an id and a name stand for

TEST_F(BlobMachineTest, K6_F70_AnIdIsOneContentForGood) {
  ASSERT_TRUE(Publish(1).ok());
  (void)machine_.TakeChanges();
  BlobCommand other;
  other.upload = Id(1);
  for (const char* name : {"a", "b"}) {
    other.name = name;
    for (const blob::Sealed& sealed : {blob::Sealed{4, 7, {}}, blob::Sealed{3, 8, {}}}) {
      other.sealed = sealed;
      EXPECT_TRUE(absl::IsFailedPrecondition(Apply(other).status())) << name;
      const auto changes = machine_.TakeChanges();
      ASSERT_EQ(changes.size(), 1u);
      EXPECT_EQ(changes[0].kind, ContentChange::Kind::kDropStage);
    }
  }
  EXPECT_EQ(BlobMachine::FindName("a", state_)->content.sealed, (blob::Sealed{3, 7, {}}));
  EXPECT_FALSE(BlobMachine::FindName("b", state_));
  EXPECT_TRUE(absl::IsFailedPrecondition(Publish(1, "b").status())) << "one id, one name";
  EXPECT_TRUE(Publish(1).ok()) << "the same again is answered as before";
}

TEST_F(BlobMachineTest, K8_EqualChecksumsAreNotTheSameBytes) {
  ASSERT_TRUE(Publish(1).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Publish(2).status()));
  BlobCommand compared;
  compared.name = "a";
  compared.upload = Id(3);
  compared.sealed = {.length = 3, .checksum = 7, .digest = {}};
  compared.same_as = Id(2);  // with something else
  EXPECT_TRUE(absl::IsAlreadyExists(Apply(compared).status()));
  compared.same_as = Id(1);
  EXPECT_TRUE(Apply(compared).ok());
  EXPECT_EQ(BlobMachine::FindName("a", state_)->content.id, Id(1));
  // With digests on both sides these decide, whatever was compared.
  DigestBuilder one, two;
  one.Update("one");
  two.Update("two");
  BlobCommand known;
  known.name = "k";
  known.upload = Id(4);
  known.sealed = {.length = 3, .checksum = 7, .digest = one.Finish()};
  ASSERT_TRUE(Apply(known).ok());
  known.upload = Id(5);
  known.sealed.digest = two.Finish();
  known.same_as = Id(4);
  EXPECT_TRUE(absl::IsAlreadyExists(Apply(known).status()));
}

TEST_F(BlobMachineTest, D09_UnderADigestsNameStandOnlyItsOwnBytes) {
  DigestBuilder one, two;
  one.Update("one");
  two.Update("two");
  const Sha256 digest = one.Finish();
  BlobCommand put;
  put.name = "sha256:" + digest.ToHex();
  put.upload = Id(1);
  put.sealed = {.length = 3, .checksum = 7, .digest = two.Finish()};
  EXPECT_TRUE(absl::IsInvalidArgument(Apply(put).status()));
  const auto changes = machine_.TakeChanges();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, ContentChange::Kind::kDropStage);
  EXPECT_FALSE(BlobMachine::FindName(put.name, state_));
  put.upload = Id(2);
  put.sealed.digest = digest;
  EXPECT_TRUE(Apply(put).ok());
  EXPECT_TRUE(BlobMachine::FindName(put.name, state_));
}

TEST_F(BlobMachineTest, D18_BytesUnderTwoNamesStayUntilBothAreRemoved) {
  DigestBuilder builder;
  builder.Update("abc");
  BlobCommand put;
  put.sealed = {.length = 3, .checksum = 7, .digest = builder.Finish()};
  for (const uint64_t call : {1u, 2u}) {
    put.upload = Id(call);
    put.name = call == 1 ? "a" : "b";
    ASSERT_TRUE(Apply(put).ok());
  }
  (void)machine_.TakeChanges();
  BlobCommand remove;
  remove.op = BlobOp::kRemove;
  remove.name = "a";
  ASSERT_TRUE(Apply(remove).ok());
  EXPECT_THAT(machine_.TakeChanges(), ::testing::IsEmpty());
  const auto left = BlobMachine::FindName("b", state_);
  ASSERT_TRUE(left);
  EXPECT_EQ(left->content.id, Id(1));
  remove.name = "b";
  ASSERT_TRUE(Apply(remove).ok());
  const auto changes = machine_.TakeChanges();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, ContentChange::Kind::kRemove);
  EXPECT_EQ(changes[0].upload, Id(1));
}

TEST_F(BlobMachineTest, K21_BytesThatAreLostAreReplacedByTheSame) {
  DigestBuilder builder;
  builder.Update("abc");
  const Sha256 digest = builder.Finish();
  BlobCommand put;
  put.sealed = {.length = 3, .checksum = 7, .digest = digest};
  const auto apply = [&](uint64_t call, const std::string& name, std::optional<UploadId> lost) {
    put.upload = Id(call);
    put.name = name;
    put.lost = lost;
    EXPECT_TRUE(Apply(put).ok());
    std::string changes;
    for (const ContentChange& change : machine_.TakeChanges()) {
      changes += fmt::format("{}{} ", "LDR"[static_cast<int>(change.kind)], change.upload.call.value);
    }
    return changes;
  };
  EXPECT_EQ(apply(1, "a", {}), "L1 ");
  EXPECT_EQ(apply(2, "b", {}), "D2 ") << "held: not kept twice";
  EXPECT_EQ(apply(3, "a", Id(2)), "D3 ") << "it is not the one that is lost";
  EXPECT_EQ(apply(4, "a", Id(1)), "L4 R1 ");
  EXPECT_EQ(apply(5, "c", Id(4)), "L5 R4 ") << "and again, under a new name";
  for (const char* name : {"a", "b", "c"}) {
    const auto found = BlobMachine::FindName(name, state_);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(found->content.id, Id(5)) << name;
    EXPECT_EQ(found->content.names, 3u);
  }
  EXPECT_EQ(BlobMachine::FindDigest(digest, state_), Id(5));
  size_t contents = 0;
  BlobMachine::ForEachContent(state_, [&](const ContentRecord&) { ++contents; });
  EXPECT_EQ(contents, 1u);
  for (uint64_t old : {1u, 4u}) EXPECT_EQ(BlobMachine::FindContent(Id(old), state_)->id, Id(5));
  // A snapshot frees the bytes of all others, also of those that are still remembered (K14).
  for (const auto& [key, value] : state_.map) {
    const auto id = BlobMachine::ContentOf(key, value);
    if (id) {
      EXPECT_EQ(*id, Id(5));
    }
  }
  // The last name takes everything with it.
  for (const char* name : {"a", "b", "c"}) {
    BlobCommand remove;
    remove.op = BlobOp::kRemove;
    remove.name = name;
    EXPECT_TRUE(Apply(remove).ok());
  }
  EXPECT_EQ(state_.Count("c/") + state_.Count("d/") + state_.Count("n/"), 0u);
  // Inside the log, too.
  (void)machine_.TakeChanges();
  EXPECT_EQ(apply(6, "a", {}), "L6 ");
  put.op = BlobOp::kPublishInline;
  put.data = Bytes::Copy("abc");
  EXPECT_EQ(apply(7, "a", Id(6)), "R6 ");
  EXPECT_TRUE(BlobMachine::FindName("a", state_)->content.inlined);
}

}  // namespace
}  // namespace sluice::node
