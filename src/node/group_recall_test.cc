// A group whose server lost its hard state, over a real log on a simulated disk, with hands on what the other
// servers tell it.
#include <gtest/gtest.h>

#include "log/log_test_support.h"
#include "node/group.h"
#include "node/silent_bytes_for_test.h"

namespace sluice::node {
namespace {

PeerId Server(size_t number) { return {fmt::format("n{}", number)}; }

class Outbox final : public PeerTransport {
 public:
  void Send(const GroupId&, const raft::Peer&, raft::Message message) override {
    sent.push_back(std::move(message));
  }
  void SendSnapshot(const SnapshotOffer&, const raft::Peer&, env::Executor*,
                    absl::AnyInvocable<void(absl::Status)>) override {}
  std::vector<raft::Message> sent;
};

// Keeps what the others are asked; of the rest nothing is called.
class Asked final : public SilentBytes {
 public:
  void Recall(const raft::Peer& to, const GroupId&, const raft::RecallRequest&, env::Executor*,
              Done<raft::RecallReply> done) override {
    asked.insert_or_assign(to.id, std::move(done));
  }
  std::map<PeerId, Done<raft::RecallReply>> asked;
};

class GroupRecall : public testing::Test {
 protected:
  GroupRecall() : log_(std::make_unique<log::SimLog>(disk_)) { options_.self.id = Server(0); }
  ~GroupRecall() override {
    if (group_ == nullptr) return;
    group_->Stop();
    log_->Settle();
  }
  // The next life of the server, with what is on its disk.
  void Start(size_t voters, std::optional<TermIndex> promised_last = std::nullopt) {
    log_.reset();
    log_ = std::make_unique<log::SimLog>(disk_);
    ASSERT_TRUE(log_->status().ok()) << log_->status();
    auto index = blob::OpenMapIndex(disk_, "/data/index");
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = std::move(*index);
    Group::Parts parts;
    parts.spec.id = kDefaultGroup;
    parts.spec.machine = "counter";
    for (size_t i = 0; i < voters; ++i) {
      parts.spec.peers.emplace_back();
      parts.spec.peers.back().id = Server(i);
    }
    parts.options = &options_;
    parts.shard = parts.apply = parts.snapshots = log_->shard();
    parts.log = &**log_;
    parts.clock = &log_->world();
    parts.cluster = &cluster_;
    parts.snapshot_dir = "/data";
    Applier::Parts applied;
    applied.spec = parts.spec;
    applied.session_bytes_max = options_.session_bytes_max;
    applied.session_keep_ms = options_.session_keep_ms;
    applied.files = &disk_;
    applied.index = index_.get();
    applied.cluster = &cluster_;
    applied.snapshot_path = "/data/in";
    Applier::Start start;
    auto applier = Applier::Open(std::move(applied), &start);
    ASSERT_TRUE(applier.ok()) << applier.status();
    log::GroupState recovered = (*log_)->TakeRecovered(kDefaultGroup);
    if (promised_last) recovered.promised_last = promised_last;
    group_ = std::make_unique<Group>(std::move(parts), std::move(*applier), std::move(start),
                                     std::move(recovered));
    group_->Start(&peers_, &bytes_);
    Tick();
  }
  void Tick() {
    group_->Tick();
    log_->Settle();
  }
  void DamageHardState() {
    const auto names = disk_.List(log::kDir);
    ASSERT_TRUE(names.ok());
    for (const std::string& name : *names) {
      if (!name.starts_with("state-")) continue;
      for (const uint64_t copy : {0u, 4096u}) {
        ASSERT_TRUE(disk_.FlipBit(fmt::format("{}/{}", log::kDir, name), copy + 30).ok());
      }
    }
  }
  // Server `number` tells its term, and where its log ends.
  void Tell(size_t number, uint64_t term, int64_t end) {
    raft::RecallReply reply;
    reply.term = Term{term};
    reply.end = Index{end};
    Tell(number, std::move(reply));
  }
  void Tell(size_t number, raft::RecallReply reply) {
    const auto asked = bytes_.asked.find(Server(number));
    ASSERT_NE(asked, bytes_.asked.end());
    asked->second(std::move(reply));
    log_->Settle();
  }
  // Entries 0 and 1 of term 1, and a hard state of that term.
  void Write() {
    log::AppendBatch batch{.group = kDefaultGroup,
                           .hard_state = raft::HardState{Term{1}, Server(1)},
                           .entries = log::EntriesAt(kDefaultGroup, 0, 2, 1)};
    ASSERT_TRUE(log_->Append(std::move(batch)).ok());
  }
  // Server `number` leads term 1, and sends what follows entry `previous`.
  void Lead(size_t number, int64_t previous, int64_t count = 0) {
    raft::AppendRequest append;
    append.call = ++call_;
    append.term = Term{1};
    append.previous = {Term{1}, Index{previous}};
    append.entries = log::EntriesAt(kDefaultGroup, previous + 1, count, 1);
    group_->Step(Server(number), std::move(append));
    log_->Settle();
  }
  bool VotesIn(uint64_t term) {
    peers_.sent.clear();
    group_->Step(Server(1), raft::VoteRequest{++call_, Term{term}, {Term{1}, Index{1000}}, false});
    log_->Settle();
    for (const raft::Message& message : peers_.sent) {
      const auto* reply = std::get_if<raft::VoteReply>(&message);
      if (reply != nullptr && reply->granted) return true;
    }
    return false;
  }

