// One server: its groups, its bytes, its threads. Everything that an edge may ask stands here.
//
//   ASSIGN_OR_RETURN(auto host, Host::Open(options, seams));
//   host->Start(&peer_transport, &byte_transport);
//   host->Submit(request, [](ClientReply reply) { ... });
//   host->Stop();
//
// Threading: every method may be called from any thread. Callbacks run on the executor that the caller names;
// where none is named, on the group's shard, which must not be blocked. Failure: a group whose disk failed
// answers kUnavailable and stays readable; Stop() answers what is pending with kUnavailable
// and returns when all threads are gone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blob/source.h"
#include "blob/store.h"
#include "env/clock.h"
#include "env/executor.h"
#include "env/files.h"
#include "env/random.h"
#include "log/log.h"
#include "node/cluster.h"
#include "node/relay.h"
#include "node/request.h"
#include "node/transports.h"
#include "raft/core.h"
#include "sluice/state_machine.h"

namespace sluice::node {

// Who may be a member of a group (D-01): servers of sluice only, or Java servers too.
enum class GroupMode : uint8_t { kSluice = 1, kRatis = 2 };

// What a group is made with on this server (D-02). Machine and mode must be those that the group's log says.
struct GroupSpec {
  GroupId id;
  std::string machine = "blob";   // "blob" or "counter"
  std::vector<raft::Peer> peers;  // voters at the very first start; this server among them
  // Makes a machine of the user's own; `machine` is then only its name.
  std::function<std::unique_ptr<StateMachine>()> factory;
  GroupMode mode = GroupMode::kSluice;
};

struct HostOptions {
  raft::Peer self;
  std::string data_dir;
  bool bootstrap = false;  // an empty folder may vote (D-02)
  std::vector<GroupSpec> groups;
  uint32_t shards = 2;
  uint32_t tick_ms = 10;
  uint32_t election_timeout_min_ms = 1000;
  uint32_t election_timeout_max_ms = 2000;
  uint32_t heartbeat_ms = 250;
  uint64_t inline_upload_bytes_max = 64u << 10;
  uint64_t upload_window_bytes = 8u << 20;  // unanswered bytes of one upload
  uint32_t upload_idle_ttl_ms = 600'000;    // D-10
  uint32_t successor_silence_ms = 2'000;    // after this a successor is left behind (D-15)
  uint32_t read_timeout_ms = 10'000;
  uint32_t pending_writes_max = 4096;          // per group
  uint32_t group_uploads_max = 2048;           // passing through at a time, per group
  uint32_t inflight_appends_max = 128;         // appends on the way to one follower (D-27)
  uint64_t pending_bytes_max = 64u << 20;      // per group
  uint64_t session_bytes_max = 256u << 20;     // memory of remembered replies per group (D-05)
  uint32_t session_keep_ms = 60'000;           // how long a reply is remembered (F-68)
  uint32_t checkpoint_ms = 5'000;              // how often applied state is flushed, if it changed
  uint64_t compact_keep_entries = 10'000;      // entries kept behind the applied index for slow followers
  uint64_t log_bytes_checkpoint = 256u << 20;  // a checkpoint is due after this much log
  uint64_t catch_up_log_bytes_max = 1u << 30;  // log kept for followers that catch up, per group
  log::LogOptions log;
  blob::StoreOptions blob;
  blob::IndexOptions index;
  bool map_index = false;  // the simulator's index instead of RocksDB (D-23)
};

struct HostSeams {
  env::Files* files;
  env::Executors* executors;
  const env::Clock* clock;
  env::Random* random;
};

// Facts for status, groupInfo and the dashboard.
struct GroupStatus {
  GroupId id;
  std::string machine;
  raft::Role role = raft::Role::kFollower;
  Term term;
  PeerId leader;
  bool ready = false;
  Index first = kNoIndex;  // of the log; who lacks an earlier entry needs a snapshot
  TermIndex last;
  Index commit = kNoIndex;
  Index applied = kNoIndex;
  Index bytes_complete = kNoIndex;  // every blob entered up to here is held here (D-14)
  uint64_t missing = 0;
  TermIndex snapshot;
  bool voting = true;
  bool repairing = false;
  std::vector<PeerId> waits_for;  // who may know what was lost here, and has not said it
  absl::Status storage;
  Index unreadable = kNoIndex;  // the highest entry that the log could not give (F-15)
  bool installing = false;      // a snapshot replaces the state
  int64_t role_elapsed_ms = 0;
  absl::Status serving;           // not ok: why this server serves nobody in this group
  int64_t leader_elapsed_ms = 0;  // since the leader (or, at the leader, since nothing) was heard
  raft::Configuration configuration;
  std::vector<raft::Core::PeerProgress> progress;  // at the leader
  // Snapshots that the leader sends.
  struct Transfer {
    PeerId to;
    TermIndex at;
    uint64_t bytes = 0;  // accepted by the peer
    uint64_t total = 0;
  };
  std::vector<Transfer> transfers;
  std::vector<CommitInfo> commits;
};
struct HostStatus {
  raft::Peer self;
  ClusterId cluster;  // zero: not known yet
  std::vector<GroupStatus> groups;
  std::vector<std::string> uploads;  // one line per stage: id, length, sealed
  blob::Store::Stats blobs;
  log::Log::Stats log;
  bool stopping = false;
};

// A blob as `ls` and `stat` show it.
struct BlobInfo {
  std::string name;
  uint64_t length = 0;
  std::optional<Sha256> digest;
  int64_t created_ms = 0;  // leader's wall clock, from the entry
  UploadId content;
  std::vector<PeerId> holders;  // who held the bytes when the entry was made
  bool local = false;           // this server holds them
  bool inlined = false;         // the bytes travelled in the log
};

// Bytes of one resource, ready to be read.
struct Reading {
  BlobInfo info;
  // Local, proxied from a holder, or inline; falls over by itself (F-24, F-25).
  std::shared_ptr<blob::Source> source;
};

class Host {
 public:
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  // Opens folder, log, store and groups; recovers. Blocks. FAILED_PRECONDITION: the folder is locked, belongs
  // to another server or is of a newer format (F-19).
  static absl::StatusOr<std::unique_ptr<Host>> Open(HostOptions options, HostSeams seams);
  virtual ~Host() = default;
  // Starts ticking. The transports must outlive EndThreads().
  virtual void Start(PeerTransport* peers, ByteTransport* bytes) = 0;
  // Hands leadership over if it can within a second, and answers what is pending and whatever is asked from
  // then on; threads go on, for answers of others to arrive on. Idempotent.
  virtual void Stop() = 0;
  // Ends all threads, the log's and the store's last, which finish what they have. From then on nothing of
  // the host runs or calls a transport, and nothing may be called but the destructor, which does this first.
  // Executors that answers go to must not be destroyed before; stopped they may be. Idempotent.
  virtual void EndThreads() = 0;

