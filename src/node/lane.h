// The byte lane of one `blob` group: who holds which upload, when it may be entered, what is missing here,
// what has been forgotten.
//
//   // The leader's part: only what a majority holds sealed is proposed (D-11).
//   lane.Publish(request, reply);
//   // A primary's part: see to it that a majority holds it.
//   lane.Gather(upload, sealed_known, done);
//   // Fetches what is missing (D-14), reclaims what was left behind (D-10).
//   lane.Tick();
//
// Logic driven by messages, without sockets (D-06). Threading: lives on the group's shard; bytes never come
// here. Failure: everything is retried until its deadline; the caller is then told which servers hold the
// upload. Bounds: group_uploads_max uploads pass through at a time; pending_writes_max streams wait to be
// entered, and as many Gathers, publishes on their way to the log and calls of the leader; 128 queries are
// passed on, 8 contents compared; beyond, RESOURCE_EXHAUSTED. An upload counts while somebody feeds it: the
// stage of one that was given up rests without counting.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "blob/store.h"
#include "node/blob_command.h"
#include "node/group.h"
#include "node/relay_upload.h"

namespace sluice::node {

class Lane {
 public:
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  struct Parts {
    GroupId id;
    const HostOptions* options = nullptr;
    ClientId client;  // of the uploads and calls that this lane begins itself: its own, and of this life
    Group* group = nullptr;
    env::Executor* shard = nullptr;
    env::Executor* apply = nullptr;
    env::Executor* disk = nullptr;  // blocking file operations
    blob::Store* store = nullptr;
    const env::Clock* clock = nullptr;
    std::vector<MissingContent> missing;
  };
  explicit Lane(Parts parts);
  ~Lane();

  void Start(ByteTransport* bytes);
  void Stop();
  void Tick();
  void OnApplied(const Applied& applied);
  void OnRole();

  // --- Uploads through this server
  // Checks header and route; the successors that this server has to pass the bytes on to, with theirs.
  absl::StatusOr<std::vector<Downstream>> CheckHeader(const StreamHeader& header) const;
  std::shared_ptr<RelayUpload> NewRelay(StreamHeader header, env::Executor* home);
  void OpenRelay(std::shared_ptr<RelayUpload> relay, absl::AnyInvocable<void(absl::Status)> opened);
  void OpenWrite(BlobHeader header, uint64_t offset, env::Executor* home, Done<std::shared_ptr<Relay>> done);
  void QueryWrite(const WriteKey& write, Done<WriteStatus> done);
  // The same of all other members at once: complete before under way, then the largest size; NOT_FOUND if
  // nobody who answers knows the name.
  void QueryOthers(const WriteKey& write, Done<WriteStatus> done);
  void FinishedWrite(const WriteKey& write, const UploadId& upload);
  void PutInline(BlobHeader header, Bytes data, blob::Sealed sealed, Done<BlobInfo> done);

  // --- From holders to an entry
  // Remembers who holds it, unless it can never be entered.
  void OnSealed(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done);
  void Forward(ClientRequest request, ReplyFn reply);
  void Publish(PublishRequest request, ReplyFn reply);
  void Remove(RemoveRequest request, ReplyFn reply);
  // Sees to it that a majority holds the upload; the upload with all known holders.
  void Gather(SealedUpload upload, bool sealed_known, Done<SealedUpload> done);
  // Calls of any server that the leader has to execute: finds it, retries until the read timeout.
  void AskLeader(PublishRequest request, ReplyFn reply);
  void AskLeader(RemoveRequest request, ReplyFn reply);

  // --- What is held here
  void Have(const UploadId& upload, env::Executor* reply_on, Done<HaveReply> done);
  // `replace_held`: although a copy is here, which is damaged.
  void Fetch(SealedUpload upload, bool replace_held, env::Executor* reply_on, Done<HaveReply> done);
  void MarkDamaged(const UploadId& upload);

  // Those first, then other voters; not self.
  std::vector<raft::Peer> PeersOf(const std::vector<PeerId>& first) const;
  uint64_t missing() const { return missing_.size(); }
  Index bytes_complete() const;
  bool IsMissing(const UploadId& upload) const { return missing_.contains(upload); }
  CallId NextCall();
  const ClientId& client() const { return parts_.client; }

 private:
  static constexpr env::Duration kFirstRetry = std::chrono::milliseconds(200);
  struct Missing {
    MissingContent content;
    env::Instant since{};
    bool fetching = false;
    env::Instant retry_at{};
    env::Duration backoff = kFirstRetry;
  };
  struct Write {  // an upload that came by name, through ByteStream
    UploadId upload;
    // While somebody feeds it. After that, and after a restart, its stage rests until it is taken up again.
    std::weak_ptr<RelayUpload> relay;
  };
  struct Fetching {  // and who waits for it
    blob::Sealed wanted;
    bool replaces_held = false;
    std::vector<std::pair<env::Executor*, std::shared_ptr<Done<HaveReply>>>> waiting;
  };
  struct Gathering;
  struct Entering;
  struct LeaderCall;

