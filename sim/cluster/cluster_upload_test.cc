// Faults of uploads (F-nn) and the rules of the core path (D-nn), by whole servers.

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

// --- Uploads -----------------------------------------------------------------------------------------------

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

// A client that streams by hand, and holds on.
class StreamByHand : public ClusterFault {
 protected:
  node::StreamHeader HeaderAt(size_t server, const UploadId& upload) {
    node::StreamHeader header;
    header.group = kBlobs;
    header.upload = upload;
    header.blob.name = "a";
    header.route.primary = cluster_->id(server);
    header.route.given = true;
    return header;
  }
  absl::Status Open(size_t server, const node::StreamHeader& header) {
    auto opened = std::make_shared<std::optional<absl::Status>>();
    relay_ = cluster_->host(server).OpenRelay(AsSent(header), cluster_->lane(server),
                                              [opened](absl::Status status) { *opened = status; });
    EXPECT_TRUE(cluster_->RunUntil([&] { return opened->has_value(); }, seconds(5)));
    return opened->value_or(absl::UnknownError("not opened"));
  }
  absl::Status StreamAndClose(const std::string& content) {
    auto closed = std::make_shared<std::optional<absl::Status>>();
    relay_->home()->Post([this, content, closed] {
      relay_->Append(0, Bytes::Copy(content), [](const absl::Status&) {});
      relay_->Close([closed](const absl::StatusOr<blob::Sealed>& sealed) { *closed = sealed.status(); });
    });
    EXPECT_TRUE(cluster_->RunUntil([&] { return closed->has_value(); }, seconds(20)));
    return closed->value_or(absl::UnknownError("not closed"));
  }
  absl::Status Append(const std::shared_ptr<node::Relay>& relay, uint64_t offset, const std::string& piece) {
    auto appended = std::make_shared<std::optional<absl::Status>>();
    relay->home()->Post([relay, offset, piece, appended] {
      relay->Append(offset, Bytes::Copy(piece), [appended](absl::Status status) { *appended = status; });
    });
    EXPECT_TRUE(cluster_->RunUntil([&] { return appended->has_value(); }, seconds(5)));
    return appended->value_or(absl::UnknownError("not answered"));
  }
  void LetGo() { LetGo(std::move(relay_)); }
  void LetGo(std::shared_ptr<node::Relay> relay) {
    auto* home = relay->home();
    home->Post([gone = std::move(relay)]() mutable { gone.reset(); });
    cluster_->RunFor(milliseconds(10));
  }

  const UploadId upload_{ClientId{{8}}, CallId{1}};
  std::shared_ptr<node::Relay> relay_;
};

