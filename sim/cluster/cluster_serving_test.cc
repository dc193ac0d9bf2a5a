// Who cannot serve says so at once, and lets another one lead (F-11, F-12); health follows.

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

class ClusterServing : public ClusterFault {
 protected:
  // How long `ask` took, in the world's time.
  template <typename Ask>
  env::Duration Timed(Ask ask) {
    const env::Instant begun = cluster_->world().MonotonicNow();
    ask();
    return cluster_->world().MonotonicNow() - begun;
  }
  // What a health check of the server is told.
  absl::Status Serving(size_t server) {
    auto told = std::make_shared<std::optional<absl::Status>>();
    cluster_->host(server).Serving(cluster_->lane(server),
                                   [told](absl::Status serving) { *told = std::move(serving); });
    cluster_->RunUntil([&] { return told->has_value(); }, seconds(2));
    return told->value_or(absl::DeadlineExceededError("no answer"));
  }
  // A read of the counter there, as it is.
  absl::Status StaleRead(size_t server) {
    node::ClientRequest request;
    request.group = kCounter;
    request.kind = node::RequestKind::kStaleRead;
    request.client = ClientId{{7}};
    request.message = Bytes::Copy("GET");
    auto told = std::make_shared<std::optional<absl::Status>>();
    cluster_->host(server).Submit(request, [told](node::ClientReply reply) { *told = reply.error; });
    cluster_->RunUntil([&] { return told->has_value(); }, seconds(30));
    return told->value_or(absl::DeadlineExceededError("no answer"));
  }
  bool AwaitServing(size_t server, bool serving) {
    for (int i = 0; i < 200; ++i) {
      if (Serving(server).ok() == serving) return true;
      cluster_->RunFor(milliseconds(50));
    }
    return false;
  }
};

TEST_F(ClusterServing, K12_F11_ALeaderWhoseIndexHangsLetsAnotherOneLead) {
  Make();
  const size_t old = LeaderOf(kCounter);
  cluster_->SlowDown(old, "apply", seconds(20));
  clients_->Increment(old);
  ASSERT_TRUE(cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(5)))
      << cluster_->Describe();
  EXPECT_EQ(clients_->IncrementNow((old + 1) % 3), Outcome::kAcknowledged);
  const absl::Status serving = Serving(old);
  EXPECT_NE(Message(serving).find("cannot apply"), std::string_view::npos) << serving;
  absl::Status read;
  const env::Duration took = Timed([&] { read = clients_->CounterNow(old).status(); });
  EXPECT_TRUE(absl::IsUnavailable(read)) << read;
  EXPECT_NE(Message(read).find("cannot apply"), std::string_view::npos) << read;
  EXPECT_LT(took, milliseconds(200)) << "it waited";
  // Although it is asked again and again, and whoever leads goes away.
  cluster_->Kill((old + 1) % 3 == LeaderOf(kCounter) ? (old + 1) % 3 : (old + 2) % 3);
  cluster_->RunFor(seconds(5));
  EXPECT_NE(cluster_->status(old, kCounter)->role, raft::Role::kLeader) << "it cannot serve, and leads";
  for (size_t i = 0; i < 3; ++i) Restart(i);
  cluster_->SlowDown(old, "apply", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return cluster_->status(old, kCounter)->serving.ok(); }, seconds(60)))
      << cluster_->Describe();
  ExpectWhole();
}

// It leads on, because nobody else can; it keeps nobody waiting.
TEST_F(ClusterServing, K12_F11_AGroupOfOneWhoseIndexHangsSaysSo) {
  ClusterOptions options;
  options.servers = 1;
  Make(options);
  ASSERT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
  cluster_->SlowDown(0, "apply", seconds(20));
  node::ClientRequest request;
  request.group = kCounter;
  request.client = ClientId{{7}};
  request.call = CallId{1};
  request.message = Bytes::Copy("INCREMENT");
  std::optional<node::ClientReply> answer;
  const auto ask = [&] {
    answer.reset();
    return Timed([&] {
      cluster_->host(0).Submit(request, [&](node::ClientReply reply) { answer = std::move(reply); });
      EXPECT_TRUE(cluster_->RunUntil([&] { return answer.has_value(); }, seconds(10)));
    });
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_LT(ask(), seconds(2)) << "what waits is told, and a retry of it, too";
    EXPECT_TRUE(absl::IsUnavailable(answer->error)) << answer->error;
    EXPECT_THAT(answer->error.ToString(), testing::HasSubstr("cannot apply"));
  }
  request.call = CallId{2};
  EXPECT_LT(ask(), milliseconds(100)) << "nothing new is taken";
  EXPECT_TRUE(absl::IsUnavailable(answer->error)) << answer->error;
  EXPECT_FALSE(Serving(0).ok());
  cluster_->SlowDown(0, "apply", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return Serving(0).ok(); }, seconds(60)));
  request.call = CallId{1};
  ask();
  EXPECT_EQ(answer->code, node::ReplyCode::kOk) << answer->error;
  EXPECT_EQ(answer->message, std::string_view("\0\0\0\2", 4)) << "the retry gets what the first call did";
}