  bool Majority(const std::vector<PeerId>& holders) const;
  void GatherStep(std::shared_ptr<Gathering> gathering);
  void GatherAnswers(std::shared_ptr<Gathering> gathering, bool after_orders);
  bool CannotHold(const std::vector<PeerId>& full) const;
  void OrderFetches(std::shared_ptr<Gathering> gathering);
  void StartLeaderCall(std::shared_ptr<LeaderCall> call);
  void CallLeader(std::shared_ptr<LeaderCall> call);
  void AnswerLeaderCall(std::shared_ptr<LeaderCall> call, ClientReply reply);
  void FetchMissing();
  Missing* NextMissing();
  void Reread(SealedUpload upload);
  void FetchOne(SealedUpload upload, bool replace_held);
  void EndFetch(const UploadId& id, absl::Status status);
  // Reads the copy that is here to its end, off the shard; ok if every byte is what was sealed.
  void ReadHeld(const UploadId& upload, const blob::Sealed& sealed,
                absl::AnyInvocable<void(absl::Status)> done);
  void Reclaim();
  void SetMissing(const MissingContent& content);
  bool IsFetched(const SealedUpload& upload) const;
  bool StillArriving(const Missing& missing, env::Instant now) const;
  absl::Status CheckForward(const ClientRequest& request, const StoredReply& first) const;
  // What a publish meets is found out before it is proposed.
  void Enter(BlobCommand command, bool data_stream, ReplyFn reply);
  void EndUnder(const std::string& name);
  void FindRival(std::shared_ptr<Entering> entering);
  void Meet(std::shared_ptr<Entering> entering);
  void MeetHeld(std::shared_ptr<Entering> entering, const std::vector<PeerId>& holders, bool counted);
  void Verify(std::shared_ptr<Entering> entering);
  void EndVerify(const UploadId& id, const absl::Status& whole);
  void CountHolders(const UploadId& upload, const blob::Sealed& sealed, Done<std::vector<PeerId>> done);
  void Compare(std::shared_ptr<Entering> entering, const std::vector<PeerId>& holders);
  std::shared_ptr<blob::Source> SourceOf(const UploadId& upload, const blob::Sealed& sealed,
                                         std::vector<raft::Peer> peers);
  void ProposeEntered(Entering& entering);
  void ProposePublish(SealedUpload upload, bool data_stream, ReplyFn reply);
  // The relay that feeds it, unless it has failed: the stage behind it may be there still.
  static std::shared_ptr<RelayUpload> Feeding(const Write& write);
  std::vector<Downstream> Below(const PeerId& from, const Route& route, std::set<PeerId>& seen) const;
  Route ChainFromHere() const;
  absl::Status AdmitRelay(const std::shared_ptr<RelayUpload>& relay);
  void OpenNewWrite(BlobHeader header, env::Executor* home, Done<std::shared_ptr<Relay>> done);
  void ConfirmStream(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done);
  void ConfirmWrite(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done);

  Parts parts_;
  ByteTransport* bytes_ = nullptr;
  bool stopped_ = false;
  uint64_t next_call_ = 1;  // of the uploads and calls that this lane begins itself
  absl::flat_hash_map<UploadId, SealedUpload> sealed_;  // the leader's: who holds what
  std::deque<UploadId> sealed_order_;
  // Ordered where they are iterated, so that a simulated run depends on its seed alone.
  std::map<UploadId, std::vector<ReplyFn>> forwards_;
  std::map<UploadId, Missing> missing_;
  std::map<WriteKey, Write> writes_;
  absl::flat_hash_map<UploadId, Fetching> fetches_;
  absl::flat_hash_map<UploadId, env::Instant> abandoning_;
  size_t fetching_ = 0;
  size_t gathering_ = 0;  // Gathers that have not ended
  size_t entering_ = 0;   // publishes that are not proposed yet, and their payload
  uint64_t entering_bytes_ = 0;
  // Those of one name; the first is on its way, the others wait for its end.
  std::map<std::string, std::deque<std::shared_ptr<Entering>>> entering_under_;
  size_t comparing_ = 0;
  std::map<UploadId, std::vector<std::shared_ptr<Entering>>> verifying_;  // who waits for which content
  size_t querying_ = 0;                                                   // QueryOthers that have not ended
  size_t asking_ = 0;  // calls of the leader that have not ended, and their payload
  uint64_t asking_bytes_ = 0;
  std::map<UploadId, std::weak_ptr<RelayUpload>> relays_;  // those passing through, and some that just ended
  env::Instant next_reclaim_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// What a stage's side file remembers of the header that opened it.
std::string EncodeStageContext(const BlobHeader& header, bool by_name);
struct StageContext {
  BlobHeader header;
  bool by_name = false;  // through ByteStream: may be taken up again by its name
};
StageContext DecodeStageContext(std::string_view context);

}  // namespace sluice::node
