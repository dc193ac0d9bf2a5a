// The consensus of one group as a pure state machine: inputs in, effects out. No I/O, no clock, no threads.
//
//   core.Step(from, message);  core.Tick();  auto first = core.Propose(payloads);
//   Effects effects = core.TakeEffects();    // do them, then:
//   core.Persisted({term, index});           // entries up to here are durable
//
// Threading: lives on one shard. Equal inputs give equal effects (randomness is a seed given at
// construction). A call never waits. Input from peers that cannot be right is dropped and counted, never
// fatal; our own invariants are checked before and after every input. After: Ongaro's dissertation (pre-vote,
// check-quorum, leadership transfer, read index) and the etcd/raft core; wire rules from Apache Ratis (first
// entry has index 0; a new leader appends a configuration entry of its term
// and is ready once that is committed).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "raft/effects.h"
#include "raft/types.h"

namespace sluice::raft {

struct CoreOptions {
  PeerId self;
  // In ticks. The election timeout is drawn anew from [min, max] each time.
  uint32_t election_ticks_min = 100;
  uint32_t election_ticks_max = 200;
  uint32_t heartbeat_ticks = 25;
  // Appends in flight per peer; one before its first reply, and while probing.
  uint32_t inflight_appends_max = 128;
  uint64_t inflight_bytes_max = 16u << 20;
  // Entries of one append message, by payload and 32 bytes each; a single larger entry still travels alone.
  uint64_t append_batch_bytes_max = 4u << 20;
  // Proposals beyond this many uncommitted payload bytes are refused with RESOURCE_EXHAUSTED.
  uint64_t uncommitted_bytes_max = 64u << 20;
  uint32_t uncommitted_entries_max = 65536;
  // To be drawn anew for each start: it also decides where call numbers begin, and an answer to an earlier
  // run of this server must not be taken for an answer to this one (it could release a read
  // with an old index).
  uint64_t seed = 1;
  // Where call numbers begin, for tests that print them; 0: drawn from `seed`.
  uint64_t first_call = 0;
  // False for a server whose folder was empty (F-20) or whose hard state is lost (F-08): it never votes and
  // never campaigns, and accepts entries without promising them (AppendReply::match),
  // so that it counts in no majority.
  bool may_vote = true;
  // False in a group with Java peers: a candidate that has commits then ignores the votes of voters with an
  // empty log, as Ratis does, because a wiped Java server votes. Ours does not (may_vote),
  // so that an empty voter can be trusted.
  bool trust_empty_voters = true;
  // Reads that wait for their index; further ones are answered with ok = false.
  uint32_t reads_max = 65536;
};

// What consensus needs to remember of an entry; payload stays with the caller.
struct EntryInfo {
  Term term;
  EntryKind kind = EntryKind::kCommand;
  uint64_t bytes = 0;
  Bytes configuration;  // payload, for kConfiguration only
};

// What was found on disk.
struct InitialState {
  HardState hard_state;
  // The log starts after this entry (index kNoIndex: at entry 0);
  // everything up to it is applied and committed.
  TermIndex snapshot{Term{0}, kNoIndex};
  // In force at `snapshot`, or the one that the group was bootstrapped with.
  Configuration configuration;
  // entries[i] has index snapshot.index + 1 + i.
  std::vector<EntryInfo> entries;
  // Known committed (at least the snapshot's index).
  Index commit = kNoIndex;
  // Set when entries were damaged on disk (F-04 to F-07): the last entry that this server once held and may have
  // acknowledged. `entries` ends before the damage. Until the log has caught up with it (by term, then
  // index), the server does not campaign, and grants votes only to candidates whose log is at least this far.
  // Index kEndUnknown: not known how far it went; the leader tells (LeaderEndsAt). Term kEveryTerm: nor up to
  // which term, because the hard state is lost too; the others tell (OthersTold).
  std::optional<TermIndex> promised_last;
};

inline constexpr Index kEndUnknown{INT64_MAX};

// What damage took from a log, as far as it can be told (see recall.h).
struct LostEntry {
  EntryInfo info;       // term Term{0}: not known
  bool intact = false;  // lies behind a lost one
};
struct Damage {
  TermIndex last;                 // of what is intact before the first lost entry
  std::vector<LostEntry> beyond;  // from the first lost one on
  TermIndex promised;             // the last entry that was held (index kEndUnknown: not known)
  Term acknowledged_in;           // nothing that was lost was acknowledged in a later term
};

class Core {
 public:
  Core(CoreOptions options, InitialState state);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // --- Inputs ----------------------------------------------------------------------------------------------
  // One coarse tick of the shard's timer.
  void Tick(uint32_t ticks = 1);
  // A message from a peer. `from` may be anybody: unknown peers are answered as the protocol demands.
  void Step(const PeerId& from, Message message);
  // Appends commands to the leader's log; gives the index of the first. FAILED_PRECONDITION: not the leader
  // (see leader()). UNAVAILABLE: leadership is being transferred. RESOURCE_EXHAUSTED: too much is uncommitted
  // (never when nothing is). INVALID_ARGUMENT: no payloads.
  absl::StatusOr<Index> Propose(std::vector<Bytes> payloads);
  // Appends a configuration entry; one may be uncommitted at a time (FAILED_PRECONDITION).
  // Other refusals as above.
  absl::StatusOr<Index> ProposeConfiguration(const Configuration& configuration);
  // Leader: brings `peer` up to date and makes it campaign. Given up after one election timeout.
  absl::Status TransferTo(const PeerId& peer);
  // Leader: becomes a follower now.
  void StepDown();
  // False: whoever drives this core cannot serve as a leader for now. It steps down and does not campaign; it
  // votes and acknowledges as before.
  void SetMayLead(bool may);
  // Campaign now (tests, and a group of one that wants no wait). Ignored unless this server may campaign.
  void Campaign();
  // Asks for a read index; answered in Effects::reads with the same token,
  // at a follower by asking the leader.
  void RequestRead(uint64_t token);
  // Entries up to this one are durable here. To be called for each Effects::append, in order, with its last
  // entry; a report for several at once is fine as long as none of them truncated.
  // Ignored if the log was truncated since.
  void Persisted(TermIndex upto);
  void HardStatePersisted(uint64_t version);
  // Entries up to here are applied; they can be compacted. Never beyond Effects::commit.
  void Applied(Index upto);
  // The log drops entries up to `upto` (applied); messages no longer offer them.
  void Compact(Index upto);
  // Nothing reaches this peer: back to probing.
  void Unreachable(const PeerId& peer);
  // The log cannot give this entry (F-15). Peers that need it get a snapshot, if it is applied here; if not,
  // a leader steps down, and this server leads no more before it has applied it or has replaced it.
  void Unreadable(Index index);
  // The transfer that Effects::send_snapshot asked for ended; the peer holds everything up to `at` if ok.
  // After a failure the next one is not asked for at once.
  void SnapshotDone(const PeerId& peer, bool ok, Index at);
  // Follower: the caller has durably replaced log (log::Log::Restart) and state by a snapshot. Ignored if it
  // is not newer than what is committed here.
  void SnapshotInstalled(TermIndex at, Configuration configuration);
  // Ask this before a snapshot replaces the log: false if the log already holds what the snapshot stands for.
  bool WantsSnapshot(TermIndex at) const;
  // Entries that damage had taken are back in the durable log, from `first` on; ignored if the log has moved.
  void Restored(Index first, std::vector<EntryInfo> entries);
  // The leader of `last.term`, when it was asked by this run of this server (and after its last
  // SnapshotInstalled), had a log that ended with `last`: a promise of unknown reach (kEndUnknown) goes no
  // further. False: that says nothing about this promise.
  bool LeaderEndsAt(TermIndex last);
  // Nothing beyond the log's end was ever committed: what was promised_last is given up.
  void GiveUpLost();
  // Goes to `term` unless a leader is heard, so that no leader of an earlier term is answered any more.
  void Fence(Term term);
  // Every other voter has told a term that it keeps; `highest` of these: our forgotten promises reached no
  // further (HardState::silent_upto). Out of reach of one step (K24) it is still forgetful(): ask again.
  void OthersTold(Term highest);
  // The disk failed (F-10): leader steps down;
  // this server neither votes, campaigns nor acknowledges any more.
  void StorageFailed();

