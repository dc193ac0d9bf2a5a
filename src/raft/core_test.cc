// Rules of the core that a whole conversation would only hide; conversations are in testdata/.
#include "raft/core.h"

#include <gtest/gtest.h>

#include <random>

#include "raft/cluster_for_test.h"

namespace sluice::raft {
namespace {

Configuration Three() {
  Configuration configuration;
  configuration.voters = {PeerNamed("n0"), PeerNamed("n1"), PeerNamed("n2")};
  return configuration;
}

CoreOptions Options(const std::string& self) {
  CoreOptions options;
  options.self = PeerId{self};
  options.first_call = 1;
  return options;
}

Core Follower(std::optional<TermIndex> promised_last = std::nullopt, std::vector<Term> terms = {}) {
  InitialState state;
  state.configuration = Three();
  for (Term term : terms) state.entries.push_back({term, EntryKind::kCommand, 1, Bytes()});
  if (!terms.empty()) state.hard_state.term = terms.back();
  state.promised_last = promised_last;
  return Core(Options("n1"), std::move(state));
}

AppendRequest Append(uint64_t term, TermIndex previous, std::vector<uint64_t> terms, int64_t commit = -1) {
  static uint64_t call = 0;
  AppendRequest request{++call, Term{term}, previous, {}, Index{commit}, false};
  Index index = previous.index;
  for (uint64_t t : terms) {
    index = index.Next();
    request.entries.push_back({{Term{t}, index}, EntryKind::kCommand, Bytes::Copy("x")});
  }
  return request;
}

constexpr TermIndex At(uint64_t term, int64_t index) { return {Term{term}, Index{index}}; }
const PeerId kN0{"n0"};
const PeerId kN2{"n2"};

// Becomes leader of term 1 with entry 0 appended, not yet durable.
void Elect(Core& core) {
  core.Campaign();
  (void)core.TakeEffects();
  VoteReply vote{1000, Term{0}, true, true, Term{0}, At(0, -1), false};
  core.Step(kN2, vote);
  Effects effects = core.TakeEffects();
  core.HardStatePersisted(effects.hard_state_version);
  vote.pre_vote = false;
  vote.request_term = vote.term = Term{1};
  core.Step(kN2, vote);
  ASSERT_EQ(core.role(), Role::kLeader);
}

// The build with SLUICE_BREAK=commit-early is caught here, without any chance involved.
TEST(CoreCommit, CatchesABuildThatCommitsOneEntryEarly) {
  Core core = Follower();
  Elect(core);
  core.Persisted(At(1, 0));
  ASSERT_TRUE(core.Propose({Bytes::Copy("a"), Bytes::Copy("b"), Bytes::Copy("c")}).ok());
  EXPECT_EQ(core.commit(), kNoIndex);
  (void)core.TakeEffects();
  core.Persisted(At(1, 3));
  EXPECT_EQ(core.commit(), kNoIndex);
  core.Step(kN0, AppendReply{1, Term{1}, AppendResult::kSuccess, Index{1}, Index{0}, kNoIndex, false});
  EXPECT_EQ(core.commit(), Index{0});
  EXPECT_TRUE(core.ready());
}

TEST(CoreCommit, F36_TheLeaderCountsItselfOnlyWhenDurable) {
  Core core = Follower();
  Elect(core);
  Effects effects = core.TakeEffects();
  ASSERT_EQ(effects.append.size(), 1u);
  EXPECT_EQ(effects.send_now.size(), 2u);  // in parallel with the own disk
  core.Step(kN0, AppendReply{1, Term{1}, AppendResult::kSuccess, Index{1}, Index{0}, kNoIndex, false});
  EXPECT_EQ(core.commit(), kNoIndex);
  core.Persisted(At(1, 0));
  EXPECT_EQ(core.commit(), Index{0});
}

TEST(CoreVote, AVoteWaitsForItsHardStateAndIsGivenOncePerTerm) {
  Core core = Follower();
  core.Step(kN0, VoteRequest{1, Term{3}, At(0, -1), false});
  Effects effects = core.TakeEffects();
  EXPECT_EQ(effects.hard_state, (HardState{Term{3}, kN0}));
  EXPECT_TRUE(effects.send_now.empty());
  ASSERT_EQ(effects.send_after.size(), 1u);
  EXPECT_EQ(effects.send_after[0].hard_state_version, effects.hard_state_version);
  EXPECT_TRUE(std::get<VoteReply>(effects.send_after[0].outgoing.message).granted);
  core.Step(kN2, VoteRequest{1, Term{3}, At(2, 50), false});
  effects = core.TakeEffects();
  EXPECT_FALSE(effects.hard_state.has_value());
  EXPECT_FALSE(std::get<VoteReply>(effects.send_after.at(0).outgoing.message).granted);
}

// What another server says of its term is believed no further than a message with it.
TEST(CoreVote, K24_TermsThatOthersTellRiseInSteps) {
  InitialState state;
  state.configuration = Three();
  state.hard_state = {Term{5}, PeerId(), kEveryTerm};
  Core core(Options("n1"), std::move(state));
  constexpr uint64_t kStep = uint64_t{1} << 24;
  core.OthersTold(Term{(uint64_t{1} << 62) - 1});
  EXPECT_EQ(core.term(), Term{5 + kStep});
  EXPECT_TRUE(core.forgetful()) << "it may have voted in terms that it has not come to";
  EXPECT_EQ(core.impossible_messages(), 1u);
  EXPECT_EQ(core.TakeEffects().hard_state, (HardState{Term{5 + kStep}, PeerId(), kEveryTerm}));
  // A group that really is far ahead is reached.
  core.OthersTold(Term{6 + 2 * kStep});
  EXPECT_EQ(core.term(), Term{5 + 2 * kStep});
  core.OthersTold(Term{6 + 2 * kStep});
  EXPECT_EQ(core.term(), Term{6 + 2 * kStep});
  EXPECT_FALSE(core.forgetful());
}

TEST(CoreVote, F08_WithoutMayVoteItNeverVotesNorCampaignsNorPromises) {
  InitialState state;
  state.configuration = Three();
  CoreOptions options = Options("n1");
  options.may_vote = false;
  Core core(options, std::move(state));
  core.Step(kN0, VoteRequest{1, Term{3}, At(2, 9), false});
  EXPECT_FALSE(std::get<VoteReply>(core.TakeEffects().send_after.at(0).outgoing.message).granted);
  core.Campaign();
  core.Tick(1000);
  EXPECT_EQ(core.role(), Role::kFollower);
  core.Step(kN0, Append(3, At(0, -1), {3}));
  const auto reply = std::get<AppendReply>(core.TakeEffects().send_after.at(0).outgoing.message);
  EXPECT_EQ(reply.result, AppendResult::kSuccess);
  EXPECT_EQ(reply.next, Index{1});
  EXPECT_EQ(reply.match, kNoIndex);
}

TEST(CoreVote, F09_AHardStateOlderThanTheLogForfeitsTheVote) {
  InitialState state;
  state.configuration = Three();
  state.hard_state.term = Term{7};
  state.entries.push_back({Term{9}, EntryKind::kCommand, 1, Bytes()});
  Core core(Options("n1"), std::move(state));
  EXPECT_EQ(core.term(), Term{9});
  core.Step(kN0, VoteRequest{1, Term{10}, At(9, 5), false});
  EXPECT_FALSE(std::get<VoteReply>(core.TakeEffects().send_after.at(0).outgoing.message).granted);
}

TEST(CoreVote, F06_ARepairingServerVotesOnlyForLogsThatReachWhatItPromised) {
  Core core = Follower(At(2, 5), {Term{1}, Term{2}});
  EXPECT_TRUE(core.repairing());
  core.Tick(1000);
  EXPECT_EQ(core.role(), Role::kFollower);
  core.Step(kN0, VoteRequest{1, Term{3}, At(2, 4), false});
  EXPECT_FALSE(std::get<VoteReply>(core.TakeEffects().send_after.at(0).outgoing.message).granted);
  core.Step(kN2, VoteRequest{1, Term{3}, At(2, 5), false});
  Effects effects = core.TakeEffects();
  EXPECT_TRUE(std::get<VoteReply>(effects.send_after.at(0).outgoing.message).granted);
  core.HardStatePersisted(effects.hard_state_version);

  core.Step(kN2, Append(3, At(2, 1), {2, 2, 2, 2}));
  (void)core.TakeEffects();
  EXPECT_TRUE(core.repairing());  // there, but not durable
  core.Persisted(At(2, 4));
  EXPECT_TRUE(core.repairing());
  core.Persisted(At(2, 5));
  EXPECT_FALSE(core.repairing());
}

// How far it went is not known; a leader of the promised term knows all that can count.
TEST(CoreRepair, F07_TheLeaderOfThePromisedTermSaysHowFarAnUnknownPromiseWent) {
  Core core = Follower(TermIndex{Term{2}, kEndUnknown}, {Term{1}, Term{2}});
  EXPECT_FALSE(core.LeaderEndsAt(At(1, 1))) << "of another term";
  EXPECT_FALSE(core.LeaderEndsAt(At(3, 9))) << "of a term that this server has not come to";
  EXPECT_TRUE(core.LeaderEndsAt(At(2, 3)));
  EXPECT_EQ(core.promised_last(), At(2, 3)) << "2 and 3 may have been acknowledged";
  EXPECT_FALSE(core.LeaderEndsAt(At(2, 2)))
      << "it is known now, and an answer that comes late lowers nothing";
  core.Step(kN0, VoteRequest{1, Term{3}, At(2, 2), false});
  EXPECT_FALSE(std::get<VoteReply>(core.TakeEffects().send_after.at(0).outgoing.message).granted);
  core.Step(kN0, Append(3, At(2, 1), {2, 2}));
  (void)core.TakeEffects();
  core.Persisted(At(2, 3));
  EXPECT_FALSE(core.repairing());

  Core whole = Follower(TermIndex{Term{2}, kEndUnknown}, {Term{1}, Term{2}});
  EXPECT_TRUE(whole.LeaderEndsAt(At(2, 1)));
  EXPECT_FALSE(whole.repairing()) << "nothing that counts was lost";
}

// It may have acknowledged what was lost in terms that it has forgotten.
TEST(CoreRepair, F08_F07_WithoutItsHardStateTheOthersSayFirstInWhichTermThatWas) {
  InitialState state;
  state.configuration = Three();
  state.entries.push_back({Term{1}, EntryKind::kCommand, 1, Bytes()});
  state.promised_last = TermIndex{kEveryTerm, kEndUnknown};
  Core core(Options("n1"), std::move(state));
  ASSERT_TRUE(core.forgetful());
  EXPECT_FALSE(core.LeaderEndsAt(At(1, 0)));
  core.Step(kN0, Append(4, At(1, 0), {4}));
  (void)core.TakeEffects();
  core.Persisted(At(4, 1));
  EXPECT_TRUE(core.repairing()) << "a later term than that of the log proves nothing";
  core.OthersTold(Term{4});
  EXPECT_EQ(core.promised_last(), (TermIndex{Term{4}, kEndUnknown}));
  EXPECT_TRUE(core.LeaderEndsAt(At(4, 1)));
  EXPECT_FALSE(core.repairing());
}

TEST(CoreAppend, ASuccessWaitsForItsEntriesAndARefusalDoesNotOvertakeIt) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1, 1}, 1));
  Effects effects = core.TakeEffects();
  core.HardStatePersisted(effects.hard_state_version);
  ASSERT_EQ(effects.send_after.size(), 1u);
  EXPECT_EQ(effects.send_after[0].entry, At(1, 1));
  EXPECT_EQ(core.commit(), kNoIndex);

  core.Step(kN0, Append(1, At(1, 7), {1}));
  effects = core.TakeEffects();
  EXPECT_TRUE(effects.send_now.empty());
  ASSERT_EQ(effects.send_after.size(), 1u);
  EXPECT_EQ(effects.send_after[0].entry, At(1, 1));
  EXPECT_EQ(std::get<AppendReply>(effects.send_after[0].outgoing.message).next, Index{2});

  core.Step(kN0, Append(1, At(1, 1), {}, 1));  // heartbeats do not wait
  EXPECT_EQ(core.TakeEffects().send_now.size(), 1u);
  core.Persisted(At(1, 1));
  EXPECT_EQ(core.commit(), Index{1});
}

