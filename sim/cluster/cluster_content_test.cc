// Which bytes an id and a name stand for (P4): ids that are used again, checksums that are equal, reads that go
// on elsewhere, bytes that were lost.

#include <algorithm>

#include "base/crc32c.h"
#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

// --- One id, one content (K6) ------------------------------------------------------------------------------

TEST_F(ClusterFault, F70_K6_ASecondStreamUnderAPublishedIdIsRefusedEverywhere) {
  Make();
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const std::string first = MakeContent(300'000, 5);
  const std::string second = MakeContent(300'000, 6);
  ASSERT_EQ(
      clients_->PutNow({.server = 0, .name = "a", .content = first, .via = PutVia::kStar, .upload = upload}),
      Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const auto again = [&](size_t server, const std::string& name, PutVia via) {
    absl::Status status;
    EXPECT_EQ(clients_->PutNow(
                  {.server = server, .name = name, .content = second, .via = via, .upload = upload}, &status),
              Outcome::kRefused)
        << name << " at " << server;
    EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  };
  for (const bool restarted : {false, true}) {
    if (restarted) {
      for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
      for (size_t i = 0; i < 3; ++i) Restart(i);
      ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    }
    for (size_t i = 0; i < 3; ++i) {
      again(i, "a", PutVia::kStar);
      again(i, "b", PutVia::kChain);
      const auto seen = clients_->GetNow(i, "a");
      ASSERT_TRUE(seen.ok()) << seen.status();
      EXPECT_EQ(*seen, Oracle::Content(KeyOf(first)));
    }
  }
  ExpectWhole();
  EXPECT_TRUE(cluster_->AwaitNoStages()) << cluster_->Describe();
}

TEST_F(ClusterFault, F70_K6_AnAbandonedIdIsRefusedToo) {
  Make();
  const UploadId upload = SealOnly(1, "a", MakeContent(100'000, 3));
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    absl::Status status;
    EXPECT_EQ(clients_->PutNow({.server = i,
                                .name = "a",
                                .content = MakeContent(100'000, 4),
                                .via = PutVia::kChain,
                                .upload = upload},
                               &status),
              Outcome::kRefused);
    EXPECT_TRUE(absl::IsAborted(status)) << status;
  }
  ExpectWhole();
}

// A server that was away when the id was published takes the second stream; then it learns.
class StaleServer : public ClusterFault {
 protected:
  void Publish() {
    ClusterOptions options;
    options.counter = false;
    options.host.upload_idle_ttl_ms = 120'000;
    Make(options);
    stale_ = FollowerOf(kBlobs);
    for (const PeerId& other : AllBut(stale_)) cluster_->network().CutBothWays(cluster_->id(stale_), other);
    const size_t leader = LeaderOf(kBlobs);
    ASSERT_EQ(
        clients_->PutNow(
            {.server = leader, .name = "a", .content = first_, .via = PutVia::kChain, .upload = upload_}),
        Outcome::kAcknowledged);
  }
  void ExpectFirst() {
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    for (size_t i = 0; i < 3; ++i) {
      const auto seen = clients_->GetNow(i, "a");
      ASSERT_TRUE(seen.ok()) << seen.status();
      EXPECT_EQ(*seen, Oracle::Content(KeyOf(first_))) << "server " << i;
    }
    EXPECT_EQ(Contents(stale_).size(), 1u);
    ExpectWhole();
  }

  const UploadId upload_{ClientId{{8}}, CallId{1}};
  const std::string first_ = MakeContent(300'000, 5);
  size_t stale_ = 0;
};

TEST_F(StaleServer, F70_K6_AStreamThatWasSealedWhereTheIdWasNotKnownIsNeverAcknowledged) {
  Publish();
  std::optional<Outcome> outcome;
  clients_->Put({.server = stale_,
                 .name = "a",
                 .content = MakeContent(300'000, 6),
                 .via = PutVia::kStar,
                 .upload = upload_},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(seconds(4));
  ASSERT_FALSE(outcome.has_value()) << "no majority could be asked";
  ASSERT_EQ(Have(stale_, upload_)->state, node::HoldState::kSealed);
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20)))
      << "what can never be entered is refused, not retried";
  EXPECT_EQ(outcome, Outcome::kRefused);
  ExpectFirst();
}

// A server is asked what it holds just when it learns what the id means.
TEST_F(StaleServer, K6_WhatIsSealedUnderAPublishedIdIsNotItsContent) {
  Publish();
  clients_->Put({.server = stale_,
                 .name = "a",
                 .content = MakeContent(300'000, 6),
                 .via = PutVia::kStar,
                 .vanish_sealed = true,
                 .upload = upload_},
                [](Outcome, const absl::Status&) {});
  ASSERT_TRUE(cluster_->RunUntil(
      [&] {
        const auto have = Have(stale_, upload_);
        return have && have->state == node::HoldState::kSealed;
      },
      seconds(20)));
  cluster_->SlowDown(stale_, "disk", seconds(3));
  std::optional<absl::StatusOr<node::HaveReply>> reply;
  cluster_->host(stale_).Have(kBlobs, upload_, cluster_->lane(stale_),
                              [&](absl::StatusOr<node::HaveReply> have) { reply = have; });
  cluster_->RunFor(milliseconds(10));
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return reply.has_value(); }, seconds(60)));
  cluster_->SlowDown(stale_, "disk", {});
  ASSERT_TRUE(reply->ok()) << reply->status();
  EXPECT_TRUE((*reply)->entered);
  EXPECT_NE((*reply)->state, node::HoldState::kSealed);
  ExpectFirst();
}

// The name is gone, and the bytes with it; the answer to the first is remembered.
TEST_F(ClusterFault, F70_K6_AnIdWhoseContentWasRemovedIsNotOpenedAgain) {
  Make();
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const sim::Put put{
      .server = 0, .name = "a", .content = MakeContent(300'000, 5), .via = PutVia::kChain, .upload = upload};
  ASSERT_EQ(clients_->PutNow(put), Outcome::kAcknowledged);
  ASSERT_EQ(clients_->RemoveNow(1, "a"), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    node::StreamHeader header;
    header.group = kBlobs;
    header.upload = upload;
    header.blob.name = "a";
    header.route.primary = cluster_->id(i);
    std::optional<absl::Status> opened;
    std::shared_ptr<node::Relay> relay = cluster_->host(i).OpenRelay(
        AsSent(header), cluster_->lane(i), [&](absl::Status status) { opened = status; });
    ASSERT_TRUE(cluster_->RunUntil([&] { return opened.has_value(); }, seconds(2)));
    EXPECT_TRUE(absl::IsAlreadyExists(*opened)) << i << ": " << *opened;
    env::Executor* const home = relay->home();
    home->Post([gone = std::move(relay)]() mutable { gone.reset(); });
    cluster_->RunFor(milliseconds(10));
  }
  ExpectWhole();
}

// Nobody has published the id: two uploads of equal length under it, each sealed at one server.
TEST_F(ClusterFault, D09_WhoHoldsOtherBytesUnderTheIdIsNoHolder) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const size_t leader = LeaderOf(kBlobs);
  const size_t other = (leader + 1) % 3;
  const size_t away = (leader + 2) % 3;
  const auto cut = [this](size_t server) {
    for (const PeerId& peer : AllBut(server)) cluster_->network().CutBothWays(cluster_->id(server), peer);
  };
  cut(other);
  clients_->Put({.server = other,
                 .name = "b",
                 .content = MakeContent(300'000, 6),
                 .via = PutVia::kStar,
                 .vanish_sealed = true,
                 .upload = upload},
                [](Outcome, const absl::Status&) {});
  ASSERT_TRUE(cluster_->RunUntil(
      [&] {
        const auto have = Have(other, upload);
        return have && have->state == node::HoldState::kSealed;
      },
      seconds(20)));
  cluster_->network().Heal();
  cut(away);
  std::optional<Outcome> outcome;
  clients_->Put({.server = leader,
                 .name = "a",
                 .content = MakeContent(300'000, 5),
                 .via = PutVia::kStar,
                 .upload = upload},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(seconds(4));
  EXPECT_NE(outcome, Outcome::kAcknowledged) << "one of three holds these bytes";
  cluster_->network().Heal();
  ExpectWhole();
}

// Two uploads under one id, each at a server that cannot ask the other one: both want the third.
TEST_F(ClusterFault, D11_F72_WhoHoldsTheOneIsNotCountedForTheOther) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  cluster_->network().CutBothWays(cluster_->id(0), cluster_->id(1));
  cluster_->SlowDown(2, "disk", milliseconds(700));  // so that it is asked for both at a time
  std::shared_ptr<node::Relay> relays[2];
  std::optional<absl::Status> closed[2];
  for (size_t i = 0; i < 2; ++i) {
    node::StreamHeader header;
    header.group = kBlobs;
    header.upload = {ClientId{{8}}, CallId{1}};
    header.blob.name = "a";
    header.route.primary = cluster_->id(i);
    header.route.given = true;
    relays[i] = cluster_->host(i).OpenRelay(AsSent(header), cluster_->lane(i), [](absl::Status) {});
    relays[i]->home()->Post([&relay = *relays[i], &end = closed[i], i] {
      relay.Append(0, Bytes::Copy(MakeContent(100'000, i)), [](absl::Status) {});
      relay.Close([&end](const absl::StatusOr<blob::Sealed>& sealed) { end = sealed.status(); });
    });
  }
  cluster_->RunFor(seconds(50));
  const auto acknowledged = std::ranges::count_if(closed, [](const auto& end) { return end && end->ok(); });
  EXPECT_EQ(acknowledged, 1) << "of one of them there is a majority";
  cluster_->SlowDown(2, "disk", {});
  cluster_->network().Heal();
  cluster_->RunFor(seconds(60));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(closed[i].has_value()) << "it waits for ever";
    env::Executor* const home = relays[i]->home();
    home->Post([gone = std::move(relays[i])]() mutable { gone.reset(); });
  }
  ExpectWhole();
}

TEST_F(ClusterFault, D11_F72_AFetchOfOtherBytesUnderTheIdIsNotJoined) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  const size_t there = FollowerOf(kBlobs);
  const size_t holder = (there + 1) % 3;
  const UploadId upload{ClientId{{8}}, CallId{1}};
  cluster_->network().Isolate(cluster_->id(there));
  clients_->Put({.server = holder,
                 .name = "a",
                 .content = MakeContent(300'000, 5),
                 .via = PutVia::kStar,
                 .vanish_sealed = true,
                 .upload = upload});
  ASSERT_TRUE(clients_->Drain());
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const auto held = Have(holder, upload);
  ASSERT_TRUE(held.has_value());
  ASSERT_EQ(held->state, node::HoldState::kSealed);
  ASSERT_NE(Have(there, upload)->state, node::HoldState::kSealed);
  std::vector<absl::StatusOr<node::HaveReply>> answers(3, absl::UnknownError("no answer"));
  for (size_t i = 0; i < answers.size(); ++i) {
    node::SealedUpload wanted;
    wanted.upload = upload;
    wanted.sealed = held->sealed;
    wanted.sealed.checksum += i == 1 ? 1 : 0;
    wanted.holders = {cluster_->id(holder)};
    cluster_->host(there).FetchSealed(
        kBlobs, wanted, cluster_->lane(there),
        [&answers, i](absl::StatusOr<node::HaveReply> answer) { answers[i] = std::move(answer); });
  }
  cluster_->RunFor(seconds(5));
  for (const size_t same : {0u, 2u}) {
    ASSERT_TRUE(answers[same].ok()) << answers[same].status();
    EXPECT_EQ(answers[same]->state, node::HoldState::kSealed);
  }
  EXPECT_TRUE(absl::IsUnavailable(answers[1].status())) << answers[1].status();
  ExpectWhole();
}

// Two hold one upload and one another under the same id, and the leader has heard of neither.
TEST_F(ClusterFault, D11_OfTwoUploadsUnderOneIdTheOneThatAMajorityHoldsIsEntered) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const size_t leader = LeaderOf(kBlobs);
  const size_t other = FollowerOf(kBlobs);
  const std::string content = MakeContent(300'000, 5);
  const auto seal = [&](size_t server, const std::string& sealed) {
    clients_->Put({.server = server,
                   .name = "a",
                   .content = sealed,
                   .via = PutVia::kStar,
                   .vanish_sealed = true,
                   .upload = upload},
                  [](Outcome, const absl::Status&) {});
    ASSERT_TRUE(cluster_->RunUntil(
        [&] {
          const auto have = Have(server, upload);
          return have && have->state == node::HoldState::kSealed;
        },
        seconds(20)));
  };
  cluster_->network().Isolate(cluster_->id(other));
  seal(other, MakeContent(300'000, 6));
  seal(leader, content);
  cluster_->network().Heal();
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  for (size_t i = 0; i < 3; ++i) Restart(i);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  // The one that nobody else agrees with answers first.
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(Have(i, upload)->state, node::HoldState::kSealed) << i;
    if (i != other) cluster_->SlowDown(i, "disk", milliseconds(50));
  }
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(60)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  for (size_t i = 0; i < 3; ++i) cluster_->SlowDown(i, "disk", {});
  ExpectWhole();
}

TEST_F(StaleServer, F70_K6_AStageThatIsOpenWhenItsIdIsPublishedGivesWay) {
  Publish();
  node::StreamHeader header;
  header.group = kBlobs;
  header.upload = upload_;
  header.blob.name = "a";
  header.route.primary = cluster_->id(stale_);
  header.route.given = true;
  std::optional<absl::Status> opened, ended;
  std::shared_ptr<node::Relay> relay = cluster_->host(stale_).OpenRelay(
      AsSent(header), cluster_->lane(stale_), [&](absl::Status status) { opened = status; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return opened.has_value(); }, seconds(2)));
  ASSERT_TRUE(opened->ok()) << *opened;
  const auto append = [&](uint64_t offset) {
    ended.reset();
    relay->home()->Post([&, offset] {
      relay->Append(offset, Bytes::Copy("other bytes"), [&](absl::Status status) { ended = status; });
    });
    EXPECT_TRUE(cluster_->RunUntil([&] { return ended.has_value(); }, seconds(2)));
    return *ended;
  };
  ASSERT_TRUE(append(0).ok());
  cluster_->network().Heal();
  // However busily it goes on.
  uint64_t offset = 11;
  for (; offset < 11 * 40 && append(offset).ok(); offset += 11) cluster_->RunFor(milliseconds(50));
  EXPECT_LT(offset, 11u * 40) << "it is still being fed";
  ExpectFirst();
  env::Executor* const home = relay->home();
  home->Post([gone = std::move(relay)]() mutable { gone.reset(); });
  cluster_->RunFor(milliseconds(10));
}

// --- What is the same (K8), and what is lost (K21) ---------------------------------------------------------

// Other bytes with the same CRC32C: the generator polynomial, added anywhere, leaves no remainder.
std::string SameChecksum(std::string content, size_t at) {
  constexpr uint64_t kGenerator = 0x1'1EDC'6F41;
  for (size_t bit = 0; bit < 33; ++bit) {
    if ((kGenerator >> (32 - bit) & 1) == 0) continue;
    content[at + bit / 8] = static_cast<char>(content[at + bit / 8] ^ (1 << bit % 8));
  }
  return content;
}

TEST_F(ClusterFault, K8_EqualChecksumsAreNotTakenForEqualBytes) {
  Make();
  const std::string first = MakeContent(150'000, 7);
  const std::string second = SameChecksum(first, 70'000);
  ASSERT_NE(first, second);
  ASSERT_EQ(Crc32c(first), Crc32c(second));
  int number = 0;
  for (const PutVia there : {PutVia::kWrite, PutVia::kChain}) {
    for (const PutVia here : {PutVia::kWrite, PutVia::kChain}) {
      for (const bool digest : {false, true}) {
        const std::string name = fmt::format("a{}", number++);
        const size_t server = static_cast<size_t>(number) % 3;
        const auto put = [&](const std::string& content, PutVia via, bool with_digest) {
          absl::Status status;
          const Outcome outcome = clients_->PutNow(
              {.server = server, .name = name, .content = content, .via = via, .digest = with_digest},
              &status);
          return outcome == Outcome::kAcknowledged ? absl::OkStatus() : status;
        };
        ASSERT_TRUE(put(first, there, false).ok());
        EXPECT_TRUE(absl::IsAlreadyExists(put(second, here, digest))) << name;
        const absl::Status same = put(first, here, digest);
        EXPECT_TRUE(same.ok()) << same << ": the same bytes are fine";
        const auto seen = clients_->GetNow(server, name);
        ASSERT_TRUE(seen.ok()) << seen.status();
        EXPECT_EQ(*seen, Oracle::Content(KeyOf(first)));
      }
    }
  }
  ExpectWhole();
}

TEST_F(ClusterFault, K8_EqualBytesThatComeAtOnceAreAllFine) {
  Make();
  struct Puts {
    PutVia via;
    std::vector<size_t> servers;
  };
  // Not by ByteStream at one server: there a new write fences the one before it (D-20).
  int number = 0;
  for (const Puts& puts :
       {Puts{PutVia::kWrite, {0, 1, 2}}, {PutVia::kChain, {0, 1, 2}}, {PutVia::kChain, {1, 1, 1}}}) {
    const std::string name = fmt::format("a{}", number++);
    const auto end_of_all = [&](const std::vector<std::string>& contents) {
      std::vector<absl::Status> ends;
      for (size_t i = 0; i < contents.size(); ++i) {
        clients_->Put({.server = puts.servers[i], .name = name, .content = contents[i], .via = puts.via},
                      [&](Outcome outcome, const absl::Status& status) {
                        EXPECT_EQ(outcome == Outcome::kAcknowledged, status.ok()) << status;
                        ends.push_back(status);
                      });
      }
      EXPECT_TRUE(cluster_->RunUntil([&] { return ends.size() == contents.size(); }, seconds(30)));
      return ends;
    };
    const std::string content = MakeContent(150'000, static_cast<uint64_t>(number));
    const std::string other = MakeContent(150'000, static_cast<uint64_t>(number) + 100);
    for (const absl::Status& status : end_of_all({content, content, content}))
      EXPECT_TRUE(status.ok()) << status;
    size_t refused = 0;
    for (const absl::Status& status : end_of_all({other, content, other}))
      refused += absl::IsAlreadyExists(status);
    EXPECT_EQ(refused, 2u);
    const auto seen = clients_->GetNow(2, name);
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_EQ(*seen, Oracle::Content(KeyOf(content)));
  }
  ExpectWhole();
}

TEST_F(ClusterFault, K8_AReadThatGoesOnGetsItsOwnContentOrNothing) {
  Make();
  const auto open = [&](size_t server, const std::optional<UploadId>& content) {
    auto reading = std::make_shared<std::optional<absl::StatusOr<node::Reading>>>();
    cluster_->host(server).OpenRead(kBlobs, "a", content, cluster_->lane(server),
                                    [reading](absl::StatusOr<node::Reading> opened) { *reading = opened; });
    EXPECT_TRUE(cluster_->RunUntil([&] { return reading->has_value(); }, seconds(5)));
    return **reading;
  };
  ASSERT_EQ(
      clients_->PutNow({.server = 0, .name = "a", .content = MakeContent(300'000, 1), .via = PutVia::kChain}),
      Outcome::kAcknowledged);
  const auto first = open(0, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const UploadId content = first->info.content;
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(open(i, content)->info.content, content);
  // The name gets other bytes of the same length.
  ASSERT_EQ(clients_->RemoveNow(0, "a"), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(absl::IsNotFound(open(i, content).status()));
  ASSERT_EQ(
      clients_->PutNow({.server = 1, .name = "a", .content = MakeContent(300'000, 2), .via = PutVia::kChain}),
      Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsAborted(open(i, content).status()));
    EXPECT_NE(open(i, {})->info.content, content);
  }
  ExpectWhole();
}

enum class Loss { kGone, kDamaged, kDamagedUnseen };  // unseen: nobody has read it before it comes again
class LostContent : public ClusterFault, public testing::WithParamInterface<Loss> {};

TEST_P(LostContent, K21_BytesThatWereLostEverywhereAreTakenAgain) {
  const bool damaged = GetParam() != Loss::kGone;
  ClusterOptions options;
  options.counter = false;
  Make(options);
  for (const PutVia via : {PutVia::kChain, PutVia::kWrite}) {
    for (const bool same_name : {true, false}) {
      const std::string name = fmt::format("n{}{}", static_cast<int>(via), same_name);
      const std::string content = MakeContent(200'000, static_cast<uint64_t>(via) * 2 + same_name);
      ASSERT_EQ(clients_->PutNow(
                    {.server = 0, .name = name, .content = content, .via = PutVia::kChain, .digest = true}),
                Outcome::kAcknowledged);
      ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
      size_t broken_files = 0;
      cluster_->RunFor(seconds(6));  // a checkpoint: nothing brings the bytes back from a stage
      for (size_t i = 0; i < 3; ++i) cluster_->Kill(i);
      for (size_t i = 0; i < 3; ++i) {
        for (const std::string& path : Contents(i)) {
          const auto bytes = env::ReadWholeFile(cluster_->disk(i), path, 1u << 30);
          if (!bytes.ok() || !bytes->starts_with(content)) continue;
          const absl::Status broken =
              damaged ? cluster_->disk(i).FlipBit(path, 77'777) : cluster_->disk(i).Remove(path);
          ASSERT_TRUE(broken.ok()) << broken;
          ++broken_files;
        }
      }
      ASSERT_EQ(broken_files, 3u);
      for (size_t i = 0; i < 3; ++i) Restart(i);
      ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
      if (GetParam() == Loss::kDamaged) {
        const auto lost = ReadNow(1, name);
        EXPECT_TRUE(absl::IsDataLoss(lost.status())) << lost.status();
      }
      const std::string again = same_name ? name : name + "-again";
      absl::Status status;
      ASSERT_EQ(clients_->PutNow({.server = 2, .name = again, .content = content, .via = via, .digest = true},
                                 &status),
                Outcome::kAcknowledged)
          << status;
      EXPECT_TRUE(cluster_->AwaitConverged(seconds(60))) << "the missing set does not heal\n"
                                                         << cluster_->Describe();
      for (size_t i = 0; i < 3; ++i) {
        for (const std::string& each : {name, again}) {
          const auto seen = clients_->GetNow(i, each);
          ASSERT_TRUE(seen.ok()) << each << " at " << i << ": " << seen.status();
          EXPECT_EQ(*seen, Oracle::Content(KeyOf(content)));
        }
      }
    }
  }
  ExpectWhole();
  EXPECT_TRUE(cluster_->AwaitNoStages()) << cluster_->Describe();
}

INSTANTIATE_TEST_SUITE_P(Kind, LostContent,
                         testing::Values(Loss::kGone, Loss::kDamaged, Loss::kDamagedUnseen),
                         [](const auto& param) {
                           return param.param == Loss::kGone      ? "Gone"
                                  : param.param == Loss::kDamaged ? "Damaged"
                                                                  : "DamagedUnseen";
                         });

// What one server still holds is no reason to drop the same bytes that a majority holds anew.
TEST_F(ClusterFault, K21_D11_BytesThatAMajorityHasLostAreTakenAgain) {
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  const std::string content = MakeContent(200'000, 1);
  const auto put = [&](const std::string& name) {
    return clients_->PutNow(
        {.server = leader, .name = name, .content = content, .via = PutVia::kChain, .digest = true});
  };
  ASSERT_EQ(put("a"), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    if (i == leader) continue;
    for (const std::string& path : Contents(i)) ASSERT_TRUE(cluster_->disk(i).Remove(path).ok());
    cluster_->SlowDown(i, "apply", seconds(2));  // so that they do not fetch what they find missing before
  }
  ASSERT_EQ(put("b"), Outcome::kAcknowledged);
  // Any one server may now be lost.
  cluster_->Lose(leader);
  for (size_t i = 0; i < 3; ++i) {
    if (i != leader) cluster_->SlowDown(i, "apply", {});
  }
  ExpectWhole();
}

// A loss of power undoes the link of what was fetched: a damaged content and a sealed stage of the same upload lie
// beside each other. That stage takes its place, also when it is the only whole copy by then.
TEST_F(ClusterFault, F24_F03_WhatWasFetchedTakesThePlaceOfADamagedCopyAfterARestart) {
  size_t beside[2] = {};  // with a damaged footer, with damaged data
  for (uint64_t seed = 1; seed <= 36; ++seed) {
    const bool footer = seed % 2 == 0;
    ClusterOptions options;
    options.counter = false;
    Make(options, seed);
    const std::string content = MakeContent(200'000, seed);
    ASSERT_EQ(clients_->PutNow({.server = 0, .name = "a", .content = content, .via = PutVia::kChain}),
              Outcome::kAcknowledged);
    ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
    cluster_->RunFor(seconds(6));  // a checkpoint: nothing brings the bytes back from a stage
    const auto break_copy = [&](size_t server) {
      for (const std::string& path : Contents(server)) {
        const auto bytes = env::ReadWholeFile(cluster_->disk(server), path, 1u << 30);
        ASSERT_TRUE(bytes.ok());
        ASSERT_TRUE(cluster_->disk(server).FlipBit(path, footer ? bytes->size() - 20 : 77'777).ok());
      }
    };
    const auto bytes_of = [&](size_t server) {
      const auto paths = Contents(server);
      const auto bytes = paths.size() == 1 ? env::ReadWholeFile(cluster_->disk(server), paths[0], 1u << 30)
                                           : absl::NotFoundError("no content");
      return bytes.value_or("");
    };
    const std::string whole = bytes_of(1);
    break_copy(1);
    const std::string damaged = bytes_of(1);
    ASSERT_TRUE(ReadNow(1, "a").ok()) << "of a holder";
    for (int i = 0; bytes_of(1) != whole; ++i) {
      ASSERT_LT(i, 1'000'000) << cluster_->Describe();
      cluster_->RunFor(std::chrono::microseconds(10));
    }
    cluster_->PowerLoss(1);
    if (bytes_of(1) == damaged) {
      ++beside[seed % 2];
      for (const size_t other : {0u, 2u}) break_copy(other);
    }
    Restart(1);
    ASSERT_TRUE(cluster_->AwaitConverged(seconds(60))) << cluster_->Describe();
    const auto seen = clients_->GetNow(1, "a");
    ASSERT_TRUE(seen.ok()) << seed << ": " << seen.status();
    EXPECT_EQ(*seen, Oracle::Content(KeyOf(content)));
  }
  for (const size_t count : beside) EXPECT_GT(count, 0u) << "no link was undone: this shows nothing";
}

TEST_F(ClusterFault, F24_WhoKnowsThatItsCopyIsDamagedDoesNotSayThatItHoldsIt) {
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const UploadId upload{ClientId{{8}}, CallId{1}};
  ASSERT_EQ(clients_->PutNow({.server = 0,
                              .name = "a",
                              .content = MakeContent(200'000, 1),
                              .via = PutVia::kChain,
                              .upload = upload}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  for (size_t i = 0; i < 3; ++i) {
    for (const std::string& path : Contents(i)) ASSERT_TRUE(cluster_->disk(i).FlipBit(path, 77'777).ok());
    EXPECT_EQ(Have(i, upload)->state, node::HoldState::kSealed) << i << ": nobody has read it";
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(absl::IsDataLoss(ReadNow(i, "a").status())) << i;
  for (size_t i = 0; i < 3; ++i) EXPECT_NE(Have(i, upload)->state, node::HoldState::kSealed) << i;
}

// The other one, which one server can bring, sorts behind them all.
TEST_F(ClusterFault, D14_ContentsThatNobodyHasDoNotHoldUpTheOthers) {
  constexpr uint64_t kLost = 60;
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const auto id = [](uint64_t call) { return UploadId{ClientId{{8}}, CallId{call}}; };
  for (uint64_t call = 1; call <= kLost + 1; ++call) {
    ASSERT_EQ(clients_->PutNow({.server = 0,
                                .name = fmt::format("a{}", call),
                                .content = MakeContent(10'000, call),
                                .via = PutVia::kChain,
                                .upload = id(call)}),
              Outcome::kAcknowledged);
  }
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  cluster_->RunFor(seconds(2));
  const size_t there = FollowerOf(kBlobs);
  for (size_t i = 0; i < 3; ++i) {
    for (const std::string& path : Contents(i)) {
      if (i != there && path.ends_with(id(kLost + 1).ToHex())) continue;
      ASSERT_TRUE(cluster_->disk(i).Remove(path).ok());
    }
  }
  for (uint64_t call = 1; call <= kLost + 1; ++call) ASSERT_TRUE(Have(there, id(call)).has_value());
  const auto missing = [&] { return cluster_->status(there, kBlobs)->missing; };
  ASSERT_TRUE(cluster_->RunUntil([&] { return missing() == kLost + 1; }, seconds(1))) << missing();
  EXPECT_TRUE(cluster_->RunUntil([&] { return missing() == kLost; }, std::chrono::minutes(5))) << missing();
  ASSERT_TRUE(Have(there, id(kLost + 1)).has_value());
  EXPECT_EQ(Have(there, id(kLost + 1))->state, node::HoldState::kSealed);
}

// --- The only copy -----------------------------------------------------------------------------------------

class OnlyCopy : public ClusterFault {
 protected:
  // A group of one, the mode without settings, with a content in a file of its own.
  void MakeOne() {
    ClusterOptions options;
    options.servers = 1;
    options.counter = false;
    Make(options);
    ASSERT_EQ(
        clients_->PutNow(
            {.name = "a", .content = content_, .via = PutVia::kChain, .digest = true, .upload = upload_}),
        Outcome::kAcknowledged);
    cluster_->RunFor(seconds(2));
    ASSERT_EQ(Contents(0).size(), 1u);
  }
  uint64_t Missing() { return cluster_->status(0, kBlobs)->missing; }
  // The content chunk by chunk, as a reader who goes on behind what is lost.
  std::vector<absl::StatusOr<std::string>> Chunks() {
    std::vector<absl::StatusOr<std::string>> chunks;
    const auto reading = OpenNow(0, "a");
    EXPECT_TRUE(reading.ok()) << reading.status();
    for (uint64_t at = 0; reading.ok() && at < content_.size(); at += kChunkBytes) {
      chunks.push_back(ReadNow(0, *reading->source, at, kChunkBytes));
    }
    return chunks;
  }

  static constexpr uint64_t kChunkBytes = 64u << 10;
  const UploadId upload_{ClientId{{8}}, CallId{1}};
  const std::string content_ = MakeContent(300'000, 1);
};

TEST_F(OnlyCopy, F24_K21_AReadErrorThatPassesLosesNothing) {
  MakeOne();
  const auto exact = [&](const char* when) {
    const auto seen = clients_->GetNow(0, "a");
    ASSERT_TRUE(seen.ok()) << when << ": " << seen.status();
    EXPECT_EQ(*seen, Oracle::Content(KeyOf(content_))) << when;
  };
  for (const bool restart : {false, true}) {
    cluster_->disk(0).FailReads(Contents(0).at(0), 150'000, 1);
    const auto refused = ReadNow(0, "a");
    EXPECT_TRUE(absl::IsDataLoss(refused.status())) << refused.status();
    cluster_->RunFor(seconds(5));
    EXPECT_EQ(Missing(), 1u) << "it counts as damaged, durably";
    if (restart) {
      cluster_->PowerLoss(0);
      Restart(0);
      ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
      cluster_->RunFor(seconds(1));
      EXPECT_EQ(Missing(), 1u);
    }
    cluster_->disk(0).ClearFaults();
    exact("at once");
    cluster_->RunFor(std::chrono::minutes(1));
    exact("after a minute");
    EXPECT_EQ(Missing(), 0u);
    cluster_->PowerLoss(0);
    Restart(0);
    ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
    exact("after a restart");
    EXPECT_EQ(Missing(), 0u);
  }
  ExpectWhole();
}

TEST_F(OnlyCopy, F24_OfADamagedOneTheChunksThatAreWholeAreServed) {
  MakeOne();
  ASSERT_TRUE(cluster_->disk(0).FlipBit(Contents(0).at(0), 2 * kChunkBytes + 5).ok());
  const auto as_promised = [&](const char* when) {
    const auto chunks = Chunks();
    ASSERT_EQ(chunks.size(), 5u) << when;
    for (size_t i = 0; i < chunks.size(); ++i) {
      if (i == 2) {
        EXPECT_TRUE(absl::IsDataLoss(chunks[i].status())) << when << ": " << chunks[i].status();
        const std::string why(Message(chunks[i].status()));
        EXPECT_THAT(why, testing::HasSubstr(upload_.ToHex()));
        EXPECT_THAT(why, testing::HasSubstr(fmt::format("{}", 2 * kChunkBytes)));
        continue;
      }
      ASSERT_TRUE(chunks[i].ok()) << when << ", chunk " << i << ": " << chunks[i].status();
      EXPECT_EQ(*chunks[i], content_.substr(i * kChunkBytes, kChunkBytes)) << when << ", chunk " << i;
    }
  };
  as_promised("when nobody knows");
  const auto refused = ReadNow(0, "a");
  EXPECT_TRUE(absl::IsDataLoss(refused.status())) << refused.status();
  const uint64_t before = cluster_->status(0)->blobs.damaged_chunks;
  cluster_->RunFor(std::chrono::minutes(1));
  EXPECT_EQ(Missing(), 1u);
  EXPECT_LT(cluster_->status(0)->blobs.damaged_chunks - before, 15u) << "it is read on and on";
  as_promised("after a minute");
  cluster_->PowerLoss(0);
  Restart(0);
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  as_promised("after a restart");
  // Whoever has the bytes brings them again (K21).
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = content_, .via = PutVia::kWrite, .digest = true}),
            Outcome::kAcknowledged);
  ExpectWhole();
}

TEST_F(OnlyCopy, F14_AHaveThatCannotLookMarksNothing) {
  MakeOne();
  const std::string path = Contents(0).at(0);
  cluster_->disk(0).FailNextOpen(path);
  EXPECT_FALSE(Have(0, upload_).has_value()) << "it cannot be told";
  cluster_->RunFor(milliseconds(100));
  EXPECT_EQ(Missing(), 0u) << "a whole copy is thought damaged";
  EXPECT_EQ(Have(0, upload_)->state, node::HoldState::kSealed);
  // Nor does a put of the same bytes, which asks; it is not answered before that can be told, with or without digest.
  for (const bool digest : {true, false}) {
    cluster_->disk(0).FailNextOpen(path);
    absl::Status status;
    EXPECT_EQ(clients_->PutNow({.name = "a", .content = content_, .via = PutVia::kWrite, .digest = digest},
                               &status),
              Outcome::kAcknowledged)
        << status;
    cluster_->disk(0).ClearFaults();
    cluster_->RunFor(milliseconds(100));
    EXPECT_EQ(Missing(), 0u);
    EXPECT_EQ(Contents(0), std::vector<std::string>{path}) << "whole bytes were replaced by the same";
  }
  ExpectWhole();
}

TEST_F(OnlyCopy, F14_D10_WhatIsSealedIsNotUnknownBecauseNobodyCanLook) {
  MakeOne();
  const std::string content = MakeContent(200'000, 2);
  const UploadId upload = SealOnly(0, "b", content);
  cluster_->Kill(0);
  Restart(0);  // a leader that nobody has told of it
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs)) << cluster_->Describe();
  cluster_->disk(0).FailNextOpen(".stage");
  auto reply = std::make_shared<std::optional<node::ClientReply>>();
  cluster_->host(0).Submit(ForwardOf(upload, "b"), [reply](node::ClientReply first) { *reply = first; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return reply->has_value(); }, seconds(20)));
  EXPECT_EQ((*reply)->code, node::ReplyCode::kOk) << (*reply)->error;
  const auto read = ReadNow(0, "b");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, content);
}

TEST_F(ClusterFault, K21_BytesThatAreWholeAreNotReplacedByTheSame) {
  Make();
  const std::string content = MakeContent(200'000, 1);
  const auto put = [&](size_t server, const std::string& name) {
    return clients_->PutNow(
        {.server = server, .name = name, .content = content, .via = PutVia::kChain, .digest = true});
  };
  ASSERT_EQ(put(0, "a"), Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const std::vector<std::string> before = Contents(1);
  for (const size_t server : {1u, 2u, 0u}) {
    EXPECT_EQ(put(server, fmt::format("b{}", server)), Outcome::kAcknowledged);
    EXPECT_EQ(put(server, "a"), Outcome::kAcknowledged);
  }
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  EXPECT_EQ(Contents(1), before);
  ExpectWhole();
}

}  // namespace
}  // namespace sluice::sim
