// The state of a raft::Core and the functions that change it; only the core's own .cc files include this.
//
// By file: core.cc (inputs and their guards), log_state.cc (appending, truncating, durability, commit),
// election.cc, handle_vote.cc, handle_append.cc (follower), replication.cc (leader), handle_read.cc,
// transfer.cc, invariants.cc. Threading, ownership and failure: as core.h says.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "raft/core.h"
#include "raft/entry_table.h"
#include "raft/progress.h"
#include "raft/quorum.h"

namespace sluice::raft {

class Core::Impl {
 public:
  Impl(CoreOptions options, InitialState state);

  // --- core.cc ---
  void Tick(uint32_t ticks);
  void Step(const PeerId& from, Message message);
  void StorageFailed();
  // The highest term that one message, or one round of answers, takes this server to (K24).
  Term Reach() const;
  // Called after every input: what changed for the outside.
  void FinishInput();

  // --- log_state.cc ---
  void Persisted(TermIndex upto);
  void HardStatePersisted(uint64_t version);
  void Applied(Index upto);
  void Compact(Index upto);
  void SnapshotInstalled(TermIndex at, Configuration configuration);
  bool WantsSnapshot(TermIndex at) const;
  Effects TakeEffects();
  void SetHardState(HardState state);
  void AppendOne(Entry entry, std::optional<Configuration> configuration);
  void TruncateFrom(Index from);
  void SetCommit(Index commit);
  // A new configuration is in force: roles and progress follow it.
  void ConfigurationChanged();
  void CheckRepaired();
  void Restored(Index first, std::vector<EntryInfo> entries);
  bool LeaderEndsAt(TermIndex last);
  void GiveUpLost() { promised_last_.reset(); }
  void OthersTold(Term highest);
  // Without the hard state that it had, this server is as new in terms up to silent_upto (F-08).
  bool MayVoteIn(Term term) const { return options_.may_vote && term > hard_state_.silent_upto; }
  bool MayAcknowledge() const { return options_.may_vote && hard_state_.term >= hard_state_.silent_upto; }

  // --- election.cc ---
  bool DiskStalled() const;
  bool MayCampaign() const;
  void SetMayLead(bool may);
  void Campaign(bool pre_vote);
  void RequestVotes();
  void TallyVotes(bool at_timeout);
  void BecomeLeader();
  // Adopts `term` if it is higher, and follows `leader` (empty: unknown).
  void BecomeFollower(Term term, const PeerId& leader);
  void StepDown();
  bool HearsLeader() const;
  void Fence(Term term);
  void ResetElectionTimer();
  void TickElection(uint32_t ticks);
  Role PassiveRole() const;  // of a server that neither leads nor campaigns

  // --- handle_vote.cc ---
  void Handle(const PeerId& from, VoteRequest& request);
  void Handle(const PeerId& from, VoteReply& reply);
  bool VoteIsDue(const PeerId& from, const VoteRequest& request) const;
  bool LogIsGoodEnough(const PeerId& from, TermIndex candidate_last) const;
  bool ShouldShutDown(const PeerId& from, const VoteRequest& request) const;

  // --- handle_append.cc ---
  void Handle(const PeerId& from, AppendRequest& request);
  void AcceptEntries(const PeerId& from, AppendRequest& request, std::vector<Configuration> configurations);
  void ReplyToAppend(const PeerId& to, const AppendRequest& request, AppendResult result, Index next);

  // --- replication.cc ---
  void Handle(const PeerId& from, AppendReply& reply);
  absl::StatusOr<Index> Propose(std::vector<Bytes> payloads);
  absl::StatusOr<Index> ProposeConfiguration(const Configuration& configuration);
  absl::Status MayPropose() const;
  void Accepted(const PeerId& from, ReplicaProgress& progress, const AppendReply& reply);
  void SendAppends(const PeerId& to, ReplicaProgress& progress);
  void SendAppendsToAll();
  void SendHeartbeat(const PeerId& to, ReplicaProgress& progress);
  void SendHeartbeatToAll();
  // Tells a peer at rest of a commit index that it does not know. At a tick, not at once: the next append or
  // the heartbeat of a read most often does it for nothing.
  void AnnounceCommit(const PeerId& to, ReplicaProgress& progress);
  void MaybeCommit();
  void RebuildProgress();
  void Unreachable(const PeerId& peer);
  void Unreadable(Index index);
  void SnapshotDone(const PeerId& peer, bool ok, Index at);
  void TickLeader(uint32_t ticks);
  bool QuorumIsActive() const;
  bool IsActive(const ReplicaProgress& progress) const;

