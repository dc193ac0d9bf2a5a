// node::PeerTransport and node::ByteTransport of one simulated server, over sim::PacketNetwork.
//
//   SimSwitch all(world, network);
//   SimTransports transports(all, {.self = id, .host = host, .lane = lane, .files = &disk});
//   host->Start(&transports, &transports);
//   ... transports.Drop();        // the process is dead: before its host is destroyed
//
// Raft messages are packets: lost, doubled, reordered. Calls (Have, Publish, Fetch, ...) are a packet each
// way and a deadline. Streams of uploads are connections. Threading: the world's thread. Ownership: parts
// outlive Drop(). Failure: callbacks run once, on the executor that the caller named, and never after Drop().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "env/files.h"
#include "node/host.h"
#include "node/transports.h"
#include "sim/packet_network.h"

namespace sluice::sim {

class SimTransports;

// Something that belongs to one life of a server and must let go of its objects when that life ends.
class OwnedByLife {
 public:
  virtual ~OwnedByLife() = default;
  virtual void Drop() = 0;
};

// Who lives on the network.
struct SimSwitch {
  World& world;
  PacketNetwork& network;
  std::map<PeerId, SimTransports*> living = {};

  SimTransports* Find(const PeerId& id) const {
    const auto it = living.find(id);
    return it == living.end() ? nullptr : it->second;
  }
};

class SimTransports final : public node::PeerTransport, public node::ByteTransport {
 public:
  struct Parts {
    PeerId self;
    node::Host* host = nullptr;
    env::Executor* lane = nullptr;  // where incoming streams and calls live
    env::Files* files = nullptr;
  };
  template <typename T>
  using Answer = std::function<void(absl::StatusOr<T>)>;

  SimTransports(SimSwitch& all, Parts parts);
  ~SimTransports() override { Drop(); }
  void Drop();

  // `owned` is told to let go when this life ends.
  void Own(std::weak_ptr<OwnedByLife> owned);
  const Parts& parts() const { return parts_; }
  // Calls made since this life began.
  uint64_t fetches() const { return fetches_; }
  uint64_t ordered_fetches() const { return ordered_fetches_; }
  SimSwitch& all() { return all_; }

  // --- node::PeerTransport
  void Send(const GroupId& group, const raft::Peer& to, raft::Message message) override;
  void SendSnapshot(const node::SnapshotOffer& offer, const raft::Peer& to, env::Executor* reply_on,
                    absl::AnyInvocable<void(absl::Status)> done) override;

  // --- node::ByteTransport
  template <typename T>
  using Done = node::ByteTransport::Done<T>;
  std::unique_ptr<node::ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                       const node::StreamHeader& header,
                                       node::ByteSink::Opened opened) override;
  void Have(const raft::Peer& to, const GroupId& group, const UploadId& upload, env::Executor* reply_on,
            Done<node::HaveReply> done) override;
  void TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) override;
  void OrderFetch(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                  env::Executor* reply_on, Done<node::HaveReply> done) override;
  void QueryWrite(const raft::Peer& to, const GroupId& group, const std::string& name,
                  env::Executor* reply_on, Done<node::WriteStatus> done) override;
  void Recall(const raft::Peer& to, const GroupId& group, const raft::RecallRequest& request,
              env::Executor* reply_on, Done<raft::RecallReply> done) override;
  void Publish(const raft::Peer& to, const node::PublishRequest& request, env::Executor* reply_on,
               absl::AnyInvocable<void(node::ClientReply)> done) override;
  void Remove(const raft::Peer& to, const node::RemoveRequest& request, env::Executor* reply_on,
              absl::AnyInvocable<void(node::ClientReply)> done) override;
  void Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
             env::Executor* reply_on, Done<Bytes> done) override;

 private:
  // Runs `ask` at `to` with a function that carries the answer back;
  // the first answer, or the deadline, ends it.
  template <typename Reply>
  void Call(const PeerId& to, env::Duration deadline, env::Executor* reply_on,
            std::function<void(SimTransports& there, Answer<Reply>)> ask, Done<Reply> done);
  void ReceiveSnapshot(const node::SnapshotOffer& offer, const std::string& content, Answer<bool> answer);

  SimSwitch& all_;
  const Parts parts_;
  std::vector<std::weak_ptr<OwnedByLife>> owned_;
  uint64_t snapshots_ = 0;
  uint64_t fetches_ = 0;
  uint64_t ordered_fetches_ = 0;
  bool dropped_ = false;
};

}  // namespace sluice::sim
