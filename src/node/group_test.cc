// One group over a real log on a simulated disk, with hands on the log's room and on what the peers answer.
#include "node/group.h"

#include <gtest/gtest.h>

#include "log/log_test_support.h"
#include "node/command.h"
#include "node/group_facts.h"
#include "node/log_clock.h"

namespace sluice::node {
namespace {

const PeerId kSelf{"n0"};
const PeerId kLeader{"n1"};
const PeerId kOther{"n2"};

// A log that takes no entries while it is `full`, and whose disk `fails` or is `slow`.
class FullLog final : public log::Log {
 public:
  explicit FullLog(log::Log& under) : under_(under) {}
  std::vector<GroupId> RecoveredGroups() const override { return under_.RecoveredGroups(); }
  log::GroupState TakeRecovered(const GroupId& group) override { return under_.TakeRecovered(group); }
  void Append(log::AppendBatch batch, env::Executor* reply_on, Done done) override {
    under_.Append(std::move(batch), reply_on, std::move(done));
  }
  bool TryAppend(log::AppendBatch& batch, env::Executor* reply_on, Done& done) override {
    if (full && !batch.entries.empty()) return false;
    if (fails) {
      reply_on->Post([done = std::move(done)]() mutable { done(absl::DataLossError("the disk failed")); });
      return true;
    }
    for (const raft::Entry& entry : batch.entries) written.push_back(entry.at);
    if (slow) {
      done = [this, done = std::move(done)](absl::Status status) mutable {
        unsaid.push_back([done = std::move(done), status = std::move(status)]() mutable { done(status); });
      };
    }
    return under_.TryAppend(batch, reply_on, done);
  }
  absl::Status HasRoom(uint64_t bytes, bool frees_space) const override {
    if (tight && !frees_space) return absl::ResourceExhaustedError("the log is nearly full");
    return under_.HasRoom(bytes, frees_space);
  }
  bool ShortOfSpace() const override { return tight || under_.ShortOfSpace(); }
  void Read(const GroupId& group, Index from, Index end, uint64_t bytes_max, env::Executor* reply_on,
            ReadDone done) override {
    if (from <= unreadable && unreadable < end) {
      return reply_on->Post(
          [done = std::move(done)]() mutable { done(absl::DataLossError("the entry is damaged")); });
    }
    under_.Read(group, from, end, bytes_max, reply_on, std::move(done));
  }
  std::vector<raft::Entry> ReadCached(const GroupId& group, Index from, Index end,
                                      uint64_t bytes_max) override {
    if (!cached) return {};
    auto entries = under_.ReadCached(group, from, end, bytes_max);
    for (raft::Entry& entry : entries) entry.at.term.value += stale;
    return entries;
  }
  void Compact(const GroupId& group, TermIndex upto) override {
    compacted = upto.index;
    under_.Compact(group, upto);
  }
  void Restart(const GroupId& group, TermIndex at, env::Executor* reply_on, Done done) override {
    under_.Restart(group, at, reply_on, std::move(done));
  }
  void Mend(const GroupId& group, std::vector<raft::Entry> entries, env::Executor* reply_on,
            Done done) override {
    under_.Mend(group, std::move(entries), reply_on, std::move(done));
  }
  std::vector<log::GroupState::Info> TakeMended(const GroupId& group) override {
    return under_.TakeMended(group);
  }
  void LowerPromise(const GroupId& group, TermIndex last) override { under_.LowerPromise(group, last); }
  void GiveUp(const GroupId& group) override { under_.GiveUp(group); }
  void Drop(const GroupId& group) override { under_.Drop(group); }
  Stats stats() const override { return under_.stats(); }
  void Say() {
    slow = false;
    for (auto& done : std::exchange(unsaid, {})) done();
  }

  bool full = false;
  bool fails = false;
  bool slow = false;  // syncs take until Say()
  std::vector<absl::AnyInvocable<void()>> unsaid;
  bool tight = false;  // what is left is for what frees space
  bool cached = true;
  Index unreadable = Index{-2};  // reads of this entry fail
  uint64_t stale = 0;            // terms by which what is read is not what the core has
  Index compacted = kNoIndex;
  std::vector<TermIndex> written;

 private:
  log::Log& under_;
};

// An index that takes nothing while it is `full`.
class FullIndex final : public blob::Index {
 public:
  explicit FullIndex(std::unique_ptr<blob::Index> under) : under_(std::move(under)) {}
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override { return under_->Get(key); }
  absl::Status Write(const blob::IndexBatch& batch) override {
    return full ? absl::ResourceExhaustedError("no space left on device") : under_->Write(batch);
  }
  absl::Status Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return under_->Scan(prefix, from, visit);
  }
  absl::Status DeletePrefix(std::string_view prefix) override { return under_->DeletePrefix(prefix); }
  std::unique_ptr<blob::IndexView> View() override { return under_->View(); }
  absl::Status Flush() override { return under_->Flush(); }
  void Stop() override { under_->Stop(); }

  bool full = false;