  virtual const HostOptions& options() const = 0;
  // Edges check every server that speaks to this one, and say to every server which cluster this is.
  virtual const Cluster& cluster() const = 0;

  // --- Order lane ------------------------------------------------------------------------------------------
  // NOT_FOUND if the group is not here: the message is dropped.
  virtual absl::Status Step(const GroupId& group, const PeerId& from, raft::Message message) = 0;
  virtual void Unreachable(const GroupId& group, const PeerId& peer) = 0;
  virtual std::string snapshot_dir() const = 0;
  // To be asked before a snapshot is received: ok, ALREADY_EXISTS (nothing in it is new here),
  // FAILED_PRECONDITION (its leader is an old one), UNAVAILABLE (not now).
  virtual void WantsSnapshot(const GroupId& group, Term leader_term, TermIndex at, env::Executor* reply_on,
                             absl::AnyInvocable<void(absl::Status)> done) = 0;
  // A snapshot that a leader brought, complete, in a file under snapshot_dir(). Verified whole before anything
  // that it replaces is touched. The file is taken by success; after an error the caller removes it, if it is
  // still there. ALREADY_EXISTS: nothing in it is new here.
  virtual void InstallSnapshot(const GroupId& group, const std::string& path, env::Executor* reply_on,
                               absl::AnyInvocable<void(absl::Status)> done) = 0;
  // What this server knows of entries that `from` lost to damage.
  virtual void Recall(const GroupId& group, const PeerId& from, const raft::RecallRequest& request,
                      env::Executor* reply_on, Done<raft::RecallReply> done) = 0;
  virtual void Submit(ClientRequest request, ReplyFn reply) = 0;
  virtual bool HasGroup(const GroupId& group) const = 0;
  virtual std::vector<GroupId> Groups() const = 0;
  // Called on the shard whenever a group stops leading (ordered calls end then), until the host stops.
  virtual void OnLeadershipLost(absl::AnyInvocable<void(const GroupId&)> callback) = 0;
  virtual void Status(env::Executor* reply_on, absl::AnyInvocable<void(HostStatus)> done) = 0;
  // Whether this server serves all its groups, or why not one of them: for health checks, often and cheap.
  virtual void Serving(env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) = 0;

