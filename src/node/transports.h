// What node needs from the network; edges implement it over sockets, the simulator over packets.
//
// Threading: every method may be called from any thread; results are posted to the executor that the caller
// names. Nothing here is reliable: messages may be lost or late,
// calls end with a status after their deadline at the latest.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/cluster_id.h"
#include "blob/upload.h"
#include "env/executor.h"
#include "node/request.h"
#include "raft/recall.h"
#include "raft/types.h"

namespace sluice::node {

// How far a snapshot has got, for status. Written by the transport, read by anybody.
struct SnapshotProgress {
  std::atomic<uint64_t> bytes{0};  // accepted by the peer
  std::atomic<uint64_t> total{0};
};

// A snapshot of a group as a file of this server, to be brought to a follower (format:
// docs/formats/snapshot.md). How long it is, the file says.
struct SnapshotOffer {
  GroupId group;
  Term leader_term;
  TermIndex at;
  raft::Configuration configuration;  // in force at `at`
  std::string path;
  // The group is in ratis mode: its members may be no sluice servers, which must not be sent this format.
  bool foreign_members = false;
  std::shared_ptr<SnapshotProgress> progress = std::make_shared<SnapshotProgress>();
};

// Order lane: best effort, bounded, reports unreachable peers through Host::Unreachable.
class PeerTransport {
 public:
  virtual ~PeerTransport() = default;
  // Sends `message`; a full queue drops it. Replies (their `call` echoes a request given to Host::Step) go
  // back the way the request came.
  virtual void Send(const GroupId& group, const raft::Peer& to, raft::Message message) = 0;
  // Brings a snapshot; `done` gets ok once the peer has installed it, or has all of it already; UNAVAILABLE
  // where it did not arrive, or cannot be taken now; anything else where this file is not taken.
  virtual void SendSnapshot(const SnapshotOffer& offer, const raft::Peer& to, env::Executor* reply_on,
                            absl::AnyInvocable<void(absl::Status)> done) = 0;
};

// How an upload travels: who receives it from the client, and who passes it to whom.
struct Route {
  PeerId primary;
  // successors[x]: to whom x passes the bytes on.
  // Absent table (`given` false): the primary to every other voter.
  bool given = false;
  std::vector<std::pair<PeerId, std::vector<PeerId>>> successors;
};

// Everything that opens an upload.
struct StreamHeader {
  GroupId group;
  UploadId upload;
  Route route;
  BlobHeader blob;
  // The receiver may have a part of the upload already, from a server that is out of reach: it goes on with
  // that, and whoever sent it is fenced (D-15). The value is how much the sender has: a receiver that has
  // more (the sender lost its end in a crash) begins again. Between servers only.
  std::optional<uint64_t> take_over;
  // What the sender says of the two ends; empty: nothing.
  ClusterId cluster;
  PeerId target;
  // The header's bytes as they came (a RaftClientRequestProto), passed on unchanged; edges make and read it.
  Bytes raw;
};

// One upload's stream to one successor. Lives on the executor it was opened on;
// dropping it gives the stream up.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  using Done = absl::AnyInvocable<void(absl::Status)>;
  // Of a stream that takes over: how much the successor has, where the first piece begins.
  using Opened = absl::AnyInvocable<void(absl::StatusOr<uint64_t> length)>;
  // Sends a piece; `done` gets the successor's answer. Pieces are answered in order.
  virtual void Append(uint64_t offset, Bytes piece, Done done) = 0;
  using Closed = absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)>;
  // Sends CLOSE at `offset`; the answer is what the successor holds sealed, for the caller to compare (D-09).
  virtual void Close(uint64_t offset, Closed done) = 0;
};

enum class HoldState : uint8_t { kNone = 0, kOpen = 1, kSealed = 2 };

// A server's answer to "what do you hold of this upload?".
struct HaveReply {
  HoldState state = HoldState::kNone;
  blob::Sealed sealed;          // kSealed, or entered
  uint64_t durable_length = 0;  // kOpen
  // The log has entered the upload as `sealed`, as far as this server has applied it; kSealed then means that
  // the bytes are here and are not known to be damaged.
  bool entered = false;
  bool abandoned = false;  // the log says that it is never entered, as far as this server has applied it
};

