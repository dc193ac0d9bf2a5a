// What a group is (D-01), which folders it refuses (F-09), and what it answers when it is asked for too much.

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

class ClusterGroup : public ClusterFault {
 protected:
  // Another machine than the group's own.
  static void MisconfigureCounter(node::HostOptions& host) {
    for (node::GroupSpec& group : host.groups) {
      if (group.id == kCounter) group.machine = "tally";
    }
  }
  // One request to a server's counter group; counts the answers by code.
  void Submit(size_t server, node::RequestKind kind, uint64_t call) {
    node::ClientRequest request;
    request.group = kCounter;
    request.kind = kind;
    request.client = ClientId{{7}};
    request.call = CallId{call};
    request.message = Bytes::Copy(kind == node::RequestKind::kWrite ? "INCREMENT" : "GET");
    cluster_->host(server).Submit(std::move(request), [this](const node::ClientReply& reply) {
      ++answers_[reply.code];
      EXPECT_EQ(absl::IsResourceExhausted(reply.error), reply.code == node::ReplyCode::kResource);
    });
  }

  std::map<node::ReplyCode, int> answers_;
};

TEST_F(ClusterGroup, K7_F19_ServersThatStartTogetherBelongToOneClusterAndRememberIt) {
  Make({});
  const auto known = [this] {
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (cluster_->host(i).cluster().id().IsZero()) return false;
    }
    return true;
  };
  ASSERT_TRUE(cluster_->RunUntil(known, seconds(20))) << cluster_->Describe();
  const ClusterId id = cluster_->host(0).cluster().id();
  cluster_->RunFor(seconds(1));  // the identities are written
  for (size_t i = 0; i < cluster_->size(); ++i) {
    EXPECT_EQ(cluster_->host(i).cluster().id(), id) << i;
    cluster_->Kill(i);
    Restart(i);
    EXPECT_EQ(cluster_->host(i).cluster().id(), id) << i << ": the folder says it";
  }
  // One that lost everything learns it again, from the log.
  cluster_->Wipe(1);
  Restart(1);
  EXPECT_TRUE(cluster_->host(1).cluster().id().IsZero());
  ASSERT_TRUE(cluster_->RunUntil(known, seconds(20))) << cluster_->Describe();
  EXPECT_EQ(cluster_->host(1).cluster().id(), id);
}

TEST_F(ClusterGroup, D01_ServerOfAnotherMachineFollowsAndAppliesNothing) {
  for (const bool by_snapshot : {false, true}) {
    ClusterOptions options;
    if (by_snapshot) {
      options.host.compact_keep_entries = 5;
      options.host.checkpoint_ms = 300;
    }
    std::optional<size_t> odd;
    options.adjust = [&odd](size_t server, node::HostOptions& host) {
      if (server == odd) MisconfigureCounter(host);
    };
    Make(options);
    odd = FollowerOf(kCounter);
    const size_t there = LeaderOf(kCounter);
    cluster_->Wipe(*odd);
    for (int i = 0; i < 30; ++i) ASSERT_EQ(clients_->IncrementNow(there), Outcome::kAcknowledged);
    cluster_->RunFor(seconds(1));
    Restart(*odd);
    ASSERT_TRUE(cluster_->RunUntil(
        [&] {
          const auto* status = cluster_->status(*odd, kCounter);
          return status != nullptr && !status->storage.ok();
        },
        seconds(10)))
        << cluster_->Describe();
    const node::GroupStatus status = *cluster_->status(*odd, kCounter);
    EXPECT_TRUE(absl::IsFailedPrecondition(status.storage)) << status.storage;
    EXPECT_NE(Message(status.storage).find("runs the machine counter in sluice mode"), std::string_view::npos)
        << status.storage;
    EXPECT_LE(status.applied, Index{0}) << "only the configuration comes before what the log says";
    EXPECT_EQ(clients_->IncrementNow(there), Outcome::kAcknowledged) << "the others go on";
    // With the group's own settings it catches up.
    cluster_->Kill(*odd);
    const size_t again = *odd;
    odd.reset();
    Restart(again);
    ExpectWhole();
  }
}

