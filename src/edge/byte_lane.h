// node::ByteTransport of an edge: sinks by DataStream, fetches by ByteStream,
// the rest by the peer service (D-06).
//
//   ByteLane lane(&peer_calls);  lane.Plug(&sinks, &fetcher);  host->Start(&peers, &lane);
//
// Threading: Plug before the host starts; then any thread. Ownership: what is plugged in must outlive the
// host's Stop(). Failure: without a plug, Open gives a sink that fails and Fetch answers UNIMPLEMENTED.
#pragma once

#include <memory>
#include <utility>

#include "edge/peer/peer_calls.h"
#include "node/transports.h"

namespace sluice::edge {

// Opens streams of uploads to successors. See node::ByteTransport::Open.
class SinkFactory {
 public:
  virtual ~SinkFactory() = default;
  virtual std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                               const node::StreamHeader& header,
                                               node::ByteSink::Opened opened) = 0;
};

// Reads sealed uploads of other servers. See node::ByteTransport::Fetch.
class Fetcher {
 public:
  virtual ~Fetcher() = default;
  virtual void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
                     env::Executor* reply_on, node::ByteTransport::Done<Bytes> done) = 0;
};

class ByteLane final : public node::ByteTransport {
 public:
  ByteLane(peer::PeerCalls* calls, PeerId self) : calls_(calls), self_(std::move(self)) {}

  void Plug(SinkFactory* sinks, Fetcher* fetcher) {
    sinks_ = sinks;
    fetcher_ = fetcher;
  }

  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override;
  void Have(const raft::Peer& to, const GroupId& group, const UploadId& upload, env::Executor* reply_on,
            Done<node::HaveReply> done) override {
    calls_->Have(to, group, upload, reply_on, std::move(done));
  }
  void TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) override {
    calls_->TellSealed(to, group, upload, reply_on, std::move(done));
  }
  void OrderFetch(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, Done<node::HaveReply> done) override {
    calls_->OrderFetch(to, group, upload, reply_on, std::move(done));
  }
  void QueryWrite(const raft::Peer& to, const GroupId& group, const node::WriteKey& write,
                  env::Executor* reply_on, Done<node::WriteStatus> done) override {
    calls_->QueryWrite(to, group, write, reply_on, std::move(done));
  }
  void Recall(const raft::Peer& to, const GroupId& group, const raft::RecallRequest& request,
              env::Executor* reply_on, Done<raft::RecallReply> done) override {
    calls_->Recall(to, group, self_, request, reply_on, std::move(done));
  }
  void Publish(const raft::Peer& to, const node::PublishRequest& request, env::Executor* reply_on,
               absl::AnyInvocable<void(node::ClientReply)> done) override {
    calls_->Publish(to, request, reply_on, std::move(done));
  }
  void Remove(const raft::Peer& to, const node::RemoveRequest& request, env::Executor* reply_on,
              absl::AnyInvocable<void(node::ClientReply)> done) override {
    calls_->Remove(to, request, reply_on, std::move(done));
  }
  void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, Done<Bytes> done) override;

 private:
  peer::PeerCalls* const calls_;
  const PeerId self_;
  SinkFactory* sinks_ = nullptr;
  Fetcher* fetcher_ = nullptr;
};

}  // namespace sluice::edge