  // --- Byte lane -------------------------------------------------------------------------------------------
  // Opens an upload that arrives on `home`. Checks of the header (group, route, name) that fail are given by
  // the first Append, Close or Flush, and by `opened`.
  virtual std::shared_ptr<Relay> OpenRelay(StreamHeader header, env::Executor* home,
                                           absl::AnyInvocable<void(absl::Status)> opened) = 0;
  virtual void Have(const GroupId& group, const UploadId& upload, env::Executor* reply_on,
                    Done<HaveReply> done) = 0;
  // Leader's part. FAILED_PRECONDITION or ABORTED if the upload can never be entered: its id was used before.
  virtual void OnSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                        absl::AnyInvocable<void(absl::Status)> done) = 0;
  virtual void FetchSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                           Done<HaveReply> done) = 0;
  virtual void Publish(PublishRequest request, ReplyFn reply) = 0;  // leader's part; kNotLeader elsewhere
  virtual void Remove(RemoveRequest request, ReplyFn reply) = 0;    // leader's part; kNotLeader elsewhere

  // --- The blob machine's service, at any server (D-18, D-19) ----------------------------------------------
  // Names are checked, leaders found, reads proxied.

  // A small resource whole: travels inside the log entry (D-16).
  virtual void PutInline(const GroupId& group, BlobHeader header, Bytes data, env::Executor* reply_on,
                         Done<BlobInfo> done) = 0;
  // Opens or takes up the upload of KeyOf(header) at this server. `offset` 0 starts anew; another one must be
  // the committed size of an upload that this server has.
  virtual void OpenWrite(const GroupId& group, BlobHeader header, uint64_t offset, env::Executor* home,
                         Done<std::shared_ptr<Relay>> done) = 0;
  // Close of a relay from OpenWrite: seals, publishes, answers when applied. The caller holds the relay until
  // then; dropping it gives the answer up.
  virtual void FinishWrite(std::shared_ptr<Relay> relay, env::Executor* reply_on, Done<BlobInfo> done) = 0;
  // D-20: the durable size here. With `ask_others` the other servers are asked if there is no such upload
  // here, and the largest size that one of them tells within the transport's deadline is the answer;
  // NOT_FOUND if nobody who answers knows, RESOURCE_EXHAUSTED if too many such questions are under way. The
  // upload goes on only at the server that has it.
  virtual void QueryWrite(const GroupId& group, const WriteKey& write, bool ask_others,
                          env::Executor* reply_on, Done<WriteStatus> done) = 0;
  // `name` may be "sha256:HEX". NOT_FOUND;
  // UNAVAILABLE if its bytes can be had nowhere within read_timeout_ms. With `content`, the BlobInfo::content
  // of a read that goes on, only that content: ABORTED if the name has another one now.
  virtual void OpenRead(const GroupId& group, const std::string& name, const std::optional<UploadId>& content,
                        env::Executor* reply_on, Done<Reading> done) = 0;
  // A sealed stage or content of this server, by id: what peers fetch. DATA_LOSS if it is not what is wanted.
  virtual void OpenUploadRead(const FetchWanted& wanted, env::Executor* reply_on,
                              Done<std::shared_ptr<blob::Source>> done) = 0;
  virtual void Stat(const GroupId& group, const std::string& name, env::Executor* reply_on,
                    Done<BlobInfo> done) = 0;
  // Names with `prefix` greater than `after`, at most `limit`.
  virtual void List(const GroupId& group, const std::string& prefix, const std::string& after, uint32_t limit,
                    env::Executor* reply_on, Done<std::vector<BlobInfo>> done) = 0;
  // `request`: who asks, and the number of the call, the same in every retry; a zero client gets an id here,
  // and is told of a name that an earlier try of its own removed that it does not exist.
  virtual void RemoveName(const GroupId& group, const std::string& name, const UploadId& request,
                          env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) = 0;
};

}  // namespace sluice::node
