#include "edge/admin/admin_service.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/names.h"
#include "edge/handshake.h"
#include "edge/peer/convert.h"
#include "edge/status.h"
#include "sluice/stream.h"

namespace sluice::edge::admin {
namespace {

namespace pb = ::sluice::admin;

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

const char* Text(raft::Role role) {
  switch (role) {
    case raft::Role::kFollower:
      return "follower";
    case raft::Role::kCandidate:
      return "candidate";
    case raft::Role::kLeader:
      return "leader";
    case raft::Role::kLearner:
      return "learner";
  }
  return "unknown";
}

const char* Text(raft::Core::PeerProgress::State state) {
  switch (state) {
    case raft::Core::PeerProgress::State::kProbe:
      return "probe";
    case raft::Core::PeerProgress::State::kReplicate:
      return "replicate";
    case raft::Core::PeerProgress::State::kSnapshot:
      return "snapshot";
  }
  return "unknown";
}

std::string Error(const absl::Status& status) { return status.ok() ? "" : status.ToString(); }

void Fill(const raft::Configuration& configuration, pb::Configuration* out) {
  for (const raft::Peer& peer : configuration.voters) peer::ToProto(peer, out->add_voters());
  for (const raft::Peer& peer : configuration.old_voters) peer::ToProto(peer, out->add_old_voters());
  for (const raft::Peer& peer : configuration.learners) peer::ToProto(peer, out->add_learners());
  for (const raft::Peer& peer : configuration.old_learners) peer::ToProto(peer, out->add_old_learners());
}

void FillProgress(const raft::Core::PeerProgress& progress, Index last, pb::Progress* out) {
  out->set_id(progress.id.value);
  out->set_match(progress.match.value);
  out->set_next(progress.next.value);
  out->set_commit(progress.commit.value);
  out->set_lag(last - progress.match);
  out->set_active(progress.active);
  out->set_learner(progress.learner);
  out->set_state(Text(progress.state));
}

void FillGroup(const node::GroupStatus& group, pb::Group* out) {
  out->set_id(group.id.ToString());
  out->set_machine(group.machine);
  out->set_role(Text(group.role));
  out->set_term(group.term.value);
  out->set_leader(group.leader.value);
  out->set_ready(group.ready);
  out->set_first_index(group.first.value);
  out->set_last_term(group.last.term.value);
  out->set_last_index(group.last.index.value);
  out->set_commit(group.commit.value);
  out->set_applied(group.applied.value);
  out->set_bytes_complete(group.bytes_complete.value);
  out->set_missing(group.missing);
  out->set_snapshot_term(group.snapshot.term.value);
  out->set_snapshot_index(group.snapshot.index.value);
  out->set_voting(group.voting);
  out->set_repairing(group.repairing);
  out->set_storage_error(Error(group.storage));
  out->set_not_serving(std::string(Message(group.serving)));
  out->set_role_elapsed_ms(group.role_elapsed_ms);
  out->set_leader_elapsed_ms(group.leader_elapsed_ms);
  Fill(group.configuration, out->mutable_configuration());
  for (const auto& progress : group.progress) {
    pb::Progress* one = out->add_progress();
    FillProgress(progress, group.last.index, one);
    for (const node::GroupStatus::Transfer& transfer : group.transfers) {
      if (transfer.to != progress.id) continue;
      one->set_snapshot_bytes(transfer.bytes);
      one->set_snapshot_total(transfer.total);
    }
  }
  out->set_installing(group.installing);
  out->set_unreadable(group.unreadable.value);
  for (const PeerId& id : group.waits_for) out->add_waits_for(id.value);
  for (const node::CommitInfo& commit : group.commits) {
    pb::Commit* one = out->add_commits();
    one->set_id(commit.peer.id.value);
    one->set_index(commit.commit.value);
  }
}

void FillStatus(const node::HostStatus& status, const node::HostOptions& options, pb::StatusReply* out) {
  peer::ToProto(status.self, out->mutable_self());
  if (!status.cluster.IsZero()) out->set_cluster(std::string(status.cluster.AsBytes()));
  out->set_pid(getpid());
  out->set_data_dir(options.data_dir);
  out->set_stopping(status.stopping);
  for (const node::GroupStatus& group : status.groups) FillGroup(group, out->add_groups());
  for (const std::string& upload : status.uploads) out->add_uploads(upload);
  out->mutable_blobs()->set_stages(status.blobs.stages);
  out->mutable_blobs()->set_staged_bytes(status.blobs.staged_bytes);
  out->mutable_blobs()->set_damaged_chunks(status.blobs.damaged_chunks);
  out->mutable_blobs()->set_free_bytes(status.blobs.free_bytes);
  out->mutable_blobs()->set_reserve_bytes(options.blob.reserve_bytes);
  out->mutable_log()->set_segments(status.log.segments);
  out->mutable_log()->set_bytes_on_disk(status.log.bytes_on_disk);
  out->mutable_log()->set_torn_tails_cut(status.log.torn_tails_cut);
  out->mutable_log()->set_batches(status.log.batches);
  out->mutable_log()->set_entries(status.log.entries);
  out->mutable_log()->set_error(Error(status.log.failed));
}

void FillBlob(const node::BlobInfo& info, pb::Blob* out) {
  out->set_name(info.name);
  out->set_length(info.length);
  if (info.digest) out->set_digest(std::string(info.digest->AsBytes()));
  out->set_created_ms(info.created_ms);
  out->set_upload(info.content.ToHex());
  for (const PeerId& holder : info.holders) out->add_holders(holder.value);
  out->set_local(info.local);
  out->set_inlined(info.inlined);
}

void FillStream(const StreamInfo& info, pb::StreamView* out) {
  out->set_id(info.id);
  out->set_peer(info.peer);
  out->set_local_id(info.local_id);
  out->set_remote_id(info.remote_id);
  out->set_bytes_in(info.bytes_in);
  out->set_bytes_out(info.bytes_out);
  out->set_messages_in(info.messages_in);
  out->set_messages_out(info.messages_out);
  out->set_window_bytes(info.window_bytes);
  out->set_unconsumed_bytes(info.unconsumed_bytes);
  out->set_stalls(info.stalls);
  out->set_age_ms(info.age_ms);
}

}  // namespace

absl::StatusOr<GroupId> AdminService::Group(const grpc::CallbackServerContext& context,
                                            const std::string& raw) const {
  RETURN_IF_ERROR(CheckClient(context, *host_));
  GroupId group = kDefaultGroup;
  if (!raw.empty()) {
    ASSIGN_OR_RETURN(group, peer::GroupFrom(raw));
  }
  if (host_->HasGroup(group)) return group;
  return absl::NotFoundError(fmt::format("group {} is not here", group.ToString()));
}

grpc::ServerUnaryReactor* AdminService::Status(grpc::CallbackServerContext* context, const pb::StatusRequest*,
                                               pb::StatusReply* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Status(executor_, [this, reactor, reply](node::HostStatus status) {
    FillStatus(status, host_->options(), reply);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Streams(grpc::CallbackServerContext* context,
                                                const pb::StreamsRequest* request, pb::StreamsReply* reply) {
  const size_t limit =
      request->limit() == 0 ? kStreamsLimitMax : std::min(request->limit(), kStreamsLimitMax);
  const std::vector<StreamInfo> infos = ListStreams(limit + 1);  // one more tells whether there are more
  reply->set_more(infos.size() > limit);
  for (size_t i = 0; i < std::min(limit, infos.size()); ++i) FillStream(infos[i], reply->add_streams());
  return FinishNow(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminService::List(grpc::CallbackServerContext* context,
                                             const pb::ListRequest* request, pb::ListReply* reply) {
  const auto group = Group(*context, request->group());
  if (!group.ok()) return FinishNow(context, group.status());
  const std::string& prefix = request->prefix();
  const std::string& after = request->after();
  if (std::max(prefix.size(), after.size()) > kNameBytesMax || !IsValidUtf8(prefix)) {
    return FinishNow(context, absl::InvalidArgumentError("no name starts like this"));
  }
  const uint32_t limit = request->limit() == 0 ? kListLimitMax : std::min(request->limit(), kListLimitMax);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // One more than asked tells whether there are more.
  host_->List(*group, prefix, after, limit + 1, executor_,
              [reactor, reply, limit](absl::StatusOr<std::vector<node::BlobInfo>> listed) {
                if (listed.ok()) {
                  reply->set_more(listed->size() > limit);
                  for (size_t i = 0; i < std::min<size_t>(limit, listed->size()); ++i) {
                    FillBlob((*listed)[i], reply->add_blobs());
                  }
                }
                reactor->Finish(ToGrpc(listed.status()));
              });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Stat(grpc::CallbackServerContext* context,
                                             const pb::StatRequest* request, pb::Blob* reply) {
  const auto group = Group(*context, request->group());
  absl::Status status = group.status();
  if (status.ok()) status = CheckName(request->name());
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->Stat(*group, request->name(), executor_, [reactor, reply](absl::StatusOr<node::BlobInfo> info) {
    if (info.ok()) FillBlob(*info, reply);
    reactor->Finish(ToGrpc(info.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Remove(grpc::CallbackServerContext* context,
                                               const pb::RemoveRequest* request, pb::RemoveReply*) {
  const auto group = Group(*context, request->group());
  absl::Status status = group.status();
  if (status.ok()) status = CheckName(request->name());
  UploadId asked{{}, CallId{request->call_id()}};
  if (status.ok() && !request->client_id().empty()) {
    const auto client = ClientId::FromBytes(request->client_id());
    if (!client) {
      status = absl::InvalidArgumentError(fmt::format("client id of {} bytes", request->client_id().size()));
    } else {
      asked.client = *client;
    }
  }
  if (!status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  host_->RemoveName(*group, request->name(), asked, executor_,
                    [reactor](absl::Status removed) { reactor->Finish(ToGrpc(removed)); });
  return reactor;
}

}  // namespace sluice::edge::admin
