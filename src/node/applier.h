// The applied half of a group: executes committed entries, keeps what they made durable, answers lookups.
//
//   ASSIGN_OR_RETURN(auto applier, Applier::Open(parts));        // what was durable at the last checkpoint
//   ASSIGN_OR_RETURN(Applied applied, applier->Apply(entries));  // visible at once
//   RETURN_IF_ERROR(applier->Checkpoint());                      // durable; the log may be compacted
//
// Machine state, remembered replies, the missing set and the applied index change in one atomic batch per
// Apply (D-23). Nothing is applied of a group that is not what this server is set up for (D-01). Threading:
// lives on the apply executor, where it may block on disk. Failure: an error of Apply or Checkpoint is one of
// the disk and final for the group; errors of commands are outcomes. Keys of the index, behind "g" and the
// group id: s machine state, r INDEX replies, m missing set, a applied index.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blob/store.h"
#include "node/blob_machine.h"
#include "node/cluster.h"
#include "node/group_facts.h"
#include "node/host.h"
#include "node/machine_state.h"
#include "node/reply_ages.h"
#include "node/sessions.h"
#include "node/snapshot_file.h"
#include "raft/types.h"

namespace sluice::node {

// A content that the log names and this server lacks (D-14).
struct MissingContent {
  Index index;  // of the entry that named it
  SealedUpload upload;
  bool damaged = false;  // a copy is here: replaced, unless it turns out to be whole (F-24)
};

// How one command ended, or ended before and was asked for again.
struct Outcome {
  UploadId key;
  StoredReply stored;
};

struct Applied {
  TermIndex upto;
  std::vector<Outcome> outcomes;
  std::vector<MissingContent> missing;  // newly missing
  std::vector<UploadId> no_longer_missing;
  bool facts_known = false;     // the log has said what the group is
  Index first_kept = kNoIndex;  // replies of entries before it are forgotten
  int64_t clock_ms = 0;         // the log's time
  ClusterId cluster;            // the log has said it; zero: not
};

class Applier {
 public:
  struct Parts {
    GroupSpec spec;
    uint64_t session_bytes_max = 0;
    int64_t session_keep_ms = 0;
    env::Files* files = nullptr;
    blob::Index* index = nullptr;
    blob::Store* store = nullptr;
    const Cluster* cluster = nullptr;
    std::string snapshot_path;  // where a snapshot waits while it is being installed
  };
  // What was durable.
  struct Start {
    TermIndex applied{Term{0}, kNoIndex};
    std::optional<raft::Configuration> configuration;
    std::unique_ptr<Sessions> replies = std::make_unique<Sessions>();
    std::vector<MissingContent> missing;
    std::vector<UploadId> no_longer_missing;  // because a snapshot was installed
    bool facts_known = false;
    int64_t clock_ms = 0;
    ClusterId cluster;
    // A snapshot was being installed: the applier is replacing(), and Replace is to be called again.
    bool interrupted = false;
  };
  static absl::StatusOr<std::unique_ptr<Applier>> Open(Parts parts, Start* start);

  // Entries in order, the first one following the applied index. Configuration and metadata entries count.
  // RESOURCE_EXHAUSTED: the disk has no room for the result, nothing of it is visible yet; again with the
  // same entries, later (F-12). Every other error is final.
  absl::StatusOr<Applied> Apply(const std::vector<raft::Entry>& entries);
  // Makes everything applied so far durable; gives the applied index that this covers.
  absl::StatusOr<TermIndex> Checkpoint();
  absl::StatusOr<Bytes> Query(const Bytes& request);
  absl::Status Admit(const Bytes& message);
  // What a reply remembers of the command that it answers (F-66). Any thread.
  uint32_t ContentOf(const Bytes& data) const;

  // The bytes of a missing content are in a sealed stage, which is linked, or are here whole after all: takes it out
  // of the missing set.
  absl::Status BytesArrived(const UploadId& upload);
  // A sealed stage is left under an id that was entered, and nothing is missing here: it becomes the content if it has
  // its bytes, else it goes.
  absl::Status SettleStage(const UploadId& upload);
  // A linked content turned out to be damaged here: into the missing set with it.
  absl::StatusOr<std::vector<MissingContent>> MarkDamaged(const UploadId& upload);

