// Each call once, and each retry what the first call got (P3, D-05), as long as that is promised (F-68).

#include <functional>

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

using node::Replication;
using node::ReplyCode;

class ClusterOnce : public ClusterFault {
 protected:
  // An increment under call id `call`, asked of the leader until it says something definite.
  node::ClientReply Increment(uint64_t call, Replication replication = Replication::kMajority) {
    for (int i = 0; i < 100; ++i) {
      const auto leader = cluster_->Leader(kCounter);
      if (leader) {
        node::ClientReply reply = IncrementAt(*leader, call, replication);
        if (reply.code != ReplyCode::kNotLeader && reply.code != ReplyCode::kLeaderNotReady) return reply;
      }
      cluster_->RunFor(milliseconds(100));
    }
    ADD_FAILURE() << "no leader" << cluster_->Describe();
    return {};
  }
  node::ClientReply IncrementAt(size_t server, uint64_t call, Replication replication) {
    node::ClientRequest request;
    request.group = kCounter;
    request.client = ClientId{{7}};
    request.call = CallId{call};
    request.message = Bytes::Copy("INCREMENT");
    request.replication = replication;
    auto answer = std::make_shared<std::optional<node::ClientReply>>();
    cluster_->host(server).Submit(std::move(request),
                                  [answer](node::ClientReply reply) { *answer = std::move(reply); });
    EXPECT_TRUE(cluster_->RunUntil([&] { return answer->has_value(); }, seconds(30)));
    return answer->value_or(node::ClientReply{});
  }
  int64_t Count() {
    const auto count = clients_->CounterNow(LeaderOf(kCounter));
    EXPECT_TRUE(count.ok()) << count.status();
    return count.value_or(-1);
  }
  absl::Status Remove(size_t server, const std::string& name, uint64_t call) {
    auto answer = std::make_shared<std::optional<absl::Status>>();
    cluster_->host(server).RemoveName(kBlobs, name, {ClientId{{7}}, CallId{call}}, cluster_->lane(server),
                                      [answer](absl::Status removed) { *answer = std::move(removed); });
    EXPECT_TRUE(cluster_->RunUntil([&] { return answer->has_value(); }, seconds(30)));
    return answer->value_or(absl::UnknownError("no answer"));
  }
};

TEST_F(ClusterOnce, K5_F68_ARetryIsAnsweredForAMinuteOfTheLog) {
  Make();
  const node::ClientReply first = Increment(1);
  ASSERT_EQ(first.code, ReplyCode::kOk) << first.error;
  uint64_t call = 1;
  for (int i = 0; i < 28; ++i) {
    cluster_->RunFor(seconds(2));
    ASSERT_EQ(Increment(++call).code, ReplyCode::kOk);
    if (i == 10) {  // also when all of them start again
      for (size_t server = 0; server < 3; ++server) cluster_->PowerLoss(server);
      for (size_t server = 0; server < 3; ++server) Restart(server);
    }
  }
  const node::ClientReply again = Increment(1);
  EXPECT_EQ(again.code, ReplyCode::kOk) << again.error;
  EXPECT_EQ(again.message, first.message);
  EXPECT_EQ(again.log_index, first.log_index);
  EXPECT_EQ(Count(), static_cast<int64_t>(call));
  // After its time, which began anew, the same ids are a new call, as the documentation says.
  cluster_->RunFor(seconds(70));
  ASSERT_EQ(Increment(++call).code, ReplyCode::kOk);
  cluster_->oracle().Forget(NameOf(kCounter), CallName(ClientId{{7}}, CallId{1}));
  EXPECT_EQ(Increment(1).code, ReplyCode::kOk);
  EXPECT_EQ(Count(), static_cast<int64_t>(call) + 1);
}

TEST_F(ClusterOnce, K5_F68_TheMinuteBeginsAgainWithEachRetry) {
  Make();
  const node::ClientReply first = Increment(1);
  ASSERT_EQ(first.code, ReplyCode::kOk) << first.error;
  uint64_t call = 1;
  const auto retry = [&] {
    const node::ClientReply again = Increment(1);
    EXPECT_EQ(again.code, ReplyCode::kOk) << again.error;
    EXPECT_EQ(again.message, first.message);
    EXPECT_EQ(again.log_index, first.log_index);
  };
  for (int i = 0; i < 90; ++i) {
    cluster_->RunFor(seconds(2));
    ASSERT_EQ(Increment(++call).code, ReplyCode::kOk);
    if (i % 20 == 19) retry();  // every 40 s, and the last 20 s before the end
    if (i == 45) {
      for (size_t server = 0; server < 3; ++server) cluster_->PowerLoss(server);
      for (size_t server = 0; server < 3; ++server) Restart(server);
    }
    if (i == 65) cluster_->Kill(LeaderOf(kCounter));
    if (i == 70) {
      for (size_t server = 0; server < 3; ++server) {
        if (!cluster_->up(server)) Restart(server);
      }
    }
  }
  retry();
  EXPECT_EQ(Count(), static_cast<int64_t>(call));
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
}

