// Named faults and rules (F-nn, D-nn) that need several whole servers: lost and damaged disks, cut networks,
// uploads that are left behind.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/cluster/clients.h"

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ClusterFault : public testing::Test {
 protected:
  ClusterFault() {
    spdlog::set_level(std::getenv("SLUICE_LOG") != nullptr ? spdlog::level::debug : spdlog::level::off);
  }
  ~ClusterFault() override {
    if (cluster_ != nullptr) {
      EXPECT_THAT(cluster_->violations(), testing::IsEmpty());
    }
  }

  void Make(ClusterOptions options = {}, uint64_t seed = 11) {
    cluster_ = std::make_unique<Cluster>(seed, std::move(options));
    clients_ = std::make_unique<Clients>(*cluster_);
    cluster_->StartAll();
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
    if (cluster_->options().counter) {
      ASSERT_TRUE(cluster_->AwaitLeader(kCounter)) << cluster_->Describe();
    }
  }
  size_t LeaderOf(const GroupId& group) {
    const auto leader = cluster_->AwaitLeader(group);
    EXPECT_TRUE(leader.has_value()) << cluster_->Describe();
    return leader.value_or(0);
  }
  size_t FollowerOf(const GroupId& group) { return (LeaderOf(group) + 1) % cluster_->size(); }
  std::vector<PeerId> AllBut(size_t server) {
    std::vector<PeerId> others;
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (i != server) others.push_back(cluster_->id(i));
    }
    return others;
  }
  void Restart(size_t server) {
    const absl::Status started = cluster_->Start(server);
    ASSERT_TRUE(started.ok()) << started;
  }
  // Everything is as it should be, everywhere.
  void ExpectWhole() {
    ASSERT_TRUE(clients_->Drain());
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    const absl::Status checked = clients_->Check();
    EXPECT_TRUE(checked.ok()) << checked;
  }
  // Streams `content` and seals it everywhere, without telling the leader to enter it.
  UploadId SealOnly(size_t server, const std::string& name, const std::string& content) {
    const UploadId upload{ClientId{{9}}, CallId{++last_upload_}};
    EXPECT_EQ(clients_->PutNow({.server = server,
                                .name = name,
                                .content = content,
                                .via = PutVia::kChain,
                                .vanish_sealed = true,
                                .upload = upload}),
              Outcome::kRefused);
    return upload;
  }
  std::optional<node::HaveReply> Have(size_t server, const UploadId& upload) {
    auto reply = std::make_shared<std::optional<node::HaveReply>>();
    cluster_->host(server).Have(kBlobs, upload, cluster_->lane(server),
                                [reply](absl::StatusOr<node::HaveReply> have) {
                                  if (have.ok()) *reply = *have;
                                });
    cluster_->RunUntil([&] { return reply->has_value(); }, seconds(2));
    return *reply;
  }
  // Paths of everything that starts with `prefix` in a folder of the server's disk.
  std::vector<std::string> Paths(size_t server, const std::string& folder, const std::string& prefix) {
    std::vector<std::string> paths;
    const auto names = cluster_->disk(server).List(folder);
    for (const std::string& name : names.value_or(std::vector<std::string>{})) {
      if (name.starts_with(prefix)) paths.push_back(folder + "/" + name);
    }
    return paths;
  }
  // The bytes of linked contents, without stages and side files.
  std::vector<std::string> Contents(size_t server) {
    std::vector<std::string> paths;
    for (const std::string& folder : Paths(server, "/data/blobs/blobs", "")) {
      for (const std::string& path : Paths(server, folder, "")) {
        if (path.size() - path.rfind('/') == 49) paths.push_back(path);
      }
    }
    return paths;
  }
  // Damages the server's copy of `text` in its log; the server must be down.
  bool DamageInLog(size_t server, const std::string& text) {
    SimFiles& disk = cluster_->disk(server);
    bool found = false;
    for (const std::string& path : Paths(server, "/data/log", "segment-")) {
      const auto content = env::ReadWholeFile(disk, path, 1u << 30);
      if (!content.ok()) continue;
      for (size_t at = content->find(text); at != std::string::npos; at = content->find(text, at + 1)) {
        EXPECT_TRUE(disk.FlipBit(path, at, 3).ok());
        found = true;
      }
    }
    return found;
  }
  static ClusterOptions NoCheckpoints() {
    ClusterOptions options;
    options.counter = false;
    options.host.checkpoint_ms = 1'000'000;  // so that a restart needs the log
    return options;
  }

  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Clients> clients_;
  uint64_t last_upload_ = 0;
};