TEST_F(ClusterGroup, D01_FolderOfAnotherMachineIsRefusedAtStart) {
  ClusterOptions options;
  bool odd = false;
  options.adjust = [&odd](size_t server, node::HostOptions& host) {
    if (odd && server == 1) MisconfigureCounter(host);
  };
  Make(options);
  ASSERT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  cluster_->RunFor(seconds(3));  // a checkpoint
  cluster_->Kill(1);
  odd = true;
  const absl::Status refused = cluster_->Start(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(Message(refused).find("set up for tally in sluice mode"), std::string_view::npos) << refused;
  odd = false;
  Restart(1);
  ExpectWhole();
}

TEST_F(ClusterGroup, D01_RatisModeNeverMeetsSluiceMode) {
  ClusterOptions options;
  options.blobs = false;
  // Two servers make a group that Java servers could join; the third one takes it for one of sluice's own.
  options.adjust = [](size_t server, node::HostOptions& host) {
    host.groups[0].mode = server == 2 ? node::GroupMode::kSluice : node::GroupMode::kRatis;
  };
  cluster_ = std::make_unique<Cluster>(11, options);
  clients_ = std::make_unique<Clients>(*cluster_);
  for (size_t i = 0; i < 2; ++i) Restart(i);
  ASSERT_TRUE(cluster_->AwaitLeader(kCounter)) << cluster_->Describe();
  ASSERT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
  Restart(2);
  ASSERT_TRUE(cluster_->RunUntil(
      [&] {
        const auto* status = cluster_->status(2, kCounter);
        return status != nullptr && absl::IsFailedPrecondition(status->storage);
      },
      seconds(10)))
      << cluster_->Describe();
  EXPECT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
}

TEST_F(ClusterGroup, F09_IndexOlderThanTheLogIsRefused) {
  Make(LittleLog());
  for (int i = 0; i < 30; ++i) ASSERT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
  cluster_->RunFor(seconds(2));
  cluster_->Kill(2);
  ASSERT_TRUE(cluster_->disk(2).Remove("/data/index/index").ok());
  const absl::Status refused = cluster_->Start(2);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(Message(refused).find("/data/index has applied up to entry -1"), std::string_view::npos)
      << refused;
}

TEST_F(ClusterGroup, F20_IdleGroupNoticesAWipedServer) {
  Make();
  ASSERT_EQ(clients_->IncrementNow(0), Outcome::kAcknowledged);
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = MakeContent(200'000, 1), .via = PutVia::kChain}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t leader = LeaderOf(kCounter);
  const size_t wiped = (leader + 1) % 3 == LeaderOf(kBlobs) ? (leader + 2) % 3 : (leader + 1) % 3;
  const TermIndex last = cluster_->status(leader, kCounter)->last;
  cluster_->Wipe(wiped);
  Restart(wiped);
  EXPECT_TRUE(cluster_->AwaitConverged(seconds(10))) << cluster_->Describe();
  EXPECT_EQ(cluster_->status(leader, kCounter)->last, last) << "nothing was written meanwhile";
  EXPECT_FALSE(cluster_->status(wiped, kCounter)->voting);
  EXPECT_EQ(Contents(wiped).size(), 1u) << "the bytes came back, too";
}

TEST_F(ClusterGroup, TooManyWritesAreRefusedAndEachIsAnswered) {
  ClusterOptions options;
  options.host.pending_writes_max = 10;
  Make(options);
  const size_t leader = LeaderOf(kCounter);
  for (uint64_t i = 1; i <= 100; ++i) Submit(leader, node::RequestKind::kWrite, i);
  cluster_->RunFor(seconds(2));
  EXPECT_EQ(answers_[node::ReplyCode::kOk], 10);
  EXPECT_EQ(answers_[node::ReplyCode::kResource], 90);
  Submit(leader, node::RequestKind::kWrite, 101);
  cluster_->RunFor(seconds(1));
  EXPECT_EQ(answers_[node::ReplyCode::kOk], 11) << "the room came back";
}

// The new leader has the call in its log, and is slow to apply it: until then it cannot know that the call
// that comes again is the same.
TEST_F(ClusterGroup, K4_D05_ARetryAtALeaderThatHasNotAppliedTheFirstRunsOnce) {
  ClusterOptions options;
  options.host.election_timeout_min_ms = 900;  // longer than applying takes
  options.host.election_timeout_max_ms = 1500;
  Make(options);
  for (size_t i = 0; i < 3; ++i) cluster_->SlowDown(i, "apply", milliseconds(300));
  for (uint64_t call = 1; call <= 4; ++call) {
    const size_t old = LeaderOf(kCounter);
    // It reaches both logs, and the leader dies before it hears that.
    for (const PeerId& other : AllBut(old)) cluster_->network().Cut(other, cluster_->id(old));
    Submit(old, node::RequestKind::kWrite, call);
    cluster_->RunFor(milliseconds(100));
    cluster_->Kill(old);
    cluster_->network().Heal();
    // Whoever leads hears it again and again.
    answers_.clear();
    for (int i = 0; i < 500 && answers_[node::ReplyCode::kOk] == 0; ++i) {
      for (size_t other = 0; other < 3; ++other) {
        if (other != old) Submit(other, node::RequestKind::kWrite, call);
      }
      cluster_->RunFor(milliseconds(20));
    }
    EXPECT_GT(answers_[node::ReplyCode::kLeaderNotReady], 0) << "it was ready at once: nothing is shown";
    Restart(old);
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    const auto count = clients_->CounterNow(old);
    ASSERT_TRUE(count.ok()) << count.status();
    EXPECT_EQ(*count, static_cast<int64_t>(call));
  }
}

TEST_F(ClusterGroup, ReadAfterWritesSeesThoseWithoutAnAnswer) {
  Make();
  const size_t leader = LeaderOf(kCounter);
  for (uint64_t i = 1; i <= 50; ++i) Submit(leader, node::RequestKind::kWrite, i);
  node::ClientRequest read;
  read.group = kCounter;
  read.kind = node::RequestKind::kRead;
  read.client = ClientId{{7}};
  read.call = CallId{51};
  read.message = Bytes::Copy("GET");
  read.after_writes = true;
  std::optional<node::ClientReply> leads, follows;
  cluster_->host(leader).Submit(read, [&](node::ClientReply reply) { leads = std::move(reply); });
  cluster_->host((leader + 1) % 3).Submit(read, [&](node::ClientReply reply) { follows = std::move(reply); });
  ASSERT_TRUE(cluster_->RunUntil([&] { return leads && follows; }, seconds(5)));
  EXPECT_EQ(leads->message.ToString().back(), 50);
  EXPECT_EQ(follows->code, node::ReplyCode::kNotLeader);
}

TEST_F(ClusterGroup, TooManyQueriesAreRefusedAndEachIsAnswered) {
  Make();
  const size_t leader = LeaderOf(kCounter);
  constexpr int kAsked = 6000;
  for (uint64_t i = 1; i <= kAsked; ++i) Submit(leader, node::RequestKind::kStaleRead, i);
  cluster_->RunFor(seconds(5));
  EXPECT_GE(answers_[node::ReplyCode::kOk], 4096);
  EXPECT_EQ(answers_[node::ReplyCode::kOk] + answers_[node::ReplyCode::kResource], kAsked);
  Submit(leader, node::RequestKind::kStaleRead, kAsked + 1);
  const int before = answers_[node::ReplyCode::kOk];
  cluster_->RunFor(seconds(1));
  EXPECT_EQ(answers_[node::ReplyCode::kOk], before + 1) << "the room came back";
}

}  // namespace
}  // namespace sluice::sim