  // --- handle_read.cc ---
  void RequestRead(uint64_t token);
  void Handle(const PeerId& from, ReadIndexRequest& request);
  void Handle(const PeerId& from, ReadIndexReply& reply);
  void AddRead(uint64_t token, const PeerId& peer, uint64_t peer_call);
  // Gives the reads that waited for it the commit index of a leader that is ready now.
  void StartWaitingReads();
  void ConfirmReads();
  void AnswerRead(uint64_t token, const PeerId& peer, uint64_t peer_call, Index index);
  void FailReads();
  void ForwardReads();
  void TickReads(uint32_t ticks);

  // --- transfer.cc ---
  absl::Status TransferTo(const PeerId& peer);
  void MaybeFinishTransfer();
  void Handle(const PeerId& from, TimeoutNow& request);
  void Handle(const PeerId& from, TimeoutNowReply& reply);

  // --- invariants.cc ---
  // What must never go back, as it was before the input.
  struct Watermark {
    Term term;
    PeerId voted_for;
    Index commit;
    Index applied;
    Index base;
    Role role = Role::kFollower;
    TermIndex last;
  };
  Watermark Mark() const;
  void CheckInvariants(const Watermark& before) const;

  // --- sending ---
  uint64_t NextCall() { return next_call_++; }
  // Sends once the hard state that the message speaks of is durable, and `entry` too
  // (kNoIndex: waits for none).
  void Send(Outgoing outgoing, Index entry = kNoIndex);
  void Send(const PeerId& to, Message message, Index entry = kNoIndex) {
    Send({to, std::move(message)}, entry);
  }

  bool ready() const { return role_ == Role::kLeader && commit_ >= own_first_; }
  const Configuration& configuration() const { return log_.configuration(); }
  bool IsSelf(const PeerId& id) const { return id == options_.self; }
  uint64_t Random(uint64_t bound);

  const CoreOptions options_;
  uint64_t random_state_;
  bool may_lead_ = true;
  bool failed_ = false;
  uint64_t impossible_ = 0;
  uint64_t next_call_;
  Effects effects_;

  // Hard state, and how much of it is durable.
  HardState hard_state_;
  uint64_t hard_state_version_ = 0;
  uint64_t hard_state_durable_ = 0;

  // The log.
  EntryTable log_;
  Index durable_;
  Index commit_;
  Index applied_;
  // The highest entry that the log could not give: nothing up to it is offered to anybody.
  Index unreadable_ = kNoIndex;
  // The leader's commit index as far as our log agrees with it; commit_ follows once that is durable.
  Index leader_commit_ = kNoIndex;
  std::optional<TermIndex> promised_last_;
  // Appends handed out and not yet reported durable, in order.
  struct Unsynced {
    TermIndex last;
    std::optional<Index> truncates;  // from there on
    uint64_t bytes = 0;
  };
  std::deque<Unsynced> unsynced_;
  uint64_t unsynced_bytes_ = 0;
  uint32_t unsynced_ticks_ = 0;  // age of the oldest
  uint64_t append_bytes_ = 0;    // of effects_.append

  // Role.
  Role role_ = Role::kFollower;
  PeerId leader_;
  RoleChange announced_;
  uint32_t election_elapsed_ = 0;
  uint32_t election_timeout_ = 0;
  uint32_t since_leader_ = UINT32_MAX;  // ticks since an append of the leader arrived

  // Candidate.
  bool pre_vote_ = false;
  uint64_t vote_call_ = 0;  // replies to older calls belong to an older round
  std::map<PeerId, bool> votes_;

  // Leader.
  std::map<PeerId, ReplicaProgress> progress_;  // of all others
  Index own_first_ = kNoIndex;                  // the configuration entry of its own term
  uint64_t uncommitted_bytes_ = 0;
  PeerId transferee_;
  bool transfer_asked_ = false;
  uint32_t transfer_elapsed_ = 0;
  // Reads that wait for a round of answers to calls from `after_call` on; `index` is kNoIndex before ready().
  struct PendingRead {
    uint64_t token = 0;
    PeerId peer;  // empty: our own
    uint64_t peer_call = 0;
    uint64_t after_call = 0;
    Index index;
  };
  std::deque<PendingRead> reads_;
  uint64_t read_round_call_ = 0;  // the round under way started with this call; 0: none

  // Follower: reads that wait for the leader's answer.
  struct ForwardedRead {
    uint64_t token = 0;
    uint64_t call = 0;  // 0: goes with the next request
    uint32_t age = 0;
  };
  std::deque<ForwardedRead> forwarded_;
};

}  // namespace sluice::raft
