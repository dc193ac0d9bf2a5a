// One group on this server: runs its raft::Core on one shard, carries out its effects in order,
// answers its clients.
//
//   Group group(parts, recovered);
//   group.Start(&peers);                    // then, all on the shard:
//   group.Tick();  group.Step(from, message);  group.Submit(request, reply);
//
// The only class that knows both core and log. Order of work (D-22): hard state and entries go to the log and
// messages that need no disk leave at the same time; messages that promise something leave after the sync;
// entries are applied when they are committed and durable here. Threading: every method on the shard, except
// where said. Failure: when log or applier fail, the group steps down,
// answers kUnavailable and stays readable (F-10).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "log/log.h"
#include "node/applier.h"
#include "node/disk_room.h"
#include "node/host.h"
#include "raft/core.h"
#include "raft/recall.h"

namespace sluice::node {

class Group {
 public:
  struct Parts {
    GroupSpec spec;
    const HostOptions* options = nullptr;
    env::Executor* shard = nullptr;
    env::Executor* apply = nullptr;
    env::Executor* snapshots = nullptr;  // writes, checks and loads them; may block for long
    log::Log* log = nullptr;
    const env::Clock* clock = nullptr;
    DiskRoom* room = nullptr;  // of the disk; none: nothing is refused for it
    Cluster* cluster = nullptr;
    ClusterId new_cluster;  // this group makes the id, if there is none yet; zero: another one does
    uint64_t seed = 1;
    bool may_vote = true;
    std::string snapshot_dir;
    // What was applied: newly missing contents, and those that are missing no longer.
    std::function<void(const Applied&)> on_applied;
    // The log says, for good, to which cluster this server belongs.
    std::function<void(const ClusterId& cluster)> on_cluster;
    // Role, leader or readiness changed.
    std::function<void(bool was_leading)> on_role;
  };
  Group(Parts parts, std::unique_ptr<Applier> applier, Applier::Start start, log::GroupState recovered);
  ~Group();

  void Start(PeerTransport* peers, ByteTransport* bytes = nullptr);
  // Answers everything pending with kUnavailable; nothing is accepted any more.
  void Stop();

  void Tick();
  void Step(const PeerId& from, raft::Message message);
  void Unreachable(const PeerId& peer);
  void Submit(ClientRequest request, ReplyFn reply);
  // A command of this server's own or of a publish;
  // the leader's part of Submit without the session check for kSystemClient.
  // `frees_space`: taken even when the disk is nearly full.
  void Propose(ClientId client, CallId call, bool data_stream, Bytes data, ReplyFn reply,
               bool frees_space = false);
  // Ends with ok once this server has applied everything that was committed when the call was made.
  // `at_least`: an index of this leader's log that must be applied, too.
  void ReadBarrier(absl::AnyInvocable<void(ReplyCode, absl::Status)> done, Index at_least = kNoIndex);
  // As Host's.
  void WantsSnapshot(Term leader_term, TermIndex at, env::Executor* reply_on,
                     absl::AnyInvocable<void(absl::Status)> done);
  void InstallSnapshot(const std::string& path, env::Executor* reply_on,
                       absl::AnyInvocable<void(absl::Status)> done);
  // What this server knows of entries that `from` lost.
  using RecallDone = absl::AnyInvocable<void(absl::StatusOr<raft::RecallReply>)>;
  void Recall(const PeerId& from, const raft::RecallRequest& request, RecallDone done);
  // Leader: hands over to an up-to-date voter, if there is one.
  void HandOver();
  // Around what somebody asks of the apply executor, so that it is answered although that hangs. nullopt:
  // `refuse` was called, there is nothing to ask. EndLookup is false when it was called meanwhile, and the
  // result comes too late.
  using Refusal = absl::AnyInvocable<void(absl::Status)>;
  std::optional<uint64_t> BeginLookup(Refusal refuse);
  bool EndLookup(uint64_t token) { return lookups_.erase(token) > 0; }
  // Why this server serves nobody in this group; ok: it reads, and takes writes or knows who does.
  absl::Status Serving() const;