 private:
  std::unique_ptr<blob::Index> under_;
};

class Outbox final : public PeerTransport {
 public:
  void Send(const GroupId&, const raft::Peer& to, raft::Message message) override {
    sent.emplace_back(to.id, std::move(message));
  }
  // Under way until End().
  void SendSnapshot(const SnapshotOffer& offer, const raft::Peer& to, env::Executor* /*reply_on*/,
                    absl::AnyInvocable<void(absl::Status)> done) override {
    offers.push_back(offer);
    transfers.emplace_back(to.id, std::move(done));
  }
  void End(const absl::Status& status) {
    auto ended = std::exchange(transfers, {});
    for (auto& [to, done] : ended) done(status);
  }
  std::vector<std::pair<PeerId, raft::Message>> sent;
  std::vector<SnapshotOffer> offers;
  std::vector<std::pair<PeerId, absl::AnyInvocable<void(absl::Status)>>> transfers;
};

class GroupTest : public testing::Test {
 protected:
  GroupTest() : sim_log_(disk_), log_(*sim_log_) {
    options_.self.id = kSelf;
    options_.log = log::SmallOptions();
    auto index = blob::OpenMapIndex(disk_, "/data/index");
    EXPECT_TRUE(index.ok()) << index.status();
    index_ = std::make_unique<FullIndex>(std::move(*index));
    auto store = blob::Store::Open(disk_, executors_, sim_log_.world(), "/data/blobs", {});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    Group::Parts parts;
    parts.spec.id = kDefaultGroup;
    parts.spec.machine = "counter";
    for (const PeerId& id : {kSelf, kLeader, kOther}) {
      raft::Peer peer;
      peer.id = id;
      parts.spec.peers.push_back(peer);
    }
    parts.options = &options_;
    parts.shard = parts.apply = parts.snapshots = sim_log_.shard();
    parts.log = &log_;
    parts.clock = &sim_log_.world();
    parts.cluster = &cluster_;
    parts.snapshot_dir = "/data";
    Applier::Parts applied;
    applied.spec = parts.spec;
    applied.session_bytes_max = options_.session_bytes_max;
    applied.session_keep_ms = options_.session_keep_ms;
    applied.files = &disk_;
    applied.index = index_.get();
    applied.cluster = &cluster_;
    applied.store = store_.get();
    applied.snapshot_path = "/data/in";
    Applier::Start start;
    auto applier = Applier::Open(std::move(applied), &start);
    EXPECT_TRUE(applier.ok()) << applier.status();
    group_ = std::make_unique<Group>(std::move(parts), std::move(*applier), std::move(start),
                                     log_.TakeRecovered(kDefaultGroup));
    group_->Start(&peers_);
  }
  Cluster cluster_{kSelf, &env::RealClock()};
  ~GroupTest() override {
    group_->Stop();
    sim_log_.Settle();
  }
  // Entries [from, end) of `entry_term`, sent by `leader` in `term`.
  void Append(const PeerId& leader, uint64_t term, TermIndex previous, uint64_t entry_term, int64_t end) {
    raft::AppendRequest append;
    append.call = ++call_;
    append.term = Term{term};
    append.previous = previous;
    append.commit = kNoIndex;
    for (int64_t i = previous.index.value + 1; i < end; ++i) {
      append.entries.push_back({{Term{entry_term}, Index{i}},
                                raft::EntryKind::kCommand,
                                Bytes::Copy(fmt::format("{} of {}", i, entry_term))});
    }
    group_->Step(leader, std::move(append));
    sim_log_.Settle();
  }
  // A configuration with this server as its only voter, which needs nobody's vote.
  void AppendSoleVoter(const PeerId& leader, uint64_t term, TermIndex previous) {
    raft::Configuration configuration;
    for (const PeerId& id : {kSelf, kLeader, kOther}) {
      raft::Peer peer;
      peer.id = id;
      (id == kSelf ? configuration.voters : configuration.learners).push_back(peer);
    }
    raft::AppendRequest append;
    append.call = ++call_;
    append.term = Term{term};
    append.previous = previous;
    append.commit = kNoIndex;
    append.entries.push_back({{Term{term}, previous.index.Next()},
                              raft::EntryKind::kConfiguration,
                              raft::EncodeConfiguration(configuration)});
    group_->Step(leader, std::move(append));
    sim_log_.Settle();
  }
  void Elect() {
    for (int tick = 0; tick < 1000 && !group_->leads(); ++tick) {
      group_->Tick();
      sim_log_.Settle();
    }
    ASSERT_TRUE(group_->leads());
  }
  // Gets the votes of both others.
  void Campaign() {
    for (int tick = 0; tick < 1000 && !group_->leads(); ++tick) {
      group_->Tick();
      sim_log_.Settle();
      for (int round = 0; round < 2; ++round) {
        for (auto& [to, message] : std::exchange(peers_.sent, {})) {
          if (const auto* vote = std::get_if<raft::VoteRequest>(&message)) {
            group_->Step(to, raft::VoteReply{vote->call, vote->term, true, vote->pre_vote, vote->term,
                                             TermIndex{Term{0}, kNoIndex}, false});
          } else {
            peers_.sent.emplace_back(to, std::move(message));
          }
        }
        sim_log_.Settle();
      }
    }
  }
  void AnswerAppends() {
    for (auto& [to, message] : std::exchange(peers_.sent, {})) {
      const auto* append = std::get_if<raft::AppendRequest>(&message);
      if (append == nullptr) continue;
      raft::AppendReply reply;
      reply.call = append->call;
      reply.term = append->term;
      reply.match = append->entries.empty() ? kNoIndex : append->entries.back().at.index;
      reply.next = append->entries.empty() ? append->previous.index.Next() : reply.match.Next();
      reply.commit = kNoIndex;
      reply.heartbeat = append->entries.empty();
      group_->Step(to, reply);
    }
    sim_log_.Settle();
  }
  // Leads, and both others follow; all that there is is applied.
  void Lead() {
    Campaign();
    for (int i = 0; i < 10 && !group_->ready(); ++i) AnswerAppends();
    ASSERT_TRUE(group_->ready());
    ASSERT_EQ(group_->applied(), group_->Status().last.index);
  }
  // Leads, kLeader follows, and `count` increments are applied. kOther is away.
  void LeadWithout(const PeerId& away, int count) {
    Campaign();
    for (int i = 0; i < 20 && !group_->ready(); ++i) Run(away, 1);
    ASSERT_TRUE(group_->ready());
    Write(away, count);
    ASSERT_GT(group_->applied(), Index{count - 1});
    Run(away, 250);  // until it is known to be away, and nothing is kept for it
  }
  void Write(const PeerId& away, int count) {
    for (int i = 0; i < count; ++i) {
      group_->Propose(ClientId{{7}}, CallId{++call_}, false, Bytes::Copy("INCREMENT"),
                      [](const ClientReply&) {});
    }
    Run(away, 10);
  }
  // Ticks, while all but `away` answer.
  void Run(const PeerId& away, int ticks) {
    for (int i = 0; i < ticks; ++i) {
      sim_log_.Settle();
      group_->Tick();
      for (int round = 0; round < 3; ++round) {
        std::erase_if(peers_.sent, [&](const auto& sent) { return sent.first == away; });
        AnswerAppends();
      }
    }
  }
  // `to` says that its log ends before `next`: by the answer to the next heartbeat.
  void SaysItsLogEndsBefore(const PeerId& to, int64_t next) {
    for (int i = 0; i < 30; ++i) {
      sim_log_.Settle();
      group_->Tick();
      std::vector<std::pair<PeerId, raft::Message>> others;
      for (auto& sent : std::exchange(peers_.sent, {})) {
        const auto* append = std::get_if<raft::AppendRequest>(&sent.second);
        if (sent.first != to || append == nullptr) {
          others.push_back(std::move(sent));
          continue;
        }
        raft::AppendReply reply;
        reply.call = append->call;
        reply.term = append->term;
        const bool has = append->previous.index.value < next;
        reply.result = has ? raft::AppendResult::kSuccess : raft::AppendResult::kInconsistency;
        reply.heartbeat = append->entries.empty();
        reply.next = Index{next};
        if (has && !reply.heartbeat) continue;  // takes nothing yet
        group_->Step(to, reply);
      }
      peers_.sent = std::move(others);
      AnswerAppends();
    }
  }