TEST_F(ClusterOnce, K5_F38_AJumpOfTheWallClockForgetsNothing) {
  Make();
  ASSERT_EQ(Increment(1).code, ReplyCode::kOk);
  const Term term = cluster_->status(LeaderOf(kCounter), kCounter)->term;
  uint64_t call = 1;
  for (const auto jump :
       {std::chrono::hours(1), std::chrono::hours(-1), std::chrono::hours(24), std::chrono::hours(-48)}) {
    cluster_->world().MoveWallClock(jump);
    cluster_->RunFor(seconds(2));
    ASSERT_EQ(Increment(++call).code, ReplyCode::kOk);
    ASSERT_EQ(Increment(1).code, ReplyCode::kOk);
    ASSERT_EQ(clients_->PutNow({.name = fmt::format("a{}", call), .content = "small"}),
              Outcome::kAcknowledged);
  }
  EXPECT_EQ(Count(), static_cast<int64_t>(call));
  EXPECT_EQ(cluster_->status(LeaderOf(kCounter), kCounter)->term, term) << "a leader was lost";
  ExpectWhole();
}

TEST_F(ClusterOnce, K5_ATableThatIsFullOfYoungRepliesTakesNoNewWrites) {
  ClusterOptions options;
  options.host.session_bytes_max = 40'000;
  Make(options);
  const node::ClientReply first = Increment(1);
  ASSERT_EQ(first.code, ReplyCode::kOk);
  uint64_t call = 1;
  node::ClientReply refused;
  while (call < 2000) {
    refused = Increment(call + 1);
    if (refused.code != ReplyCode::kOk) break;
    ++call;
  }
  EXPECT_EQ(refused.code, ReplyCode::kResource) << refused.error;
  EXPECT_GT(call, 100u);
  EXPECT_NE(Message(refused.error).find("session_bytes_max"), std::string_view::npos) << refused.error;
  const node::ClientReply again = Increment(1);
  EXPECT_EQ(again.code, ReplyCode::kOk) << "a retry needs no room";
  EXPECT_EQ(again.message, first.message);
  EXPECT_EQ(Count(), static_cast<int64_t>(call));
  // Whoever asks on gets through when the replies are old.
  for (int i = 0; i < 80 && Increment(call + 1).code != ReplyCode::kOk; ++i) cluster_->RunFor(seconds(1));
  EXPECT_EQ(Count(), static_cast<int64_t>(call) + 1);
}