  sim::SimFiles disk_;
  std::unique_ptr<log::SimLog> log_;
  Cluster cluster_{Server(0), &env::RealClock()};
  HostOptions options_;
  std::unique_ptr<blob::Index> index_;
  Outbox peers_;
  Asked bytes_;
  std::unique_ptr<Group> group_;
  uint64_t call_ = 0;
};

// It had voted, and no entry had come: nothing but the hard state knew of it.
TEST_F(GroupRecall, F08_AVoteThatIsForgottenIsNotGivenAgain) {
  ASSERT_TRUE(log_->Store(kDefaultGroup, 3, "n2").ok());
  DamageHardState();
  Start(3);
  EXPECT_FALSE(group_->Status().voting);
  EXPECT_FALSE(VotesIn(3));
  EXPECT_FALSE(VotesIn(4));
}

TEST_F(GroupRecall, F08_K11_ItVotesAgainInTermsThatNobodyHadBegun) {
  ASSERT_TRUE(log_->Store(kDefaultGroup, 7, "n2").ok());
  DamageHardState();
  Start(3);
  Tell(1, 5, 0);
  EXPECT_FALSE(group_->Status().voting) << "n2 may have had its vote";
  Tell(2, 7, 0);
  EXPECT_TRUE(group_->Status().voting);
  EXPECT_EQ(group_->Status().term, Term{7});
  EXPECT_FALSE(VotesIn(7));
  EXPECT_TRUE(VotesIn(8));
}

// Entries 0 and 1 are left, 2 and 3 are lost. It may have promised them in any term, to a leader whom those who
// answer have never heard of.
TEST_F(GroupRecall, F08_F07_K9_WhatWasPromisedInAForgottenTermIsNotCut) {
  ASSERT_TRUE(log_->Append(kDefaultGroup, 0, 2).ok());
  Start(5, TermIndex{Term{1}, Index{3}});
  ASSERT_TRUE(group_->Status().repairing);
  for (const size_t other : {1u, 2u, 3u}) Tell(other, 5, 2);
  EXPECT_TRUE(group_->Status().repairing) << "n4 and one of the terms before 5 may know it";
}

// Without this no server that lost the end of its log helps another one lead, before a later term.
TEST_F(GroupRecall, F07_P5_TheLeaderSaysHowFarALostEndWent) {
  Write();
  Start(3, TermIndex{Term{1}, raft::kEndUnknown});
  Lead(1, 1);
  bytes_.asked.clear();
  log_->world().RunFor(std::chrono::seconds(2));
  Lead(1, 1);
  Tick();
  ASSERT_EQ(bytes_.asked.size(), 1u);
  raft::RecallReply reply;
  reply.term = Term{1};
  reply.hears_leader = true;
  reply.end = Index{4};
  Tell(1, reply);
  EXPECT_TRUE(group_->Status().repairing) << "it does not say that it leads";
  log_->world().RunFor(std::chrono::seconds(2));
  Lead(1, 1);
  Tick();
  reply.leads = true;
  Tell(1, reply);
  EXPECT_TRUE(group_->Status().repairing) << "entries 2 and 3 may have been acknowledged";
  Lead(1, 1, 1);
  EXPECT_TRUE(group_->Status().repairing);
  Lead(1, 2, 1);
  EXPECT_FALSE(group_->Status().repairing);
}

// An answer about another end of the log than it has by now.
TEST_F(GroupRecall, F04_AnAnswerThatComesWhenTheLogHasMovedMendsNothing) {
  Write();
  Start(3, TermIndex{Term{1}, Index{4}});
  ASSERT_TRUE(bytes_.asked.contains(Server(2)));
  Lead(1, 1, 2);  // entries 2 and 3
  ASSERT_EQ(group_->Status().last.index, Index{3});
  group_->Step(Server(1), raft::VoteRequest{++call_, Term{2}, {Term{1}, Index{3}}, false});  // leads no more
  log_->Settle();
  raft::RecallReply reply;
  reply.term = Term{2};
  reply.previous_term = Term{1};
  reply.end = Index{3};
  reply.entries.push_back({Term{1}, true, raft::EntryKind::kCommand, Bytes::Copy("entry 2")});
  Tell(2, reply);
  EXPECT_EQ(group_->Status().last.index, Index{3}) << "entry 2 was taken for entry 4";
  EXPECT_TRUE(group_->Status().repairing);
}

}  // namespace
}  // namespace sluice::node
