#include "edge/peer/peer_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "base/log.h"
#include "base/names.h"
#include "edge/handshake.h"
#include "edge/peer/convert.h"
#include "edge/ratis/convert.h"
#include "edge/status.h"
#include "env/clock.h"

namespace sluice::edge::peer {
namespace {

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace

PeerService::PeerService(node::Host* host, env::Executor* executor)
    : host_(host), executor_(executor), incarnation_(static_cast<uint64_t>(env::RealClock().WallNowMs())) {}

absl::Status PeerService::CheckCall(const grpc::CallbackServerContext& context,
                                    const absl::StatusOr<GroupId>& group) const {
  RETURN_IF_ERROR(group.status());
  RETURN_IF_ERROR(CheckServer(context, *host_, {.group = *group, .from = {}, .target = {}}));
  if (host_->HasGroup(*group)) return absl::OkStatus();
  return absl::NotFoundError(fmt::format("group {} is not here", group->ToString()));
}

grpc::ServerUnaryReactor* PeerService::Hello(grpc::CallbackServerContext* context,
                                             const pb::HelloRequest* request, pb::HelloReply* reply) {
  const std::string& self = host_->options().self.id.value;
  reply->set_server_id(self);
  reply->set_incarnation(incarnation_);
  reply->set_format_version(kFormatVersion);
  for (const GroupId& group : host_->Groups()) {
    reply->add_groups(group.AsBytes().data(), group.AsBytes().size());
  }
  reply->set_cluster(std::string(host_->cluster().said().AsBytes()));
  const auto theirs = ClusterId::FromBytes(request->cluster()).value_or(ClusterId{});
  const absl::Status same =
      host_->cluster().Check(fmt::format("server {}", Printable(request->server_id())), theirs);
  if (!same.ok()) {
    reply->set_message(std::string(Message(same)));
  } else if (!request->target_id().empty() && request->target_id() != self) {
    reply->set_message(fmt::format("this is server {}, not the one that was meant", self));
  } else if (request->server_id() == self) {
    reply->set_message(fmt::format("two servers call themselves {}", self));
  } else if (request->format_version() == 0) {
    reply->set_message(fmt::format("format {} is the oldest", kFormatVersion));
  } else {
    reply->set_accepted(true);
  }
  return FinishNow(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* PeerService::Have(grpc::CallbackServerContext* context,
                                            const pb::HaveRequest* request, pb::HaveReply* reply) {
  const auto group = GroupFrom(request->group());
  absl::Status status = CheckCall(*context, group);
  const auto upload = FromProto(request->upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Have(*group, *upload, executor_, [reactor, reply](absl::StatusOr<node::HaveReply> have) {
    if (have.ok()) ToProto(*have, reply);
    reactor->Finish(ToGrpc(have.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::Sealed(grpc::CallbackServerContext* context,
                                              const pb::SealedRequest* request, pb::SealedReply*) {
  const auto group = GroupFrom(request->group());
  absl::Status status = CheckCall(*context, group);
  auto upload = FromProto(request->upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->OnSealed(*group, *std::move(upload), executor_,
                  [reactor](const absl::Status& told) { reactor->Finish(ToGrpc(told)); });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::OrderFetch(grpc::CallbackServerContext* context,
                                                  const pb::OrderFetchRequest* request,
                                                  pb::HaveReply* reply) {
  const auto group = GroupFrom(request->group());
  absl::Status status = CheckCall(*context, group);
  auto upload = FromProto(request->upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->FetchSealed(*group, *std::move(upload), executor_,
                     [reactor, reply](absl::StatusOr<node::HaveReply> have) {
                       if (have.ok()) ToProto(*have, reply);
                       reactor->Finish(ToGrpc(have.status()));
                     });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::Recall(grpc::CallbackServerContext* context,
                                              const pb::RecallRequest* request, pb::RecallReply* reply) {
  const auto group = GroupFrom(request->group());
  absl::Status status = CheckCall(*context, group);
  const auto from = ratis::PeerIdFromWire(request->server_id());
  if (status.ok()) status = from.status();
  const auto recall = FromProto(*request);
  if (status.ok()) status = recall.status();
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Recall(*group, *from, *recall, executor_, [reactor, reply](absl::StatusOr<raft::RecallReply> known) {
    if (known.ok()) ToProto(*known, reply);
    reactor->Finish(ToGrpc(known.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::QueryWrite(grpc::CallbackServerContext* context,
                                                  const pb::QueryWriteRequest* request,
                                                  pb::QueryWriteReply* reply) {
  const auto group = GroupFrom(request->group());
  absl::Status status = CheckCall(*context, group);
  if (status.ok()) status = CheckName(request->name());
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // Not of others: whoever asks does that, and a question must not go round.
  constexpr bool kAskOthers = false;
  host_->QueryWrite(*group, request->name(), kAskOthers, executor_,
                    [reactor, reply](absl::StatusOr<node::WriteStatus> known) {
                      absl::Status answered = known.status();
                      if (known.ok()) ToProto(*known, reply);
                      if (absl::IsNotFound(answered)) answered = absl::OkStatus();
                      reactor->Finish(ToGrpc(answered));
                    });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::Publish(grpc::CallbackServerContext* context,
                                               const pb::PublishRequest* request, pb::Outcome* reply) {
  auto publish = FromProto(*request);
  absl::Status status = publish.status();
  if (status.ok()) status = CheckCall(*context, publish->group);
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Publish(*std::move(publish), [reactor, reply](node::ClientReply answered) {
    ToProto(answered, reply);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* PeerService::Remove(grpc::CallbackServerContext* context,
                                              const pb::RemoveRequest* request, pb::Outcome* reply) {
  auto remove = FromProto(*request);
  absl::Status status = remove.status();
  if (status.ok()) status = CheckCall(*context, remove->group);
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Remove(*std::move(remove), [reactor, reply](node::ClientReply answered) {
    ToProto(answered, reply);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

}  // namespace sluice::edge::peer