// A machine of the user's with large replies.
class Talker final : public StateMachine {
 public:
  absl::StatusOr<Bytes> Apply(const Command&, State& state) override {
    const auto count = std::to_string(std::stoi(state.Get("n").value_or("0")) + 1);
    state.Put("n", count);
    return Bytes::Copy(count + std::string(10'000, '.'));
  }
  absl::StatusOr<Bytes> Query(const Bytes&, const State& state) override {
    return Bytes::Copy(state.Get("n").value_or("0"));
  }
};

// So many at a time, or so many retries of them, that they would push out others that are younger than a minute.
TEST_F(ClusterOnce, K5_F68_PendingRepliesCountAsLargeAsTheyAre) {
  ClusterOptions options;
  options.blobs = false;
  options.host.session_bytes_max = 400'000;
  options.adjust = [](size_t, node::HostOptions& host) {
    host.groups[0].factory = [] { return std::make_unique<Talker>(); };
  };
  cluster_ = std::make_unique<Cluster>(11, options);
  clients_ = std::make_unique<Clients>(*cluster_);
  cluster_->StartAll();
  const size_t leader = LeaderOf(kCounter);
  std::map<uint64_t, node::ClientReply> answers;
  const auto ask_at_once = [&](uint64_t first, uint64_t last) {
    answers.clear();
    for (uint64_t call = first; call <= last; ++call) {
      node::ClientRequest request;
      request.group = kCounter;
      request.client = ClientId{{7}};
      request.call = CallId{call};
      request.message = Bytes::Copy("INCREMENT");
      cluster_->host(leader).Submit(std::move(request), [&answers, call](node::ClientReply reply) {
        answers[call] = std::move(reply);
      });
    }
    EXPECT_TRUE(cluster_->RunUntil([&] { return answers.size() == last - first + 1; }, seconds(10)));
  };
  std::map<uint64_t, Bytes> told;
  const auto told_is_remembered = [&] {
    for (const auto& [call, message] : told) {
      const node::ClientReply again = Increment(call);
      EXPECT_EQ(again.code, ReplyCode::kOk) << again.error;
      EXPECT_EQ(again.message, message) << "call " << call << " is forgotten";
    }
  };
  const auto ask_new = [&](uint64_t first, uint64_t last) {
    ask_at_once(first, last);
    for (auto& [call, reply] : answers) {
      EXPECT_TRUE(reply.code == ReplyCode::kOk || reply.code == ReplyCode::kResource) << reply.error;
      if (reply.code == ReplyCode::kOk) told[call] = reply.message;
    }
  };
  told[1] = Increment(1).message;
  ask_new(2, 29);
  EXPECT_EQ(told.size(), 29u);
  // Half of them again, so that each is to be kept a second time.
  cluster_->RunFor(seconds(2));
  ask_new(30, 30);
  ask_at_once(15, 30);
  told_is_remembered();
  ask_new(31, 200);
  EXPECT_LT(told.size(), 40u);
  told_is_remembered();
}

// What frees space is remembered, too, and must not wait for room that only it can make (F-12): also when writes, which
// have no room, are asked for all the time.
class FullTable : public ClusterOnce, public testing::WithParamInterface<bool> {};

TEST_P(FullTable, K5_F12_OnAFullDiskItAgesByRemovals) {
  ClusterOptions options;
  options.counter = false;
  options.host.session_bytes_max = 40'000;
  options.host.blob.reserve_bytes = 16u << 20;
  Make(options);
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < cluster_->size(); ++i) FillDisk(i, options.host.blob.reserve_bytes / 4);
  cluster_->RunFor(seconds(1));
  uint64_t call = 1;
  absl::Status removed = Remove(0, "none", call);
  while (call < 2000 && absl::IsNotFound(removed)) removed = Remove(0, "none", ++call);
  EXPECT_TRUE(absl::IsResourceExhausted(removed)) << removed;
  EXPECT_GT(call, 100u);
  EXPECT_NE(Message(removed).find("session_bytes_max"), std::string_view::npos) << removed;
  bool writing = GetParam();
  std::function<void()> write = [&] {
    if (!writing) return;
    clients_->Put({.name = "w", .content = "small"});
    cluster_->world().After(milliseconds(100), write);
  };
  write();
  // Whoever goes on gets through when the replies are old, or is through at once when they are.
  if (!writing) cluster_->RunFor(seconds(80));
  for (int i = 0; i < (writing ? 40 : 1) && absl::IsResourceExhausted(removed); ++i)
    removed = Remove(0, "none", call);
  EXPECT_TRUE(absl::IsNotFound(removed)) << removed;
  writing = false;
  cluster_->RunFor(seconds(5));
  EXPECT_EQ(clients_->RemoveNow(0, "a"), Outcome::kAcknowledged);
  for (size_t i = 0; i < cluster_->size(); ++i) cluster_->disk(i).ClearFaults();
  ExpectWhole();
}

INSTANTIATE_TEST_SUITE_P(Beside, FullTable, testing::Bool(),
                         [](const auto& param) { return param.param ? "Writes" : "Nothing"; });

TEST_F(ClusterOnce, K5_ARetryThatAsksForAllWaitsForAll) {
  Make();
  const size_t away = FollowerOf(kCounter);
  cluster_->Kill(away);
  EXPECT_EQ(Increment(1, Replication::kAllCommitted).code, ReplyCode::kNotReplicated);
  EXPECT_EQ(Increment(1, Replication::kAllCommitted).code, ReplyCode::kNotReplicated);
  EXPECT_EQ(Increment(1, Replication::kMajority).code, ReplyCode::kOk);
  EXPECT_EQ(Count(), 1);
  Restart(away);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_EQ(Increment(1, Replication::kAllCommitted).code, ReplyCode::kOk);
  EXPECT_EQ(Count(), 1);
}

TEST_F(ClusterOnce, K5_ARetriedRemovalGetsTheFirstAnswerAtEveryServer) {
  Make();
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = "first"}), Outcome::kAcknowledged);
  EXPECT_TRUE(Remove(0, "a", 1).ok());
  EXPECT_TRUE(Remove(1, "a", 1).ok()) << "the same call, to another server";
  EXPECT_TRUE(absl::IsNotFound(Remove(1, "a", 2))) << "another call";
  // Somebody puts the name again: the retry is not a removal of that.
  ASSERT_EQ(clients_->PutNow({.name = "b", .content = "second"}), Outcome::kAcknowledged);
  EXPECT_TRUE(absl::IsNotFound(Remove(2, "a", 2)));
  EXPECT_TRUE(clients_->GetNow(0, "b").ok());
}

