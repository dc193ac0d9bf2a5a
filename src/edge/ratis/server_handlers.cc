#include "edge/ratis/server_handlers.h"

#include <utility>

namespace sluice::edge::ratis {
namespace {

CallFailure Wrong(const absl::Status& status) {
  std::string text(Message(status));
  return absl::IsUnimplemented(status) ? Unsupported(std::move(text)) : IllegalArgument(std::move(text));
}

CallFailure TooMany() { return ResourceUnavailable("too many requests of servers wait for an answer"); }

// Header and group of a request; or how the call ends.
std::optional<ServerHeader> Addressed(const CallerSays& says, const node::Host& host,
                                      const pb::RaftRpcRequestProto& proto, CallFailure* failure) {
  auto header = FromProto(proto);
  if (!header.ok()) {
    *failure = Wrong(header.status());
    return std::nullopt;
  }
  const absl::Status same =
      CheckServer(says, host, {.group = header->group, .from = header->from, .target = {proto.reply_id()}});
  if (!same.ok()) {
    *failure = Refused(same);
    return std::nullopt;
  }
  if (!host.HasGroup(header->group)) {
    *failure = GroupMismatch(host.options().self.id, header->group);
    return std::nullopt;
  }
  return *std::move(header);
}

}  // namespace

template <typename Message, typename Fill>
void ServerHandlers::Step(const ServerHeader& header, Message message, Finish finish, Fill fill) {
  auto answer = std::make_shared<Finish>(std::move(finish));
  message.call = replies_->Add(
      answer.get(), [answer, fill = std::move(fill)](std::optional<raft::Message> reply) mutable {
        if (reply && fill(*reply)) return (*answer)(std::nullopt);
        (*answer)(CallFailure{grpc::StatusCode::UNAVAILABLE, "", "the group gave no answer in time"});
      });
  if (message.call == 0) return (*answer)(TooMany());
  const uint64_t token = message.call;
  // Else nobody will answer.
  if (!host_->Step(header.group, header.from, std::move(message)).ok())
    replies_->Answer(token, raft::AppendReply{});
}

void ServerHandlers::RequestVote(const CallerSays& says, const pb::RequestVoteRequestProto& request,
                                 pb::RequestVoteReplyProto* reply, Finish finish) {
  CallFailure failure;
  const auto header = Addressed(says, *host_, request.server_request(), &failure);
  if (!header) return finish(std::move(failure));
  auto vote = FromProto(request, 0);
  if (!vote.ok()) return finish(Wrong(vote.status()));
  Step(*header, *vote, std::move(finish), [this, reply, header = *header](raft::Message& message) {
    auto* voted = std::get_if<raft::VoteReply>(&message);
    if (voted == nullptr) return false;
    ToProto(*voted, reply);
    ReplyHeader(header, host_->options().self.id, voted->granted, reply->mutable_server_reply());
    return true;
  });
}

void ServerHandlers::StartLeaderElection(const CallerSays& says,
                                         const pb::StartLeaderElectionRequestProto& request,
                                         pb::StartLeaderElectionReplyProto* reply, Finish finish) {
  CallFailure failure;
  const auto header = Addressed(says, *host_, request.server_request(), &failure);
  if (!header) return finish(std::move(failure));
  auto timeout_now = FromProto(request, 0);
  if (!timeout_now.ok()) return finish(Wrong(timeout_now.status()));
  if (!timeout_now->has_value()) {
    ReplyHeader(*header, host_->options().self.id, false, reply->mutable_server_reply());
    return finish(std::nullopt);
  }
  Step(*header, **timeout_now, std::move(finish), [this, reply, header = *header](raft::Message& message) {
    auto* answered = std::get_if<raft::TimeoutNowReply>(&message);
    if (answered == nullptr) return false;
    ReplyHeader(header, host_->options().self.id, answered->accepted, reply->mutable_server_reply());
    return true;
  });
}

void ServerHandlers::ReadIndex(const CallerSays& says, const pb::ReadIndexRequestProto& request,
                               pb::ReadIndexReplyProto* reply, Finish finish) {
  CallFailure failure;
  const auto header = Addressed(says, *host_, request.server_request(), &failure);
  if (!header) return finish(std::move(failure));
  Step(*header, raft::ReadIndexRequest{}, std::move(finish),
       [this, reply, header = *header](raft::Message& message) {
         auto* answered = std::get_if<raft::ReadIndexReply>(&message);
         if (answered == nullptr) return false;
         ToProto(*answered, reply);
         ReplyHeader(header, host_->options().self.id, answered->ok, reply->mutable_server_reply());
         return true;
       });
}

// --- Append streams ----------------------------------------------------------------------------------------

void AppendIntake::OnRequest(pb::AppendEntriesRequestProto& request) {
  CallFailure failure;
  const auto header = Addressed(says_, *host_, request.server_request(), &failure);
  if (!header) return Fail(std::move(failure));
  const bool heartbeat = request.entries().empty();
  if (auto failed = Step(*header, request)) {
    if (header->call > 0) failed->trailers.emplace_back("call-id", fmt::format("{}", header->call));
    failed->trailers.emplace_back("heartbeat", heartbeat ? "true" : "false");
    return Fail(*std::move(failed));
  }
  ReadOn(/*only_if_paused=*/false);
}

void AppendIntake::OnHalfClosed() {
  std::lock_guard lock(mutex_);
  half_closed_ = true;
  EndIfDone();
}

std::optional<CallFailure> AppendIntake::Step(const ServerHeader& header,
                                              pb::AppendEntriesRequestProto& request) {
  const bool heartbeat = request.entries().empty();
  auto append = TakeAppend(request, 0);
  if (!append.ok()) return Wrong(append.status());
  {
    std::lock_guard lock(mutex_);
    ++waiting_;
  }
  append->call = replies_->Add(this, [self = shared_from_this(), header, heartbeat](auto reply) {
    self->OnReply(header, heartbeat, std::move(reply));
  });
  if (append->call == 0) {
    OnReply(header, heartbeat, std::nullopt);
    return TooMany();
  }
  const uint64_t token = append->call;
  if (!host_->Step(header.group, header.from, *std::move(append)).ok()) {
    replies_->Answer(token, raft::TimeoutNowReply{});  // nobody else will
    return GroupMismatch(host_->options().self.id, header.group);
  }
  return std::nullopt;
}

void AppendIntake::OnReply(const ServerHeader& header, bool heartbeat, std::optional<raft::Message> reply) {
  auto* append = reply ? std::get_if<raft::AppendReply>(&*reply) : nullptr;
  if (append != nullptr) {
    append->heartbeat = heartbeat;
    pb::AppendEntriesReplyProto proto;
    ToProto(*append, &proto);
    ReplyHeader(header, host_->options().self.id, append->result == raft::AppendResult::kSuccess,
                proto.mutable_server_reply());
    Reply(std::move(proto));
  }
  {
    std::lock_guard lock(mutex_);
    --waiting_;
    EndIfDone();
  }
  ReadOn(/*only_if_paused=*/true);
}

void AppendIntake::ReadOn(bool only_if_paused) {
  {
    std::lock_guard lock(mutex_);
    if (only_if_paused && !paused_) return;
    paused_ = waiting_ >= kAppendsMax;
    if (paused_ || ended_) return;
  }
  ReadNext();
}

// With the lock held.
void AppendIntake::EndIfDone() {
  if (!half_closed_ || waiting_ > 0) return;
  ended_ = true;
  EndWith(std::nullopt);
}

void AppendIntake::Fail(CallFailure failure) {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  EndWith(std::move(failure));
}

}  // namespace sluice::edge::ratis
