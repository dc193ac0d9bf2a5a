// Named faults (F-nn) of disks and networks that need several whole servers.

#include <set>

#include "log/recovery.h"
#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

// --- Disks -------------------------------------------------------------------------------------------------

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
  // The one with the whole log leads, or the others have taken the entry from it first.
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
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

// One server's last block does not tell what it held. The leader lives, sends everything again, and says where its
// log ends; when it dies, the one that lost its end is as good as any other.
TEST_F(ClusterFault, F04_F07_P5_ALostEndOfUnknownLengthIsHealedByTheLeaderThatLives) {
  Make(NoCheckpoints());
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t leader = LeaderOf(kBlobs);
  const size_t hurt = (leader + 1) % 3;
  const Term term = cluster_->status(leader, kBlobs)->term;
  cluster_->PowerLoss(hurt);
  ASSERT_TRUE(DamageLastBlock(hurt));
  const auto found = log::Recover(cluster_->disk(hurt), "/data/log", {});
  ASSERT_TRUE(found.ok()) << found.status();
  const auto promise = found->groups.at(kBlobs).log.promise;
  ASSERT_TRUE(promise.has_value());
  ASSERT_EQ(promise->last, (TermIndex{term, raft::kEndUnknown}));
  Restart(hurt);
  const auto is_hurt = [&] {
    const node::GroupStatus* status = cluster_->status(hurt, kBlobs);
    return status != nullptr && status->repairing;
  };
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_TRUE(cluster_->RunUntil([&] { return !is_hurt(); }, seconds(10))) << cluster_->Describe();
  EXPECT_EQ(cluster_->status(leader, kBlobs)->term, term) << "it was not in a stable term";
  // The next start knows it, too.
  cluster_->PowerLoss(hurt);
  Restart(hurt);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_FALSE(is_hurt());
  cluster_->Kill(leader);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  Restart(leader);
  ExpectWhole();
}

TEST_F(ClusterFault, F05_K9_EachServerLostAnotherEntryAndTheyRepairEachOther) {
  Make(NoCheckpoints());
  std::vector<std::string> texts;
  for (size_t i = 0; i < 3; ++i) {
    texts.push_back(fmt::format("damaged entry {} {}", i, std::string(600, 'd')));
    const Put put{.server = i, .name = fmt::format("a{}", i), .content = texts.back()};
    ASSERT_EQ(clients_->PutNow(put), Outcome::kAcknowledged);
  }
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    cluster_->PowerLoss(i);
    ASSERT_TRUE(DamageInLog(i, texts[i]));
  }
  for (size_t i = 0; i < 3; ++i) Restart(i);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  ExpectWhole();
}

// Of four servers one is down, and one has lost an entry that the other two never had: three are needed.
TEST_F(ClusterFault, F06_F07_K9_EntryThatTooManyNeverHadIsCut) {
  ClusterOptions options = NoCheckpoints();
  options.servers = 4;
  Make(options);
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t leader = LeaderOf(kBlobs);
  cluster_->network().Isolate(cluster_->id(leader));
  const std::string text = "an entry of one server " + std::string(600, 'd');
  clients_->Put({.server = leader, .name = "b", .content = text});
  cluster_->RunFor(milliseconds(50));
  for (size_t i = 0; i < 4; ++i) cluster_->PowerLoss(i);
  ASSERT_TRUE(DamageInLog(leader, text));
  cluster_->network().Heal();
  for (size_t i = 0; i < 3; ++i) Restart((leader + i) % 4);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  Restart((leader + 3) % 4);
  ExpectWhole();
}