TEST_F(ClusterServing, K12_AReadThatHangsWithTheIndexIsRefused) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged());
  cluster_->SlowDown(leader, "apply", seconds(20));
  absl::Status read;
  const env::Duration took = Timed([&] { read = clients_->GetNow(leader, "a").status(); });
  EXPECT_TRUE(absl::IsUnavailable(read)) << read;
  EXPECT_LT(took, seconds(2)) << "an election timeout is 600 ms here";
  EXPECT_TRUE(AwaitServing(leader, false)) << cluster_->Describe();
  cluster_->SlowDown(leader, "apply", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return Serving(leader).ok(); }, seconds(60)));
  ExpectWhole();
}

TEST_F(ClusterServing, K12_F11_ALeaderWhoseLogHangsIsNotElectedAgain) {
  Make();
  const size_t old = LeaderOf(kCounter);
  cluster_->SlowDown(old, "log-write", seconds(15));
  clients_->Increment(old);
  ASSERT_TRUE(cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(5)))
      << cluster_->Describe();
  EXPECT_EQ(clients_->IncrementNow((old + 1) % 3), Outcome::kAcknowledged);
  EXPECT_FALSE(Serving(old).ok());
  for (int i = 0; i < 100; ++i) {
    cluster_->RunFor(milliseconds(100));
    ASSERT_NE(cluster_->status(old, kCounter)->role, raft::Role::kLeader);
  }
  cluster_->SlowDown(old, "log-write", {});
  ExpectWhole();
  EXPECT_TRUE(Serving(old).ok());
}

// One disk under log and index, as nearly everywhere: the log is found first, and says nothing of the index.
TEST_F(ClusterServing, K12_F11_WhereTheWholeDiskHangsReadsAreRefused) {
  Make();
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged());
  const size_t follower = FollowerOf(kCounter);
  cluster_->SlowDown(follower, "log-write", seconds(20));
  cluster_->SlowDown(follower, "apply", seconds(20));
  const auto expect_refused = [&](const char* what, auto read) {
    absl::Status status;
    const env::Duration took = Timed([&] { status = read(); });
    EXPECT_TRUE(absl::IsUnavailable(status)) << what << ": " << status;
    EXPECT_LT(took, seconds(2)) << what << ": an election timeout is 600 ms here";
  };
  ASSERT_EQ(clients_->IncrementNow(LeaderOf(kCounter)), Outcome::kAcknowledged);
  ASSERT_TRUE(AwaitServing(follower, false));
  EXPECT_THAT(Serving(follower).ToString(), testing::HasSubstr("the log's disk"));
  expect_refused("a stale read", [&] { return StaleRead(follower); });
  expect_refused("a read", [&] { return clients_->CounterNow(follower).status(); });
  expect_refused("a get", [&] { return clients_->GetNow(follower, "a").status(); });
  EXPECT_TRUE(clients_->CounterNow(LeaderOf(kCounter)).ok());
  cluster_->SlowDown(follower, "log-write", {});
  cluster_->SlowDown(follower, "apply", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return Serving(follower).ok(); }, seconds(60)));
  EXPECT_TRUE(StaleRead(follower).ok());
  ExpectWhole();
}

// A read for which the log has all that it needs is answered; one that needs what the log does not take is not.
TEST_F(ClusterServing, K12_F11_WhereTheLogHangsReadsWaitForNothingThatItLacks) {
  Make();
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged());
  const size_t follower = FollowerOf(kCounter);
  cluster_->SlowDown(follower, "log-write", seconds(40));
  ASSERT_EQ(clients_->IncrementNow(LeaderOf(kCounter)), Outcome::kAcknowledged);
  absl::Status read;
  const env::Duration took = Timed([&] { read = clients_->CounterNow(follower).status(); });
  EXPECT_TRUE(absl::IsUnavailable(read)) << read;
  EXPECT_THAT(read.ToString(), testing::HasSubstr("the log's disk"));
  EXPECT_LT(took, seconds(2)) << "an election timeout is 600 ms here";
  EXPECT_TRUE(StaleRead(follower).ok()) << "of what was applied";
  EXPECT_TRUE(clients_->GetNow(follower, "a").ok()) << "of a group in which nothing waits for the log";
  // The index hangs too, and comes back before the log does.
  cluster_->SlowDown(follower, "apply", seconds(5));
  EXPECT_TRUE(absl::IsUnavailable(StaleRead(follower)));
  cluster_->SlowDown(follower, "apply", {});
  cluster_->RunFor(seconds(6));
  EXPECT_FALSE(Serving(follower).ok()) << "the log hangs yet";
  EXPECT_TRUE(StaleRead(follower).ok()) << StaleRead(follower);
  cluster_->SlowDown(follower, "log-write", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return Serving(follower).ok(); }, seconds(90)));
  ExpectWhole();
}

