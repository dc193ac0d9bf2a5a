// A node::Host without consensus, for tests of edges: requests are kept or answered by the test,
// messages are recorded.
//
//   FakeHost host("n0", {group});  host.on_submit = [](auto request, auto reply) { reply({...}); };
//
// Threading: the callbacks of the test run on the caller's thread; what is recorded is guarded by mutex.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "node/host.h"

namespace sluice::edge {

class FakeHost : public node::Host {
 public:
  FakeHost(const std::string& id, std::vector<GroupId> groups)
      : cluster_id({id}, &env::RealClock()), groups_(std::move(groups)) {
    options_.self = {.id = {id}, .address = "127.0.0.1:0"};
    for (const GroupId& group : groups_)
      options_.groups.push_back({.id = group, .machine = "counter", .peers = {}});
  }

  node::Cluster cluster_id;
  std::function<void(node::ClientRequest, node::ReplyFn)> on_submit;
  std::function<void(const GroupId&, const PeerId&, raft::Message)> on_step;
  std::function<node::HostStatus()> on_status;
  absl::Status serving;  // set before it is asked
  std::function<absl::StatusOr<raft::RecallReply>(const PeerId& from, const raft::RecallRequest&)> on_recall;

  // Java servers may be its members.
  void MakeRatis(const GroupId& group) {
    for (node::GroupSpec& spec : options_.groups) {
      if (spec.id == group) spec.mode = node::GroupMode::kRatis;
    }
  }
  // Waits until `done` holds (checked after every event), at most ten seconds.
  bool Await(const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(10), done);
  }
  void Changed() {
    std::lock_guard lock(mutex);
    changed.notify_all();
  }
  void LoseLeadership(const GroupId& group) {
    for (auto& callback : lost_) callback(group);
  }

