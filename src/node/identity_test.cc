#include "node/identity.h"

#include <gtest/gtest.h>

#include "base/fields.h"
#include "sim/sim_files.h"

namespace sluice::node {
namespace {

class IdentityTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(disk_.MakeDirs("/data").ok()); }
  absl::StatusOr<Identity> Open(const std::string& server, bool bootstrap = false) {
    return OpenIdentity(disk_, "/data", {server}, bootstrap);
  }

  sim::SimFiles disk_;
};

TEST_F(IdentityTest, K23_OnlyTheFirstStartNeedsRoom) {
  const auto first = Open("n0", /*bootstrap=*/true);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->may_vote);
  disk_.Crash(1);  // written durably before anything else
  disk_.SetCapacity(0);
  const auto second = Open("n0");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->may_vote);
}

// A server that has voted under an identity must not find its folder empty later, and be a new one (F-20).
TEST_F(IdentityTest, F20_K23_WhatAKilledFirstStartHasLeftIsMadeDurable) {
  for (uint64_t step = 1; step <= 10; ++step) {
    sim::SimFiles disk;
    ASSERT_TRUE(disk.MakeDirs("/data").ok());
    disk.HaltAt(disk.operations() + step);
    (void)OpenIdentity(disk, "/data", {"n0"}, /*bootstrap=*/true);
    disk.KillProcess();
    const auto again = OpenIdentity(disk, "/data", {"n0"}, /*bootstrap=*/true);
    ASSERT_TRUE(again.ok()) << again.status();
    disk.Crash(1, sim::CrashPolicy::DropUnsynced());
    const auto exists = disk.Exists("/data/identity");
    EXPECT_TRUE(exists.ok() && *exists) << "step " << step;
  }
}

TEST_F(IdentityTest, F19_AFolderOfAnotherServerIsRefusedAndLeftAlone) {
  ASSERT_TRUE(Open("n0").ok());
  const auto before = env::ReadWholeFile(disk_, "/data/identity", 1 << 20);
  const auto refused = Open("n1");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  EXPECT_NE(refused.status().message().find("belongs to server n0"), absl::string_view::npos)
      << refused.status();
  EXPECT_EQ(*env::ReadWholeFile(disk_, "/data/identity", 1 << 20), *before);
}

TEST_F(IdentityTest, F19_F20_AFolderThatLostItsIdentityIsNoNewOne) {
  ASSERT_TRUE(Open("n0", /*bootstrap=*/true).ok());
  ASSERT_TRUE(disk_.MakeDirs("/data/log").ok());
  ASSERT_TRUE(disk_.Remove("/data/identity").ok());
  for (const bool bootstrap : {false, true}) {
    const auto refused = Open("n0", bootstrap);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
    EXPECT_NE(refused.status().message().find("no identity"), absl::string_view::npos) << refused.status();
    EXPECT_FALSE(*disk_.Exists("/data/identity"));
  }
}

TEST_F(IdentityTest, F19_AFolderWithFilesOfSomebodyElseIsRefusedAndLeftAlone) {
  ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/photo", Bytes::Copy("mine")).ok());
  for (const bool bootstrap : {false, true}) {
    const auto refused = Open("n0", bootstrap);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
    EXPECT_NE(refused.status().message().find("photo is in it"), absl::string_view::npos) << refused.status();
  }
  EXPECT_EQ(*disk_.List("/data"), std::vector<std::string>{"photo"});
  ASSERT_TRUE(disk_.Remove("/data/photo").ok());
  ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/LOCK", Bytes()).ok());  // of a first start that was killed
  EXPECT_TRUE(Open("n0").ok());
}

TEST_F(IdentityTest, F21_AnotherFormatIsRefusedByItsVersionAndLeftAlone) {
  for (const uint64_t version : {1u, 2u, 99u}) {
    FieldWriter other;
    other.PutVarint(1, version);
    other.PutText(2, "n0");
    const Bytes written = Bytes::Take(other.Take());
    ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/identity", written).ok());
    const auto refused = Open("n0");
    EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
    EXPECT_NE(refused.status().message().find("format version " + std::to_string(version)),
              absl::string_view::npos)
        << refused.status();
    EXPECT_EQ(*env::ReadWholeFile(disk_, "/data/identity", 1 << 20), written.ToString());
  }
}

TEST_F(IdentityTest, K7_TheClusterIsKept) {
  auto identity = Open("n0", /*bootstrap=*/true);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_TRUE(identity->cluster.IsZero());
  identity->cluster = ClusterId{{7}};
  ASSERT_TRUE(SaveIdentity(disk_, "/data", *identity).ok());
  disk_.Crash(1);
  const auto again = Open("n0");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->cluster, identity->cluster);
}

TEST_F(IdentityTest, ADamagedIdentityIsNoNewServer) {
  ASSERT_TRUE(env::WriteFileDurably(disk_, "/data/identity", Bytes::Copy("\xff\xff\xff")).ok());
  EXPECT_TRUE(absl::IsDataLoss(Open("n0").status()));
}

TEST_F(IdentityTest, F20_AnEmptyFolderWithoutBootstrapMayNotVote) {
  const auto wiped = Open("n0");
  ASSERT_TRUE(wiped.ok());
  EXPECT_FALSE(wiped->may_vote);
}

}  // namespace
}  // namespace sluice::node