  const GroupSpec& spec() const { return parts_.spec; }
  bool leads() const { return core_->role() == raft::Role::kLeader; }
  // Leads, and takes writes: it has applied an entry of its term, so that it knows the reply to every call
  // that it inherited in the log (D-05); and the log says what the group is (D-01).
  bool ready() const;
  Term term() const { return core_->term(); }
  const PeerId& leader() const { return core_->leader(); }
  const raft::Configuration& configuration() const { return core_->configuration(); }
  Index applied() const { return applied_.index; }
  // To be used on the apply executor only.
  Applier& applier() { return *applier_; }
  GroupStatus Status() const;
  ClientReply NotLeader() const;
  std::optional<StoredReply> FindReply(const ClientId& client, CallId call) const {
    return sessions_->Find(client, call);
  }
  // Somebody was answered with it: it is remembered for its time from now on (F-68).
  void AskedAgain(const StoredReply& stored);
  static ClientReply FromStored(const StoredReply& stored);

 private:
  struct Proposal {
    UploadId key;
    bool data_stream = false;
    bool frees_space = false;
    Bytes payload;
    size_t bytes = 0;
    ReplyFn reply;
    Replication replication = Replication::kMajority;
  };
  struct Waiting {  // a proposal in the log, or a retry that joined it
    std::vector<std::pair<ReplyFn, Replication>> replies;
    Bytes payload;  // what was asked
    Index index = kNoIndex;
    size_t bytes = 0;
  };
  struct Watch {
    Index index;
    Replication replication;
    env::Instant deadline;
    ReplyFn reply;
    std::optional<ClientReply> write;  // the write whose replication is watched
    CallId call;
  };
  struct Read {
    env::Instant deadline;
    Index index = kNoIndex;  // known once released
    Index at_least = kNoIndex;
    absl::AnyInvocable<void(ReplyCode, absl::Status)> done;
  };
  struct Lookup {
    env::Instant begun;
    Refusal refuse;
  };
  struct UnsentAfter {
    raft::Outgoing outgoing;
    TermIndex entry;
    uint64_t hard_state_version;
  };

  struct Asked {
    raft::RecallRequest request;
    RecallDone done;
  };

  // Effects.
  void Pump();
  void Persist(raft::Effects& effects);
  void DropUnwrittenFrom(Index from);
  // Gives the log what it has room for.
  void WriteOut();
  bool TryWrite(log::AppendBatch& batch);
  void OnPersisted(TermIndex upto, uint64_t hard_state_version, absl::Status status);
  void Send(raft::Outgoing outgoing);
  void SendEntries(raft::Outgoing outgoing);
  void SendWith(raft::Outgoing outgoing, const raft::Peer& peer, std::vector<raft::Entry> entries,
                std::vector<raft::Entry> tail);
  void SendReady();
  void OnRole(const raft::RoleChange& change);
  void Fail(absl::Status status);
  ClientReply Stopped() const;

  // Proposals.
  void Enqueue(Proposal proposal);
  std::optional<ClientReply> AnswerAtOnce(const Proposal& proposal);
  void PostDrain();
  // Answers what was executed: at once, or when it is replicated as asked.
  void AnswerWrite(ReplyFn done, Replication replication, CallId call, ClientReply reply);
  bool IsOtherContent(const Bytes& payload, uint32_t content) const;
  // The log's time now, when a clock entry is due.
  std::optional<int64_t> ClockDue(bool frees_space);
  // Of the replies that are remembered, and of those that will be: about.
  uint64_t ReplyBytes() const;
  absl::Status HasRoom(const Proposal& proposal, uint64_t taken) const;
  void DrainProposals();
  void Refuse(Waiting waiting, const ClientReply& reply);
  void FailProposalsFrom(Index from);
  void SubmitRead(ClientRequest request, ReplyFn reply);
  void SubmitWatch(ClientRequest request, ReplyFn reply, std::optional<ClientReply> write);
  void Query(Bytes request, ReplyFn reply);
  void ReleaseReads();
  void CheckWatches();
  Index Replicated(Replication level) const;

