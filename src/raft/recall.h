// Entries that a server held and cannot read any more (F-04 to F-07), and how a group without a leader gets
// over them: each server that lost some asks all others what they know, and draws its own conclusion.
//
//   RecallReply reply = AnswerRecall(core, damage, request);       // at the server that is asked
//   RecallStep step = Conclude(configuration, self, damage, replies);
//   if (!step.mend.empty()) ...write these back...; else if (step.cut) ...give the rest up...;
//
// The three answers for an entry are "have it", "never had it" and "had it, damaged" (rule 3 of F-01 to F-07).
// An entry that somebody has is written back: the log is again what it was. An entry that so many never had
// that no majority can have acknowledged it is cut, with what followed it. Otherwise the server waits: it
// neither campaigns nor helps anybody lead who may lack it. A leader repairs by sending; it is asked only where
// its log ends, by a server that cannot tell what it lost (LeadersEnd). Cutting needs a fence: those who never had the
// entry must have left the terms in which this server may have acknowledged it, or they could still take it
// from a leader of such a term, who counts the acknowledgement that was lost. Threading: pure values and
// functions. Failure: replies are checked by who decodes them; one that contradicts itself proves nothing.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "raft/core.h"
#include "raft/types.h"

namespace sluice::raft {

inline constexpr size_t kRecalledMax = 512;  // entries of one reply

struct RecallRequest {
  Index from;  // what is known from here on?
  Term fence;  // go to this term before you answer, unless you hear a leader; Term{0}: stay
};

struct Recalled {
  Term term;  // Term{0}: not known (damaged)
  bool intact = false;
  EntryKind kind = EntryKind::kCommand;
  Bytes payload;  // if intact
};

struct RecallReply {
  Term term;                  // durable at the answering server
  bool voting = true;         // false: the term and the end of its log may be forgotten ones
  bool hears_leader = false;  // or leads
  bool leads = false;         // in `term`
  Index base = kNoIndex;      // up to here it has applied all, and keeps no entry
  // From max(from, base + 1) on, without a gap; maybe not all of them. Damaged ones are among them.
  std::vector<Recalled> entries;
  Term previous_term;       // of the entry before the first of `entries`
  Index end = kEndUnknown;  // it never had an entry from here on
};

struct RecallStep {
  std::vector<Entry> mend;        // from the first lost entry on: as they were here, found elsewhere
  bool cut = false;               // the first lost entry was never committed, nor what followed it
  bool fence = false;             // it would be, if those who answered were past Damage::acknowledged_in
  std::vector<PeerId> waits_for;  // voters who did not answer, or had the entry and cannot read it
};

// Without payload; the caller puts in what it can read, and may cut the entries short. `damage` of the server
// itself; nullptr: none.
RecallReply AnswerRecall(const Core& core, const Damage* damage, const RecallRequest& request);
// The last entry of the leader that answered, for Core::LeaderEndsAt; nullopt: it does not lead.
std::optional<TermIndex> LeadersEnd(const RecallReply& reply);
RecallStep Conclude(const Configuration& configuration, const PeerId& self, const Damage& damage,
                    const std::map<PeerId, RecallReply>& replies);

}  // namespace sluice::raft
