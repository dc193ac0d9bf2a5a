#include "edge/peer/peer_handlers.h"

#include <utility>

#include "base/log.h"
#include "base/names.h"
#include "edge/peer/convert.h"
#include "edge/ratis/convert.h"

namespace sluice::edge::peer {

PeerHandlers::PeerHandlers(node::Host* host, env::Executor* executor, const env::Clock* clock)
    : host_(host), executor_(executor), incarnation_(static_cast<uint64_t>(clock->WallNowMs())) {}

absl::Status PeerHandlers::CheckCall(const CallerSays& says, const absl::StatusOr<GroupId>& group) const {
  RETURN_IF_ERROR(group.status());
  RETURN_IF_ERROR(CheckServer(says, *host_, {.group = *group, .from = {}, .target = {}}));
  if (host_->HasGroup(*group)) return absl::OkStatus();
  return absl::NotFoundError(fmt::format("group {} is not here", group->ToString()));
}

void PeerHandlers::Hello(const CallerSays&, const pb::HelloRequest& request, pb::HelloReply* reply,
                         Finish finish) {
  const std::string& self = host_->options().self.id.value;
  reply->set_server_id(self);
  reply->set_incarnation(incarnation_);
  reply->set_format_version(kFormatVersion);
  for (const GroupId& group : host_->Groups()) {
    reply->add_groups(group.AsBytes().data(), group.AsBytes().size());
  }
  reply->set_cluster(std::string(host_->cluster().said().AsBytes()));
  const auto theirs = ClusterId::FromBytes(request.cluster()).value_or(ClusterId{});
  const absl::Status same =
      host_->cluster().Check(fmt::format("server {}", Printable(request.server_id())), theirs);
  if (!same.ok()) {
    reply->set_message(std::string(Message(same)));
  } else if (!request.target_id().empty() && request.target_id() != self) {
    reply->set_message(fmt::format("this is server {}, not the one that was meant", self));
  } else if (request.server_id() == self) {
    reply->set_message(fmt::format("two servers call themselves {}", self));
  } else if (request.format_version() == 0) {
    reply->set_message(fmt::format("format {} is the oldest", kFormatVersion));
  } else {
    reply->set_accepted(true);
  }
  finish(absl::OkStatus());
}

void PeerHandlers::Have(const CallerSays& says, const pb::HaveRequest& request, pb::HaveReply* reply,
                        Finish finish) {
  const auto group = GroupFrom(request.group());
  absl::Status status = CheckCall(says, group);
  const auto upload = FromProto(request.upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return finish(status);
  host_->Have(*group, *upload, executor_,
              [reply, finish = std::move(finish)](absl::StatusOr<node::HaveReply> have) mutable {
                if (have.ok()) ToProto(*have, reply);
                finish(have.status());
              });
}

void PeerHandlers::Sealed(const CallerSays& says, const pb::SealedRequest& request, pb::SealedReply*,
                          Finish finish) {
  const auto group = GroupFrom(request.group());
  absl::Status status = CheckCall(says, group);
  auto upload = FromProto(request.upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return finish(status);
  host_->OnSealed(*group, *std::move(upload), executor_, std::move(finish));
}

void PeerHandlers::OrderFetch(const CallerSays& says, const pb::OrderFetchRequest& request,
                              pb::HaveReply* reply, Finish finish) {
  const auto group = GroupFrom(request.group());
  absl::Status status = CheckCall(says, group);
  auto upload = FromProto(request.upload());
  if (status.ok()) status = upload.status();
  if (!status.ok()) return finish(status);
  host_->FetchSealed(*group, *std::move(upload), executor_,
                     [reply, finish = std::move(finish)](absl::StatusOr<node::HaveReply> have) mutable {
                       if (have.ok()) ToProto(*have, reply);
                       finish(have.status());
                     });
}

void PeerHandlers::Recall(const CallerSays& says, const pb::RecallRequest& request, pb::RecallReply* reply,
                          Finish finish) {
  const auto group = GroupFrom(request.group());
  absl::Status status = CheckCall(says, group);
  const auto from = ratis::PeerIdFromWire(request.server_id());
  if (status.ok()) status = from.status();
  const auto recall = FromProto(request);
  if (status.ok()) status = recall.status();
  if (!status.ok()) return finish(status);
  host_->Recall(*group, *from, *recall, executor_,
                [reply, finish = std::move(finish)](absl::StatusOr<raft::RecallReply> known) mutable {
                  if (known.ok()) ToProto(*known, reply);
                  finish(known.status());
                });
}

void PeerHandlers::QueryWrite(const CallerSays& says, const pb::QueryWriteRequest& request,
                              pb::QueryWriteReply* reply, Finish finish) {
  const auto group = GroupFrom(request.group());
  absl::Status status = CheckCall(says, group);
  if (status.ok()) status = CheckName(request.name());
  if (!status.ok()) return finish(status);
  // Not of others: whoever asks does that, and a question must not go round.
  constexpr bool kAskOthers = false;
  host_->QueryWrite(*group, {request.name(), request.writer()}, kAskOthers, executor_,
                    [reply, finish = std::move(finish)](absl::StatusOr<node::WriteStatus> known) mutable {
                      absl::Status answered = known.status();
                      if (known.ok()) ToProto(*known, reply);
                      if (absl::IsNotFound(answered)) answered = absl::OkStatus();
                      finish(answered);
                    });
}

void PeerHandlers::Publish(const CallerSays& says, const pb::PublishRequest& request, pb::Outcome* reply,
                           Finish finish) {
  auto publish = FromProto(request);
  absl::Status status = publish.status();
  if (status.ok()) status = CheckCall(says, publish->group);
  if (!status.ok()) return finish(status);
  host_->Publish(*std::move(publish),
                 [reply, finish = std::move(finish)](node::ClientReply answered) mutable {
                   ToProto(answered, reply);
                   finish(absl::OkStatus());
                 });
}

void PeerHandlers::Remove(const CallerSays& says, const pb::RemoveRequest& request, pb::Outcome* reply,
                          Finish finish) {
  auto remove = FromProto(request);
  absl::Status status = remove.status();
  if (status.ok()) status = CheckCall(says, remove->group);
  if (!status.ok()) return finish(status);
  host_->Remove(*std::move(remove), [reply, finish = std::move(finish)](node::ClientReply answered) mutable {
    ToProto(answered, reply);
    finish(absl::OkStatus());
  });
}

}  // namespace sluice::edge::peer
