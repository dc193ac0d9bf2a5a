#include "edge/peer/peer_calls.h"

#include <algorithm>
#include <utility>

#include "edge/peer/convert.h"
#include "edge/peer/methods.h"

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

template <typename Request, typename Reply, typename Then>
void PeerCalls::Call(const raft::Peer& to, const Method<Request, Reply>& method, int deadline_ms,
                     Request request, env::Executor* reply_on, Then then) {
  wire_->Call({to.id, to.address}, method, deadline_ms, std::move(request),
              [reply_on, then = std::move(then)](absl::StatusOr<Reply> reply) mutable {
                reply_on->Post(
                    [then = std::move(then), reply = std::move(reply)]() mutable { then(std::move(reply)); });
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
  Call(to, kHello, kShortDeadlineMs, std::move(request), reply_on, std::move(then));
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
  Call(to, kHave, kShortDeadlineMs, std::move(request), reply_on, std::move(then));
}

void PeerCalls::TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                           env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  pb::SealedRequest request;
  request.set_group(Raw(group));
  ToProto(upload, request.mutable_upload());
  auto then = [done = std::move(done)](absl::StatusOr<pb::SealedReply> reply) mutable {
    done(reply.status());
  };
  Call(to, kSealed, kShortDeadlineMs, std::move(request), reply_on, std::move(then));
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
  Call(to, kOrderFetch, deadline_ms, std::move(request), reply_on, std::move(then));
}

void PeerCalls::QueryWrite(const raft::Peer& to, const GroupId& group, const node::WriteKey& write,
                           env::Executor* reply_on, Done<node::WriteStatus> done) {
  pb::QueryWriteRequest request;
  request.set_group(Raw(group));
  request.set_name(write.name);
  request.set_writer(write.writer);
  auto then = [done = std::move(done)](absl::StatusOr<pb::QueryWriteReply> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done(FromProto(*reply));
  };
  Call(to, kQueryWrite, kShortDeadlineMs, std::move(request), reply_on, std::move(then));
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
  Call(to, kRecall, kShortDeadlineMs, std::move(request), reply_on, std::move(then));
}

void PeerCalls::Publish(const raft::Peer& to, const node::PublishRequest& publish, env::Executor* reply_on,
                        absl::AnyInvocable<void(node::ClientReply)> done) {
  pb::PublishRequest request;
  ToProto(publish, &request);
  Call(to, kPublish, kLongDeadlineMs, std::move(request), reply_on, Outcome(std::move(done)));
}

void PeerCalls::Remove(const raft::Peer& to, const node::RemoveRequest& remove, env::Executor* reply_on,
                       absl::AnyInvocable<void(node::ClientReply)> done) {
  pb::RemoveRequest request;
  ToProto(remove, &request);
  Call(to, kRemove, kLongDeadlineMs, std::move(request), reply_on, Outcome(std::move(done)));
}

}  // namespace sluice::edge::peer