  // --- Output ----------------------------------------------------------------------------------------------
  bool HasEffects() const;
  Effects TakeEffects();

  // --- Facts, for status, routing and tests ----------------------------------------------------------------
  Role role() const;
  Term term() const;
  const PeerId& leader() const;  // empty: unknown
  bool ready() const;            // leader whose own term's first entry is committed
  Index own_first() const;       // a leader's first entry of its term; kNoIndex elsewhere
  Index commit() const;
  TermIndex last() const;
  Index durable() const;      // own entries up to here are durable
  Index first_index() const;  // lowest index still in the log
  // What the log holds after `index`, or from its first entry on, in bytes.
  uint64_t LogBytesAfter(Index index) const;
  std::optional<Term> TermAt(Index index) const;
  const Configuration& configuration() const;  // in force (appended, maybe uncommitted)
  Index configuration_index() const;
  // Something handed out to the disk has not become durable for an election timeout (F-11).
  bool disk_stalled() const;
  // True while damaged entries wait for their repair (promised_last is not reached).
  bool repairing() const { return promised_last().has_value(); }
  const std::optional<TermIndex>& promised_last() const;
  // False while this server's votes and acknowledgements cannot be trusted (may_vote, HardState::silent_upto).
  bool voting() const;
  // True while it has to learn how far its forgotten promises reached (OthersTold).
  bool forgetful() const;
  // Leads with a majority, or was called by a leader within an election timeout.
  bool HearsLeader() const;
  // The highest entry that the log could not give (Unreadable); kNoIndex: none.
  Index unreadable() const;
  struct PeerProgress {
    PeerId id;
    Index match;
    Index known =
        kNoIndex;  // its log agrees up to here; beyond `match` at a server that promises nothing (F-20)
    Index next;
    Index commit;         // as the peer last told
    bool active = false;  // heard from within an election timeout
    bool learner = false;
    enum class State : uint8_t { kProbe, kReplicate, kSnapshot } state = State::kProbe;
  };
  std::vector<PeerProgress> Progress() const;  // leader only, else empty
  // Messages that were dropped because they could not be right.
  uint64_t impossible_messages() const;

 private:
  class Impl;
  template <typename Input>
  auto Guarded(Input input);

  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::raft