// --- Disks
// ----------------------------------------------------------------------------------------------------

TEST_F(ClusterFault, F05_EntryDamagedOnAllButOneIsRepairedFromThere) {
  Make(NoCheckpoints());
  const std::string text = "the damaged entry " + std::string(600, 'd');
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = text}), Outcome::kAcknowledged);
  ASSERT_EQ(clients_->PutNow({.server = 1, .name = "b", .content = "after it"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  ASSERT_TRUE(DamageInLog(0, text));
  ASSERT_TRUE(DamageInLog(1, text));
  for (size_t i = 0; i < 3; ++i) Restart(i);
  EXPECT_EQ(LeaderOf(kBlobs), 2u) << "only the one with the whole log may lead";
  ExpectWhole();
}

TEST_F(ClusterFault, F06_EntryDamagedEverywhereIsNeverDroppedSilently) {
  Make(NoCheckpoints());
  const std::string text = "the damaged entry " + std::string(600, 'd');
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = text}), Outcome::kAcknowledged);
  ASSERT_EQ(clients_->PutNow({.server = 1, .name = "b", .content = "after it"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    cluster_->PowerLoss(i);
    ASSERT_TRUE(DamageInLog(i, text));
  }
  for (size_t i = 0; i < 3; ++i) Restart(i);
  EXPECT_FALSE(cluster_->AwaitLeader(kBlobs, seconds(20)).has_value()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(cluster_->status(i, kBlobs)->repairing) << cluster_->Describe();
    EXPECT_FALSE(clients_->GetNow(i, "b").ok()) << "a group that lost an entry served a read";
  }
}

TEST_F(ClusterFault, F20_WipedServerDoesNotVote) {
  Make();
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  // One server wiped, one gone: the other alone is no majority of those who remember.
  const size_t wiped = FollowerOf(kBlobs);
  const size_t gone = (wiped + 1) % 3;
  cluster_->Wipe(wiped);
  cluster_->Kill(gone);
  Restart(wiped);
  cluster_->RunFor(seconds(10));
  EXPECT_FALSE(cluster_->Leader(kBlobs).has_value()) << cluster_->Describe();
  EXPECT_FALSE(cluster_->status(wiped, kBlobs)->voting);
  // With the third one back it follows, and is brought up to date.
  Restart(gone);
  ExpectWhole();
  EXPECT_FALSE(cluster_->status(wiped, kBlobs)->voting);
}

TEST_F(ClusterFault, F24_DamagedBlobIsReadFromAPeerAndRepaired) {
  Make();
  const std::string content = MakeContent(300'000, 1);
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = content, .via = PutVia::kStar}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const auto paths = Contents(1);
  ASSERT_EQ(paths.size(), 1u);
  ASSERT_TRUE(cluster_->disk(1).FlipBit(paths[0], 150'000).ok());
  const auto seen = clients_->GetNow(1, "a");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(*seen, Oracle::Content(KeyOf(content)));
  // Repaired: the file itself holds the right bytes again.
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const auto file = env::ReadWholeFile(cluster_->disk(1), Contents(1).at(0), 1u << 30);
  ASSERT_TRUE(file.ok());
  EXPECT_NE(file->find(content.substr(100'000, 100'000)), std::string::npos) << "the copy is still damaged";
  ExpectWhole();
}

TEST_F(ClusterFault, F25_D14_ApplyDoesNotWaitForBytesAndReadsAreProxied) {
  Make();
  // The server is away while the bytes pass and the entry is made; then the bytes take longer than the entry.
  const size_t leader = LeaderOf(kBlobs);
  const size_t away = (leader + 1) % 3;
  cluster_->Kill(away);
  const std::string content = MakeContent(700'000, 2);
  ASSERT_EQ(clients_->PutNow({.server = leader, .name = "a", .content = content, .via = PutVia::kStar}),
            Outcome::kAcknowledged);
  cluster_->network().SetAllLinks({.delay_min = milliseconds(40), .delay_max = milliseconds(50)});
  Restart(away);
  bool was_missing = false;
  cluster_->RunUntil(
      [&] {
        const auto* status = cluster_->status(away, kBlobs);
        was_missing |= status != nullptr && status->missing > 0 && status->bytes_complete < status->applied;
        return was_missing;
      },
      seconds(10));
  EXPECT_TRUE(was_missing) << "applied, and said to lack the bytes";
  const auto seen = clients_->GetNow(away, "a");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(*seen, Oracle::Content(KeyOf(content)));
  ExpectWhole();
  EXPECT_EQ(Contents(away).size(), 1u);
}

TEST_F(ClusterFault, F35_PowerLossOfAllRightAfterAnAcknowledgement) {
  Make();
  for (uint64_t round = 0; round < 6; ++round) {
    const size_t server = round % 3;
    const PutVia via = round % 2 == 0 ? PutVia::kChain : PutVia::kWrite;
    bool acknowledged = false;
    clients_->Put({.server = server,
                   .name = fmt::format("a{}", round),
                   .content = MakeContent(280'000, round),
                   .via = via},
                  [&](Outcome outcome, const absl::Status& status) {
                    EXPECT_EQ(outcome, Outcome::kAcknowledged) << status;
                    acknowledged = true;
                  });
    while (!acknowledged && cluster_->world().Step()) {
    }
    for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
    for (size_t i = 0; i < 3; ++i) Restart(i);
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  }
  ExpectWhole();
}

TEST_F(ClusterFault, F36_SingleServerKeepsWhatItAcknowledged) {
  ClusterOptions options;
  options.servers = 1;
  Make(options);
  for (uint64_t round = 0; round < 8; ++round) {
    bool acknowledged = false;
    const auto end = [&](Outcome outcome, const absl::Status& status) {
      EXPECT_EQ(outcome, Outcome::kAcknowledged) << status;
      acknowledged = true;
    };
    if (round % 2 == 0) {
      clients_->Increment(0, end);
    } else {
      clients_->Put(
          {.name = fmt::format("a{}", round), .content = MakeContent(100'000, round), .via = PutVia::kChain},
          end);
    }
    while (!acknowledged && cluster_->world().Step()) {
    }
    cluster_->PowerLoss(0);
    Restart(0);
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs) && cluster_->AwaitLeader(kCounter));
  }
  ExpectWhole();
}

TEST_F(ClusterFault, F34_PowerLossOfTheLeaderInTheMiddleOfUploads) {
  Make();
  for (uint64_t round = 0; round < 6; ++round) {
    const size_t leader = LeaderOf(kBlobs);
    for (size_t i = 0; i < 3; ++i) {
      clients_->Put({.server = i,
                     .name = fmt::format("a{}-{}", round, i),
                     .content = MakeContent(400'000, round * 3 + i),
                     .via = i == leader ? PutVia::kChain : PutVia::kWrite});
    }
    cluster_->RunFor(milliseconds(1 + 3 * round));
    round % 2 == 0 ? cluster_->PowerLoss(leader) : cluster_->Kill(leader);
    cluster_->RunFor(seconds(1));
    Restart(leader);
  }
  ExpectWhole();
  EXPECT_TRUE(cluster_->AwaitNoStages()) << cluster_->Describe();
}

// --- Networks
// -------------------------------------------------------------------------------------------------

TEST_F(ClusterFault, F43_F44_LeaderCutOffStepsDownAndAcknowledgesNothing) {
  Make();
  const size_t old = LeaderOf(kCounter);
  cluster_->network().Isolate(cluster_->id(old));
  std::optional<Outcome> lost;
  clients_->Increment(old,
                      [&](Outcome outcome, const absl::Status&) { lost = outcome; });  // to the old one first
  ASSERT_TRUE(cluster_->RunUntil([&] { return cluster_->status(old, kCounter)->role != raft::Role::kLeader; },
                                 seconds(2)))
      << "it still leads";
  ASSERT_TRUE(
      cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(3)));
  EXPECT_FALSE(clients_->CounterNow(old).ok()) << "a linearizable read without a majority";
  EXPECT_EQ(clients_->IncrementNow((old + 1) % 3), Outcome::kAcknowledged);
  cluster_->network().Heal();
  ExpectWhole();
  EXPECT_TRUE(lost.has_value());
}

TEST_F(ClusterFault, F45_LeaderThatHearsNobodyStepsDown) {
  Make();
  const size_t old = LeaderOf(kCounter);
  for (const PeerId& other : AllBut(old)) cluster_->network().Cut(other, cluster_->id(old));
  EXPECT_TRUE(cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(4)))
      << cluster_->Describe();
  EXPECT_NE(cluster_->status(old, kCounter)->role, raft::Role::kLeader);
  cluster_->network().Heal();
  ExpectWhole();
}

TEST_F(ClusterFault, F45_FollowerThatNobodyHearsDisturbsNobody) {
  Make();
  const size_t leader = LeaderOf(kCounter);
  const Term before = cluster_->status(leader, kCounter)->term;
  const size_t mute = (leader + 1) % 3;
  for (const PeerId& other : AllBut(mute)) cluster_->network().Cut(cluster_->id(mute), other);
  cluster_->RunFor(seconds(10));
  cluster_->network().Heal();
  cluster_->RunFor(seconds(3));
  EXPECT_EQ(cluster_->status(leader, kCounter)->term, before);
  EXPECT_EQ(cluster_->Leader(kCounter), leader);
  ExpectWhole();
}

TEST_F(ClusterFault, F46_PartialRingDoesNotElectForEver) {
  Make();
  const size_t a = LeaderOf(kCounter), b = (a + 1) % 3, c = (a + 2) % 3;
  cluster_->network().CutBothWays(cluster_->id(a), cluster_->id(c));
  cluster_->RunFor(seconds(5));
  const Term settled = cluster_->status(b, kCounter)->term;
  cluster_->RunFor(seconds(60));
  EXPECT_LE(cluster_->status(b, kCounter)->term.value, settled.value + 1);
  EXPECT_EQ(clients_->IncrementNow(b), Outcome::kAcknowledged);
  cluster_->network().Heal();
  ExpectWhole();
}

TEST_F(ClusterFault, F47_LossReorderingAndDuplicatesNeverApplyTwice) {
  Make();
  cluster_->network().SetAllLinks(
      {.loss = 0.1, .duplicate = 0.2, .reorder = 0.3, .delay_max = milliseconds(20)});
  for (int i = 0; i < 40; ++i) {
    clients_->Increment(static_cast<size_t>(i % 3));
    if (i % 4 == 0) {
      clients_->Put({.server = static_cast<size_t>(i % 3),
                     .name = fmt::format("a{}", i),
                     .content = MakeContent(90'000, static_cast<uint64_t>(i)),
                     .via = PutVia::kStar});
    }
    cluster_->RunFor(milliseconds(100));
  }
  ASSERT_TRUE(clients_->Drain());
  EXPECT_GT(clients_->acknowledged(), 30u) << "progress while a majority's round trip is below the timeout";
  cluster_->network().Heal();
  ExpectWhole();
}

TEST_F(ClusterFault, F51_MessagesOfAnOldLeaderChangeNothing) {
  Make();
  const size_t old = LeaderOf(kCounter);
  const Term old_term = cluster_->status(old, kCounter)->term;
  cluster_->network().Isolate(cluster_->id(old));
  ASSERT_TRUE(
      cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(5)));
  ASSERT_EQ(clients_->IncrementNow((old + 1) % 3), Outcome::kAcknowledged);
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t other = (LeaderOf(kCounter) + 1) % 3;
  const auto before = *cluster_->status(other, kCounter);
  // Entries from the past, a commit from the future, and a stranger who wants to lead.
  raft::AppendRequest append;
  append.term = old_term;
  append.previous = {Term{0}, kNoIndex};
  append.entries = {{{old_term, Index{0}}, raft::EntryKind::kCommand, Bytes::Copy("forged")}};
  append.commit = Index{1'000'000};
  (void)cluster_->host(other).Step(kCounter, cluster_->id(old), append);
  raft::VoteRequest vote;
  vote.term = Term{before.term.value + 1000};
  vote.last = {Term{before.term.value + 1000}, Index{1'000'000}};
  (void)cluster_->host(other).Step(kCounter, PeerId{"stranger"}, vote);
  EXPECT_TRUE(absl::IsNotFound(cluster_->host(other).Step(GroupId{{7}}, cluster_->id(old), append)));
  cluster_->RunFor(seconds(3));
  EXPECT_EQ(cluster_->status(other, kCounter)->term, before.term);
  EXPECT_EQ(cluster_->status(other, kCounter)->commit, before.commit);
  ExpectWhole();
}

// --- Uploads
// --------------------------------------------------------------------------------------------------

TEST_F(ClusterFault, F26_D10_SealedButNeverEnteredIsAbandonedByTheLog) {
  Make();
  const std::string content = MakeContent(100'000, 3);
  const UploadId upload = SealOnly(1, "a", content);
  cluster_->RunFor(seconds(1));
  for (size_t i = 0; i < 3; ++i) {
    const auto have = Have(i, upload);
    ASSERT_TRUE(have.has_value());
    EXPECT_EQ(have->state, node::HoldState::kSealed) << "server " << i;
  }
  // Restarts do not take it, its time-to-live does: by an entry, on every server.
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  for (size_t i = 0; i < 3; ++i) Restart(i);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs));
  EXPECT_EQ(Have(0, upload)->state, node::HoldState::kSealed);
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  // A publish after that is refused, and nothing is there.
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(60));
  EXPECT_NE(outcome, Outcome::kAcknowledged);
  const auto seen = clients_->GetNow(0, "a");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(*seen, std::nullopt);
  ExpectWhole();
}

TEST_F(ClusterFault, F27_UnsealedStageIsReclaimedOnEveryServer) {
  Make();
  EXPECT_EQ(clients_->PutNow({.server = 0,
                              .name = "a",
                              .content = MakeContent(500'000, 4),
                              .via = PutVia::kChain,
                              .vanish_at = 256 << 10}),
            Outcome::kRefused);
  cluster_->RunFor(milliseconds(200));
  size_t stages = 0;
  for (size_t i = 0; i < 3; ++i) stages += cluster_->status(i)->uploads.size();
  EXPECT_EQ(stages, 3u) << "kept for its time-to-live, on the whole route\n" << cluster_->Describe();
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(15))) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) EXPECT_THAT(Paths(i, "/data/blobs/stage", ""), testing::IsEmpty());
  ExpectWhole();
}