  // What `to` was sent since the last time; `to` answers that its log ends before `next`.
  std::vector<TermIndex> Sent(const PeerId& to, std::optional<int64_t> next) {
    std::vector<TermIndex> entries;
    std::optional<raft::AppendRequest> last;
    for (auto& [peer, message] : std::exchange(peers_.sent, {})) {
      if (peer != to) {
        peers_.sent.emplace_back(peer, std::move(message));
        continue;
      }
      auto* append = std::get_if<raft::AppendRequest>(&message);
      if (append == nullptr) continue;
      for (const raft::Entry& entry : append->entries) entries.push_back(entry.at);
      last = std::move(*append);
    }
    if (next && last) {
      raft::AppendReply reply;
      reply.call = last->call;
      reply.term = last->term;
      reply.result = raft::AppendResult::kInconsistency;
      reply.next = Index{*next};
      reply.match = kNoIndex;
      reply.commit = kNoIndex;
      group_->Step(to, reply);
      sim_log_.Settle();
    }
    return entries;
  }

  sim::SimFiles disk_;
  log::SimLog sim_log_;
  sim::Process process_;
  sim::SimExecutors executors_{sim_log_.world(), process_};
  std::unique_ptr<blob::Store> store_;
  FullLog log_;
  HostOptions options_;
  std::unique_ptr<FullIndex> index_;
  Outbox peers_;
  std::unique_ptr<Group> group_;
  uint64_t call_ = 0;
};

TermIndex At(uint64_t term, int64_t index) { return {Term{term}, Index{index}}; }

// The log still holds what the core has truncated while what replaces it waits for room.
TEST_F(GroupTest, F12_TruncatedEntriesAreNotSentWhileTheNewOnesWait) {
  for (const bool cached : {true, false}) {
    SCOPED_TRACE(cached);
    const PeerId& peer = cached ? kLeader : kOther;
    if (cached) {
      Append(kLeader, 1, At(0, -1), 1, 13);  // 0 to 12
      log_.full = true;
      AppendSoleVoter(kOther, 2, At(1, 9));  // 10, instead of 10 to 12
      peers_.sent.clear();
      Elect();
      ASSERT_EQ(group_->Status().last, At(3, 11));
    }
    log_.cached = cached;  // or from the disk
    const std::vector<TermIndex> probe = Sent(peer, 9);
    ASSERT_FALSE(probe.empty());
    for (const TermIndex& at : probe) EXPECT_EQ(at, At(3, 11));
    EXPECT_EQ(Sent(peer, std::nullopt), (std::vector<TermIndex>{At(1, 9), At(2, 10), At(3, 11)}));
  }
}

// What was truncated before the log had room for it is never written.
TEST_F(GroupTest, F12_WhatWasTruncatedWhileItWaitedIsNotWritten) {
  Append(kLeader, 1, At(0, -1), 1, 3);
  log_.full = true;
  Append(kLeader, 1, At(1, 2), 1, 6);  // 3 to 5 wait
  Append(kLeader, 1, At(1, 5), 1, 8);  // 6 and 7 too
  Append(kOther, 2, At(1, 4), 2, 7);   // 5 and 6 of another leader
  log_.written.clear();
  log_.full = false;
  group_->Tick();
  sim_log_.Settle();
  EXPECT_EQ(log_.written, (std::vector<TermIndex>{At(1, 3), At(1, 4), At(2, 5), At(2, 6)}));
  const auto held = sim_log_.Read(kDefaultGroup, 0, 10);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(held->back().at, At(2, 6));
  EXPECT_EQ(group_->Status().last, At(2, 6));
}

// A leader whose disk has no room for what it applies refuses writes at once, and soon no longer leads.
TEST_F(GroupTest, F12_LeaderThatCannotApplyGivesUpTheLead) {
  Campaign();
  ASSERT_TRUE(group_->leads());
  index_->full = true;
  AnswerAppends();  // commits the first entry of the term
  ASSERT_EQ(group_->Status().commit, Index{0});
  for (int i = 0; i < 60 && group_->leads(); ++i) {
    group_->Tick();
    AnswerAppends();  // the followers are well
  }
  EXPECT_FALSE(group_->leads());
  EXPECT_TRUE(group_->Status().storage.ok()) << "a full disk is no broken one";
  EXPECT_FALSE(group_->applied().valid());
  index_->full = false;
  for (int i = 0; i < 20; ++i) sim_log_.Settle();
  EXPECT_EQ(group_->applied(), Index{0});
}

// What is applied is read; what waits for the disk is refused with the reason, at once.
TEST_F(GroupTest, K12_F12_AReadThatWaitsForAFullDiskIsRefusedAtOnce) {
  Campaign();
  ASSERT_TRUE(group_->leads());
  for (int i = 0; i < 10 && !group_->ready(); ++i) AnswerAppends();
  ASSERT_TRUE(group_->ready());
  index_->full = true;
  const auto read = [this] {
    std::optional<absl::Status> told;
    group_->ReadBarrier([&told](ReplyCode, absl::Status status) { told = std::move(status); });
    for (int i = 0; i < 10 && !told; ++i) AnswerAppends();
    return told.value_or(absl::DeadlineExceededError("it waits"));
  };
  EXPECT_TRUE(read().ok()) << "nothing waits for the disk yet";
  group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"), [](ClientReply) {});
  for (int i = 0; i < 10; ++i) AnswerAppends();
  const absl::Status refused = read();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_NE(Message(refused).find("room on the disk"), std::string_view::npos) << refused;
  EXPECT_FALSE(group_->Serving().ok());
  index_->full = false;
  for (int i = 0; i < 20; ++i) sim_log_.Settle();
}

// --- What is durable comes first ---------------------------------------------------------------------------

TEST_F(GroupTest, D22_NothingLeavesBeforeWhatItSaysIsDurable) {
  const auto held_back = [this](const PeerId& from, raft::Message message) {
    group_->Step(from, std::move(message));
    const bool waits = peers_.sent.empty();
    sim_log_.Settle();
    EXPECT_EQ(peers_.sent.size(), 1u);
    peers_.sent.clear();
    return waits;
  };
  raft::AppendRequest append;
  append.call = ++call_;
  append.term = Term{1};
  append.previous = At(0, -1);
  append.commit = kNoIndex;
  EXPECT_TRUE(held_back(kLeader, append)) << "the term is not on the disk yet";
  EXPECT_TRUE(held_back(kOther, raft::VoteRequest{++call_, Term{2}, At(0, -1), false})) << "nor the vote";
  Append(kOther, 2, At(0, -1), 2, 1);
  peers_.sent.clear();
  append.call = ++call_;
  append.term = Term{2};
  append.previous = At(2, 0);
  append.entries.push_back({At(2, 1), raft::EntryKind::kCommand, Bytes::Copy("1 of 2")});
  EXPECT_TRUE(held_back(kOther, append)) << "nor the entry";
}

// Whoever asks may cut entries because of the answer: after the next start this server must still know it.
TEST_F(GroupTest, K9_D22_AFenceIsToldWhenItIsDurable) {
  std::optional<absl::StatusOr<raft::RecallReply>> told;
  const auto ask = [&](uint64_t fence) {
    told.reset();
    group_->Recall(kLeader, {Index{0}, Term{fence}}, [&told](auto reply) { told = std::move(reply); });
  };
  ask(9);
  EXPECT_FALSE(told.has_value());
  sim_log_.Settle();
  ASSERT_TRUE(told.has_value());
  ASSERT_TRUE(told->ok()) << told->status();
  EXPECT_EQ((*told)->term, Term{9});
  ask(9);
  EXPECT_TRUE(told.has_value()) << "it is there";
}

// The others hold it, so that it is committed; the state here must not get ahead of the log here.
TEST_F(GroupTest, D22_WhatIsCommittedIsAppliedWhenItIsDurableHere) {
  Lead();
  const Index before = group_->applied();
  log_.slow = true;
  std::optional<ClientReply> told;
  group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"),
                  [&told](ClientReply reply) { told = std::move(reply); });
  for (int i = 0; i < 5; ++i) AnswerAppends();
  ASSERT_GT(group_->Status().commit, before);
  EXPECT_EQ(group_->applied(), before);
  EXPECT_FALSE(told.has_value());
  log_.Say();
  sim_log_.Settle();
  EXPECT_EQ(group_->applied(), group_->Status().commit);
  ASSERT_TRUE(told.has_value());
  EXPECT_TRUE(told->error.ok()) << told->error;
}