TEST(CoreAppend, CommitIsBoundedByWhatTheRequestShares) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1, 1, 1}));
  (void)core.TakeEffects();
  core.Persisted(At(1, 2));
  core.Step(kN0, Append(1, At(1, 0), {}, 2));
  EXPECT_EQ(core.commit(), Index{0});
  core.Step(kN0, Append(1, At(1, 0), {1}, 99));
  EXPECT_EQ(core.commit(), Index{1});
}

TEST(CoreAppend, EntriesAtOrBelowTheCommitAreAnsweredWithTheNextOne) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1, 1, 1}, 1));
  (void)core.TakeEffects();
  core.Persisted(At(1, 2));
  ASSERT_EQ(core.commit(), Index{1});
  (void)core.TakeEffects();
  core.Step(kN0, Append(1, At(0, -1), {1, 1, 1}, 1));
  Effects effects = core.TakeEffects();
  const auto reply = std::get<AppendReply>(effects.send_after.at(0).outgoing.message);
  EXPECT_EQ(reply.result, AppendResult::kInconsistency);
  EXPECT_EQ(reply.next, Index{2});
}

// The log was truncated and the very same entry appended again, while the first append was still under way.
TEST(CoreDurability, AReportOfAnAppendThatWasTruncatedSinceDoesNotCount) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1}));
  (void)core.TakeEffects();
  core.Persisted(At(1, 0));
  core.Step(kN0, Append(1, At(1, 0), {1}));
  Effects first = core.TakeEffects();
  core.Step(kN2, Append(2, At(1, 0), {2}));
  Effects second = core.TakeEffects();
  EXPECT_EQ(second.truncated_from, Index{1});
  core.Step(kN0, Append(3, At(1, 0), {1}));
  Effects third = core.TakeEffects();
  EXPECT_EQ(third.append.at(0).at, first.append.at(0).at);

  core.Persisted(At(1, 1));  // the first append; the second will overwrite it on disk
  EXPECT_EQ(core.durable(), Index{0});
  core.Persisted(At(2, 1));
  EXPECT_EQ(core.durable(), Index{0});
  core.Persisted(At(1, 1));
  EXPECT_EQ(core.durable(), Index{1});
}