TEST_F(ClusterFault, F70_StreamIdOfALiveUploadIsRefusedOnAnotherConnection) {
  Make();
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const std::string first = MakeContent(600'000, 5);
  std::optional<Outcome> outcome, second;
  clients_->Put({.server = 0,
                 .name = "a",
                 .content = first,
                 .via = PutVia::kStar,
                 .piece_bytes = 8192,
                 .upload = upload},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(3));
  clients_->Put(
      {.server = 0, .name = "b", .content = MakeContent(600'000, 6), .via = PutVia::kStar, .upload = upload},
      [&](Outcome ended, const absl::Status&) { second = ended; });
  cluster_->RunUntil([&] { return outcome && second; }, seconds(30));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  EXPECT_EQ(second, Outcome::kRefused);
  ExpectWhole();
}

TEST_F(ClusterFault, F75_TwoClientsUploadTheSameBytesAtOnce) {
  Make();
  const std::string content = MakeContent(300'000, 7);
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < 3; ++i) {
    clients_->Put({.server = i,
                   .name = "same",
                   .content = content,
                   .via = i == 1 ? PutVia::kWrite : PutVia::kChain,
                   .digest = true},
                  [&](Outcome ended, const absl::Status&) { outcomes.push_back(ended); });
  }
  cluster_->RunUntil([&] { return outcomes.size() == 3; }, seconds(30));
  EXPECT_THAT(outcomes, testing::Each(Outcome::kAcknowledged));
  EXPECT_EQ(clients_->PutNow({.server = 0, .name = "same", .content = content, .via = PutVia::kWrite}),
            Outcome::kAcknowledged);
  // Other bytes under the name: refused at apply (D-18).
  EXPECT_EQ(clients_->PutNow(
                {.server = 0, .name = "same", .content = MakeContent(300'000, 8), .via = PutVia::kWrite}),
            Outcome::kRefused);
  ExpectWhole();
  EXPECT_TRUE(cluster_->AwaitNoStages()) << cluster_->Describe();
}

TEST_F(ClusterFault, F76_D18_ReadUnderWayFinishesAlthoughTheNameIsRemoved) {
  Make();
  const std::string content = MakeContent(600'000, 9);
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = content, .via = PutVia::kChain}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  std::shared_ptr<blob::Source> source;
  cluster_->host(1).OpenRead(kBlobs, "a", cluster_->lane(1), [&](absl::StatusOr<node::Reading> reading) {
    ASSERT_TRUE(reading.ok()) << reading.status();
    source = reading->source;
  });
  ASSERT_TRUE(cluster_->RunUntil([&] { return source != nullptr; }, seconds(5)));
  ASSERT_EQ(clients_->RemoveNow(2, "a"), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  std::string read;
  while (read.size() < content.size()) {
    std::optional<absl::StatusOr<Bytes>> piece;
    source->Read(read.size(), 200'000, cluster_->lane(1),
                 [&](absl::StatusOr<Bytes> data) { piece = std::move(data); });
    ASSERT_TRUE(cluster_->RunUntil([&] { return piece.has_value(); }, seconds(5)));
    ASSERT_TRUE(piece->ok()) << piece->status();
    read += (*piece)->ToString();
  }
  EXPECT_EQ(read, content);
  std::optional<absl::StatusOr<Bytes>> beyond;
  source->Read(content.size() + 1, 1, cluster_->lane(1),
               [&](absl::StatusOr<Bytes> data) { beyond = std::move(data); });
  ASSERT_TRUE(cluster_->RunUntil([&] { return beyond.has_value(); }, seconds(5)));
  EXPECT_TRUE(absl::IsOutOfRange(beyond->status())) << beyond->status();
  source.reset();
  cluster_->RunFor(seconds(1));
  EXPECT_THAT(Contents(1), testing::IsEmpty()) << "freed after the last name and the last reader";
  ExpectWhole();
}

// --- Rules
// ----------------------------------------------------------------------------------------------------

TEST_F(ClusterFault, D05_RetriesOfOneCallCountOnceAcrossLeaders) {
  Make();
  // Every increment is doubled on its way, and the leader dies again and again; retries keep their call id.
  cluster_->network().SetAllLinks({.duplicate = 0.5});
  for (int i = 0; i < 30; ++i) {
    clients_->Increment(static_cast<size_t>(i % 3));
    cluster_->RunFor(milliseconds(60));
    if (i % 6 == 3) {
      const size_t leader = LeaderOf(kCounter);
      cluster_->Kill(leader);
      cluster_->RunFor(milliseconds(700));
      Restart(leader);
    }
  }
  ExpectWhole();
  // A FORWARD for a stream that was entered gets the first result.
  const UploadId upload{ClientId{{5}}, CallId{1}};
  const std::string content = MakeContent(70'000, 1);
  ASSERT_EQ(clients_->PutNow(
                {.server = 1, .name = "a", .content = content, .via = PutVia::kStar, .upload = upload}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const Index before = cluster_->status(0, kBlobs)->applied;
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  cluster_->RunFor(milliseconds(200));
  EXPECT_EQ(cluster_->status(0, kBlobs)->applied, before) << "it was entered a second time";
}

TEST_F(ClusterFault, D11_EntryNeedsAMajorityOfHolders) {
  Make();
  // Sealed at one server alone: the leader has a majority fetch it before it enters it.
  const size_t leader = LeaderOf(kBlobs);
  const size_t holder = (leader + 1) % 3, third = (leader + 2) % 3;
  const std::string content = MakeContent(300'000, 3);
  const UploadId upload = SealOnly(holder, "a", content);
  for (const size_t other : {leader, third}) {
    if (auto have = Have(other, upload); have && have->state != node::HoldState::kNone) continue;
  }
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(30));
  ASSERT_EQ(outcome, Outcome::kAcknowledged);
  // Any one server may now be lost, whichever it is.
  cluster_->Wipe(holder);
  Restart(holder);
  ExpectWhole();
}

TEST_F(ClusterFault, D11_AStreamWhoseLeaderNeverHeardOfItIsAskedFor) {
  Make();
  const size_t old = LeaderOf(kBlobs);
  const std::string content = MakeContent(300'000, 3);
  const UploadId upload = SealOnly((old + 1) % 3, "a", content);
  cluster_->Kill(old);  // who was told is gone
  ASSERT_TRUE(cluster_->RunUntil([&] { return cluster_->Leader(kBlobs).has_value(); }, seconds(5)));
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(30));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  Restart(old);
  ExpectWhole();
}

TEST_F(ClusterFault, D13_SealedStageOutlivesALeaderThatTruncatesTheEntry) {
  Make();
  // A leader that is cut off with the entry in its log: the entry is lost, the bytes are not.
  const size_t old = LeaderOf(kBlobs);
  const std::string content = MakeContent(300'000, 3);
  const UploadId upload = SealOnly(old, "a", content);
  cluster_->network().Isolate(cluster_->id(old));
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(seconds(2));
  cluster_->network().Heal();
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(30));
  EXPECT_EQ(outcome, Outcome::kAcknowledged) << "the retry found a leader";
  ExpectWhole();
}

TEST_F(ClusterFault, F72_D15_SilentSuccessorIsLeftBehindAndFetches) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  const size_t silent = (leader + 2) % 3;  // the end of the chain
  for (const PeerId& other : AllBut(silent)) cluster_->network().CutBothWays(cluster_->id(silent), other);
  const env::Instant before = cluster_->world().MonotonicNow();
  const std::string content = MakeContent(700'000, 3);
  EXPECT_EQ(clients_->PutNow({.server = leader, .name = "a", .content = content, .via = PutVia::kChain}),
            Outcome::kAcknowledged);
  EXPECT_LT(cluster_->world().MonotonicNow() - before, seconds(5)) << "it waited for the silent one";
  cluster_->network().Heal();
  ExpectWhole();
  EXPECT_EQ(Contents(silent).size(), 1u);
}

TEST_F(ClusterFault, D20_InterruptedWriteGoesOnAtItsCommittedSize) {
  Make();
  const std::string content = MakeContent(700'000, 3);
  EXPECT_EQ(
      clients_->PutNow(
          {.server = 1, .name = "a", .content = content, .via = PutVia::kWrite, .interrupt_at = 300'000}),
      Outcome::kAcknowledged);
  // Across a power loss of the server: what it told as committed is there.
  std::optional<Outcome> outcome;
  clients_->Put({.server = 1, .name = "b", .content = content, .via = PutVia::kWrite, .piece_bytes = 16'384},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(4));
  std::optional<uint64_t> told;
  cluster_->host(1).QueryWrite(kBlobs, "b", false, cluster_->lane(1),
                               [&](absl::StatusOr<node::WriteStatus> where) {
                                 if (where.ok()) told = where->committed;
                               });
  cluster_->RunUntil([&] { return told.has_value(); }, seconds(1));
  ASSERT_TRUE(told.has_value());
  ASSERT_FALSE(outcome.has_value()) << "it ended before the power went";
  cluster_->PowerLoss(1);
  Restart(1);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs));
  std::optional<node::WriteStatus> after;
  cluster_->host(1).QueryWrite(kBlobs, "b", false, cluster_->lane(1),
                               [&](absl::StatusOr<node::WriteStatus> where) {
                                 if (where.ok()) after = *where;
                               });
  cluster_->RunUntil([&] { return after.has_value(); }, seconds(1));
  ASSERT_TRUE(after.has_value());
  EXPECT_GE(after->committed, *told) << "a committed size went back";
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(60)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  ExpectWhole();
}

}  // namespace
}  // namespace sluice::sim