TEST_F(GroupTest, F10_AServerWhoseDiskFailedLeadsNoMoreAndAnswersNothing) {
  Lead();
  log_.fails = true;
  std::optional<ClientReply> told;
  group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"),
                  [&told](ClientReply reply) { told = std::move(reply); });
  sim_log_.Settle();
  EXPECT_FALSE(group_->Status().storage.ok());
  EXPECT_FALSE(group_->leads());
  ASSERT_TRUE(told.has_value());
  EXPECT_NE(told->code, ReplyCode::kOk);
  peers_.sent.clear();
  for (int tick = 0; tick < 200; ++tick) group_->Tick();
  sim_log_.Settle();
  EXPECT_TRUE(peers_.sent.empty()) << "neither heartbeats nor a campaign";
}

// What was applied is read; what the log does not give any more is not waited for.
TEST_F(GroupTest, F10_K12_AReadThatWaitsForALogThatFailedIsRefused) {
  Lead();
  std::optional<absl::Status> told;
  group_->ReadBarrier([&told](ReplyCode, absl::Status status) { told = std::move(status); },
                      group_->Status().last.index.Next());
  for (int i = 0; i < 30; ++i) {
    group_->Tick();
    AnswerAppends();
  }
  ASSERT_FALSE(told.has_value()) << *told;
  log_.fails = true;
  group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"), [](const ClientReply&) {});
  sim_log_.Settle();
  ASSERT_FALSE(group_->Status().storage.ok());
  ASSERT_TRUE(told.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*told)) << *told;
  EXPECT_NE(Message(*told).find("the disk failed"), std::string_view::npos) << *told;
}