// No answer to a leader, however it came about, ends it; nor does any of them move what must not move: the core
// looks at its invariants around every input. Scripts and random clusters never saw an answer that no server of
// ours gives.
TEST(CoreAppend, P6_F59_NoAnswerEndsALeader) {
  uint64_t committed = 0;
  uint64_t snapshots = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](uint64_t bound) { return random() % bound; };
    Core core = Follower();
    Elect(core);
    std::vector<uint64_t> calls;
    Index applied = kNoIndex;
    for (int step = 0; step < 400 && core.role() == Role::kLeader; ++step) {
      const Effects effects = core.TakeEffects();
      core.HardStatePersisted(effects.hard_state_version);
      snapshots += effects.send_snapshot.size();
      for (const Outgoing& out : effects.send_now) {
        if (const auto* append = std::get_if<AppendRequest>(&out.message)) calls.push_back(append->call);
      }
      applied = effects.commit.value_or(applied);
      core.Applied(applied);
      if (!effects.append.empty() && draw(4) != 0) core.Persisted(effects.append.back().at);
      // Around the leader's own indices, and at both ends.
      const int64_t last = core.last().index.value;
      const auto index = [&] {
        const uint64_t what = draw(20);
        if (what == 0) return kNoIndex;
        if (what == 1) return Index{(int64_t{1} << 62) - 1};
        return Index{static_cast<int64_t>(draw(static_cast<uint64_t>(last) + 4)) - 1};
      };
      const uint64_t what = draw(100);
      const PeerId& peer = draw(2) == 0 ? kN0 : kN2;
      if (what < 20) {
        (void)core.Propose({Bytes::Copy("a"), Bytes::Copy("b")});
      } else if (what < 40) {
        core.Tick(static_cast<uint32_t>(1 + draw(30)));
      } else if (what < 43) {
        core.Compact(std::min(applied, index()));
      } else if (what < 45) {
        core.Unreadable(std::min(applied, index()));
      } else if (what < 49) {
        core.SnapshotDone(peer, draw(2) == 0, std::min(applied, index()));
      } else if (what < 51) {
        core.Unreachable(peer);
      } else if (what < 52) {
        core.Step(peer,
                  VoteReply{draw(9), Term{draw(2)}, true, draw(2) == 0, Term{1}, {Term{1}, index()}, false});
      } else if (what < 53) {
        core.Step(peer, TimeoutNowReply{draw(9), false});
      } else if (!calls.empty()) {
        const size_t recent = std::min<size_t>(calls.size(), 12);
        AppendReply reply;
        reply.call = draw(10) == 0 ? draw(static_cast<uint64_t>(core.last().index.value) + 2000)
                                   : calls[calls.size() - 1 - draw(recent)];
        reply.term = Term{draw(20) == 0 ? 0u : 1u};
        reply.result = static_cast<AppendResult>(draw(12) == 0 ? 1 : 2 * draw(2));
        reply.next = index();
        reply.match = draw(3) == 0 ? index() : reply.next.Prev();
        reply.commit = index();
        reply.heartbeat = draw(2) == 0;
        core.Step(peer, reply);
      }
    }
    committed += static_cast<uint64_t>(core.commit().value + 1);
  }
  EXPECT_GT(committed, 1000u);  // the runs did something
  EXPECT_GT(snapshots, 100u);
}