  // The state as of the applied index, for WriteSnapshot on another executor: this takes no time.
  absl::StatusOr<SnapshotView> TakeView();
  // Whether a snapshot file is whole, and one of this group. On any executor.
  absl::StatusOr<SnapshotHead> CheckSnapshot(const std::string& path) const;

  // A snapshot that was checked replaces everything, in three steps, so that other groups are applied
  // meanwhile. Between the first and the last there is no state to look at.
  absl::Status BeginReplacing();
  bool replacing() const { return replacing_; }
  // On any executor, between the two. The file is taken; durable when it returns. RESOURCE_EXHAUSTED: no room;
  // the same again, later. After another error nothing has changed, or replaced(): then the state is gone,
  // and a restart goes on with the file.
  absl::StatusOr<Start> Replace(const std::string& path);
  bool replaced() const { return replaced_.has_value(); }
  void EndReplacing() { replacing_ = false; }

  // --- Any thread, of what is written to the index: blocks on disk.
  // The content that the log has entered under the id of an upload.
  std::optional<ContentRecord> FindEntered(const UploadId& upload) const;
  // Not ok if nothing may be sent under the id: it is a content's (ALREADY_EXISTS), or was abandoned (ABORTED).
  absl::Status CheckFree(const UploadId& upload) const;
  bool WasAbandoned(const UploadId& upload) const;
  // What a publish of these bytes under `name` will meet: the content of the name, else that of the digest.
  std::optional<ContentRecord> FindRival(const std::string& name, const blob::Sealed& sealed) const;
  std::optional<std::string> InlineBytes(const UploadId& content) const;

  TermIndex applied() const { return applied_; }
  const raft::Configuration& configuration() const { return configuration_; }
  const State& state() const { return state_; }
  bool is_blob() const { return blob_ != nullptr; }
  env::Files& files() { return *parts_.files; }

 private:
  explicit Applier(Parts parts);
  // What a snapshot that is being installed replaces.
  struct Replaced {
    std::vector<UploadId> missing;
    std::vector<UploadId> contents;
  };
  // What entries came to, before it is written.
  struct Unwritten {
    blob::IndexBatch batch;
    Applied applied;
  };

  absl::Status Load(Start* start);
  absl::Status TakeUp(Start* start);
  absl::StatusOr<Unwritten> Execute(const std::vector<raft::Entry>& entries);
  absl::StatusOr<bool> LearnFacts(const Command& command);
  std::string ReplyKey(Index index) const;
  absl::Status LoadReplies(Start* start);
  void PutFacts(FieldWriter& out) const;
  void Remember(Outcome outcome, Unwritten& unwritten);
  absl::Status KeepLonger(Index at, Index kept, Unwritten& unwritten);
  void Forget(blob::IndexBatch& batch);
  void ChangeContent(const ContentChange& change, blob::IndexBatch& batch, Applied& applied);
  absl::Status RemoveContent(const UploadId& upload);
  absl::Status RemoveIfOwn(const UploadId& upload);
  void PutApplied(blob::IndexBatch& batch);
  absl::Status Whole() const;
  absl::Status NotReplacing() const;
  absl::Status TakeSnapshotFile(const std::string& path);
  // `before`: the contents that it replaces.
  absl::Status LoadSnapshotFile(const std::string& path, const std::vector<UploadId>& before);
  absl::Status RemoveContentsNotIn(const std::string& path, const std::vector<UploadId>& before);
  absl::StatusOr<std::vector<UploadId>> MissingIds();
  std::vector<UploadId> ContentIds() const;
  absl::Status DropSnapshotFile();

  Parts parts_;
  std::string prefix_;
  std::unique_ptr<StateMachine> machine_;
  BlobMachine* blob_ = nullptr;  // the machine, when it is the blob one
  MachineState state_;
  TermIndex applied_{Term{0}, kNoIndex};
  raft::Configuration configuration_;
  std::optional<GroupFacts> facts_;
  ReplyAges ages_;
  Index replies_from_{0};  // of earlier entries the index holds none
  bool dirty_ = false;
  std::optional<Unwritten> unwritten_;
  absl::Status broken_;  // not ok: applied_ is ahead of the state, which stays as it is
  bool replacing_ = false;
  std::optional<Replaced> replaced_;
};

}  // namespace sluice::node