  // Entries that were lost, here or elsewhere.
  raft::Damage CurrentDamage() const;
  void MaybeRecall();
  void OnRecalled(const PeerId& peer, raft::RecallReply reply);
  void OnAllTold();
  void TellWaits();
  absl::Status Waits() const;
  void ConcludeRecall();
  void OnMended(const absl::Status& status);
  void AnswerAsked();
  void AnswerRecall(const raft::RecallRequest& request, RecallDone done);
  static void FillRecall(Index first, std::vector<raft::Entry> read, raft::RecallReply& reply);

  // Applying.
  void MaybeApply();
  void MaybeWriteFacts();
  void FindCluster();
  void SayCluster(const std::vector<raft::Entry>& entries);
  void ApplyBatch(std::vector<raft::Entry> entries);
  std::optional<env::Instant> ApplyAskedAt() const;
  absl::Status Fit() const;
  absl::Status ApplyHangs() const;
  void CheckFitness();
  bool CheckApply();
  void CheckCommit();
  void AnswerInDoubt(ReplyCode code, const absl::Status& why);
  absl::Status ApplyBlocked() const;
  absl::Status ReadBlocked(const Read& read) const;
  absl::Status NotTaken() const;
  void OnApplied(absl::StatusOr<Applied> applied);
  void MaybeCheckpoint();

  // Snapshots that go out, in group_snapshot.cc. One file serves all peers that need one, and their retries.
  struct OutgoingSnapshot {
    std::string path;
    TermIndex at;
    raft::Configuration configuration;
    env::Instant written{};
  };
  struct Transfer {
    TermIndex at;
    std::shared_ptr<SnapshotProgress> progress;
  };
  void SendSnapshot(const PeerId& peer);
  void SendWanted();
  void WriteOutgoing();
  void OnWritten(absl::Status status, OutgoingSnapshot written);
  void StartTransfer(const PeerId& peer);
  void OnTransferEnded(const PeerId& peer, const absl::Status& status);
  // The log goes on where this snapshot ends.
  bool LogFollows(TermIndex snapshot) const;
  void DropOutgoing();
  void TickSnapshots(env::Instant now);
  // Drops entries that are durable in the index, and that nobody needs.
  void CompactLog();
  // The disk's last room is better used than for entries that slow followers might want.
  bool ShortOfRoom() const;
  // How far the log may be compacted, at most `wanted`: what followers need that catch up is kept.
  Index MayCompact(Index wanted) const;
  // The log could not give entries from `from` on to a follower (F-15).
  void OnUnreadable(Index from, Index end, const absl::Status& status);

  // Snapshots that come in.
  using InstalledState = std::shared_ptr<absl::StatusOr<Applier::Start>>;
  // `begun`: the state that was here is gone.
  using StateReplaced = std::function<void(const InstalledState& start, bool begun)>;
  absl::Status MayInstall(TermIndex at) const;
  void BeginInstall(TermIndex at, const std::string& path, std::function<void(absl::Status)> finished);
  void OnStateReplaced(const InstalledState& start, bool begun,
                       const std::function<void(absl::Status)>& finished);
  void ReplaceState(const std::string& path, const StateReplaced& done);
  void InstallEnded();
  void GoOnInstalling();

  static constexpr auto kFullDiskRetry = std::chrono::seconds(1);
  static constexpr size_t kAskedMax = 64;
  static constexpr auto kOutgoingKept = std::chrono::minutes(10);  // a snapshot that nobody is being sent

  Parts parts_;
  PeerTransport* peers_ = nullptr;
  ByteTransport* bytes_ = nullptr;
  std::unique_ptr<raft::Core> core_;
  std::unique_ptr<Applier> applier_;
  absl::Status failed_;
  bool stopped_ = false;
  bool pumping_ = false;