// The same for what a server is asked, and for the answers to one that does not lead.
TEST(CoreAppend, P6_F59_NoMessageEndsAFollower) {
  uint64_t appended = 0;
  uint64_t candidacies = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](uint64_t bound) { return random() % bound; };
    Core core = draw(4) == 0 ? Follower(At(2, 5), {Term{1}, Term{2}}) : Follower();
    Index applied = kNoIndex;
    for (int step = 0; step < 400; ++step) {
      const Effects effects = core.TakeEffects();
      core.HardStatePersisted(effects.hard_state_version);
      applied = effects.commit.value_or(applied);
      core.Applied(applied);
      appended += effects.append.size();
      if (!effects.append.empty() && draw(4) != 0) core.Persisted(effects.append.back().at);
      candidacies += core.role() == Role::kCandidate ? 1 : 0;
      const auto index = [&] {
        const uint64_t what = draw(20);
        if (what == 0) return kNoIndex;
        if (what == 1) return Index{(int64_t{1} << 62) - 1};
        return Index{static_cast<int64_t>(draw(static_cast<uint64_t>(core.last().index.value) + 5)) - 1};
      };
      const auto term = [&] {
        return Term{draw(20) == 0 ? (uint64_t{1} << 62) - 1 : draw(core.term().value + 2)};
      };
      const auto at = [&] {
        const Index i = index();
        return TermIndex{draw(3) == 0 ? term() : core.TermAt(i).value_or(Term{0}), i};
      };
      const PeerId& peer = draw(8) == 0 ? kN2 : kN0;
      const uint64_t what = draw(100);
      if (what < 50) {
        AppendRequest request{
            static_cast<uint64_t>(step) + 1, draw(3) == 0 ? term() : core.term(), at(), {}, index(), false};
        Term before = request.previous.term;
        for (uint64_t n = draw(4); n > 0; --n) {
          before = Term{before.value + (draw(3) == 0 ? 1 : 0)};
          const Index i = request.previous.index + static_cast<int64_t>(request.entries.size()) + 1;
          const bool changes = draw(10) == 0;
          request.entries.push_back({{before, i},
                                     changes ? EntryKind::kConfiguration : EntryKind::kCommand,
                                     changes ? EncodeConfiguration(Three()) : Bytes::Copy("x")});
        }
        core.Step(peer, std::move(request));
      } else if (what < 60) {
        core.Step(peer, VoteRequest{1, term(), at(), draw(2) == 0});
      } else if (what < 70) {
        core.Step(peer, VoteReply{draw(9), term(), draw(2) == 0, draw(2) == 0, core.term(), at(), false});
      } else if (what < 73) {
        core.Step(peer, TimeoutNow{1, at()});
      } else if (what < 76) {
        core.Step(peer, ReadIndexReply{draw(200), draw(2) == 0, index()});
        core.RequestRead(static_cast<uint64_t>(step));
      } else if (what < 80) {
        core.Step(peer,
                  AppendReply{draw(200), term(), AppendResult::kSuccess, index(), index(), index(), false});
      } else if (what < 83) {
        core.Fence(term());
      } else if (what < 85) {
        (void)core.LeaderEndsAt(at());
      } else if (what < 87) {
        core.Compact(std::min(applied, index()));
      } else {
        core.Tick(static_cast<uint32_t>(1 + draw(60)));
      }
    }
  }
  EXPECT_GT(appended, 1000u);  // the runs did something
  EXPECT_GT(candidacies, 100u);
}