// What is known of a resource that is being, or was, written through ByteStream.
struct WriteStatus {
  uint64_t committed = 0;
  bool complete = false;
};

// Sealed bytes that are asked of another server: others than these are not an answer.
struct FetchWanted {
  GroupId group;
  UploadId upload;
  uint64_t length = 0;
  uint32_t checksum = 0;

  blob::Sealed sealed() const { return {length, checksum, std::nullopt}; }
};

// An upload that a majority holds sealed, with what the log needs to know of it (D-11).
struct SealedUpload {
  UploadId upload;
  BlobHeader header;
  blob::Sealed sealed;
  std::vector<PeerId> holders;
};

// What a primary that does not lead asks of the leader (D-12): enter this upload, or these bytes (D-16).
struct PublishRequest {
  GroupId group;
  SealedUpload upload;
  std::optional<Bytes> inline_bytes;
  bool abandon = false;  // say instead that `upload` will never be entered: its time-to-live is over (D-10)
};

// A small operation by name that any server passes on to the leader.
struct RemoveRequest {
  GroupId group;
  std::string name;
  ClientId client;
  CallId call;
};

// Byte lane (D-06). Open and the sink use DataStream packets; the others are the small service of D-03, and
// Fetch is ByteStream.Read by upload id.
class ByteTransport {
 public:
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  virtual ~ByteTransport() = default;

  // With header.take_over nothing may be sent before `opened` has been called; otherwise `opened` is null.
  virtual std::unique_ptr<ByteSink> Open(env::Executor* home, const raft::Peer& to,
                                         const StreamHeader& header, ByteSink::Opened opened) = 0;
  virtual void Have(const raft::Peer& to, const GroupId& group, const UploadId& upload,
                    env::Executor* reply_on, Done<HaveReply> done) = 0;
  // Tells the leader who holds a sealed upload; FAILED_PRECONDITION or ABORTED if it can never be entered.
  virtual void TellSealed(const raft::Peer& to, const GroupId& group, const SealedUpload& upload,
                          env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) = 0;
  // Asks `to` to fetch the sealed upload from `from` and answers once it holds it sealed.
  virtual void OrderFetch(const raft::Peer& to, const GroupId& group, const SealedUpload& upload,
                          env::Executor* reply_on, Done<HaveReply> done) = 0;
  // How far `write` is at `to`, which asks nobody else (D-20); NOT_FOUND if it does not know it.
  virtual void QueryWrite(const raft::Peer& to, const GroupId& group, const WriteKey& write,
                          env::Executor* reply_on, Done<WriteStatus> done) = 0;
  // What `to` knows of entries that this server lost (F-05). An error is no answer: a foreign peer, or nobody.
  virtual void Recall(const raft::Peer& to, const GroupId& group, const raft::RecallRequest& request,
                      env::Executor* reply_on, Done<raft::RecallReply> done);
  virtual void Publish(const raft::Peer& to, const PublishRequest& request, env::Executor* reply_on,
                       absl::AnyInvocable<void(ClientReply)> done) = 0;
  virtual void Remove(const raft::Peer& to, const RemoveRequest& request, env::Executor* reply_on,
                      absl::AnyInvocable<void(ClientReply)> done) = 0;
  // Reads [offset, offset + count) of a sealed upload held by `to`; exactly that many bytes or an error.
  virtual void Fetch(const raft::Peer& to, const FetchWanted& wanted, uint64_t offset, uint64_t count,
                     env::Executor* reply_on, Done<Bytes> done) = 0;
};

inline void ByteTransport::Recall(const raft::Peer&, const GroupId&, const raft::RecallRequest&,
                                  env::Executor* reply_on, Done<raft::RecallReply> done) {
  reply_on->Post([done = std::move(done)]() mutable { done(absl::UnimplementedError("no such call here")); });
}

}  // namespace sluice::node