  void Start(node::PeerTransport*, node::ByteTransport*) override {}
  void Stop() override {}
  void EndThreads() override {}
  const node::HostOptions& options() const override { return options_; }
  const node::Cluster& cluster() const override { return cluster_id; }
  absl::Status Step(const GroupId& group, const PeerId& from, raft::Message message) override {
    if (on_step) on_step(group, from, std::move(message));
    Changed();
    return absl::OkStatus();
  }
  void Unreachable(const GroupId&, const PeerId& peer) override {
    std::lock_guard lock(mutex);
    unreachable.insert(peer);
    changed.notify_all();
  }
  std::string snapshot_dir() const override { return snapshots; }
  void WantsSnapshot(const GroupId&, Term, TermIndex, env::Executor* reply_on,
                     absl::AnyInvocable<void(absl::Status)> done) override {
    std::lock_guard lock(mutex);
    ++snapshots_asked;
    reply_on->Post([done = std::move(done), answer = wants_snapshot]() mutable { done(answer); });
  }
  void InstallSnapshot(const GroupId&, const std::string& path, env::Executor* reply_on,
                       absl::AnyInvocable<void(absl::Status)> done) override {
    {
      std::lock_guard lock(mutex);
      installed.push_back(path);
      changed.notify_all();
    }
    reply_on->Post([done = std::move(done), answer = install_answer]() mutable { done(answer); });
  }
  void Recall(const GroupId&, const PeerId& from, const raft::RecallRequest& request, env::Executor* reply_on,
              Done<raft::RecallReply> done) override {
    auto reply = on_recall ? on_recall(from, request) : absl::UnimplementedError("no recall");
    reply_on->Post([done = std::move(done), reply = std::move(reply)]() mutable { done(std::move(reply)); });
  }
  void Submit(node::ClientRequest request, node::ReplyFn reply) override {
    on_submit(std::move(request), std::move(reply));
    Changed();
  }
  bool HasGroup(const GroupId& group) const override {
    return std::find(groups_.begin(), groups_.end(), group) != groups_.end();
  }
  std::vector<GroupId> Groups() const override { return groups_; }
  void OnLeadershipLost(absl::AnyInvocable<void(const GroupId&)> callback) override {
    lost_.push_back(std::move(callback));
  }
  void Status(env::Executor* reply_on, absl::AnyInvocable<void(node::HostStatus)> done) override {
    node::HostStatus status;
    status.self = options_.self;
    if (on_status) status = on_status();
    reply_on->Post(
        [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
  }
  void Serving(env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) override {
    reply_on->Post([done = std::move(done), status = serving]() mutable { done(status); });
  }
  std::shared_ptr<node::Relay> OpenRelay(node::StreamHeader, env::Executor*,
                                         absl::AnyInvocable<void(absl::Status)>) override {
    return nullptr;
  }
  void Have(const GroupId&, const UploadId& upload, env::Executor* reply_on,
            Done<node::HaveReply> done) override {
    node::HaveReply reply{.state = node::HoldState::kSealed, .sealed = {}, .durable_length = 0};
    reply.sealed.length = upload.call.value;
    reply.entered = true;
    Answer<node::HaveReply>(reply_on, std::move(done), reply);
  }
  void OnSealed(const GroupId&, node::SealedUpload upload, env::Executor* reply_on,
                absl::AnyInvocable<void(absl::Status)> done) override {
    std::lock_guard lock(mutex);
    sealed.push_back(std::move(upload));
    changed.notify_all();
    reply_on->Post([done = std::move(done), told = sealed_answer]() mutable { done(told); });
  }
  absl::Status sealed_answer;
  void FetchSealed(const GroupId&, node::SealedUpload, env::Executor* reply_on,
                   Done<node::HaveReply> done) override {
    Answer<node::HaveReply>(reply_on, std::move(done), absl::NotFoundError("no such upload"));
  }
  void Publish(node::PublishRequest request, node::ReplyFn reply) override {
    reply({.code = node::ReplyCode::kOk,
           .error = {},
           .message = request.inline_bytes.value_or(Bytes()),
           .log_index = Index{4},
           .leader = {},
           .peers = {}});
  }
  void Remove(node::RemoveRequest, node::ReplyFn reply) override {
    reply({.code = node::ReplyCode::kNotLeader,
           .error = absl::UnavailableError("not here"),
           .message = {},
           .leader = raft::Peer{.id = {"n7"}, .address = "h:7"},
           .peers = {{.id = {"n7"}, .address = "h:7"}}});
  }
  void PutInline(const GroupId&, node::BlobHeader, Bytes, env::Executor* on,
                 Done<node::BlobInfo> done) override {
    Answer<node::BlobInfo>(on, std::move(done), absl::UnimplementedError("fake"));
  }
  void OpenWrite(const GroupId&, node::BlobHeader, uint64_t, env::Executor* on,
                 Done<std::shared_ptr<node::Relay>> done) override {
    Answer<std::shared_ptr<node::Relay>>(on, std::move(done), absl::UnimplementedError("fake"));
  }
  void FinishWrite(std::shared_ptr<node::Relay>, env::Executor* on, Done<node::BlobInfo> done) override {
    Answer<node::BlobInfo>(on, std::move(done), absl::UnimplementedError("fake"));
  }
  // "sN" is being written and "cN" stored, N bytes of them; "broken" cannot be told; nothing else is known.
  void QueryWrite(const GroupId&, const node::WriteKey& write, bool ask_others, env::Executor* on,
                  Done<node::WriteStatus> done) override {
    const std::string& name = write.name;
    if (ask_others) return Answer<node::WriteStatus>(on, std::move(done), absl::UnimplementedError("fake"));
    absl::StatusOr<node::WriteStatus> known = absl::NotFoundError("no such upload");
    if (name == "broken") {
      known = absl::DataLossError("broken");
    } else if (name[0] == 's' || name[0] == 'c') {
      known = node::WriteStatus{std::stoull(name.substr(1)), name[0] == 'c'};
    }
    Answer<node::WriteStatus>(on, std::move(done), std::move(known));
  }
  void OpenRead(const GroupId&, const std::string&, const std::optional<UploadId>&, env::Executor* on,
                Done<node::Reading> done) override {
    Answer<node::Reading>(on, std::move(done), absl::UnimplementedError("fake"));
  }
  void OpenUploadRead(const node::FetchWanted&, env::Executor* on,
                      Done<std::shared_ptr<blob::Source>> done) override {
    Answer<std::shared_ptr<blob::Source>>(on, std::move(done), absl::UnimplementedError("fake"));
  }
  void Stat(const GroupId&, const std::string& name, env::Executor* on, Done<node::BlobInfo> done) override {
    node::BlobInfo info;
    info.name = name;
    info.length = 5;
    Answer<node::BlobInfo>(
        on, std::move(done),
        name == "here" ? absl::StatusOr<node::BlobInfo>(info) : absl::NotFoundError("no such blob"));
  }
  void List(const GroupId&, const std::string& prefix, const std::string&, uint32_t limit, env::Executor* on,
            Done<std::vector<node::BlobInfo>> done) override {
    std::vector<node::BlobInfo> infos(std::min<uint32_t>(limit, 5));
    for (size_t i = 0; i < infos.size(); ++i) infos[i].name = fmt::format("{}{}", prefix, i);
    Answer<std::vector<node::BlobInfo>>(on, std::move(done), std::move(infos));
  }
  void RemoveName(const GroupId&, const std::string&, const UploadId&, env::Executor* on,
                  absl::AnyInvocable<void(absl::Status)> done) override {
    on->Post([done = std::move(done)]() mutable { done(absl::OkStatus()); });
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::set<PeerId> unreachable;  // guarded by mutex, as are the next two
  std::vector<node::SealedUpload> sealed;
  std::vector<std::string> installed;
  std::string snapshots;
  absl::Status wants_snapshot;
  absl::Status install_answer;
  int snapshots_asked = 0;

 private:
  template <typename T>
  void Answer(env::Executor* on, Done<T> done, absl::StatusOr<T> result) {
    on->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
  }

  node::HostOptions options_;
  const std::vector<GroupId> groups_;
  std::vector<absl::AnyInvocable<void(const GroupId&)>> lost_;
};

}  // namespace sluice::edge