// The entry that the answer is about was the last that the follower had confirmed.
TEST(CoreAppend, P6_AnAnswerThatGoesBackOnAnEarlierOneEndsNobody) {
  Core core = Follower();
  Elect(core);
  core.Persisted(At(1, 0));
  ASSERT_TRUE(core.Propose({Bytes::Copy("a"), Bytes::Copy("b"), Bytes::Copy("c")}).ok());
  (void)core.TakeEffects();
  core.Persisted(At(1, 3));
  core.Step(kN0, AppendReply{1, Term{1}, AppendResult::kSuccess, Index{4}, Index{3}, kNoIndex, false});
  (void)core.TakeEffects();
  core.Tick(30);
  uint64_t heartbeat = 0;
  for (const Outgoing& out : core.TakeEffects().send_now) {
    const auto* append = std::get_if<AppendRequest>(&out.message);
    if (out.to == kN0 && append != nullptr && append->previous == At(1, 3)) heartbeat = append->call;
  }
  ASSERT_NE(heartbeat, 0u);
  core.Step(
      kN0, AppendReply{heartbeat, Term{1}, AppendResult::kInconsistency, Index{4}, kNoIndex, Index{3}, true});
  EXPECT_EQ(core.role(), Role::kLeader);
  EXPECT_EQ(core.Progress().at(0).next, Index{4});
}