  std::unique_ptr<Sessions> sessions_;
  uint64_t replies_told_ = 0;  // bytes, to the metric
  // The log's time (log_clock.h): as applied; and a leader's own: at a moment of its term, and last proposed.
  int64_t clock_ms_ = 0;
  Term clock_term_;
  int64_t clock_base_ms_ = 0;
  env::Instant clock_base_at_{};
  int64_t clock_proposed_ms_ = 0;
  // Leader: replies to be kept longer, by where they are kept; and those whose entry is under way, by the entries
  // of their calls.
  std::set<Index> again_;
  std::map<Index, Index> again_proposed_;
  std::vector<Proposal> inbox_;  // since the last turn of the shard; bounded as pending writes are
  size_t inbox_bytes_ = 0;
  bool drain_posted_ = false;
  size_t pending_bytes_ = 0;
  std::map<UploadId, Waiting> waiting_;  // ordered, as everything that is iterated: one seed is one run
  std::map<Index, UploadId> proposed_;   // own proposals in the log, by index

  std::deque<UnsentAfter> unsent_;
  TermIndex persisted_{Term{0}, kNoIndex};
  uint64_t hard_state_persisted_ = 0;
  // What the log has not taken yet: the newest hard state, and batches of entries in order. More than one
  // only while queue or disk are full (F-12); bounded by what the core keeps uncommitted or unsynced.
  std::optional<raft::HardState> unwritten_hard_state_;
  uint64_t hard_state_version_ = 0;  // of the newest
  std::deque<std::vector<raft::Entry>> unwritten_;
  bool log_full_ = false;

  raft::Damage damage_;  // as it was found; see CurrentDamage
  uint64_t recall_round_ = 0;
  TermIndex asked_about_{Term{0}, kNoIndex};      // the log's end when this round was asked
  std::map<PeerId, raft::RecallReply> recalled_;  // in this round
  std::vector<PeerId> waits_for_;
  env::Instant next_recall_{};
  bool wants_fence_ = false;
  bool mending_ = false;
  std::vector<Asked> asked_;  // answered once the hard state is durable

  std::deque<Watch> watches_;
  std::map<uint64_t, Read> reads_;
  uint64_t next_token_ = 1;

  TermIndex applied_{Term{0}, kNoIndex};
  bool facts_known_ = false;
  Term facts_proposed_;  // in this term
  bool applying_ = false;
  env::Instant applying_since_{};
  std::optional<env::Instant> apply_refused_since_;  // the disk has no room for what was executed
  std::map<uint64_t, Lookup> lookups_;               // asked of the apply executor, in order
  // Why this server must not lead, where others can: what it lacks has lacked for an election timeout (F-11).
  absl::Status unfit_;
  // Why nothing is asked of the apply executor. By itself: what hangs first, or with it, says nothing of the index.
  absl::Status apply_hangs_;
  std::optional<env::Instant> probe_since_;  // while it hangs: asked, not answered
  // Leader: entries wait for a majority, and have for long.
  Index commit_seen_ = kNoIndex;
  env::Instant commit_moved_at_{};
  bool commit_stalls_ = false;
  bool installing_ = false;  // a snapshot that came is being checked, waits, or replaces the state
  bool replacing_ = false;   // nothing new is applied or checkpointed until it has
  std::function<void()> when_idle_;
  bool state_gone_ = false;   // a snapshot was begun and could not be ended: until a restart
  bool core_rests_ = false;   // a snapshot replaces what the core stands on: messages and ticks are dropped
  bool interrupted_ = false;  // such a replacement goes on at Start
  Index checkpointed_ = kNoIndex;
  uint64_t log_bytes_since_checkpoint_ = 0;
  env::Instant last_checkpoint_{};
  bool checkpointing_ = false;
  env::Instant role_since_{};
  env::Instant leader_heard_{};
  bool was_leader_ = false;
  std::optional<TermIndex> snapshot_;
  std::optional<OutgoingSnapshot> outgoing_;
  std::set<PeerId> snapshot_wanted_;       // wait for the file
  std::map<PeerId, Transfer> transfers_;   // under way
  std::optional<Index> writing_snapshot_;  // applied when its writing began
  uint64_t snapshot_files_ = 0;
  // Guards callbacks that may come after the group is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sluice::node
