#include "client/persistence.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace sluice::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const absl::Status kRefused = absl::UnavailableError("connection refused");

class PersistenceTest : public testing::Test {
 protected:
  Persistence::Next Failed(const absl::Status& status, bool reached, size_t servers = 1) {
    return persistence_.Failed({.address = "a:1", .status = status, .reached = reached, .servers = servers},
                               now_);
  }
  Clock::time_point now_{};
  Persistence persistence_{seconds(30), now_};
};

TEST_F(PersistenceTest, AFinalRefusalEndsAtOnce) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("name"), absl::AlreadyExistsError("other bytes"),
        absl::DataLossError("digest"), absl::NotFoundError("group"), absl::ResourceExhaustedError("disk"),
        absl::UnimplementedError("no"), absl::OutOfRangeError("offset")}) {
    EXPECT_FALSE(Failed(status, true).again) << status;
    EXPECT_EQ(persistence_.Verdict(status), status);
  }
  EXPECT_TRUE(Failed(absl::AbortedError("the upload lost its way"), true).again);
  EXPECT_TRUE(Failed(absl::FailedPreconditionError("its disk has failed"), true).again)
      << "others have theirs";
}

TEST_F(PersistenceTest, K22_AFullServerIsFinalForItselfOnly) {
  const absl::Status full = absl::ResourceExhaustedError("disk");
  const auto failed = [&](const std::string& address, const absl::Status& status) {
    return persistence_.Failed({.address = address, .status = status, .reached = true, .servers = 3}, now_)
        .again;
  };
  EXPECT_TRUE(failed("a:1", full));
  EXPECT_TRUE(failed("b:1", full));
  EXPECT_TRUE(failed("c:1", kRefused));
  EXPECT_TRUE(failed("a:1", full));
  EXPECT_FALSE(failed("c:1", full)) << "all of them are";
  EXPECT_EQ(persistence_.Verdict(full), full);
}

TEST_F(PersistenceTest, K22_AnAttemptIsShortWhileThereIsAnotherServer) {
  EXPECT_EQ(persistence_.AttemptSilence(1), seconds(30));
  EXPECT_EQ(persistence_.AttemptSilence(2), kAttemptTimeout);
  EXPECT_TRUE(Failed(kRefused, true, 2).again);
  EXPECT_EQ(persistence_.AttemptSilence(2), kAttemptTimeout);
  EXPECT_TRUE(Failed(kRefused, true, 2).again);  // a whole round
  EXPECT_EQ(persistence_.AttemptSilence(2), 2 * kAttemptTimeout);
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(Failed(kRefused, true, 2).again);
  EXPECT_EQ(persistence_.AttemptSilence(2), seconds(30));
}

TEST_F(PersistenceTest, K22_EveryServerIsAskedBeforeTheContactPatienceIsOver) {
  const absl::Status frozen = absl::DeadlineExceededError("made no progress");
  for (int i = 0; i < 4; ++i) {
    now_ += kAttemptTimeout;
    EXPECT_TRUE(Failed(frozen, false, 5).again) << i;
  }
  now_ += kAttemptTimeout;
  EXPECT_FALSE(Failed(frozen, false, 5).again) << "nobody answered";
}

TEST_F(PersistenceTest, AStoppedClusterIsToldAfterTheContactPatience) {
  now_ += kContactPatience;
  EXPECT_TRUE(Failed(kRefused, false).again);
  now_ += milliseconds(1);
  EXPECT_FALSE(Failed(kRefused, false).again);
  const absl::Status verdict = persistence_.Verdict(kRefused);
  EXPECT_TRUE(absl::IsUnavailable(verdict));
  EXPECT_NE(Message(verdict).find("no server answered: a:1 (connection refused)"), std::string::npos)
      << verdict;
}

TEST_F(PersistenceTest, AClusterWithoutALeaderIsWaitedFor) {
  const absl::Status no_leader = absl::UnavailableError("no leader");
  for (int second = 0; second <= 30; ++second) {
    EXPECT_TRUE(Failed(no_leader, true).again) << second;
    now_ += seconds(1);
  }
  EXPECT_FALSE(Failed(no_leader, true).again);
  EXPECT_NE(Message(persistence_.Verdict(no_leader)).find("can serve"), std::string::npos);
}

TEST_F(PersistenceTest, AfterBytesMovedARestartOfTheClusterIsWaitedFor) {
  now_ += seconds(60);  // a long upload
  persistence_.Progress(1 << 20, now_);
  now_ += seconds(29);
  EXPECT_TRUE(Failed(kRefused, false).again);
  persistence_.Progress((1 << 20) + 1, now_);
  now_ += seconds(30);
  EXPECT_TRUE(Failed(kRefused, false).again);
  now_ += milliseconds(1);
  EXPECT_FALSE(Failed(kRefused, false).again);
}

// A put whose last step always fails uploads the whole file each time.
TEST_F(PersistenceTest, BytesThatMoveAgainAreNoProgress) {
  const absl::Status lost = absl::AbortedError("not entered");
  int attempts = 0;
  do {
    ASSERT_LE(++attempts, 7);
    for (uint64_t bytes = 0; bytes <= 1000; bytes += 100) persistence_.Progress(bytes, now_);
    now_ += seconds(5);
  } while (Failed(lost, true).again);
  EXPECT_EQ(attempts, 7);
}

TEST_F(PersistenceTest, PausesGrowWithEachRoundOfAllServers) {
  EXPECT_EQ(Failed(kRefused, true, 2).pause, Duration{});
  EXPECT_EQ(Failed(kRefused, true, 2).pause, milliseconds(100));
  EXPECT_EQ(Failed(kRefused, true, 2).pause, Duration{});
  EXPECT_EQ(Failed(kRefused, true, 2).pause, milliseconds(200));
  for (int i = 0; i < 20; ++i) EXPECT_LE(Failed(kRefused, true, 2).pause, seconds(1));
  persistence_.Progress(5, now_);
  EXPECT_EQ(Failed(kRefused, true, 1).pause, milliseconds(100));
}

}  // namespace
}  // namespace sluice::client
