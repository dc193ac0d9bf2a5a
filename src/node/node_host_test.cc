// How a host ends: with real threads, whose order of ending is written down, and a log that is slow.
#include "node/node_host.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>

#include "base/temp_folder_for_test.h"
#include "env/files.h"
#include "env/random.h"
#include "log/log.h"
#include "node/identity.h"
#include "node/silent_bytes_for_test.h"

namespace sluice::node {
namespace {

// What the executors of a test share.
class Ledger {
 public:
  void Ended(const std::string& name) {
    std::lock_guard lock(mutex_);
    if (std::find(ended_.begin(), ended_.end(), name) == ended_.end()) ended_.push_back(name);
    changed_.notify_all();
  }
  std::vector<std::string> ended() {
    std::lock_guard lock(mutex_);
    return ended_;
  }
  // False if it has not ended after a long time.
  bool AwaitEnd(const std::string& name) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20),
                             [&] { return std::find(ended_.begin(), ended_.end(), name) != ended_.end(); });
  }
  // Tasks of the log's writer wait while it is shut.
  void SetGate(bool open) {
    std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void Posted(const std::string& name) {
    if (name.starts_with("shard-")) ++posted_to_shards;
  }
  std::atomic<int> posted_to_shards = 0;

  void PassGate() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> ended_;
  bool open_ = true;
};

class RecordedExecutor final : public env::Executor {
 public:
  RecordedExecutor(const std::string& name, Ledger* ledger)
      : name_(name), ledger_(ledger), under_(env::RealExecutors().NewExecutor(name)) {}
  ~RecordedExecutor() override {
    under_.reset();
    ledger_->Ended(name_);
  }
  void Post(env::Task task) override {
    ledger_->Posted(name_);
    if (name_ != "log-write") return under_->Post(std::move(task));
    under_->Post([this, task = std::move(task)]() mutable {
      ledger_->PassGate();
      task();
    });
  }
  env::TimerId PostAfter(env::Duration delay, env::Task task) override {
    return under_->PostAfter(delay, std::move(task));
  }
  void Cancel(env::TimerId timer) override { under_->Cancel(timer); }
  bool RunsHere() const override { return under_->RunsHere(); }
  void Stop() override {
    under_->Stop();
    ledger_->Ended(name_);
  }

 private:
  const std::string name_;
  Ledger* const ledger_;
  std::unique_ptr<env::Executor> under_;
};

class RecordedExecutors final : public env::Executors {
 public:
  explicit RecordedExecutors(Ledger* ledger) : ledger_(ledger) {}
  std::unique_ptr<env::Executor> NewExecutor(const std::string& name) override {
    return std::make_unique<RecordedExecutor>(name, ledger_);
  }

 private:
  Ledger* const ledger_;
};

class NoPeers final : public PeerTransport {
 public:
  void Send(const GroupId&, const raft::Peer&, raft::Message) override {}
  void SendSnapshot(const SnapshotOffer&, const raft::Peer&, env::Executor*,
                    absl::AnyInvocable<void(absl::Status)>) override {}
};

// Keeps what it is asked for ever: what a relay waits for when it is left over.
class KeptBytes final : public SilentBytes {
 public:
  std::unique_ptr<ByteSink> Open(env::Executor*, const raft::Peer&, const StreamHeader&,
                                 ByteSink::Opened opened) override {
    class Sink final : public ByteSink {
     public:
      explicit Sink(Opened kept) : opened_(std::move(kept)) {}
      void Append(uint64_t, Bytes, Done done) override { kept_.push_back(std::move(done)); }
      void Close(uint64_t, Closed done) override { closed_.push_back(std::move(done)); }

     private:
      Opened opened_;
      std::vector<Done> kept_;
      std::vector<Closed> closed_;
    };
    return std::make_unique<Sink>(std::move(opened));
  }
};

class NodeHostEnd : public testing::Test {
 protected:
  static raft::Peer PeerNamed(const std::string& id) {
    return {.id = {id}, .address = id, .data_stream_address = {}, .client_address = {}, .admin_address = {}};
  }