TEST(CoreAppend, WhatCannotBeIsDroppedAndCounted) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1, 1, 1}, 2));
  (void)core.TakeEffects();
  core.Persisted(At(1, 2));
  (void)core.TakeEffects();
  uint64_t count = 0;
  auto dropped = [&](const PeerId& from, Message message) {
    core.Step(from, std::move(message));
    return core.impossible_messages() == ++count && !core.HasEffects();
  };
  AppendRequest bad = Append(1, At(1, 2), {1});
  bad.entries[0].kind = EntryKind::kConfiguration;
  EXPECT_TRUE(dropped(kN0, bad));                                // no configuration
  EXPECT_TRUE(dropped(kN0, Append(1, At(1, 2), {2})));           // an entry of a term to come
  EXPECT_TRUE(dropped(kN0, Append(3, At(2, 2), {})));            // another entry 2, which is committed
  EXPECT_TRUE(dropped(PeerId{}, Append(1, At(1, 2), {1})));      // from nobody
  EXPECT_TRUE(dropped(PeerId{"n1"}, Append(1, At(1, 2), {1})));  // from ourselves
  EXPECT_TRUE(dropped(kN0, Append(uint64_t{1} << 63, At(1, 2), {})));
  EXPECT_TRUE(dropped(kN0, Append(1, {Term{1}, Index{INT64_MAX}}, {})));
  EXPECT_TRUE(dropped(kN0, Append(1, {Term{1}, Index{-5}}, {})));
  EXPECT_EQ(core.last(), At(1, 2));
}