// The same, but one of the others may have had it: it is committed, for all that is known.
TEST_F(ClusterFault, F06_K9_EntryThatAMajorityMayHaveHadIsNotCut) {
  ClusterOptions options = NoCheckpoints();
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  const size_t without = (leader + 1) % 3;
  const size_t with = (leader + 2) % 3;
  cluster_->Kill(without);
  const std::string text = "an acknowledged entry " + std::string(600, 'd');
  ASSERT_EQ(clients_->PutNow({.server = leader, .name = "b", .content = text}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->RunUntil(
      [&] { return cluster_->status(with, kBlobs)->applied == cluster_->status(leader, kBlobs)->last.index; },
      seconds(5)));
  for (const size_t i : {leader, with}) cluster_->PowerLoss(i);
  ASSERT_TRUE(DamageInLog(leader, text));
  Restart(leader);
  Restart(without);
  EXPECT_FALSE(cluster_->AwaitLeader(kBlobs, seconds(20)).has_value()) << cluster_->Describe();
  // It says for whom it waits (P7).
  const auto lacking = cluster_->status(leader, kBlobs);
  EXPECT_THAT(lacking->waits_for, testing::ElementsAre(cluster_->id(with)));
  EXPECT_THAT(lacking->serving.ToString(),
              testing::HasSubstr(fmt::format("waits for {}", cluster_->id(with).value)));
  Restart(with);  // it has the entry
  ExpectWhole();
  EXPECT_TRUE(clients_->GetNow(leader, "b").ok());
}

TEST_F(ClusterFault, F08_K11_ALostHardStateIsNotForgottenByTheSecondStart) {
  Make();
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  for (const std::string& path : Paths(1, "/data/log", "state-")) {
    ASSERT_TRUE(cluster_->disk(1).FlipBit(path, 30).ok());
    ASSERT_TRUE(cluster_->disk(1).FlipBit(path, 4096 + 30).ok());
  }
  // With a server away that may have had its vote, it does not vote, however often it starts.
  Restart(0);
  for (int start = 0; start < 3; ++start) {
    Restart(1);
    EXPECT_FALSE(cluster_->AwaitLeader(kBlobs, seconds(5)).has_value()) << start << cluster_->Describe();
    EXPECT_FALSE(cluster_->status(1, kBlobs)->voting);
    EXPECT_THAT(cluster_->status(1, kBlobs)->waits_for, testing::ElementsAre(cluster_->id(2)));
    start % 2 == 0 ? cluster_->Kill(1) : cluster_->PowerLoss(1);
  }
  Restart(1);
  Restart(2);
  ExpectWhole();
  EXPECT_TRUE(cluster_->RunUntil([&] { return cluster_->status(1, kBlobs)->voting; }, seconds(10)))
      << cluster_->Describe();
  // All terms are told: it counts again.
  cluster_->Kill(2);
  EXPECT_EQ(clients_->PutNow({.server = 0, .name = "b", .content = "with its vote"}), Outcome::kAcknowledged);
  Restart(2);
  ExpectWhole();
}

// Blocks of the log are larger than what this disk writes whole: every server may keep a part of a block.
TEST_F(ClusterFault, F02_K9_PowerLossOfAllInMidWriteElectsAgain) {
  for (const uint32_t sector_bytes : {512u, 4096u}) {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      ClusterOptions options;
      options.sector_bytes = sector_bytes;
      options.counter = false;
      Make(options, seed);
      for (uint64_t round = 0; round < 4; ++round) {
        for (uint64_t i = 0; i < 8; ++i) {
          clients_->Put({.server = i % 3,
                         .name = fmt::format("a{}-{}", round, i),
                         .content = MakeContent(200 + 900 * i, i)});
        }
        cluster_->RunFor(milliseconds(cluster_->random().Below(6)));
        cluster_->PowerLossInWrite({0, 1, 2});
        for (size_t i = 0; i < 3; ++i) Restart(i);
        ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << "seed " << seed << "\n" << cluster_->Describe();
      }
      ExpectWhole();
    }
  }
}