  absl::Status TryOpen(const std::string& machine, const std::vector<std::string>& peers, int groups = 1) {
    HostOptions options;
    options.self = PeerNamed("n0");
    options.data_dir = folder_.path();
    options.bootstrap = true;
    options.map_index = true;
    options.log.segment_bytes = 1 << 20;
    for (int i = 0; i < groups; ++i) {
      GroupSpec spec;
      spec.id.bytes[15] = static_cast<uint8_t>(i + 1);
      spec.machine = machine;
      for (const std::string& id : peers) spec.peers.push_back(PeerNamed(id));
      options.groups.push_back(spec);
    }
    auto opened = Host::Open(std::move(options), {.files = &env::RealFiles(),
                                                  .executors = &executors_,
                                                  .clock = &env::RealClock(),
                                                  .random = &env::RealRandom()});
    RETURN_IF_ERROR(opened.status());
    host_ = *std::move(opened);
    host_->Start(&peers_, &bytes_);
    return absl::OkStatus();
  }
  void Open(const std::string& machine, const std::vector<std::string>& peers, int groups = 1) {
    const absl::Status opened = TryOpen(machine, peers, groups);
    ASSERT_TRUE(opened.ok()) << Message(opened);
  }

  ClientReply Increment(const GroupId& group) {
    std::promise<ClientReply> answer;
    ClientRequest request;
    request.group = group;
    request.client.bytes[0] = 1;
    request.call = CallId{++calls_};
    request.message = Bytes::Copy("INCREMENT");
    host_->Submit(std::move(request), [&](ClientReply reply) { answer.set_value(std::move(reply)); });
    return answer.get_future().get();
  }
  void AwaitLeader(const GroupId& group) {
    while (Increment(group).code != ReplyCode::kOk) {
      std::promise<void> later;
      timers_->PostAfter(std::chrono::milliseconds(5), [&later] { later.set_value(); });
      later.get_future().wait();
    }
  }

  Ledger ledger_;
  RecordedExecutors executors_{&ledger_};
  NoPeers peers_;
  KeptBytes bytes_;
  const std::unique_ptr<env::Executor> timers_ = env::RealExecutors().NewExecutor("timers");
  const TempFolder folder_;
  uint64_t calls_ = 0;
  std::unique_ptr<Host> host_;
};

