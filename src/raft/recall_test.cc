// What a server that lost entries concludes from what the others know (F-04 to F-07).
#include "raft/recall.h"

#include <gtest/gtest.h>

#include "raft/cluster_for_test.h"

namespace sluice::raft {
namespace {

constexpr Term kBefore{1};
constexpr Term kOurs{2};
constexpr Term kOther{3};

Configuration Voters(size_t count) {
  Configuration configuration;
  for (size_t i = 0; i < count; ++i) configuration.voters.push_back(PeerNamed(fmt::format("n{}", i)));
  return configuration;
}

// n0 has entries 0 to 4 of term 1; entry 5 is lost.
Damage LostFive(bool term_known = true) {
  return {.last = {kBefore, Index{4}},
          .beyond = {{{term_known ? kOurs : Term{0}, EntryKind::kCommand, 0, Bytes()}, false}},
          .promised = {kOurs, Index{5}},
          .acknowledged_in = kOurs};
}

enum class Says {
  kNothing,
  kHas,
  kNever,
  kNeverUnfenced,
  kDamaged,
  kDamagedUnknown,
  kHasAnother,
  kCompacted
};

std::optional<RecallReply> ReplyOf(Says says) {
  RecallReply reply{
      .term = kOther, .base = kNoIndex, .entries = {}, .previous_term = kBefore, .end = Index{6}};
  switch (says) {
    case Says::kNothing:
      return std::nullopt;
    case Says::kHas:
      reply.entries = {{kOurs, true, EntryKind::kCommand, Bytes::Copy("five")}};
      break;
    case Says::kNever:
      reply.end = Index{5};
      break;
    case Says::kNeverUnfenced:
      reply.end = Index{5};
      reply.term = kOurs;
      break;
    case Says::kDamaged:
      reply.entries = {{kOurs, false, EntryKind::kCommand, Bytes()}};
      break;
    case Says::kDamagedUnknown:
      reply.entries = {{Term{0}, false, EntryKind::kCommand, Bytes()}};
      reply.end = kEndUnknown;
      break;
    case Says::kHasAnother:
      reply.entries = {{kOther, true, EntryKind::kCommand, Bytes::Copy("another")}};
      break;
    case Says::kCompacted:
      reply.base = Index{9};
      reply.end = Index{10};
      break;
  }
  return reply;
}

// Every combination of answers, of two to five voters, against the rule in words.
TEST(Recall, F05_F06_F07_K9_EveryCombinationOfAnswers) {
  const std::vector<Says> all = {Says::kNothing,       Says::kHas,      Says::kNever,
                                 Says::kNeverUnfenced, Says::kDamaged,  Says::kDamagedUnknown,
                                 Says::kHasAnother,    Says::kCompacted};
  for (size_t voters = 2; voters <= 5; ++voters) {
    size_t combinations = 1;
    for (size_t i = 1; i < voters; ++i) combinations *= all.size();
    for (size_t n = 0; n < combinations; ++n) {
      std::map<PeerId, RecallReply> replies;
      std::map<Says, size_t> count;
      size_t rest = n;
      for (size_t i = 1; i < voters; ++i, rest /= all.size()) {
        const Says says = all[rest % all.size()];
        ++count[says];
        if (const auto reply = ReplyOf(says)) replies[PeerId{fmt::format("n{}", i)}] = *reply;
      }
      const RecallStep step = Conclude(Voters(voters), PeerId{"n0"}, LostFive(), replies);
      const size_t fenced = count[Says::kNever] + count[Says::kHasAnother];
      const size_t majority = voters / 2 + 1;
      const bool has = count[Says::kHas] > 0;
      const bool cut = !has && voters - fenced < majority;
      const bool fence = !has && !cut && voters - fenced - count[Says::kNeverUnfenced] < majority;
      EXPECT_EQ(!step.mend.empty(), has) << voters << " " << n;
      EXPECT_EQ(step.cut, cut) << voters << " " << n;
      EXPECT_EQ(step.fence, fence) << voters << " " << n;
    }
  }
}

TEST(Recall, F07_AnEntryOfUnknownTermIsNeverTakenForAnother) {
  Damage damage = LostFive(/*term_known=*/false);
  damage.promised = {kOurs, kEndUnknown};
  std::map<PeerId, RecallReply> replies;
  replies[PeerId{"n1"}] = *ReplyOf(Says::kHasAnother);
  replies[PeerId{"n2"}] = *ReplyOf(Says::kHasAnother);
  const RecallStep step = Conclude(Voters(3), PeerId{"n0"}, damage, replies);
  EXPECT_TRUE(step.mend.empty());
  EXPECT_FALSE(step.cut || step.fence);
  EXPECT_EQ(step.waits_for.size(), 2u);
}

TEST(Recall, F05_ALaterEntryOfTheSameTermVouchesForThoseBeforeIt) {
  Damage damage = LostFive(/*term_known=*/false);
  damage.beyond.push_back({{kOurs, EntryKind::kCommand, 0, Bytes()}, true});
  damage.promised = {kOurs, Index{6}};
  RecallReply reply = *ReplyOf(Says::kHas);
  reply.entries[0].term = kBefore;
  reply.entries.push_back({kOurs, true, EntryKind::kCommand, Bytes::Copy("six")});
  const RecallStep step = Conclude(Voters(3), PeerId{"n0"}, damage, {{PeerId{"n1"}, reply}});
  ASSERT_EQ(step.mend.size(), 2u);
  EXPECT_EQ(step.mend[0].at, (TermIndex{kBefore, Index{5}}));
  reply.previous_term = Term{0};  // another log
  EXPECT_TRUE(Conclude(Voters(3), PeerId{"n0"}, damage, {{PeerId{"n1"}, reply}}).mend.empty());
}

TEST(Recall, F07_OnlyWhoLeadsSaysWhereTheLogOfALeaderEnds) {
  RecallReply reply;
  reply.term = kOurs;
  reply.leads = true;
  reply.end = Index{6};
  EXPECT_EQ(LeadersEnd(reply), (TermIndex{kOurs, Index{5}}));
  reply.leads = false;
  EXPECT_FALSE(LeadersEnd(reply).has_value());
  reply.leads = true;
  for (const Index end : {kEndUnknown, Index{0}}) {  // no leader's
    reply.end = end;
    EXPECT_FALSE(LeadersEnd(reply).has_value());
  }
}

// The lost entry may be the one that ended a joint configuration: then one side was enough.
TEST(Recall, F06_InAJointConfigurationEitherSideMayHaveCommittedIt) {
  Configuration joint = Voters(1);
  joint.old_voters = Voters(3).voters;
  std::map<PeerId, RecallReply> replies;
  replies[PeerId{"n1"}] = replies[PeerId{"n2"}] = *ReplyOf(Says::kNever);
  EXPECT_FALSE(Conclude(joint, PeerId{"n0"}, LostFive(), replies).cut);
}

TEST(Recall, F06_NoFenceWhileSomebodyHearsALeader) {
  std::map<PeerId, RecallReply> replies;
  replies[PeerId{"n1"}] = replies[PeerId{"n2"}] = *ReplyOf(Says::kNeverUnfenced);
  EXPECT_TRUE(Conclude(Voters(3), PeerId{"n0"}, LostFive(), replies).fence);
  replies[PeerId{"n2"}].hears_leader = true;
  EXPECT_FALSE(Conclude(Voters(3), PeerId{"n0"}, LostFive(), replies).fence);
}

}  // namespace
}  // namespace sluice::raft