// --- Writes ------------------------------------------------------------------------------------------------

TEST_F(GroupTest, D05_ARetryOfACallThatIsUnderWayIsEnteredOnceAndBothAreAnswered) {
  Lead();
  const Index before = group_->Status().last.index;
  std::vector<ClientReply> told;
  for (int i = 0; i < 2; ++i) {
    group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"),
                    [&told](ClientReply reply) { told.push_back(std::move(reply)); });
    if (i == 0) sim_log_.Settle();
  }
  for (int i = 0; i < 5; ++i) AnswerAppends();
  ASSERT_EQ(told.size(), 2u);
  for (const ClientReply& reply : told) {
    EXPECT_TRUE(reply.error.ok()) << reply.error;
    EXPECT_EQ(reply.log_index, before.Next());
    EXPECT_EQ(reply.message, std::string_view("\0\0\0\1", 4));
  }
  EXPECT_EQ(group_->Status().last.index, before.Next());
}

// While it hands over, a leader enters nothing; when nobody takes over, the next retry begins the minute anew.
TEST_F(GroupTest, K5_F68_AReplyThatCouldNotBeKeptLongerIsWhenItIsAskedForNext) {
  Lead();
  const auto propose = [&](uint64_t call) {
    std::optional<ReplyCode> told;
    group_->Propose(ClientId{{1}}, CallId{call}, false, Bytes::Copy("INCREMENT"),
                    [&told](const ClientReply& reply) { told = reply.code; });
    sim_log_.Settle();
    for (int i = 0; i < 5; ++i) AnswerAppends();
    return told;
  };
  // Entries that say that a reply was asked for again.
  const auto kept_longer = [&] {
    int count = 0;
    const auto entries = sim_log_.Read(kDefaultGroup, 0, group_->Status().last.index.value + 1);
    EXPECT_TRUE(entries.ok()) << entries.status();
    for (const raft::Entry& entry : *entries) {
      if (entry.kind != raft::EntryKind::kCommand) continue;
      const auto command = DecodeCommand(entry.payload);
      if (command.ok() && AskedAgainOf(*command)) ++count;
    }
    return count;
  };
  ASSERT_EQ(propose(1), ReplyCode::kOk);
  sim_log_.world().RunFor(std::chrono::seconds(2));
  ASSERT_EQ(propose(2), ReplyCode::kOk);
  sim_log_.world().RunFor(std::chrono::seconds(2));
  ASSERT_EQ(propose(3), ReplyCode::kOk);
  group_->HandOver();
  EXPECT_EQ(propose(1), ReplyCode::kOk);
  EXPECT_EQ(kept_longer(), 0) << "it hands over";
  for (int i = 0; i < 300; ++i) {
    group_->Tick();
    AnswerAppends();
  }
  ASSERT_TRUE(group_->leads());
  EXPECT_EQ(propose(1), ReplyCode::kOk);
  EXPECT_EQ(kept_longer(), 1);
}