// Peers become the first entry of the log: what no core could read again must not be written.
TEST_F(NodeHostEnd, PeersThatCannotBeAGroupAreRefused) {
  for (const std::vector<std::string>& peers :
       {std::vector<std::string>{"n0", "n0"}, {"n0", ""}, {"n0", "n\n1"}}) {
    const absl::Status refused = TryOpen("counter", peers);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_NE(Message(refused).find("the peers of group"), std::string_view::npos) << refused;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

// Its checksum is right: this is what a first start with a peer listed twice once wrote.
TEST_F(NodeHostEnd, K24_AConfigurationOfTheDiskThatCannotBeIsAnErrorWithItsIndex) {
  ASSERT_TRUE(OpenIdentity(env::RealFiles(), folder_.path(), {"n0"}, /*bootstrap=*/true).ok());
  raft::Configuration twice;
  twice.voters = {PeerNamed("n0"), PeerNamed("n0")};
  for (const Bytes& payload : {raft::EncodeConfiguration(twice), Bytes::Copy("?"), Bytes()}) {
    std::filesystem::remove_all(folder_ / "log");
    {
      auto log =
          log::Log::Open(env::RealFiles(), env::RealExecutors(), folder_ / "log", {.segment_bytes = 1 << 20});
      ASSERT_TRUE(log.ok()) << Message(log.status());
      log::AppendBatch batch;
      batch.group.bytes[15] = 1;
      batch.hard_state = raft::HardState{.term = Term{1}, .voted_for = {"n0"}};
      batch.entries = {{{Term{1}, Index{0}}, raft::EntryKind::kCommand, Bytes::Copy("c")},
                       {{Term{1}, Index{1}}, raft::EntryKind::kConfiguration, payload}};
      std::promise<absl::Status> written;
      (*log)->Append(std::move(batch), timers_.get(),
                     [&](absl::Status status) { written.set_value(std::move(status)); });
      ASSERT_TRUE(written.get_future().get().ok());
    }
    const absl::Status refused = TryOpen("counter", {"n0"});
    EXPECT_TRUE(absl::IsDataLoss(refused)) << refused;
    EXPECT_NE(Message(refused).find(fmt::format("entry 1 of {}/log", folder_.path().string())),
              std::string_view::npos)
        << refused;
  }
}

TEST_F(NodeHostEnd, K18_CallersEndBeforeWhomTheyCall) {
  Open("counter", {"n0"});
  host_->Stop();
  host_->EndThreads();
  host_.reset();
  const std::vector<std::string> ended = ledger_.ended();
  const auto place = [&](const std::string& name) {
    return std::find(ended.begin(), ended.end(), name) - ended.begin();
  };
  for (const std::string caller : {"shard-0", "shard-1", "apply", "disk"}) {
    for (const std::string called : {"log-io", "log-write", "blob-0", "blob-read-0", "blob-hash-0"}) {
      EXPECT_LT(place(caller), place(called)) << caller << " calls what " << called << " belongs to";
    }
  }
}

TEST_F(NodeHostEnd, K18_AnAnswerOfTheLogThatComesTooLateIsDropped) {
  Open("counter", {"n0"});
  const GroupId group = host_->options().groups[0].id;
  AwaitLeader(group);
  ledger_.SetGate(false);
  std::promise<ClientReply> answer;
  ClientRequest request;
  request.group = group;
  request.client.bytes[0] = 1;
  request.call = CallId{++calls_};
  request.message = Bytes::Copy("INCREMENT");
  host_->Submit(std::move(request), [&](ClientReply reply) { answer.set_value(std::move(reply)); });
  host_->Stop();
  EXPECT_EQ(answer.get_future().get().code, ReplyCode::kUnavailable);
  std::thread ending([this] { host_->EndThreads(); });
  EXPECT_TRUE(ledger_.AwaitEnd("shard-0")) << "a shard that runs on uses a log that goes";
  EXPECT_TRUE(ledger_.AwaitEnd("shard-1"));
  ledger_.SetGate(true);  // what was appended is still written, and answered to nobody
  ending.join();
  host_.reset();
  Open("counter", {"n0"});
  AwaitLeader(group);
  EXPECT_EQ(Increment(group).message, std::string_view("\0\0\0\4", 4));
  host_->Stop();
  host_->EndThreads();
}

// One of 9 stops under load: the relay's lane was gone when the relay went. Who waits for its answer holds it, as
// the doors do: it is answered, or it would never go.
TEST_F(NodeHostEnd, K18_AnUploadByNameThatIsLeftOverOutlivesItsLanesThread) {
  Open("blob", {"n0", "n1", "n2"});
  const GroupId group = host_->options().groups[0].id;
  const auto home = env::RealExecutors().NewExecutor("lane-0");
  std::promise<std::shared_ptr<Relay>> opened;
  BlobHeader header;
  header.name = "left-over";
  host_->OpenWrite(group, header, 0, home.get(), [&](absl::StatusOr<std::shared_ptr<Relay>> relay) {
    ASSERT_TRUE(relay.ok()) << Message(relay.status());
    opened.set_value(*std::move(relay));
  });
  auto relay = opened.get_future().get();
  std::promise<void> sent;
  absl::Status closed;
  home->Post([&] {
    relay->Append(0, Bytes::Copy("not answered by its successors"), [](absl::Status) {});
    relay->Close([kept = relay, &closed](absl::StatusOr<blob::Sealed> sealed) { closed = sealed.status(); });
    relay.reset();
    sent.set_value();
  });
  sent.get_future().get();
  host_->Stop();
  home->Stop();
  EXPECT_EQ(closed.code(), absl::StatusCode::kUnavailable) << "F-40: it is cut, not left over";
  host_->EndThreads();
  host_.reset();
}

TEST_F(NodeHostEnd, K18_AStopTakesNoTimeForEachGroup) {
  constexpr int kGroups = 100;
  Open("counter", {"n0", "n1", "n2"}, kGroups);  // nobody leads: nothing to wait for
  const int before = ledger_.posted_to_shards;
  host_->Stop();
  EXPECT_LT(ledger_.posted_to_shards - before, kGroups) << "shards are asked, not groups";
  host_->EndThreads();
}

}  // namespace
}  // namespace sluice::node