TEST_F(StreamByHand, F26_TheLogAbandonsASealedStageAlthoughItsClientHoldsOn) {
  Make();
  node::StreamHeader header = HeaderAt(1, upload_);
  header.route.successors = {{cluster_->id(1), {cluster_->id(2), cluster_->id(0)}}};
  ASSERT_TRUE(Open(1, header).ok());
  const std::string content = MakeContent(100'000, 3);
  const absl::Status closed = StreamAndClose(content);
  ASSERT_TRUE(closed.ok()) << closed;
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(Have(i, upload_)->state, node::HoldState::kSealed) << i;
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  std::optional<Outcome> outcome;
  clients_->Forward(upload_, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(60));
  EXPECT_NE(outcome, Outcome::kAcknowledged);
  LetGo();
  ExpectWhole();
}

// What its client waits for is not given up by the server that received it, however short the time-to-live.
TEST_F(StreamByHand, F26_K22_NobodyAbandonsWhatItWaitsForItself) {
  ClusterOptions options;
  options.host.upload_idle_ttl_ms = 1000;
  options.host.successor_silence_ms = 4000;
  Make(options);
  node::StreamHeader header = HeaderAt(1, upload_);
  header.route.successors = {{cluster_->id(1), {cluster_->id(2)}}, {cluster_->id(2), {cluster_->id(0)}}};
  ASSERT_TRUE(Open(1, header).ok());
  cluster_->network().Isolate(cluster_->id(2));
  const absl::Status closed = StreamAndClose(MakeContent(100'000, 3));
  EXPECT_TRUE(closed.ok()) << closed;
  LetGo();
  cluster_->network().Heal();
  ExpectWhole();
}

// A server that was frozen beyond the time-to-live finds its client there, and its upload abandoned.
TEST_F(StreamByHand, F26_K22_WhoWaitsForAMajorityIsToldAtOnceThatTheUploadWasAbandoned) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  const size_t apart = FollowerOf(kBlobs);
  ASSERT_TRUE(Open(apart, HeaderAt(apart, upload_)).ok());
  cluster_->network().Isolate(cluster_->id(apart));
  std::optional<absl::Status> closed;
  relay_->home()->Post([&] {
    relay_->Append(0, Bytes::Copy(MakeContent(100'000, 3)), [](const absl::Status&) {});
    relay_->Close([&](const absl::StatusOr<blob::Sealed>& sealed) { closed = sealed.status(); });
  });
  cluster_->RunFor(seconds(1));
  std::optional<node::ReplyCode> abandoned;
  node::PublishRequest abandon;
  abandon.group = kBlobs;
  abandon.upload.upload = upload_;
  abandon.abandon = true;
  cluster_->host(leader).Publish(abandon, [&](node::ClientReply reply) { abandoned = reply.code; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return abandoned.has_value(); }, seconds(5))) << cluster_->Describe();
  ASSERT_EQ(abandoned, node::ReplyCode::kOk);
  ASSERT_EQ(closed, std::nullopt) << *closed;
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return closed.has_value(); }, seconds(15)));
  EXPECT_TRUE(absl::IsAborted(*closed)) << *closed;
  LetGo();
  ExpectWhole();
}

// Nobody holds it any more, and nobody is asked to fetch it.
TEST_F(ClusterFault, F26_K16_APublishOfAnAbandonedUploadKeepsNoPlace) {
  Make();
  node::PublishRequest publish;
  publish.group = kBlobs;
  publish.upload.upload = SealOnly(1, "a", MakeContent(100'000, 3));
  publish.upload.header.name = "a";
  const auto have = Have(1, publish.upload.upload);
  ASSERT_EQ(have->state, node::HoldState::kSealed);
  publish.upload.sealed = have->sealed;
  ASSERT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  std::optional<node::ClientReply> reply;
  cluster_->host(LeaderOf(kBlobs)).Publish(publish, [&](node::ClientReply answered) { reply = answered; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return reply.has_value(); }, seconds(5)))
      << "the log has decided: it is answered at once, not after a minute of fetches";
  EXPECT_TRUE(absl::IsAborted(reply->error)) << reply->error;
  ExpectWhole();
}

// Its stage is old enough, and its client has just come back.
TEST_F(ClusterFault, F26_D10_WhatIsBeingEnteredIsNotAbandoned) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  const std::string content = MakeContent(100'000, 3);
  const UploadId upload = SealOnly(1, "a", content);
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  for (size_t i = 0; i < 3; ++i) Restart(i);
  const size_t leader = LeaderOf(kBlobs);
  // So that the leader, who was told by nobody, asks for a while.
  for (size_t i = 0; i < 3; ++i) cluster_->SlowDown(i, "disk", seconds(1));
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(500));
  ASSERT_FALSE(outcome.has_value());
  node::PublishRequest abandon;
  abandon.group = kBlobs;
  abandon.upload.upload = upload;
  abandon.abandon = true;
  std::optional<node::ClientReply> reply;
  cluster_->host(leader).Publish(abandon, [&](node::ClientReply answered) { reply = answered; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return reply.has_value(); }, seconds(5)));
  EXPECT_EQ(reply->code, node::ReplyCode::kStateMachine);
  EXPECT_TRUE(absl::IsFailedPrecondition(reply->error)) << reply->error;
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  for (size_t i = 0; i < 3; ++i) cluster_->SlowDown(i, "disk", {});
  ExpectWhole();
}

// What one group protects the other must not reclaim: here what is being entered.
TEST_F(ClusterFault, F26_D10_AGroupReclaimsNoStageOfAnother) {
  ClusterOptions options;
  options.counter = false;
  options.more_blob_groups = 1;
  Make(options);
  const std::string content = MakeContent(100'000, 3);
  const UploadId upload = SealOnly(1, "a", content);
  for (size_t i = 0; i < 3; ++i) cluster_->PowerLoss(i);
  for (size_t i = 0; i < 3; ++i) Restart(i);
  ASSERT_TRUE(cluster_->AwaitLeader(BlobGroup(1))) << cluster_->Describe();
  const size_t leader = LeaderOf(kBlobs);
  // So that the leader, who was told by nobody, asks for longer than a stage lives.
  cluster_->SlowDown(leader, "disk", seconds(7));
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(500));
  cluster_->SlowDown(leader, "disk", {});
  cluster_->RunFor(seconds(6));
  ASSERT_FALSE(outcome.has_value());
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(cluster_->status(i)->uploads.empty()) << i;
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  ExpectWhole();
}

