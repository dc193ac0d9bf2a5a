#include "edge/ratis/peer_transport.h"

#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/metrics.h"
#include "edge/ratis/methods.h"
#include "edge/ratis/snapshot_sender.h"

namespace sluice::edge::ratis {
namespace {

constexpr int kVoteDeadlineMs = 1000;
constexpr int kReadIndexDeadlineMs = 3000;
constexpr env::Duration kRefusalLogPause = std::chrono::seconds(1);

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace

PeerTransport::PeerTransport(node::Host* host, Parts parts) : host_(host), parts_(parts) {}

PeerTransport::~PeerTransport() { Stop(); }

void PeerTransport::Stop() {
  parts_.calls->Stop();
  parts_.streams->Stop();
}

void PeerTransport::Send(const GroupId& group, const raft::Peer& to, raft::Message message) {
  std::visit(Overloaded{
                 [&](raft::AppendRequest& append) { SendAppend(group, to, append); },
                 [&](raft::VoteRequest& vote) { SendVote(group, to, vote); },
                 [&](raft::ReadIndexRequest& request) { SendReadIndex(group, to, request); },
                 [&](raft::TimeoutNow& request) { SendTimeoutNow(group, to, request); },
                 // A reply goes back the way its request came.
                 [&](auto& reply) {
                   const uint64_t token = reply.call;
                   if (!parts_.replies->Answer(token, std::move(reply)))
                     LogDebug("nobody waits for reply {}", token);
                 },
             },
             message);
}

std::shared_ptr<AppendSender> PeerTransport::Sender(const GroupId& group, const raft::Peer& to,
                                                    bool heartbeats) {
  static Counter& refused =
      NewCounter("sluice_peer_streams_refused_total", "Appends that found no room for one more stream");
  std::optional<std::shared_ptr<AppendSender>> let_go;
  std::shared_ptr<AppendSender> sender;
  bool say_so = false;
  {
    std::lock_guard lock(mutex_);
    const env::Instant now = parts_.time.clock->MonotonicNow();
    const auto make = [&] {
      return std::make_shared<AppendSender>(host_, group, WireTo{to.id, to.address, heartbeats},
                                            parts_.streams, parts_.time);
    };
    if (auto* found = senders_.Get({group, to.id, to.address, heartbeats}, now, make, &let_go)) {
      sender = *found;
    } else if (now >= next_refusal_log_) {
      next_refusal_log_ = now + kRefusalLogPause;
      say_so = true;
    }
  }
  if (let_go) (*let_go)->Close();
  if (sender == nullptr) refused.Increment();
  if (say_so) {
    LogWarn(
        "group {}: nothing can be sent to {}: {} streams to other servers are in use, the limit; this server "
        "leads too many groups",
        group.ToString(), to.id.value, kSendersMax);
  }
  return sender;
}

void PeerTransport::SendAppend(const GroupId& group, const raft::Peer& to,
                               const raft::AppendRequest& append) {
  const bool heartbeat = append.entries.empty();
  const std::shared_ptr<AppendSender> sender = Sender(group, to, heartbeat);
  if (heartbeat && sender != nullptr) {
    sender->CheckSilence();
    if (const auto requests = Sender(group, to, false)) requests->CheckSilence();
  }
  if (sender == nullptr || !sender->Send(append)) host_->Unreachable(group, to.id);
}

template <typename Request, typename Reply, typename Then>
void PeerTransport::Call(const GroupId& group, const raft::Peer& to, const Method<Request, Reply>& method,
                         int deadline_ms, Request request, Then then) {
  ToProto(ServerHeader{host_->options().self.id, group, 0}, to.id, request.mutable_server_request());
  parts_.calls->Call({to.id, to.address}, method, deadline_ms, std::move(request),
                     [this, group, peer = to.id, then](const absl::StatusOr<Reply>& reply) {
                       if (reply.ok()) return Step(group, peer, then(*reply));
                       LogDebug("call to {}: {}", peer.value, Printable(Message(reply.status())));
                       host_->cluster().TellRefused(peer, reply.status());
                       host_->Unreachable(group, peer);
                     });
}

void PeerTransport::Step(const GroupId& group, const PeerId& from, absl::StatusOr<raft::Message> reply) {
  absl::Status status = reply.status();
  if (reply.ok()) status = host_->Step(group, from, *std::move(reply));
  if (!status.ok()) LogDebug("reply of {} dropped: {}", from.value, Message(status));
}

void PeerTransport::SendVote(const GroupId& group, const raft::Peer& to, const raft::VoteRequest& vote) {
  pb::RequestVoteRequestProto request;
  ToProto(vote, &request);
  Call(group, to, kRequestVote, kVoteDeadlineMs, std::move(request),
       [vote](const pb::RequestVoteReplyProto& reply) -> absl::StatusOr<raft::Message> {
         ASSIGN_OR_RETURN(raft::VoteReply voted, FromProto(reply, vote));
         return raft::Message(voted);
       });
}

void PeerTransport::SendReadIndex(const GroupId& group, const raft::Peer& to,
                                  const raft::ReadIndexRequest& ask) {
  pb::ReadIndexRequestProto request;
  // A Java leader reads who asks, and that it is a read.
  pb::RaftClientRequestProto* client = request.mutable_client_request();
  client->mutable_read();
  pb::RaftRpcRequestProto* header = client->mutable_rpc_request();
  const std::string_view id = group.AsBytes();
  header->set_requestor_id(id.data(), id.size());
  header->set_reply_id(to.id.value);
  header->mutable_raft_group_id()->set_id(id.data(), id.size());
  header->set_call_id(ask.call);
  Call(group, to, kReadIndex, kReadIndexDeadlineMs, std::move(request),
       [call = ask.call](const pb::ReadIndexReplyProto& reply) -> absl::StatusOr<raft::Message> {
         ASSIGN_OR_RETURN(raft::ReadIndexReply read, FromProto(reply, call));
         return raft::Message(read);
       });
}

void PeerTransport::SendTimeoutNow(const GroupId& group, const raft::Peer& to,
                                   const raft::TimeoutNow& message) {
  pb::StartLeaderElectionRequestProto request;
  ToProto(message, &request);
  Call(
      group, to, kStartLeaderElection, kVoteDeadlineMs, std::move(request),
      [call = message.call](const pb::StartLeaderElectionReplyProto& reply) -> absl::StatusOr<raft::Message> {
        return raft::Message(raft::TimeoutNowReply{.call = call, .accepted = reply.server_reply().success()});
      });
}

void PeerTransport::SendSnapshot(const node::SnapshotOffer& offer, const raft::Peer& to,
                                 env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  auto finish = [reply_on, done = std::move(done)](absl::Status status) mutable {
    reply_on->Post(
        [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
  };
  auto start = [this, offer, to, finish = std::move(finish)](const absl::Status& known) mutable {
    if (!known.ok()) {
      return finish(absl::Status(known.code(), fmt::format("not sent, being of sluice's own format: {}",
                                                           Printable(Message(known)))));
    }
    StartSnapshotSender({.self = host_->options().self.id, .to = to.id, .offer = offer},
                        {.wire = parts_.calls,
                         .to = {to.id, to.address},
                         .disk = parts_.disk,
                         .files = parts_.files,
                         .clock = parts_.time.clock},
                        std::move(finish));
  };
  // A Java server takes any snapshot whose MD5 is right, and reads ours as its machine's state.
  if (offer.foreign_members) {
    return parts_.peer_calls->Hello(to, host_->options().self.id, host_->cluster().said(), parts_.disk,
                                    std::move(start));
  }
  start(absl::OkStatus());
}

}  // namespace sluice::edge::ratis