TEST_F(GroupTest, F64_WritesThatWaitForAMajorityAreLimited) {
  Lead();
  options_.pending_writes_max = 3;
  std::map<uint64_t, ReplyCode> told;
  for (uint64_t i = 0; i < 5; ++i) {
    group_->Propose(ClientId{{1}}, CallId{i}, false, Bytes::Copy("INCREMENT"),
                    [&told, i](const ClientReply& reply) { told[i] = reply.code; });
    sim_log_.Settle();  // each in a turn of its own
  }
  EXPECT_EQ(told, (std::map<uint64_t, ReplyCode>{{3, ReplyCode::kResource}, {4, ReplyCode::kResource}}));
  for (int i = 0; i < 5; ++i) AnswerAppends();
  EXPECT_EQ(told.size(), 5u) << "and each is answered";
}

// The log takes no such entry, and a member that cannot write what it has appended stops: as would the next leader.
TEST_F(GroupTest, P6_AWriteThatTheLogCannotTakeIsRefusedAndStopsNobody) {
  Lead();
  const auto propose = [&](uint64_t call, uint64_t bytes) {
    const Index before = group_->Status().last.index;
    std::optional<ClientReply> told;
    group_->Propose(ClientId{{1}}, CallId{call}, false, Bytes::Copy(std::string(bytes, 'x')),
                    [&told](ClientReply reply) { told = std::move(reply); });
    for (int i = 0; i < 5; ++i) AnswerAppends();
    EXPECT_TRUE(told && absl::IsInvalidArgument(told->error)) << "by the log's limit, or else the machine";
    return group_->Status().last.index > before;
  };
  const uint64_t most = log::EntryBytesMax(options_.log);
  EXPECT_FALSE(propose(1, most));
  EXPECT_FALSE(propose(2, 10 * most));
  EXPECT_TRUE(propose(3, most - 64)) << "what is beside it in the entry fits into 64 bytes";
  EXPECT_TRUE(group_->Status().storage.ok()) << group_->Status().storage;
  EXPECT_TRUE(propose(4, 1));
}

// The log's last room is for what frees some.
TEST_F(GroupTest, F12_WritesStopBeforeTheLogIsFullAndRemovalsGoOn) {
  Lead();
  log_.tight = true;
  const auto propose = [&](uint64_t call, bool frees_space) {
    std::optional<ReplyCode> told;
    group_->Propose(
        ClientId{{1}}, CallId{call}, false, Bytes::Copy("INCREMENT"),
        [&told](const ClientReply& reply) { told = reply.code; }, frees_space);
    for (int i = 0; i < 5; ++i) AnswerAppends();
    return told;
  };
  EXPECT_EQ(propose(1, false), ReplyCode::kResource);
  EXPECT_EQ(propose(2, true), ReplyCode::kOk);
  log_.tight = false;
  EXPECT_EQ(propose(3, false), ReplyCode::kOk);
}

TEST_F(GroupTest, K12_K23_WhileAppliedEntriesWaitForRoomOnlyWhatFreesSomeIsTaken) {
  Lead();
  index_->full = true;
  std::vector<ReplyCode> told;
  const auto propose = [&](uint64_t call, bool frees_space) {
    const Index before = group_->Status().last.index;
    group_->Propose(
        ClientId{{1}}, CallId{call}, false, Bytes::Copy("INCREMENT"),
        [&told](const ClientReply& reply) { told.push_back(reply.code); }, frees_space);
    AnswerAppends();
    return group_->Status().last.index > before;
  };
  EXPECT_TRUE(propose(1, false)) << "nothing waits yet";
  AnswerAppends();
  EXPECT_FALSE(propose(2, false));
  EXPECT_EQ(told, std::vector<ReplyCode>{ReplyCode::kResource});
  EXPECT_TRUE(propose(3, true));
  index_->full = false;
  for (int i = 0; i < 20; ++i) AnswerAppends();
  EXPECT_EQ(told, (std::vector<ReplyCode>{ReplyCode::kResource, ReplyCode::kOk, ReplyCode::kOk}));
}

