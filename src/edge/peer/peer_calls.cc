#include "edge/peer/peer_calls.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "edge/peer/convert.h"
#include "edge/peer/peer_service.h"
#include "edge/status.h"
#include "sluice/peer.grpc.pb.h"
#include "wire/handshake.h"

namespace sluice::edge::peer {
namespace {

constexpr int kShortDeadlineMs = 3'000;
constexpr int kLongDeadlineMs = 30'000;  // bytes move, or a log entry is awaited

std::string Raw(const GroupId& group) { return std::string(group.AsBytes()); }

node::ClientReply Failed(const absl::Status& status) {
  return {.code = node::ReplyCode::kUnavailable, .error = status, .message = {}, .leader = {}, .peers = {}};
}

auto Outcome(absl::AnyInvocable<void(node::ClientReply)> done) {
  return [done = std::move(done)](absl::StatusOr<pb::Outcome> outcome) mutable {
    if (!outcome.ok()) return done(Failed(outcome.status()));
    auto reply = FromProto(*outcome);
    done(reply.ok() ? *std::move(reply) : Failed(reply.status()));
  };
}

}  // namespace

template <typename Request, typename Reply, typename Start, typename Then>
void PeerCalls::Call(const raft::Peer& to, int deadline_ms, Request request, Start start,
                     env::Executor* reply_on, Then then) {
  struct State {
    std::unique_ptr<pb::Peer::Stub> stub;
    std::shared_ptr<grpc::ClientContext> context;
    Request request;
    Reply reply;
    Then then;
  };
  auto state =
      std::shared_ptr<State>(new State{nullptr, in_flight_.Begin(), std::move(request), {}, std::move(then)});
  if (state->context == nullptr) {
    reply_on->Post(
        [state] { state->then(absl::UnavailableError("too many calls to other servers, or stopping")); });
    return;
  }
  state->context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(deadline_ms));
  state->context->AddMetadata(wire::kTargetKey, to.id.value);
  state->stub = pb::Peer::NewStub(links_->Get(to.address, PeerLinks::kRequests));
  start(*state->stub->async(), state->context.get(), &state->request, &state->reply,
        [this, state, reply_on](const grpc::Status& status) {
          reply_on->Post([state, status] {
            if (status.ok()) {
              state->then(std::move(state->reply));
            } else {
              state->then(FromGrpc(status));
            }
          });
          in_flight_.End(state->context.get());
        });
}

void PeerCalls::Hello(const raft::Peer& to, const PeerId& self, const ClusterId& cluster,
                      env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  pb::HelloRequest request;
  request.set_server_id(self.value);
  request.set_target_id(to.id.value);
  request.set_cluster(std::string(cluster.AsBytes()));
  request.set_format_version(kFormatVersion);
  auto then = [done = std::move(done)](absl::StatusOr<pb::HelloReply> reply) mutable {
    if (reply.ok()) {
      return done(reply->accepted() ? absl::OkStatus() : absl::FailedPreconditionError(reply->message()));
    }
    if (!absl::IsUnimplemented(reply.status())) return done(reply.status());
    done(absl::FailedPreconditionError("it has no peer service, so it is no sluice server"));
  };
  Call<pb::HelloRequest, pb::HelloReply>(
      to, kShortDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Hello(a...); }, reply_on,
      std::move(then));
}

void PeerCalls::Have(const raft::Peer& to, const GroupId& group, const UploadId& upload,
                     env::Executor* reply_on, Done<node::HaveReply> done) {
  pb::HaveRequest request;
  request.set_group(Raw(group));
  ToProto(upload, request.mutable_upload());
  auto then = [done = std::move(done)](absl::StatusOr<pb::HaveReply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(FromProto(*reply));
  };
  Call<pb::HaveRequest, pb::HaveReply>(
      to, kShortDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Have(a...); }, reply_on,
      std::move(then));
}

void PeerCalls::TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                           env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  pb::SealedRequest request;
  request.set_group(Raw(group));
  ToProto(upload, request.mutable_upload());
  auto then = [done = std::move(done)](absl::StatusOr<pb::SealedReply> reply) mutable {
    done(reply.status());
  };
  Call<pb::SealedRequest, pb::SealedReply>(
      to, kShortDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Sealed(a...); }, reply_on,
      std::move(then));
}

void PeerCalls::OrderFetch(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                           env::Executor* reply_on, Done<node::HaveReply> done) {
  pb::OrderFetchRequest request;
  request.set_group(Raw(group));
  ToProto(upload, request.mutable_upload());
  auto then = [done = std::move(done)](absl::StatusOr<pb::HaveReply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(FromProto(*reply));
  };
  // As long as the bytes need, at a megabyte a second.
  const auto deadline_ms =
      static_cast<int>(kLongDeadlineMs + std::min<uint64_t>(upload.sealed.length >> 10, 3'600'000));
  Call<pb::OrderFetchRequest, pb::HaveReply>(
      to, deadline_ms, std::move(request), [](auto& async, auto... a) { async.OrderFetch(a...); }, reply_on,
      std::move(then));
}

void PeerCalls::QueryWrite(const raft::Peer& to, const GroupId& group, const std::string& name,
                           env::Executor* reply_on, Done<node::WriteStatus> done) {
  pb::QueryWriteRequest request;
  request.set_group(Raw(group));
  request.set_name(name);
  auto then = [done = std::move(done)](absl::StatusOr<pb::QueryWriteReply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(FromProto(*reply));
  };
  Call<pb::QueryWriteRequest, pb::QueryWriteReply>(
      to, kShortDeadlineMs, std::move(request), [](auto& async, auto... a) { async.QueryWrite(a...); },
      reply_on, std::move(then));
}

void PeerCalls::Recall(const raft::Peer& to, const GroupId& group, const PeerId& self,
                       const raft::RecallRequest& recall, env::Executor* reply_on,
                       Done<raft::RecallReply> done) {
  pb::RecallRequest request;
  request.set_group(Raw(group));
  request.set_server_id(self.value);
  request.set_from(recall.from.value);
  request.set_fence(recall.fence.value);
  auto then = [done = std::move(done)](absl::StatusOr<pb::RecallReply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(FromProto(*reply));
  };
  Call<pb::RecallRequest, pb::RecallReply>(
      to, kShortDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Recall(a...); }, reply_on,
      std::move(then));
}

void PeerCalls::Publish(const raft::Peer& to, const node::PublishRequest& publish, env::Executor* reply_on,
                        absl::AnyInvocable<void(node::ClientReply)> done) {
  pb::PublishRequest request;
  ToProto(publish, &request);
  Call<pb::PublishRequest, pb::Outcome>(
      to, kLongDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Publish(a...); }, reply_on,
      Outcome(std::move(done)));
}

void PeerCalls::Remove(const raft::Peer& to, const node::RemoveRequest& remove, env::Executor* reply_on,
                       absl::AnyInvocable<void(node::ClientReply)> done) {
  pb::RemoveRequest request;
  ToProto(remove, &request);
  Call<pb::RemoveRequest, pb::Outcome>(
      to, kLongDeadlineMs, std::move(request), [](auto& async, auto... a) { async.Remove(a...); }, reply_on,
      Outcome(std::move(done)));
}

}  // namespace sluice::edge::peer
