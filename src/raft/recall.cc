#include "raft/recall.h"

#include <algorithm>

#include "raft/quorum.h"

namespace sluice::raft {
namespace {

Index FirstOf(const RecallReply& reply, Index from) { return std::max(from, reply.base.Next()); }

// How many of the reply's entries, from the first lost one on, are those that were lost here. What two logs
// hold up to an entry is the same in both if that entry has the same term in both.
size_t Ours(const Damage& damage, const RecallReply& reply) {
  const Index first = damage.last.index.Next();
  if (FirstOf(reply, first) != first || reply.previous_term != damage.last.term) return 0;
  size_t ours = 0;
  Term before = damage.last.term;
  for (size_t i = 0; i < reply.entries.size() && reply.entries[i].intact; ++i) {
    if (reply.entries[i].term < before) break;  // no log is like that
    before = reply.entries[i].term;
    const Index index = first + static_cast<int64_t>(i);
    const Term known = i < damage.beyond.size() ? damage.beyond[i].info.term : Term{0};
    if (reply.entries[i].term == known || TermIndex{reply.entries[i].term, index} == damage.promised) {
      ours = i + 1;
    }
  }
  return ours;
}

// The peer never had what was lost here at `first`.
bool NeverHad(const Damage& damage, const RecallReply& reply) {
  const Index first = damage.last.index.Next();
  if (first >= reply.end) return true;
  if (FirstOf(reply, first) != first || reply.entries.empty()) return false;
  const Term ours = damage.beyond.empty() ? Term{0} : damage.beyond.front().info.term;
  const Term theirs = reply.entries.front().term;
  return ours != Term{0} && theirs != Term{0} && ours != theirs;
}

}  // namespace

RecallReply AnswerRecall(const Core& core, const Damage* damage, const RecallRequest& request) {
  RecallReply reply;
  reply.term = core.term();
  reply.hears_leader = core.HearsLeader();
  reply.leads = core.role() == Role::kLeader;
  reply.base = core.first_index().Prev();
  const TermIndex last = core.last();
  reply.voting = core.voting();
  // A server that lost its disk (F-20) cannot say what it never had.
  reply.end = core.repairing() || !reply.voting ? kEndUnknown : last.index.Next();
  const bool has_beyond = damage != nullptr && core.repairing() && damage->last == last;
  if (has_beyond && reply.voting && damage->promised.index < kEndUnknown)
    reply.end = damage->promised.index.Next();
  const Index first = FirstOf(reply, std::max(request.from, Index{0}));
  if (first.Prev() <= last.index) {
    reply.previous_term = core.TermAt(first.Prev()).value_or(Term{0});
  } else if (has_beyond && first.Prev() - last.index <= static_cast<int64_t>(damage->beyond.size())) {
    reply.previous_term = damage->beyond[static_cast<size_t>(first.Prev() - last.index - 1)].info.term;
  }
  for (Index index = first; reply.entries.size() < kRecalledMax; index = index.Next()) {
    if (index <= last.index) {
      reply.entries.push_back({*core.TermAt(index), true, EntryKind::kCommand, Bytes()});
      continue;
    }
    const auto at = static_cast<size_t>(index - last.index - 1);
    if (!has_beyond || at >= damage->beyond.size()) break;
    const LostEntry& lost = damage->beyond[at];
    reply.entries.push_back({lost.info.term, lost.intact, lost.info.kind, Bytes()});
  }
  return reply;
}

// The last entry of a leader is of its own term, always.
std::optional<TermIndex> LeadersEnd(const RecallReply& reply) {
  if (!reply.leads || !reply.end.Prev().valid() || reply.end == kEndUnknown) return std::nullopt;
  return TermIndex{reply.term, reply.end.Prev()};
}

RecallStep Conclude(const Configuration& configuration, const PeerId& self, const Damage& damage,
                    const std::map<PeerId, RecallReply>& replies) {
  RecallStep step;
  const RecallReply* best = nullptr;
  size_t ours = 0;
  for (const auto& [peer, reply] : replies) {
    const size_t found = Ours(damage, reply);
    if (found <= ours) continue;
    best = &reply;
    ours = found;
  }
  for (size_t i = 0; i < ours; ++i) {
    const Index index = damage.last.index.Next() + static_cast<int64_t>(i);
    step.mend.push_back({{best->entries[i].term, index}, best->entries[i].kind, best->entries[i].payload});
  }
  if (ours > 0) return step;

  bool hears_leader = false;
  for (const auto& [peer, reply] : replies) hears_leader = hears_leader || reply.hears_leader;
  // Who may have helped to commit it: all who do not say that they never had it.
  const auto may_be_committed = [&](bool fenced) {
    const auto may_hold = [&](const PeerId& id) {
      const auto reply = replies.find(id);
      if (id == self || reply == replies.end() || !NeverHad(damage, reply->second)) return true;
      return fenced && reply->second.term <= damage.acknowledged_in;
    };
    // In a joint configuration the lost entry may be the one that ends it, for which one side is enough.
    Configuration side;
    side.voters = configuration.voters;
    const bool one = IsQuorum(side, may_hold);
    side.voters = configuration.old_voters;
    return one || IsQuorum(side, may_hold);
  };
  step.cut = !may_be_committed(/*fenced=*/true);
  step.fence = !step.cut && !hears_leader && !may_be_committed(/*fenced=*/false);
  if (step.cut || step.fence) return step;
  for (const Peer& peer : configuration.AllPeers()) {
    if (peer.id == self || !configuration.IsVoter(peer.id)) continue;
    const auto reply = replies.find(peer.id);
    if (reply == replies.end() || !NeverHad(damage, reply->second)) step.waits_for.push_back(peer.id);
  }
  return step;
}

}  // namespace sluice::raft