TEST_F(GroupTest, P7_AWriteThatAnotherLeadersEntriesReplaceIsAnswered) {
  Lead();
  std::optional<ClientReply> told;
  group_->Propose(ClientId{{1}}, CallId{1}, false, Bytes::Copy("INCREMENT"),
                  [&told](ClientReply reply) { told = std::move(reply); });
  sim_log_.Settle();
  const GroupStatus status = group_->Status();
  ASSERT_GT(status.last.index, status.commit);
  ASSERT_FALSE(told.has_value());
  Append(kLeader, status.term.value + 1, {status.term, status.commit}, status.term.value + 1,
         status.commit.value + 2);
  ASSERT_EQ(group_->Status().last.term, Term{status.term.value + 1});
  ASSERT_TRUE(told.has_value()) << "it waits for ever";
  EXPECT_EQ(told->code, ReplyCode::kNotLeader);
}

// --- Snapshots ---------------------------------------------------------------------------------------------

TEST_F(GroupTest, F30_K2_TheLogWaitsForWhoCatchesUpWithinABound) {
  options_.checkpoint_ms = 100;
  options_.compact_keep_entries = 5;
  LeadWithout(kOther, 40);
  ASSERT_GT(log_.compacted, Index{30});
  SaysItsLogEndsBefore(kOther, 3);
  ASSERT_EQ(peers_.offers.size(), 1u);
  const SnapshotOffer offer = peers_.offers[0];
  EXPECT_TRUE(offer.at.index.valid());
  const auto reader = SnapshotReader::Open(disk_, offer.path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->head().at, offer.at);
  // While it is under way, however silent the receiver is.
  Write(kOther, 60);
  Run(kOther, 250);
  EXPECT_GT(group_->applied(), offer.at.index + 50);
  EXPECT_LE(log_.compacted, offer.at.index);
  // The receiver goes on where it ends, and needs no other one.
  peers_.End(absl::OkStatus());
  for (int i = 0; i < 3; ++i) {
    Write(kOther, 40);
    SaysItsLogEndsBefore(kOther, offer.at.index.value + 1);
  }
  EXPECT_LE(log_.compacted, offer.at.index);
  EXPECT_EQ(peers_.offers.size(), 1u);
  EXPECT_FALSE(*disk_.Exists(offer.path)) << "nobody needs it any more";
  // But not for ever.
  options_.catch_up_log_bytes_max = 1000;
  Write(kOther, 40);
  SaysItsLogEndsBefore(kOther, offer.at.index.value + 1);
  EXPECT_GT(log_.compacted, offer.at.index);
}

TEST_F(GroupTest, K1_ASnapshotThatDidNotArriveIsSentAgainWithoutBeingWrittenAgain) {
  options_.checkpoint_ms = 100;
  options_.compact_keep_entries = 5;
  LeadWithout(kOther, 40);
  SaysItsLogEndsBefore(kOther, 3);
  ASSERT_EQ(peers_.offers.size(), 1u);
  peers_.End(absl::UnavailableError("connection lost"));
  for (int i = 0; i < 10; ++i) SaysItsLogEndsBefore(kOther, 3);
  ASSERT_EQ(peers_.offers.size(), 2u) << "after a pause";
  EXPECT_EQ(peers_.offers[1].path, peers_.offers[0].path);
  // One that the receiver had whole and did not take is not offered again.
  peers_.End(absl::FailedPreconditionError("its checksum differs"));
  for (int i = 0; i < 20; ++i) SaysItsLogEndsBefore(kOther, 3);
  ASSERT_EQ(peers_.offers.size(), 3u);
  EXPECT_NE(peers_.offers[2].path, peers_.offers[0].path);
  EXPECT_FALSE(*disk_.Exists(peers_.offers[0].path));
}

TEST_F(GroupTest, F15_K10_AnEntryThatCannotBeReadIsReplacedByASnapshot) {
  LeadWithout(kOther, 40);
  log_.cached = false;
  log_.unreadable = Index{20};
  SaysItsLogEndsBefore(kOther, 3);
  for (int i = 0; i < 3; ++i) SaysItsLogEndsBefore(kOther, 3);
  ASSERT_EQ(peers_.offers.size(), 1u);
  EXPECT_GE(peers_.offers[0].at.index, Index{40});
  EXPECT_TRUE(group_->leads());
  EXPECT_GE(group_->Status().unreadable, Index{20}) << "and is told";
  EXPECT_TRUE(group_->Status().storage.ok());
}