// The other way round: what is refused for the index is served when that is back.
TEST_F(ClusterServing, K12_F11_AnIndexThatIsBackServesAlthoughTheLogHangs) {
  Make();
  const size_t follower = FollowerOf(kCounter);
  cluster_->SlowDown(follower, "apply", seconds(5));
  EXPECT_TRUE(absl::IsUnavailable(StaleRead(follower))) << "the index hangs first";
  cluster_->SlowDown(follower, "log-write", seconds(40));
  ASSERT_EQ(clients_->IncrementNow(LeaderOf(kCounter)), Outcome::kAcknowledged);
  cluster_->RunFor(seconds(1));
  cluster_->SlowDown(follower, "apply", {});
  cluster_->RunFor(seconds(10));
  EXPECT_FALSE(Serving(follower).ok()) << "the log hangs yet";
  EXPECT_TRUE(StaleRead(follower).ok()) << StaleRead(follower);
  cluster_->SlowDown(follower, "log-write", {});
  EXPECT_TRUE(cluster_->RunUntil([&] { return Serving(follower).ok(); }, seconds(90)));
  ExpectWhole();
}

TEST_F(ClusterServing, K12_F12_APutThatAMajorityCannotTakeIsRefusedSoon) {
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  for (size_t i = 0; i < 3; ++i) {
    if (i != leader) FillDisk(i, 0);
  }
  absl::Status status;
  uint64_t puts = 0;
  const auto put = [&] {
    const Put one{.server = leader, .name = fmt::format("a{}", puts), .content = MakeContent(8'000, puts)};
    ++puts;
    return clients_->PutNow(one, &status);
  };
  env::Duration took{};
  Outcome outcome = Outcome::kAcknowledged;
  while (puts < 300 && outcome == Outcome::kAcknowledged) took = Timed([&] { outcome = put(); });
  ASSERT_NE(outcome, Outcome::kAcknowledged) << "their disks were not full";
  EXPECT_LT(took, seconds(3)) << "twice an election timeout, and a retry";
  EXPECT_NE(Message(status).find("waits for a majority"), std::string_view::npos) << status;
  took = Timed([&] { outcome = put(); });
  EXPECT_NE(outcome, Outcome::kAcknowledged);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_LT(took, milliseconds(200)) << "known to be impossible";
  EXPECT_FALSE(Serving(leader).ok());
  for (size_t i = 0; i < 3; ++i) cluster_->disk(i).ClearFaults();
  cluster_->RunFor(seconds(3));
  EXPECT_EQ(put(), Outcome::kAcknowledged) << status;
  ExpectWhole();
}

// The log has room everywhere; for the bytes there is some at one server of three.
TEST_F(ClusterServing, K12_F28_AnUploadThatAMajorityHasNoRoomForIsRefusedSoon) {
  ClusterOptions options;
  options.counter = false;
  options.host.blob.reserve_bytes = 4u << 20;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  for (size_t i = 0; i < 3; ++i) {
    if (i != leader) FillDisk(i, 3u << 20);
  }
  absl::Status status;
  Outcome outcome = Outcome::kAcknowledged;
  const auto put = [&](const std::string& name) {
    const std::string content = MakeContent(300'000, 5);
    outcome =
        clients_->PutNow({.server = leader, .name = name, .content = content, .via = PutVia::kStar}, &status);
  };
  const env::Duration took = Timed([&] { put("a"); });
  EXPECT_NE(outcome, Outcome::kAcknowledged);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_LT(took, seconds(5)) << status;
  for (size_t i = 0; i < 3; ++i) cluster_->disk(i).ClearFaults();
  put("b");
  EXPECT_EQ(outcome, Outcome::kAcknowledged) << status;
  ExpectWhole();
}

TEST_F(ClusterServing, K28_WithoutAMajorityNobodyServes) {
  Make();
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(AwaitServing(i, true)) << Serving(i);
  const size_t last = LeaderOf(kBlobs);
  for (size_t i = 0; i < 3; ++i) {
    if (i != last) cluster_->Kill(i);
  }
  EXPECT_TRUE(AwaitServing(last, false)) << cluster_->Describe();
  EXPECT_NE(Message(Serving(last)).find("no leader"), std::string_view::npos) << Serving(last);
  Restart((last + 1) % 3);
  EXPECT_TRUE(AwaitServing(last, true)) << Serving(last);
}

}  // namespace
}  // namespace sluice::sim