TEST(CoreDisk, F11_ALeaderWhoseDiskStallsStepsDown) {
  Core core = Follower();
  Elect(core);
  (void)core.TakeEffects();
  for (int i = 0; i < 19; ++i) {
    core.Tick(10);
    core.Step(kN0, AppendReply{1, Term{1}, AppendResult::kSuccess, Index{1}, Index{0}, kNoIndex, false});
  }
  EXPECT_EQ(core.role(), Role::kLeader);
  core.Tick(10);
  EXPECT_EQ(core.role(), Role::kFollower);
  core.Tick(500);
  EXPECT_EQ(core.role(), Role::kFollower);  // nor does it campaign
  core.Persisted(At(1, 0));
  core.Tick(500);
  EXPECT_EQ(core.role(), Role::kCandidate);
}

TEST(CoreSnapshot, InstallingForgetsTheLogButNotWhatWasAcknowledged) {
  Core core = Follower();
  core.Step(kN0, Append(1, At(0, -1), {1, 1, 1, 1, 1}));
  (void)core.TakeEffects();
  core.Persisted(At(1, 4));
  EXPECT_FALSE(core.WantsSnapshot(At(1, 2)));  // the log has it
  EXPECT_TRUE(core.WantsSnapshot(At(1, 7)));
  core.SnapshotInstalled(At(1, 2), Three());
  EXPECT_TRUE(core.repairing());  // 3 and 4 were acknowledged
  EXPECT_EQ(core.commit(), Index{2});
  EXPECT_EQ(core.first_index(), Index{3});
  core.SnapshotInstalled(At(1, 7), Three());
  EXPECT_FALSE(core.repairing());
  EXPECT_EQ(core.last(), At(1, 7));
  core.SnapshotInstalled(At(1, 5), Three());  // older: ignored
  EXPECT_EQ(core.last(), At(1, 7));
}

// A leader that was elected without the snapshot's entries left some of a later term here: nobody committed
// them, so that a server which was never damaged has nothing to repair.
TEST(CoreSnapshot, EntriesThatContradictTheSnapshotWereNeverPromised) {
  for (const int64_t last : {2, 6}) {  // shorter than the snapshot, and longer
    Core core = Follower();
    core.Step(kN0, Append(1, At(0, -1), {1}));
    core.Step(kN2, Append(2, At(1, 0), std::vector<uint64_t>(static_cast<size_t>(last), 2)));
    (void)core.TakeEffects();
    core.Persisted(At(2, last));
    ASSERT_EQ(core.durable(), Index{last});
    ASSERT_TRUE(core.WantsSnapshot(At(1, 4)));
    core.SnapshotInstalled(At(1, 4), Three());
    EXPECT_FALSE(core.repairing());
    EXPECT_EQ(core.last(), At(1, 4));
    (void)core.TakeEffects();
    core.Tick(500);
    EXPECT_EQ(core.role(), Role::kCandidate);
  }
}

// An answer to a request of an earlier run must not be taken for one to this run.
TEST(CoreRead, CallNumbersOfTwoRunsDoNotMeet) {
  auto first_call = [](uint64_t seed) {
    InitialState state;
    state.configuration = Three();
    CoreOptions options;
    options.self = PeerId{"n1"};
    options.seed = seed;
    Core core(options, std::move(state));
    core.Step(kN0, Append(1, At(0, -1), {}));
    Effects effects = core.TakeEffects();
    core.HardStatePersisted(effects.hard_state_version);
    core.RequestRead(1);
    return std::get<ReadIndexRequest>(core.TakeEffects().send_now.at(0).message).call;
  };
  const uint64_t one = first_call(1);
  const uint64_t other = first_call(2);
  EXPECT_GT(one > other ? one - other : other - one, 1u << 30);
  EXPECT_LT(one, uint64_t{1} << 61);
}

TEST(CoreDeterminism, EqualInputsGiveEqualEffects) {
  auto run = [] {
    Core core = Follower();
    std::string text;
    for (int i = 0; i < 2000; ++i) {
      core.Tick();
      for (const Outgoing& out : core.TakeEffects().send_now)
        text += fmt::format("{} {}\n", i, ToString(out.message));
    }
    return text;
  };
  EXPECT_EQ(run(), run());
  EXPECT_FALSE(run().empty());
}

}  // namespace
}  // namespace sluice::raft