// What the core has is the log, whatever was read for it.
TEST_F(GroupTest, F15_WhatIsReadAndIsNotTheLogIsNotSent) {
  LeadWithout(kOther, 40);
  const auto sent = [this] {
    size_t count = 0;
    for (int i = 0; i < 60; ++i) {
      group_->Tick();
      sim_log_.Settle();
      count += Sent(kOther, 3).size();
      count += Sent(kOther, std::nullopt).size();  // what the answer brought
      AnswerAppends();
    }
    return count;
  };
  log_.stale = 1;
  EXPECT_EQ(sent(), 0u);
  EXPECT_TRUE(group_->leads());
  log_.stale = 0;
  EXPECT_GT(sent(), 0u);
}

// Not refused after it was transferred: it waits for what is being applied.
TEST_F(GroupTest, K2_InstallWaitsForWhatIsBeingApplied) {
  index_->full = true;
  raft::Configuration configuration;
  for (const PeerId& id : {kSelf, kLeader, kOther}) {
    configuration.voters.emplace_back();
    configuration.voters.back().id = id;
  }
  raft::AppendRequest append;
  append.call = ++call_;
  append.term = Term{1};
  append.previous = {Term{0}, kNoIndex};
  append.commit = Index{0};
  append.entries.push_back(
      {At(1, 0), raft::EntryKind::kConfiguration, raft::EncodeConfiguration(configuration)});
  group_->Step(kLeader, std::move(append));
  sim_log_.Settle();
  ASSERT_FALSE(group_->applied().valid()) << "the disk is full";

  auto other = blob::OpenMapIndex(disk_, "/data/other");
  ASSERT_TRUE(other.ok());
  blob::IndexBatch batch;
  batch.Put("xsn", "5");
  ASSERT_TRUE((*other)->Write(batch).ok());
  const SnapshotView view{
      {At(1, 7), configuration, GroupFacts{GroupMode::kSluice, "counter"}}, "x", (*other)->View()};
  ASSERT_TRUE(WriteSnapshot(disk_, view, "/data/incoming").ok());
  std::optional<absl::Status> wanted;
  std::optional<absl::Status> installed;
  group_->WantsSnapshot(Term{1}, At(1, 7), sim_log_.shard(), [&](absl::Status status) { wanted = status; });
  group_->InstallSnapshot("/data/incoming", sim_log_.shard(),
                          [&](absl::Status status) { installed = status; });
  for (int i = 0; i < 20; ++i) {
    group_->Tick();
    sim_log_.Settle();
  }
  ASSERT_TRUE(wanted.has_value());
  EXPECT_TRUE(wanted->ok()) << *wanted;
  EXPECT_FALSE(installed.has_value()) << *installed;
  index_->full = false;
  for (int i = 0; i < 20 && !installed; ++i) {
    group_->Tick();
    sim_log_.Settle();
  }
  ASSERT_TRUE(installed.has_value());
  EXPECT_TRUE(installed->ok()) << *installed;
  EXPECT_EQ(group_->applied(), Index{7});
  group_->WantsSnapshot(Term{1}, At(1, 7), sim_log_.shard(), [&](absl::Status status) { wanted = status; });
  sim_log_.Settle();
  EXPECT_TRUE(absl::IsAlreadyExists(*wanted)) << "F-32";
  group_->WantsSnapshot(Term{0}, At(1, 9), sim_log_.shard(), [&](absl::Status status) { wanted = status; });
  sim_log_.Settle();
  EXPECT_TRUE(absl::IsFailedPrecondition(*wanted)) << "from an old leader";
}

// Entries behind it that this log holds are of another history, or may be: they come again from the leader.
TEST_F(GroupTest, F29_TheLogStartsAgainBehindASnapshot) {
  Append(kLeader, 1, At(0, -1), 1, 6);  // 0 to 5, which nobody committed
  Append(kOther, 2, At(2, 9), 2, 10);   // its leader is in term 2
  raft::Configuration configuration;
  for (const PeerId& id : {kSelf, kLeader, kOther}) {
    configuration.voters.emplace_back();
    configuration.voters.back().id = id;
  }
  auto other = blob::OpenMapIndex(disk_, "/data/other");
  ASSERT_TRUE(other.ok());
  const SnapshotView view{
      {At(2, 3), configuration, GroupFacts{GroupMode::kSluice, "counter"}}, "x", (*other)->View()};
  ASSERT_TRUE(WriteSnapshot(disk_, view, "/data/incoming").ok());
  std::optional<absl::Status> installed;
  group_->InstallSnapshot("/data/incoming", sim_log_.shard(),
                          [&](absl::Status status) { installed = status; });
  for (int i = 0; i < 20 && !installed; ++i) {
    group_->Tick();
    sim_log_.Settle();
  }
  ASSERT_TRUE(installed.has_value());
  ASSERT_TRUE(installed->ok()) << *installed;
  EXPECT_EQ(group_->Status().last, At(2, 3));
  auto held = sim_log_.Read(kDefaultGroup, 4, 6);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(held->empty());
  Append(kOther, 2, At(2, 3), 2, 5);
  held = sim_log_.Read(kDefaultGroup, 4, 6);
  ASSERT_TRUE(held.ok()) << held.status();
  ASSERT_EQ(held->size(), 1u);
  EXPECT_EQ(held->front().at, At(2, 4));
}

}  // namespace
}  // namespace sluice::node