TEST_F(ClusterFault, F26_D10_NoServerReclaimsASealedStageByItsOwnClock) {
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const size_t apart = FollowerOf(kBlobs);
  const UploadId upload = SealOnly(LeaderOf(kBlobs), "a", MakeContent(100'000, 3));
  cluster_->RunFor(seconds(1));
  ASSERT_EQ(Have(apart, upload)->state, node::HoldState::kSealed);
  cluster_->network().Isolate(cluster_->id(apart));
  cluster_->RunFor(milliseconds(6 * int64_t{cluster_->options().host.upload_idle_ttl_ms}));
  EXPECT_EQ(Have(apart, upload)->state, node::HoldState::kSealed) << "the others may have entered it";
  for (size_t i = 0; i < 3; ++i) {
    if (i != apart) {
      EXPECT_EQ(Have(i, upload)->state, node::HoldState::kNone) << i;
    }
  }
  cluster_->network().Heal();
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  ExpectWhole();
}

TEST_F(StreamByHand, F27_K13_AStageThatIsBeingSealedIsNotReclaimed) {
  Make();
  ASSERT_TRUE(Open(1, HeaderAt(1, upload_)).ok());
  ASSERT_TRUE(Append(relay_, 0, MakeContent(100'000, 3)).ok());
  // Its disk takes longer than a stage lives.
  cluster_->SlowDown(1, "blob-", milliseconds(2 * int64_t{cluster_->options().host.upload_idle_ttl_ms}));
  std::optional<absl::Status> closed;
  relay_->home()->Post(
      [&] { relay_->Close([&](const absl::StatusOr<blob::Sealed>& sealed) { closed = sealed.status(); }); });
  cluster_->RunFor(milliseconds(10));
  cluster_->SlowDown(1, "blob-", {});
  cluster_->RunFor(seconds(6));
  ASSERT_FALSE(closed.has_value()) << *closed;
  ASSERT_TRUE(cluster_->RunUntil([&] { return closed.has_value(); }, seconds(20)));
  EXPECT_TRUE(closed->ok()) << *closed;
  LetGo();
}

TEST_F(ClusterFault, F70_TheIdOfAStreamWhoseConnectionIsGoneIsNotOpenedAgain) {
  ClusterOptions options;
  options.host.upload_idle_ttl_ms = 60'000;
  Make(options);
  const UploadId upload{ClientId{{8}}, CallId{1}};
  const std::string first = MakeContent(300'000, 5);
  EXPECT_EQ(clients_->PutNow({.server = 0,
                              .name = "a",
                              .content = first,
                              .via = PutVia::kChain,
                              .vanish_at = 128 << 10,
                              .upload = upload}),
            Outcome::kRefused);
  cluster_->RunFor(milliseconds(200));
  ASSERT_EQ(Have(0, upload)->state, node::HoldState::kOpen);
  absl::Status status;
  EXPECT_EQ(clients_->PutNow({.server = 0,
                              .name = "a",
                              .content = MakeContent(300'000, 6),
                              .via = PutVia::kStar,
                              .upload = upload},
                             &status),
            Outcome::kRefused);
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_EQ(Have(0, upload)->state, node::HoldState::kOpen) << "and its stage is as it was";
}

TEST_F(StreamByHand, F71_ARouteWithAStrangerIsRefusedAndOneWithoutSomeoneIsNot) {
  Make();
  node::StreamHeader header = HeaderAt(1, upload_);
  header.route.successors = {{cluster_->id(1), {cluster_->id(0), PeerId{"stranger"}}}};
  EXPECT_TRUE(absl::IsInvalidArgument(Open(1, header)));
  LetGo();
  header.route.successors = {{PeerId{"stranger"}, {cluster_->id(0)}}};
  EXPECT_TRUE(absl::IsInvalidArgument(Open(1, header)));
  LetGo();
  // Alone, and with a loop: each server gets it once, and who is left out fetches.
  header.route.successors = {{cluster_->id(1), {cluster_->id(1)}}};
  ASSERT_TRUE(Open(1, header).ok());
  const std::string content = MakeContent(200'000, 3);
  const absl::Status closed = StreamAndClose(content);
  ASSERT_TRUE(closed.ok()) << closed;
  std::optional<Outcome> outcome;
  clients_->Forward(upload_, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  LetGo();
  ExpectWhole();
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(Contents(i).size(), 1u) << i;
}

TEST_F(ClusterFault, D09_OnlyWhoReceivesAnUploadComputesItsDigest) {
  Make();
  const UploadId upload{ClientId{{8}}, CallId{1}};
  EXPECT_EQ(clients_->PutNow({.server = 1,
                              .name = "a",
                              .content = MakeContent(100'000, 3),
                              .via = PutVia::kChain,
                              .vanish_sealed = true,
                              .digest = true,
                              .upload = upload}),
            Outcome::kRefused);
  for (size_t i = 0; i < 3; ++i) {
    const auto have = Have(i, upload);
    ASSERT_EQ(have->state, node::HoldState::kSealed) << i;
    EXPECT_EQ(have->sealed.digest.has_value(), i == 1) << i;
  }
}

TEST_F(StreamByHand, D15_WhoFedAnUploadThatIsTakenOverFeedsItNoMore) {
  Make();
  node::StreamHeader header = HeaderAt(0, upload_);
  ASSERT_TRUE(Open(1, header).ok());
  ASSERT_TRUE(Append(relay_, 0, "what both have").ok());
  const std::shared_ptr<node::Relay> before = relay_;
  header.take_over = 14;
  ASSERT_TRUE(Open(1, header).ok());
  ASSERT_NE(relay_, before);
  EXPECT_EQ(relay_->length(), 14u);
  const absl::Status fenced = Append(before, 14, ", and more of the old");
  EXPECT_TRUE(absl::IsAborted(fenced)) << fenced;
  const absl::Status appended = Append(relay_, 14, ", and more");
  EXPECT_TRUE(appended.ok()) << appended;
  LetGo(before);
  LetGo();
}

// A client that writes by name by hand.
class WriteByHand : public StreamByHand {
 protected:
  absl::Status Write(size_t server, uint64_t offset) {
    auto opened = std::make_shared<std::optional<absl::StatusOr<std::shared_ptr<node::Relay>>>>();
    node::BlobHeader header;
    header.name = "a";
    cluster_->host(server).OpenWrite(kBlobs, header, offset, cluster_->lane(server),
                                     [opened](auto relay) { *opened = std::move(relay); });
    EXPECT_TRUE(cluster_->RunUntil([&] { return opened->has_value(); }, seconds(5)));
    if ((*opened)->ok()) relay_ = ***opened;
    return (*opened)->status();
  }
};

TEST_F(WriteByHand, D20_ANewWriteUnderANameFencesTheOneBefore) {
  Make();
  ASSERT_TRUE(Write(1, 0).ok());
  ASSERT_TRUE(Append(relay_, 0, "the first").ok());
  const std::shared_ptr<node::Relay> before = relay_;
  ASSERT_TRUE(Write(1, 0).ok());
  ASSERT_TRUE(Append(relay_, 0, "the second").ok());
  const absl::Status fenced = Append(before, 9, ", and more of it");
  EXPECT_TRUE(absl::IsAborted(fenced)) << fenced;
  EXPECT_TRUE(Append(relay_, 10, ", and more of it").ok());
  LetGo(before);
  LetGo();
}

// A client that was cut off asks how far it came while its call ends.
TEST_F(WriteByHand, D20_AWriteThatEndsWhileItIsAskedForSaysHowFarItCame) {
  Make();
  ASSERT_TRUE(Write(1, 0).ok());
  ASSERT_TRUE(Append(relay_, 0, "ten bytes.").ok());
  cluster_->SlowDown(1, "blob", std::chrono::milliseconds(300));
  std::optional<absl::StatusOr<node::WriteStatus>> told;
  cluster_->host(1).QueryWrite(
      kBlobs, {"a"}, /*ask_others=*/false, cluster_->lane(1),
      [&told](absl::StatusOr<node::WriteStatus> status) { told = std::move(status); });
  cluster_->RunFor(std::chrono::milliseconds(50));
  ASSERT_FALSE(told.has_value());
  LetGo();
  ASSERT_TRUE(cluster_->RunUntil([&] { return told.has_value(); }, seconds(10)));
  ASSERT_TRUE(told->ok()) << told->status();
  EXPECT_EQ((*told)->committed, 10u);
  cluster_->SlowDown(1, "blob", {});
}

TEST_F(WriteByHand, D19_D20_AWriteGoesOnAtTheCommittedSizeOnly) {
  Make();
  ASSERT_TRUE(Write(1, 0).ok());
  ASSERT_TRUE(Append(relay_, 0, "ten bytes.").ok());
  const std::shared_ptr<node::Relay> before = relay_;
  for (const uint64_t offset : {1u, 9u, 11u}) {
    const absl::Status refused = Write(1, offset);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << offset << ": " << refused;
  }
  EXPECT_TRUE(Append(before, 10, "And more.").ok()) << "a refused call fences nobody";
  EXPECT_TRUE(Write(1, 19).ok());
  LetGo(before);
  LetGo();
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

// What stands for links that the index may forget is gone after the next checkpoint, also when nothing follows it.
TEST_F(ClusterFault, K14_NothingIsLeftOfStagesInAnIdleGroup) {
  ClusterOptions options;
  options.counter = false;  // its checkpoints would do it
  options.host.checkpoint_ms = 1000;
  Make(options);
  const Put put{.server = 0, .name = "a", .content = MakeContent(300'000, 1), .via = PutVia::kChain};
  ASSERT_EQ(clients_->PutNow(put), Outcome::kAcknowledged);
  ExpectWhole();
  cluster_->RunFor(seconds(3));
  for (size_t i = 0; i < 3; ++i) EXPECT_THAT(Paths(i, "/data/blobs/stage", ""), testing::IsEmpty()) << i;
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
  cluster_->host(1).OpenRead(kBlobs, "a", {}, cluster_->lane(1), [&](absl::StatusOr<node::Reading> reading) {
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

// --- Rules -------------------------------------------------------------------------------------------------

TEST_F(ClusterFault, D05_RetriesOfOneCallCountOnceAcrossLeaders) {
  Make();
  // The leader dies again and again; retries keep their call id.
  cluster_->network().SetAllLinks({.loss = 0.05});
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
  ClusterOptions options;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  // Sealed at one server alone, which is cut off.
  const size_t leader = LeaderOf(kBlobs);
  const size_t holder = (leader + 1) % 3, third = (leader + 2) % 3;
  const std::string content = MakeContent(300'000, 3);
  cluster_->network().Isolate(cluster_->id(holder));
  const UploadId upload = SealOnly(holder, "a", content);
  EXPECT_EQ(Have(holder, upload)->state, node::HoldState::kSealed);
  EXPECT_EQ(Have(leader, upload)->state, node::HoldState::kNone);
  EXPECT_EQ(Have(third, upload)->state, node::HoldState::kNone);
  std::optional<Outcome> outcome;
  const auto end = [&](Outcome ended, const absl::Status&) { outcome = ended; };
  clients_->Forward(upload, "a", content, end);
  cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(30));
  EXPECT_EQ(outcome, Outcome::kUnknown) << "nobody who could be asked holds it";
  // In reach again: the leader has a majority fetch the bytes before it enters them.
  cluster_->network().Heal();
  outcome.reset();
  clients_->Forward(upload, "a", content, end);
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

// Of the servers that it heard of when it led before, one has lost the bytes meanwhile.
TEST_F(ClusterFault, D11_ALeaderThatLeadsAgainAsksAnewWhoHoldsAStream) {
  ClusterOptions options;
  options.counter = false;
  options.host.upload_idle_ttl_ms = 120'000;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  const size_t holder = (leader + 1) % 3, third = (leader + 2) % 3;
  const std::string content = MakeContent(300'000, 3);
  cluster_->network().Isolate(cluster_->id(third));
  const UploadId upload = SealOnly(leader, "a", content);
  ASSERT_EQ(Have(holder, upload)->state, node::HoldState::kSealed);
  cluster_->network().Heal();
  const auto another_leads = [&](size_t than) {
    const auto leads = cluster_->Leader(kBlobs);
    return leads.has_value() && *leads != than;
  };
  const auto end_lead = [&](size_t of) {
    cluster_->network().Isolate(cluster_->id(of));
    EXPECT_TRUE(cluster_->RunUntil([&] { return another_leads(of); }, seconds(20))) << cluster_->Describe();
    cluster_->network().Heal();
    cluster_->RunFor(seconds(1));
  };
  end_lead(leader);
  cluster_->Kill(holder);
  for (const std::string& path : Paths(holder, "/data/blobs/stage", ""))
    ASSERT_TRUE(cluster_->disk(holder).Remove(path).ok());
  Restart(holder);
  for (int i = 0; i < 20 && LeaderOf(kBlobs) != leader; ++i) end_lead(LeaderOf(kBlobs));
  ASSERT_EQ(LeaderOf(kBlobs), leader);
  ASSERT_EQ(Have(holder, upload)->state, node::HoldState::kNone);
  ASSERT_EQ(Have(third, upload)->state, node::HoldState::kNone);
  std::optional<Outcome> outcome;
  clients_->Forward(upload, "a", content, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(30)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  // Any one server may now be lost.
  cluster_->Lose(leader);
  ExpectWhole();
}

TEST_F(ClusterFault, D17_ARemovalOfAnImpossibleNameIsRefusedBeforeItIsEntered) {
  Make();
  const size_t leader = LeaderOf(kBlobs);
  cluster_->network().Isolate(cluster_->id(leader));  // it can commit nothing, and need not
  for (const std::string& name : {std::string(), std::string("a\0b", 3), std::string(1025, 'a')}) {
    node::RemoveRequest request;
    request.group = kBlobs;
    request.name = name;
    request.client = ClientId{{8}};
    request.call = CallId{1};
    std::optional<node::ClientReply> reply;
    cluster_->host(leader).Remove(request, [&](node::ClientReply answered) { reply = answered; });
    ASSERT_TRUE(cluster_->RunUntil([&] { return reply.has_value(); }, milliseconds(10))) << name.size();
    EXPECT_EQ(reply->code, node::ReplyCode::kStateMachine);
    EXPECT_TRUE(absl::IsInvalidArgument(reply->error)) << reply->error;
  }
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
  AwaitContent(silent);
  EXPECT_EQ(Contents(silent).size(), 1u);
}

TEST_F(ClusterFault, D13_SealedStageWhoseEntryIsTruncatedIsNeitherLinkedNorLost) {
  ClusterOptions options;
  options.counter = false;
  Make(options);
  const size_t old = LeaderOf(kBlobs);
  const UploadId upload = SealOnly(old, "a", MakeContent(300'000, 3));
  cluster_->network().Isolate(cluster_->id(old));
  const Index before = cluster_->status(old, kBlobs)->last.index;
  std::optional<node::ClientReply> reply;
  cluster_->host(old).Submit(ForwardOf(upload, "a"),
                             [&](node::ClientReply answered) { reply = std::move(answered); });
  ASSERT_TRUE(cluster_->RunUntil(
      [&] {
        return cluster_->status(old, kBlobs) != nullptr && cluster_->status(old, kBlobs)->last.index > before;
      },
      seconds(2)))
      << "it is in the log of the old leader";
  cluster_->RunFor(seconds(1));
  EXPECT_EQ(Contents(old).size(), 0u) << "linked before it was committed";
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return reply.has_value(); }, seconds(20)));
  EXPECT_NE(reply->code, node::ReplyCode::kOk);
  // Truncated: the stage is there as before, until the log decides.
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(Have(i, upload)->state, node::HoldState::kSealed) << i;
  EXPECT_TRUE(cluster_->AwaitNoStages(seconds(40))) << cluster_->Describe();
  const auto seen = clients_->GetNow(0, "a");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(*seen, std::nullopt);
  ExpectWhole();
}

// An upload along a chain, whose second server is lost in the middle.
class ChainFault : public ClusterFault {
 protected:
  void StartUpload(ClusterOptions options = {}, size_t size = 4'000'000) {
    options.host.upload_idle_ttl_ms = 20'000;
    Make(options);
    cluster_->network().SetAllLinks({.delay_min = milliseconds(2), .delay_max = milliseconds(4)});
    first_ = LeaderOf(kBlobs);
    second_ = (first_ + 1) % cluster_->size();
    third_ = (first_ + 2) % cluster_->size();
    clients_->Put({.server = first_,
                   .name = "a",
                   .content = MakeContent(size, 3),
                   .via = PutVia::kChain,
                   .piece_bytes = 16'384,
                   .upload = upload_},
                  [&](Outcome ended, const absl::Status&) { outcome_ = ended; });
    cluster_->RunFor(milliseconds(60));
    ASSERT_FALSE(outcome_.has_value()) << "it ended before the fault";
    ASSERT_EQ(Have(third_, upload_)->state, node::HoldState::kOpen);
  }
  // It ends well in time, the third server has everything, and nothing was fetched.
  void ExpectPassedOn(env::Duration limit) {
    ASSERT_TRUE(cluster_->RunUntil([&] { return outcome_.has_value(); }, limit)) << cluster_->Describe();
    EXPECT_EQ(outcome_, Outcome::kAcknowledged);
    EXPECT_EQ(cluster_->transports(first_).ordered_fetches(), 0u);
    cluster_->RunFor(milliseconds(300));  // the entry is applied there, too
    EXPECT_EQ(cluster_->transports(third_).fetches(), 0u);
    AwaitContent(third_);
    EXPECT_EQ(Contents(third_).size(), 1u);
  }

  const UploadId upload_{ClientId{{7}}, CallId{1}};
  size_t first_ = 0, second_ = 0, third_ = 0;
  std::optional<Outcome> outcome_;
};

TEST_F(ChainFault, D15_F34_TheUploadGoesOnPastAServerThatDies) {
  StartUpload();
  cluster_->Kill(second_);
  ExpectPassedOn(seconds(4));
  Restart(second_);
  ExpectWhole();
}

TEST_F(ChainFault, D15_F50_TheUploadGoesOnPastAServerThatFreezes) {
  StartUpload();
  for (const PeerId& other : AllBut(second_)) cluster_->network().CutBothWays(cluster_->id(second_), other);
  ExpectPassedOn(seconds(4));
  cluster_->network().Heal();
  ExpectWhole();
}

TEST_F(ChainFault, D15_F37_AServerThatThawsFeedsNobodyAnyMore) {
  StartUpload({}, 12'000'000);
  const PeerId second = cluster_->id(second_);
  for (const PeerId& other : AllBut(second_)) cluster_->network().CutBothWays(second, other);
  // Long enough to be passed by, and back with what it had sent before the connections break.
  cluster_->RunFor(milliseconds(950));
  ASSERT_FALSE(outcome_.has_value());
  cluster_->network().Heal();
  ExpectPassedOn(seconds(6));
  ExpectWhole();
}

TEST_F(ChainFault, D15_F50_TheEndOfAChainThatFreezesTakesNobodyWithIt) {
  StartUpload();
  for (const PeerId& other : AllBut(third_)) cluster_->network().CutBothWays(cluster_->id(third_), other);
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome_.has_value(); }, seconds(4)));
  EXPECT_EQ(outcome_, Outcome::kAcknowledged);
  EXPECT_EQ(cluster_->transports(first_).ordered_fetches(), 0u) << "the second server was left behind, too";
  AwaitContent(second_);
  EXPECT_EQ(Contents(second_).size(), 1u);
  cluster_->network().Heal();
  ExpectWhole();
}

TEST_F(ChainFault, D15_F34_InAChainOfFiveTwoMayDie) {
  ClusterOptions options;
  options.servers = 5;
  StartUpload(options);
  cluster_->Kill(second_);
  cluster_->RunFor(milliseconds(40));
  cluster_->Kill((first_ + 3) % 5);
  ExpectPassedOn(seconds(6));
  AwaitContent((first_ + 4) % 5);
  EXPECT_EQ(Contents((first_ + 4) % 5).size(), 1u);
  Restart(second_);
  Restart((first_ + 3) % 5);
  ExpectWhole();
}

TEST_F(ClusterFault, D15_D20_F35_WriteThatGoesOnAfterACrashTakesTheOthersWithIt) {
  ClusterOptions options;
  options.host.upload_idle_ttl_ms = 20'000;
  Make(options);
  cluster_->network().SetAllLinks({.delay_min = milliseconds(2), .delay_max = milliseconds(4)});
  std::optional<Outcome> outcome;
  clients_->Put({.server = 1,
                 .name = "a",
                 .content = MakeContent(2'000'000, 3),
                 .via = PutVia::kWrite,
                 .piece_bytes = 16'384},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(100));
  std::optional<uint64_t> told;
  cluster_->host(1).QueryWrite(kBlobs, {"a"}, false, cluster_->lane(1),
                               [&](absl::StatusOr<node::WriteStatus> where) {
                                 if (where.ok()) told = where->committed;
                               });
  ASSERT_TRUE(cluster_->RunUntil([&] { return told.has_value(); }, seconds(1)));
  EXPECT_GT(*told, 0u);
  cluster_->RunFor(milliseconds(100));  // the others get more than it has durable
  ASSERT_FALSE(outcome.has_value());
  const std::vector<std::string> stages = Paths(1, "/data/blobs/stage", "");
  ASSERT_EQ(stages.size(), 1u);
  cluster_->PowerLoss(1);
  Restart(1);
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(60)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  EXPECT_EQ(cluster_->transports(1).ordered_fetches(), 0u);
  const std::string id = stages[0].substr(stages[0].rfind('/'));
  AwaitContent(1);
  EXPECT_THAT(Contents(1), testing::ElementsAre(testing::EndsWith(id))) << "it began again";
  ExpectWhole();
  for (const size_t other : {0u, 2u}) EXPECT_EQ(cluster_->transports(other).fetches(), 0u) << other;
}

TEST_F(ClusterFault, F28_D20_WriteThatMetAFullDiskGoesOnOnceThereIsRoom) {
  ClusterOptions options;
  options.host.blob.reserve_bytes = 4u << 20;  // so that the log has room all the time
  Make(options);
  SimFiles& disk = cluster_->disk(1);
  constexpr uint64_t kLarge = uint64_t{1} << 30;
  disk.SetCapacity(kLarge);
  const uint64_t used = kLarge - disk.FreeBytes("/").value_or(0);
  disk.SetCapacity(used + (4u << 20) + 700'000);
  const std::string content = MakeContent(1'500'000, 3);
  std::optional<Outcome> outcome;
  clients_->Put({.server = 1, .name = "a", .content = content, .via = PutVia::kWrite},
                [&](Outcome ended, const absl::Status&) { outcome = ended; });
  cluster_->RunFor(milliseconds(200));
  ASSERT_FALSE(outcome.has_value());
  // What had arrived is there, and is told.
  std::optional<absl::StatusOr<node::WriteStatus>> told;
  cluster_->host(1).QueryWrite(kBlobs, {"a"}, false, cluster_->lane(1),
                               [&](absl::StatusOr<node::WriteStatus> where) { told = where; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return told.has_value(); }, seconds(1)));
  ASSERT_TRUE(told->ok()) << told->status();
  EXPECT_GT((*told)->committed, 0u);
  EXPECT_FALSE((*told)->complete);
  const std::vector<std::string> stages = Paths(1, "/data/blobs/stage", "");
  ASSERT_EQ(stages.size(), 1u);
  disk.ClearFaults();
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  const std::string id = stages[0].substr(stages[0].rfind('/'));
  AwaitContent(1);
  EXPECT_THAT(Contents(1), testing::ElementsAre(testing::EndsWith(id))) << "it began again";
  ExpectWhole();
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
  cluster_->host(1).QueryWrite(kBlobs, {"b"}, false, cluster_->lane(1),
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
  cluster_->host(1).QueryWrite(kBlobs, {"b"}, false, cluster_->lane(1),
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

TEST_F(ClusterFault, D20_QueryAtAnotherServerIsPassedOn) {
  ClusterOptions options;
  options.host.upload_idle_ttl_ms = 60'000;
  Make(options);
  const size_t asked = LeaderOf(kBlobs);
  const size_t writing = (asked + 1) % 3;
  const size_t third = (asked + 2) % 3;
  const auto query = [&](size_t server, const std::string& name, bool ask_others = true) {
    auto told = std::make_shared<std::optional<absl::StatusOr<node::WriteStatus>>>();
    cluster_->host(server).QueryWrite(kBlobs, {name}, ask_others, cluster_->lane(server),
                                      [told](absl::StatusOr<node::WriteStatus> where) { *told = where; });
    const bool answered = cluster_->RunUntil([&] { return told->has_value(); }, seconds(4));
    return answered ? **told : absl::DeadlineExceededError("no answer within the bound");
  };
  EXPECT_EQ(query(asked, "a").status().code(), absl::StatusCode::kNotFound);

  const std::string content = MakeContent(300'000, 3);
  node::BlobHeader header;
  header.name = "a";
  const auto open = [&](size_t server) {
    std::shared_ptr<node::Relay> relay;
    cluster_->host(server).OpenWrite(
        kBlobs, header, 0, cluster_->lane(server),
        [&](absl::StatusOr<std::shared_ptr<node::Relay>> opened) { relay = opened.value_or(nullptr); });
    EXPECT_TRUE(cluster_->RunUntil([&] { return relay != nullptr; }, seconds(2)));
    return relay;
  };
  const auto append = [&](const std::shared_ptr<node::Relay>& relay, size_t from, size_t to) {
    bool taken = false;
    relay->home()->Post([&] {
      relay->Append(from, Bytes::Copy(content.substr(from, to - from)),
                    [&](absl::Status status) { taken = status.ok(); });
    });
    EXPECT_TRUE(cluster_->RunUntil([&] { return taken; }, seconds(2)));
  };
  std::shared_ptr<node::Relay> relay = open(writing);
  ASSERT_NE(relay, nullptr);
  append(relay, 0, 200'000);
  for (const size_t server : {asked, third, writing}) {
    const auto told = query(server, "a");
    ASSERT_TRUE(told.ok()) << "server " << server << ": " << told.status();
    EXPECT_EQ(told->committed, 200'000u) << "server " << server;
    EXPECT_FALSE(told->complete);
  }
  EXPECT_EQ(query(asked, "a", false).status().code(), absl::StatusCode::kNotFound)
      << "nobody was to be asked";
  EXPECT_EQ(query(asked, "b").status().code(), absl::StatusCode::kNotFound);

  // Whoever cannot be reached is left out.
  for (const PeerId& other : AllBut(writing)) {
    cluster_->network().CutBothWays(cluster_->id(writing), other);
  }
  EXPECT_EQ(query(asked, "a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(query(third, "a").status().code(), absl::StatusCode::kNotFound);
  // So many wait for it at a time, and no more.
  std::map<absl::StatusCode, int> answers;
  int answered = 0;
  for (int i = 0; i < 200; ++i) {
    cluster_->host(asked).QueryWrite(kBlobs, {"a"}, true, cluster_->lane(asked),
                                     [&](absl::StatusOr<node::WriteStatus> told) {
                                       ++answers[told.status().code()];
                                       ++answered;
                                     });
  }
  EXPECT_TRUE(cluster_->RunUntil([&] { return answered == 200; }, seconds(4)));
  EXPECT_EQ(answers[absl::StatusCode::kNotFound], 128);
  EXPECT_EQ(answers[absl::StatusCode::kResourceExhausted], 72);
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->AwaitConverged()) << cluster_->Describe();
  const auto again = query(asked, "a");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->committed, 200'000u) << "a committed size went back";
  // It goes on where it is, only; elsewhere it would begin again.
  std::optional<absl::Status> elsewhere;
  cluster_->host(asked).OpenWrite(
      kBlobs, header, again->committed, cluster_->lane(asked),
      [&](absl::StatusOr<std::shared_ptr<node::Relay>> opened) { elsewhere = opened.status(); });
  ASSERT_TRUE(cluster_->RunUntil([&] { return elsewhere.has_value(); }, seconds(2)));
  EXPECT_TRUE(absl::IsInvalidArgument(*elsewhere)) << *elsewhere;
  // Two servers write under the name: the larger size is told, whoever answers first.
  std::shared_ptr<node::Relay> other = open(third);
  ASSERT_NE(other, nullptr);
  append(other, 0, 100'000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(query(asked, "a").value_or(node::WriteStatus{}).committed, 200'000u);
  append(other, 100'000, 250'000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(query(asked, "a").value_or(node::WriteStatus{}).committed, 250'000u);
  for (auto* one : {&relay, &other}) {
    (*one)->home()->Post([gone = std::move(*one)]() mutable { gone.reset(); });
  }
  cluster_->RunFor(milliseconds(10));
}

// A client may use one id in two groups: neither enters, drops or frees the bytes of the other (P1, P4).
TEST_F(ClusterFault, K6_F70_AnUploadIsOfOneGroup) {
  ClusterOptions options;
  options.counter = false;
  options.more_blob_groups = 1;
  Make(options);
  const GroupId other = BlobGroup(1);
  ASSERT_TRUE(cluster_->AwaitLeader(other)) << cluster_->Describe();
  const auto forward_there = [&](const UploadId& upload) {
    node::ClientRequest request = ForwardOf(upload, "b");
    request.group = other;
    auto reply = std::make_shared<std::optional<node::ClientReply>>();
    cluster_->host(LeaderOf(other)).Submit(request, [reply](node::ClientReply said) { *reply = said; });
    EXPECT_TRUE(cluster_->RunUntil([&] { return reply->has_value(); }, seconds(60)));
    return reply->has_value() ? (*reply)->code : node::ReplyCode::kUnavailable;
  };
  const UploadId published{ClientId{{8}}, CallId{1}};
  const std::string content = MakeContent(200'000, 1);
  ASSERT_EQ(clients_->PutNow({.name = "a", .content = content, .via = PutVia::kChain, .upload = published}),
            Outcome::kAcknowledged);
  ASSERT_TRUE(cluster_->AwaitConverged());
  const std::string later = MakeContent(150'000, 2);
  const UploadId sealed = SealOnly(0, "later", later);
  for (const UploadId& upload : {published, sealed}) {
    EXPECT_NE(forward_there(upload), node::ReplyCode::kOk);
    EXPECT_NE(clients_->PutNow({.group = other,
                                .name = "c",
                                .content = MakeContent(100'000, 3),
                                .via = PutVia::kChain,
                                .upload = upload}),
              Outcome::kAcknowledged);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(Have(i, upload)->state, node::HoldState::kSealed) << i;
  }
  std::optional<Outcome> outcome;
  clients_->Forward(sealed, "later", later, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  ASSERT_TRUE(cluster_->RunUntil([&] { return outcome.has_value(); }, seconds(20)));
  EXPECT_EQ(outcome, Outcome::kAcknowledged);
  ExpectWhole();
}

// Random seed 19 with a second blob group: each lane counts its own uploads, and the store keeps those of all.
TEST_F(ClusterFault, D12_GroupsOfOneServerNeverShareAnUploadId) {
  ClusterOptions options;
  options.counter = false;
  options.more_blob_groups = 1;
  Make(options);
  ASSERT_TRUE(cluster_->AwaitLeader(BlobGroup(1))) << cluster_->Describe();
  for (uint64_t i = 0; i < 4; ++i) {
    for (const size_t group : {0u, 1u}) {
      absl::Status status;
      EXPECT_EQ(clients_->PutNow({.server = 1,
                                  .group = BlobGroup(group),
                                  .name = fmt::format("a{}", i),
                                  .content = MakeContent(100'000 + 1'000 * group, 2 * i + group),
                                  .via = PutVia::kWrite},
                                 &status),
                Outcome::kAcknowledged)
          << status;
    }
  }
  for (uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(clients_->RemoveNow(1, fmt::format("a{}", i)), Outcome::kAcknowledged);
  ExpectWhole();
}

}  // namespace
}  // namespace sluice::sim