TEST_F(ClusterFault, F12_FullDiskRefusesWritesServesReadsAndGoesOn) {
  ClusterOptions options;
  options.servers = 1;
  options.counter = false;
  Make(options);
  ASSERT_EQ(clients_->PutNow({.name = "first", .content = "kept"}), Outcome::kAcknowledged);
  FillDisk(0, 10'000);
  absl::Status status;
  uint64_t written = 0;
  const auto put = [&] {
    return clients_->PutNow({.name = fmt::format("a{}", written), .content = MakeContent(8'000, written)},
                            &status);
  };
  while (written < 200 && put() == Outcome::kAcknowledged) ++written;
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_GT(written, 0u);
  cluster_->RunFor(seconds(5));  // checkpoints and election timeouts pass
  EXPECT_TRUE(cluster_->status(0, kBlobs)->storage.ok()) << cluster_->Describe();
  EXPECT_EQ(cluster_->Leader(kBlobs), 0u) << "it leads, and refuses";
  EXPECT_TRUE(clients_->GetNow(0, "first").ok());
  EXPECT_NE(put(), Outcome::kAcknowledged);
  EXPECT_EQ(clients_->RemoveNow(0, "a0"), Outcome::kAcknowledged) << "what frees space goes on";
  cluster_->disk(0).ClearFaults();
  cluster_->RunFor(seconds(1));
  ++written;
  EXPECT_EQ(put(), Outcome::kAcknowledged) << status;
  ExpectWhole();
}

TEST_F(ClusterFault, F12_FullDiskOfAFollowerHoldsNobodyUp) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  size_t full = FollowerOf(kBlobs);
  if (full == LeaderOf(kCounter)) full = 3 - leader - full;  // the one of three that leads neither
  FillDisk(full, 0);
  for (uint64_t i = 0; i < 100; ++i) {
    absl::Status status;
    ASSERT_EQ(clients_->IncrementNow(leader), Outcome::kAcknowledged) << cluster_->Describe();
    const Put put{.server = leader, .name = fmt::format("a{}", i), .content = MakeContent(8'000, i)};
    ASSERT_EQ(clients_->PutNow(put, &status), Outcome::kAcknowledged) << status << cluster_->Describe();
  }
  cluster_->RunFor(seconds(2));
  const node::GroupStatus& behind = *cluster_->status(full, kBlobs);
  EXPECT_TRUE(behind.storage.ok()) << cluster_->Describe();
  EXPECT_LT(behind.applied, cluster_->status(LeaderOf(kBlobs), kBlobs)->applied) << "its disk was not full";
  cluster_->disk(full).ClearFaults();
  ExpectWhole();
}

// K23: nothing has to be written before a server serves what it has.
TEST_F(ClusterFault, K23_F12_AServerStartsAndServesReadsWithNoByteFree) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  ASSERT_EQ(clients_->PutNow(
                {.server = leader, .name = "a", .content = MakeContent(300'000, 1), .via = PutVia::kChain}),
            Outcome::kAcknowledged);
  ASSERT_EQ(clients_->IncrementNow(leader), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t full = FollowerOf(kBlobs);
  for (const bool power : {false, true}) {
    FillDisk(full, 0);
    power ? cluster_->PowerLoss(full) : cluster_->Kill(full);
    FillDisk(full, 0);
    Restart(full);
    cluster_->RunFor(seconds(2));
    const auto seen = clients_->GetNow(full, "a");
    ASSERT_TRUE(seen.ok()) << seen.status() << cluster_->Describe();
    EXPECT_NE(*seen, std::nullopt);
    const auto count = clients_->CounterNow(full);
    ASSERT_TRUE(count.ok()) << count.status() << cluster_->Describe();
    EXPECT_EQ(*count, 1);
  }
  cluster_->disk(full).ClearFaults();
  ExpectWhole();
}

// K23: it ended in the middle of an install, and there is no room to end that. It starts, the groups that are
// whole serve, and the snapshot is taken up again when there is room.
TEST_F(ClusterFault, K23_F29_ASnapshotThatFindsNoRoomAtTheStartWaits) {
  Make(LittleLog());
  const size_t there = LeaderOf(kCounter);
  const size_t away = (there + 1) % 3;
  ASSERT_EQ(clients_->PutNow({.server = there, .name = "a", .content = "small"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  cluster_->Kill(away);
  WriteBeyondLog(there);
  // Of all that it does, the install is the first that makes the index durable.
  cluster_->disk(away).FailNextSync("/data/index");
  Restart(away);
  ASSERT_TRUE(cluster_->RunUntil([&] { return !Paths(away, "/data/snapshots", "in-").empty(); }, seconds(5)));
  cluster_->Kill(away);
  cluster_->disk(away).ClearFaults();
  FillDisk(away, 0);
  Restart(away);
  cluster_->RunFor(seconds(3));
  const auto seen = clients_->GetNow(away, "a");
  EXPECT_TRUE(seen.ok() && *seen) << seen.status() << cluster_->Describe();
  EXPECT_FALSE(Paths(away, "/data/snapshots", "in-").empty());
  cluster_->disk(away).ClearFaults();
  ExpectWhole();
  EXPECT_EQ(Paths(away, "/data/snapshots", "in"), std::vector<std::string>());
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

// What one of two has acknowledged alone with it may be asked of nobody else for a while.
TEST_F(ClusterFault, F18_F20_AServerThatLostItsSegmentsForgetsNothingForOthers) {
  for (const bool checkpointed : {false, true}) {
    Make(checkpointed ? ClusterOptions{} : NoCheckpoints());
    ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    const size_t leader = LeaderOf(kBlobs);
    const size_t lost = (leader + 1) % 3;
    const size_t away = (leader + 2) % 3;
    cluster_->Kill(away);
    ASSERT_EQ(clients_->PutNow({.server = leader, .name = "b", .content = "of two"}), Outcome::kAcknowledged);
    if (checkpointed) cluster_->RunFor(seconds(30));
    cluster_->Kill(leader);
    cluster_->Kill(lost);
    for (const std::string& path : Paths(lost, "/data/log", "segment-")) {
      ASSERT_TRUE(cluster_->disk(lost).Remove(path).ok());
    }
    Restart(lost);
    Restart(away);
    cluster_->RunFor(seconds(10));
    EXPECT_FALSE(cluster_->Leader(kBlobs).has_value()) << cluster_->Describe();
    Restart(leader);
    ExpectWhole();
  }
}

TEST_F(ClusterFault, F20_AServerWhoseLogIsGoneDoesNotStart) {
  Make();
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = "kept"}), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const size_t lost = FollowerOf(kBlobs);
  cluster_->Kill(lost);
  for (const std::string& path : Paths(lost, "/data/log", "")) {
    ASSERT_TRUE(cluster_->disk(lost).Remove(path).ok());
  }
  for (int start = 0; start < 2; ++start) {
    const absl::Status refused = cluster_->Start(lost);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(std::string(Message(refused)), testing::HasSubstr("log is empty"));
  }
  cluster_->Wipe(lost);
  Restart(lost);
  ExpectWhole();
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

TEST_F(ClusterFault, F14_NoDescriptorForAReadIsRefusedAndIsNoDamage) {
  Make();
  const std::string content = MakeContent(300'000, 4);
  ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = content, .via = PutVia::kStar}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  cluster_->disk(1).FailNextOpen(Contents(1).at(0));
  const auto refused = clients_->GetNow(1, "a");
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  EXPECT_EQ(cluster_->status(1, kBlobs)->missing, 0u) << "a whole copy is thought damaged";
  EXPECT_TRUE(clients_->GetNow(1, "a").ok());
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

TEST_F(ClusterFault, F32_SnapshotThatWasInstalledDoesNotComeBack) {
  Make(LittleLog());
  const size_t away = FollowerOf(kCounter);
  const size_t there = LeaderOf(kCounter);
  const auto increment = [&](int times) {
    for (int i = 0; i < times; ++i) ASSERT_EQ(clients_->IncrementNow(there), Outcome::kAcknowledged);
  };
  cluster_->Kill(away);
  WriteBeyondLog(there);
  Restart(away);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_TRUE(cluster_->status(away, kCounter)->snapshot.index.valid()) << "it was brought by the log";
  increment(60);
  cluster_->RunFor(seconds(2));  // checkpoint, and compaction beyond the snapshot
  const Index before = cluster_->status(away, kCounter)->applied;
  for (const bool power : {false, true}) {
    power ? cluster_->PowerLoss(away) : cluster_->Kill(away);
    Restart(away);
    ASSERT_TRUE(cluster_->RunUntil([&] { return cluster_->status(away, kCounter) != nullptr; }, seconds(1)));
    EXPECT_GE(cluster_->status(away, kCounter)->applied, before - 1) << "the state went back";
    EXPECT_TRUE(cluster_->status(away, kCounter)->storage.ok()) << cluster_->Describe();
  }
  ExpectWhole();
}

// A counter with a record that the other servers' counters cannot have put.
class Meddler final : public StateMachine {
 public:
  explicit Meddler(std::unique_ptr<StateMachine> counter) : counter_(std::move(counter)) {}
  absl::StatusOr<Bytes> Apply(const Command& command, State& state) override {
    state.Put("meddled", "with");
    return counter_->Apply(command, state);
  }
  absl::StatusOr<Bytes> Query(const Bytes& request, const State& state) override {
    return counter_->Query(request, state);
  }

 private:
  const std::unique_ptr<StateMachine> counter_;
};

// What the machine says of a record counts here as in the product.
TEST_F(ClusterFault, K24_ASnapshotWithARecordThatItsMachineCannotHavePutIsRefused) {
  ClusterOptions options = LittleLog();
  constexpr size_t kAway = 2;
  options.adjust = [](size_t server, node::HostOptions& host) {
    for (node::GroupSpec& group : host.groups) {
      if (group.id != kCounter || server == kAway) continue;
      group.factory = [counter = group.factory] { return std::make_unique<Meddler>(counter()); };
    }
  };
  Make(options);
  cluster_->Kill(kAway);
  WriteBeyondLog(LeaderOf(kCounter));
  Restart(kAway);
  cluster_->RunFor(seconds(5));
  const node::GroupStatus* const status = cluster_->status(kAway, kCounter);
  ASSERT_NE(status, nullptr);
  EXPECT_FALSE(status->snapshot.index.valid()) << "it was installed";
  EXPECT_LT(status->applied, Index{50});
  EXPECT_TRUE(status->storage.ok()) << status->storage;
}

// K29: the leader is killed and comes back one entry behind. The log of the others begins after its end but for that
// entry, and all calls to it have failed meanwhile.
TEST_F(ClusterFault, K29_ARestartedLeaderGetsEntriesAndNoSnapshot) {
  Make(LittleLog());
  const size_t old = LeaderOf(kCounter);
  WriteBeyondLog(old);
  cluster_->Kill(old);
  ASSERT_TRUE(
      cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(10)));
  cluster_->RunFor(seconds(3));
  Restart(old);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_FALSE(cluster_->status(old, kCounter)->snapshot.index.valid()) << "it was sent a snapshot";
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(cluster_->status(i, kCounter)->snapshot.index.valid()) << i;
  ExpectWhole();
}

// K3: in a group that is idle, a follower that came by a snapshot is a majority with the leader, which was elected
// while it was away and has no acknowledgement of it.
TEST_F(ClusterFault, K3_ReadsGoOnWithAFollowerThatCameBySnapshot) {
  Make(LittleLog());
  const size_t before = LeaderOf(kCounter);
  const size_t away = (before + 1) % 3;
  cluster_->Kill(away);
  cluster_->Kill(before);
  Restart(before);
  const size_t there = LeaderOf(kCounter);
  const size_t third = 3 - there - away;
  WriteBeyondLog(there);
  Restart(away);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  ASSERT_TRUE(cluster_->status(away, kCounter)->snapshot.index.valid()) << "it was brought by the log";
  cluster_->RunFor(seconds(1));
  ASSERT_EQ(cluster_->Leader(kCounter), there) << "the next one would learn it by an entry";
  cluster_->Kill(third);
  const auto count = clients_->CounterNow(there);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 60);
  EXPECT_EQ(cluster_->Leader(kCounter), there);
  Restart(third);
  ExpectWhole();
}

// F-30: the log is compacted ten times a second, a snapshot takes most of a second, and writes go on. One snapshot is
// enough: the log that follows it waits.
TEST_F(ClusterFault, F30_K2_OneSnapshotSufficesWhileWritesGoOn) {
  Make(LittleLog(100));
  const size_t there = LeaderOf(kCounter);
  const size_t away = (there + 1) % 3;
  cluster_->Kill(away);
  WriteBeyondLog(there);
  for (const size_t other : {there, (there + 2) % 3}) {
    const LinkOptions slow{.delay_min = milliseconds(200), .delay_max = milliseconds(220)};
    cluster_->network().SetLink(cluster_->id(other), cluster_->id(away), slow);
    cluster_->network().SetLink(cluster_->id(away), cluster_->id(other), slow);
  }
  bool writing = true;
  std::function<void()> write = [&] {
    if (!writing) return;
    clients_->Increment(there, [&](Outcome, const absl::Status&) {
      cluster_->world().After(milliseconds(2), [&] { write(); });
    });
  };
  write();
  Restart(away);
  std::set<int64_t> snapshots;
  const bool caught_up = cluster_->RunUntil(
      [&] {
        const auto* its = cluster_->status(away, kCounter);
        const auto* leaders = cluster_->status(there, kCounter);
        if (leaders != nullptr && leaders->snapshot.index.valid())
          snapshots.insert(leaders->snapshot.index.value);
        return its != nullptr && leaders != nullptr && its->snapshot.index.valid() &&
               its->applied >= leaders->applied - 400;
      },
      seconds(20));
  // It keeps up from here on, by the log.
  cluster_->RunFor(seconds(3));
  writing = false;
  EXPECT_TRUE(caught_up) << cluster_->Describe();
  EXPECT_EQ(snapshots.size(), 1u);
  EXPECT_EQ(cluster_->status(there, kCounter)->snapshot.index.value, *snapshots.begin())
      << "another one was made";
  ExpectWhole();
}

// F-29: either end dies at some moment of a transfer or an install.
TEST_F(ClusterFault, F29_SnapshotsThatAreInterruptedComeAgain) {
  for (const bool sender : {true, false}) {
    for (int step = 0; step < 8; ++step) {
      SCOPED_TRACE(fmt::format("{} dies after {} ms", sender ? "sender" : "receiver", 100 + 40 * step));
      Make(LittleLog(), 20 + static_cast<uint64_t>(step));
      const size_t there = LeaderOf(kCounter);
      const size_t away = (there + 1) % 3;
      cluster_->Kill(away);
      WriteBeyondLog(there);
      cluster_->network().SetAllLinks({.delay_min = milliseconds(20), .delay_max = milliseconds(30)});
      Restart(away);
      cluster_->RunFor(milliseconds(100 + 40 * step));
      const size_t victim = sender ? there : away;
      step % 2 == 0 ? cluster_->Kill(victim) : cluster_->PowerLoss(victim);
      cluster_->RunFor(seconds(1));
      Restart(victim);
      ExpectWhole();
      for (size_t i = 0; i < 3; ++i)
        EXPECT_EQ(Paths(i, "/data/snapshots", "in"), std::vector<std::string>()) << i;
    }
  }
}

TEST_F(ClusterFault, D14_SnapshotForgetsWhatWasRemovedMeanwhile) {
  ClusterOptions options;
  options.counter = false;
  options.host.compact_keep_entries = 5;
  options.host.checkpoint_ms = 300;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  const size_t away = (leader + 1) % 3;
  const auto stream = [&](const std::string& name, uint64_t seed) {
    return clients_->PutNow(
        {.server = leader, .name = name, .content = MakeContent(700'000, seed), .via = PutVia::kStar});
  };
  // It holds one content, and lacks another that it knows of.
  ASSERT_EQ(stream("held", 1), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  ASSERT_EQ(Contents(away).size(), 1u);
  cluster_->Kill(away);
  ASSERT_EQ(stream("lacked", 2), Outcome::kAcknowledged);
  cluster_->network().SetAllLinks({.delay_min = milliseconds(40), .delay_max = milliseconds(50)});
  Restart(away);
  ASSERT_TRUE(cluster_->RunUntil(
      [&] {
        const auto* status = cluster_->status(away, kBlobs);
        return status != nullptr && status->missing > 0;
      },
      seconds(10)));
  cluster_->network().Isolate(cluster_->id(away));
  const size_t there = LeaderOf(kBlobs);
  ASSERT_EQ(clients_->RemoveNow(there, "held"), Outcome::kAcknowledged);
  ASSERT_EQ(clients_->RemoveNow(there, "lacked"), Outcome::kAcknowledged);
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(clients_->PutNow({.server = there, .name = fmt::format("a{}", i), .content = "small"}),
              Outcome::kAcknowledged);
  }
  cluster_->RunFor(seconds(1));
  EXPECT_GT(cluster_->status(away, kBlobs)->missing, 0u) << "it lacks nothing any more";
  cluster_->network().Heal();
  ExpectWhole();
  EXPECT_TRUE(cluster_->status(away, kBlobs)->snapshot.index.valid()) << "it was brought by the log";
  EXPECT_TRUE(Contents(away).empty()) << "bytes that nothing names";
}

// K14: bytes were linked here by an entry whose effect on the index was lost, and that entry is not applied a
// second time, because a snapshot that knows nothing of them stands for it.
TEST_F(ClusterFault, K14_LinksThatTheIndexHasForgottenAreFreedByASnapshot) {
  ClusterOptions options;
  options.counter = false;
  options.host.compact_keep_entries = 5;
  options.host.checkpoint_ms = 2000;
  for (const bool power : {false, true}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      Make(options, seed);
      const size_t leader = LeaderOf(kBlobs);
      const size_t away = (leader + 1) % 3;
      const Put put{.server = leader, .name = "a", .content = MakeContent(300'000, 1), .via = PutVia::kChain};
      ASSERT_EQ(clients_->PutNow(put), Outcome::kAcknowledged);
      AwaitContent(away);
      power ? cluster_->PowerLoss(away) : cluster_->Kill(away);
      const size_t there = LeaderOf(kBlobs);
      ASSERT_EQ(clients_->RemoveNow(there, "a"), Outcome::kAcknowledged);
      for (int i = 0; i < 40; ++i) {
        ASSERT_EQ(clients_->PutNow({.server = there, .name = fmt::format("b{}", i), .content = "small"}),
                  Outcome::kAcknowledged);
      }
      cluster_->RunFor(seconds(5));
      Restart(away);
      ExpectWhole();
      EXPECT_TRUE(cluster_->status(away, kBlobs)->snapshot.index.valid()) << "it was brought by the log";
      EXPECT_TRUE(cluster_->AwaitNoStages()) << cluster_->Describe();
      EXPECT_THAT(cluster_->LostSpace(away), testing::IsEmpty()) << "seed " << seed;
    }
  }
}

// F-33: the leader's log is compacted away under the reads for a follower whose answers are slow. That is no
// damage: the leader stays, and the follower gets a snapshot.
TEST_F(ClusterFault, F33_AFollowerWhoseEntriesAreCompactedUnderItsReadsGetsASnapshot) {
  ClusterOptions options;
  options.host.compact_keep_entries = 0;
  options.host.checkpoint_ms = 100;
  options.host.catch_up_log_bytes_max = 0;  // the log waits for nobody
  options.host.log.cache_bytes_max = 0;     // every entry is read from the disk
  Make(options);
  const size_t there = LeaderOf(kCounter);
  const size_t away = (there + 1) % 3;
  const Term term = cluster_->status(there, kCounter)->term;
  cluster_->SlowDown(there, "log-io", milliseconds(60));
  cluster_->network().Cut(cluster_->id(away), cluster_->id(there));
  for (int i = 0; i < 100; ++i) {
    if (i == 50) cluster_->network().Heal();
    ASSERT_EQ(clients_->IncrementNow(there), Outcome::kAcknowledged) << cluster_->Describe();
  }
  ExpectWhole();
  EXPECT_TRUE(cluster_->status(away, kCounter)->snapshot.index.valid()) << "it was brought by the log";
  EXPECT_EQ(cluster_->status(there, kCounter)->term, term);
  EXPECT_EQ(cluster_->Leader(kCounter), there);
}

// --- Networks ----------------------------------------------------------------------------------------------

TEST_F(ClusterFault, F43_F44_LeaderCutOffStepsDownAndAcknowledgesNothing) {
  Make();
  const size_t old = LeaderOf(kCounter);
  cluster_->network().Isolate(cluster_->id(old));
  std::optional<Outcome> lost;
  // To the old one first.
  clients_->Increment(old, [&](Outcome outcome, const absl::Status&) { lost = outcome; });
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

TEST_F(ClusterFault, F47_LossAndDelaysNeverApplyTwice) {
  Make();
  cluster_->network().SetAllLinks(
      {.loss = 0.1, .reorder = 0.3, .delay_max = milliseconds(20), .reorder_by = milliseconds(100)});
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

// SIGSTOP and SIGCONT: the process knows nothing of the time between.
TEST_F(ClusterFault, F37_ALeaderThatWasStoppedAnswersNothingItCannotConfirm) {
  for (const auto stopped : {seconds(5), seconds(60)}) {
    Make({}, 37 + static_cast<uint64_t>(stopped.count()));
    const size_t old = LeaderOf(kCounter);
    ASSERT_EQ(clients_->IncrementNow(old), Outcome::kAcknowledged);
    cluster_->Pause(old, "", stopped);
    const env::Instant resumed = cluster_->world().MonotonicNow() + stopped;
    ASSERT_TRUE(
        cluster_->RunUntil([&] { return cluster_->Leader(kCounter).value_or(old) != old; }, seconds(4)))
        << cluster_->Describe();
    ASSERT_EQ(clients_->IncrementNow((old + 1) % 3), Outcome::kAcknowledged);
    // Asked while it is stopped, answered by what wakes up believing that it leads.
    cluster_->world().RunUntilTime(resumed - milliseconds(50));
    std::optional<absl::StatusOr<int64_t>> seen;
    clients_->Count(old, [&](absl::StatusOr<int64_t> count) { seen = std::move(count); });
    std::optional<Outcome> written;
    clients_->Increment(old, [&](Outcome outcome, const absl::Status&) { written = outcome; });
    ASSERT_TRUE(cluster_->RunUntil([&] { return seen && written; }, seconds(20)));
    if (seen->ok()) {
      EXPECT_GE(**seen, 2) << "a read from before it was stopped";
    }
    ExpectWhole();
  }
}

TEST_F(ClusterFault, F38_WallClockJumpsChangeNothing) {
  Make();
  const size_t leader = LeaderOf(kCounter);
  const Term term = cluster_->status(leader, kCounter)->term;
  for (const auto jump : {std::chrono::hours(1), std::chrono::hours(-2), std::chrono::hours(24 * 400)}) {
    cluster_->world().MoveWallClock(jump);
    ASSERT_EQ(clients_->IncrementNow(leader), Outcome::kAcknowledged);
    ASSERT_EQ(clients_->PutNow({.server = 0,
                                .name = fmt::format("a{}", jump.count()),
                                .content = MakeContent(200'000, 1),
                                .via = PutVia::kWrite}),
              Outcome::kAcknowledged);
    cluster_->RunFor(seconds(3));
  }
  EXPECT_EQ(cluster_->Leader(kCounter), leader);
  EXPECT_EQ(cluster_->status(leader, kCounter)->term, term);
  ExpectWhole();
}

TEST_F(ClusterFault, F48_ASlowFollowerSlowsNobody) {
  Make();
  const size_t leader = LeaderOf(kCounter);
  const size_t slow = (leader + 1) % 3;
  const auto time_of = [&](int writes) {
    const env::Instant begun = cluster_->world().MonotonicNow();
    for (int i = 0; i < writes; ++i) EXPECT_EQ(clients_->IncrementNow(leader), Outcome::kAcknowledged);
    return cluster_->world().MonotonicNow() - begun;
  };
  const env::Duration before = time_of(60);
  cluster_->SlowDown(slow, "log-", milliseconds(200));
  const env::Duration beside = time_of(60);
  EXPECT_LT(beside, 2 * before) << "the group goes at the pace of its slowest disk";
  for (const auto& peer : cluster_->status(leader, kCounter)->progress) {
    const int64_t ahead = peer.next - peer.match;
    EXPECT_LE(ahead, static_cast<int64_t>(cluster_->options().host.inflight_appends_max) + 1)
        << peer.id.value;
  }
  cluster_->Resume(slow);
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

}  // namespace
}  // namespace sluice::sim