TEST_F(ClusterOnce, F66_SameIdsWithOtherContentAreRefused) {
  Make();
  for (const char* name : {"a", "b"}) {
    ASSERT_EQ(clients_->PutNow({.name = name, .content = "kept"}), Outcome::kAcknowledged);
  }
  EXPECT_TRUE(Remove(0, "a", 1).ok());
  const absl::Status other = Remove(1, "b", 1);
  EXPECT_TRUE(absl::IsInvalidArgument(other)) << other;
  EXPECT_NE(Message(other).find("asked for something else before"), std::string_view::npos) << other;
  EXPECT_TRUE(clients_->GetNow(2, "b").ok()) << "it was executed";
  EXPECT_TRUE(Remove(2, "a", 1).ok()) << "the first one's retry is still answered";
}

TEST_F(ClusterOnce, F66_K5_AForwardForSomethingElseDoesNotGetTheFirstReply) {
  Make();
  const std::string content = MakeContent(200'000, 2);
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = MakeContent(200'000, 1), .via = PutVia::kChain}),
            Outcome::kAcknowledged);
  const UploadId upload = SealOnly(0, "a", content);
  const auto forward = [&](const std::string& name) {
    std::optional<absl::Status> ended;
    clients_->Forward(upload, name, content, [&](Outcome, const absl::Status& status) { ended = status; });
    EXPECT_TRUE(cluster_->RunUntil([&] { return ended.has_value(); }, seconds(20)));
    return ended.value_or(absl::OkStatus());
  };
  const absl::Status first = forward("a");
  EXPECT_TRUE(absl::IsAlreadyExists(first)) << first;
  EXPECT_EQ(forward("a").ToString(), first.ToString()) << "a retry gets what the first call got";
  const absl::Status other = forward("b");
  EXPECT_TRUE(absl::IsFailedPrecondition(other)) << other << ": the reply is that of another call";
  EXPECT_THAT(other.ToString(), testing::HasSubstr("cannot be used again"));
}

// A counter that throws at one of its commands.
class Thrower final : public StateMachine {
 public:
  Thrower(const bool* armed, int* calls) : armed_(armed), calls_(calls) {}
  absl::StatusOr<Bytes> Apply(const Command&, State& state) override {
    ++*calls_;
    if (*armed_) throw std::runtime_error("a bug of the user's");
    const auto count = std::to_string(std::stoi(state.Get("n").value_or("0")) + 1);
    state.Put("n", count);
    return Bytes::Copy(count);
  }
  absl::StatusOr<Bytes> Query(const Bytes&, const State& state) override {
    return Bytes::Copy(state.Get("n").value_or("0"));
  }

 private:
  const bool* const armed_;
  int* const calls_;
};

TEST_F(ClusterOnce, F41_AMachineThatThrowsStopsItsGroupHereAndLetsOthersLead) {
  bool armed[3] = {};
  int calls[3] = {};
  ClusterOptions options;
  options.blobs = false;
  options.adjust = [&](size_t server, node::HostOptions& host) {
    host.groups[0].factory = [&armed, &calls, server] {
      return std::make_unique<Thrower>(&armed[server], &calls[server]);
    };
  };
  cluster_ = std::make_unique<Cluster>(11, options);
  clients_ = std::make_unique<Clients>(*cluster_);
  cluster_->StartAll();
  const size_t leader = LeaderOf(kCounter);
  ASSERT_EQ(Increment(1).code, ReplyCode::kOk);
  armed[leader] = true;
  calls[leader] = 0;
  // Its log has the command, so that the others execute it; this server says that it stopped.
  const node::ClientReply stopped = IncrementAt(leader, 2, Replication::kMajority);
  EXPECT_NE(stopped.code, ReplyCode::kOk);
  ASSERT_TRUE(
      cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(leader) != leader; }, seconds(10)))
      << cluster_->Describe();
  const node::ClientReply retried = Increment(2);
  EXPECT_EQ(retried.code, ReplyCode::kOk) << retried.error;
  EXPECT_EQ(retried.message, "2") << "executed once by those who can";
  cluster_->RunFor(seconds(5));
  EXPECT_EQ(calls[leader], 1) << "tried again and again";
  const node::GroupStatus& status = *cluster_->status(leader, kCounter);
  EXPECT_NE(Message(status.storage).find("a bug of the user's"), std::string_view::npos) << status.storage;
  EXPECT_FALSE(status.serving.ok());
}

}  // namespace
}  // namespace sluice::sim
