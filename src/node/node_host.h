// The Host of the product and of the simulator: owns log, store, index, groups and their threads.
//
// Contract and threading: host.h. Order of the end: docs/ARCHITECTURE.md, "How a server ends".
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "node/group.h"
#include "node/host.h"
#include "node/identity.h"
#include "node/lane.h"

namespace sluice::node {

class NodeHost final : public Host {
 public:
  NodeHost(HostOptions options, HostSeams seams) : options_(std::move(options)), seams_(seams) {}
  ~NodeHost() override;
  absl::Status Open();

  void Start(PeerTransport* peers, ByteTransport* bytes) override;
  void Stop() override;
  void EndThreads() override;
  const HostOptions& options() const override { return options_; }
  const Cluster& cluster() const override { return *cluster_; }
  absl::Status Step(const GroupId& group, const PeerId& from, raft::Message message) override;
  void Unreachable(const GroupId& group, const PeerId& peer) override;
  std::string snapshot_dir() const override { return options_.data_dir + "/snapshots"; }
  void WantsSnapshot(const GroupId& group, Term leader_term, TermIndex at, env::Executor* reply_on,
                     absl::AnyInvocable<void(absl::Status)> done) override;
  void InstallSnapshot(const GroupId& group, const std::string& path, env::Executor* reply_on,
                       absl::AnyInvocable<void(absl::Status)> done) override;
  void Recall(const GroupId& group, const PeerId& from, const raft::RecallRequest& request,
              env::Executor* reply_on, Done<raft::RecallReply> done) override;
  void Submit(ClientRequest request, ReplyFn reply) override;
  bool HasGroup(const GroupId& group) const override { return slots_.contains(group); }
  std::vector<GroupId> Groups() const override;
  void OnLeadershipLost(absl::AnyInvocable<void(const GroupId&)> callback) override;
  void Status(env::Executor* reply_on, absl::AnyInvocable<void(HostStatus)> done) override;
  void Serving(env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) override;

  std::shared_ptr<Relay> OpenRelay(StreamHeader header, env::Executor* home,
                                   absl::AnyInvocable<void(absl::Status)> opened) override;
  void Have(const GroupId& group, const UploadId& upload, env::Executor* reply_on,
            Done<HaveReply> done) override;
  void OnSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                absl::AnyInvocable<void(absl::Status)> done) override;
  void FetchSealed(const GroupId& group, SealedUpload upload, env::Executor* reply_on,
                   Done<HaveReply> done) override;
  void Publish(PublishRequest request, ReplyFn reply) override;
  void Remove(RemoveRequest request, ReplyFn reply) override;

  void PutInline(const GroupId& group, BlobHeader header, Bytes data, env::Executor* reply_on,
                 Done<BlobInfo> done) override;
  void OpenWrite(const GroupId& group, BlobHeader header, uint64_t offset, env::Executor* home,
                 Done<std::shared_ptr<Relay>> done) override;
  void FinishWrite(std::shared_ptr<Relay> relay, env::Executor* reply_on, Done<BlobInfo> done) override;
  void QueryWrite(const GroupId& group, const WriteKey& write, bool ask_others, env::Executor* reply_on,
                  Done<WriteStatus> done) override;
  void OpenRead(const GroupId& group, const std::string& name, const std::optional<UploadId>& content,
                env::Executor* reply_on, Done<Reading> done) override;
  void OpenUploadRead(const FetchWanted& wanted, env::Executor* reply_on,
                      Done<std::shared_ptr<blob::Source>> done) override;
  void Stat(const GroupId& group, const std::string& name, env::Executor* reply_on,
            Done<BlobInfo> done) override;
  void List(const GroupId& group, const std::string& prefix, const std::string& after, uint32_t limit,
            env::Executor* reply_on, Done<std::vector<BlobInfo>> done) override;
  void RemoveName(const GroupId& group, const std::string& name, const UploadId& request,
                  env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) override;

 private:
  // A group with what belongs to it on this server.
  struct Slot {
    env::Executor* shard = nullptr;
    std::unique_ptr<Group> group;
    std::unique_ptr<Lane> lane;  // blob groups only
    bool leading = false;
  };
  // Found name or digest, with what is known of its bytes here.
  struct Found {
    NameRecord record;
    bool missing = false;
    std::optional<std::string> inline_bytes;
  };

  Slot* Find(const GroupId& group) const;
  // Slot of a blob group, or why not.
  absl::StatusOr<Slot*> FindLane(const GroupId& group) const;
  absl::Status CheckLogIsThere() const;
  absl::Status OpenGroup(const GroupSpec& spec, size_t shard, const ClusterId& new_cluster);
  void Tick(size_t shard);
  void TellOfDamage();
  // The log says to which cluster this server belongs: the identity keeps it.
  void LearnCluster(const ClusterId& cluster);
  // What a read asks for: a name, or one content that was found under it before.
  struct Target {
    std::string name;
    std::optional<UploadId> content;
  };
  // Looks it up on the apply executor, after a read index unless what cannot change is here; answers on the
  // shard.
  void Lookup(Slot* slot, const Target& target, Done<Found> done);
  void LookupNow(Slot* slot, const Target& target, Done<Found> done);
  // Calls `done` from any thread.
  void OpenFound(Slot* slot, Found found, Done<Reading> done);
  BlobInfo InfoOf(const Found& found) const;
  // Runs `work` for all groups of each shard, as one task of the shard, and waits.
  void OnShards(absl::FunctionRef<void(Slot&)> work);
  bool WaitsForHandOver();

  HostOptions options_;
  HostSeams seams_;
  std::unique_ptr<env::FileLock> lock_;
  Identity identity_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<log::Log> log_;
  std::unique_ptr<blob::Store> store_;
  std::unique_ptr<blob::Index> index_;
  std::vector<std::unique_ptr<env::Executor>> shards_;
  std::unique_ptr<env::Executor> apply_;
  std::unique_ptr<DiskRoom> room_;
  std::unique_ptr<env::Executor> disk_;
  std::unique_ptr<env::Executor> snapshots_;
  std::map<GroupId, std::unique_ptr<Slot>> slots_;
  PeerTransport* peers_ = nullptr;
  ByteTransport* bytes_ = nullptr;
  std::vector<absl::AnyInvocable<void(const GroupId&)>> on_leadership_lost_;  // set before Start
  bool started_ = false;
  std::atomic<bool> stopped_ = false;  // any thread may ask for the status
};

}  // namespace sluice::node
