// What clients ask of a group: writes, reads, watches.

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "node/command.h"
#include "node/group.h"
#include "node/log_clock.h"

namespace sluice::node {
namespace {

constexpr size_t kQueriesMax = 4096;
constexpr size_t kReadsMax = 65536;
constexpr size_t kRetriesMax = 64;  // of one call, that wait for its answer

Counter& Refused() {
  static Counter& counter =
      NewCounter("sluice_node_requests_refused_total", "Requests refused because too much was pending");
  return counter;
}

ClientReply Failure(ReplyCode code, absl::Status error) {
  ClientReply reply;
  reply.code = code;
  reply.error = std::move(error);
  return reply;
}

// F-66: not merged with the first one.
ClientReply IdsInUse(const UploadId& key) {
  return Failure(ReplyCode::kStateMachine, absl::InvalidArgumentError(fmt::format(
                                               "call {} of client {} asked for something else before",
                                               key.call.value, key.client.ToString())));
}

}  // namespace

ClientReply Group::FromStored(const StoredReply& stored) {
  ClientReply reply;
  reply.log_index = stored.entry();
  if (stored.reply.ok()) {
    reply.message = *stored.reply;
  } else {
    reply.code = ReplyCode::kStateMachine;
    reply.error = stored.reply.status();
  }
  return reply;
}

// One entry a second for a call at most, and none where room is short: then its time goes on from before.
void Group::AskedAgain(const StoredReply& stored) {
  constexpr size_t kAgainMax = 1024;
  if (!ready() || commit_stalls_ || parts_.spec.mode == GroupMode::kRatis) return;
  if (clock_ms_ < stored.since_ms + kClockEveryMs || again_proposed_.size() >= kAgainMax) return;
  if (ReplyBytes() > parts_.options->session_bytes_max / 8 * 7 || !parts_.log->HasRoom(0).ok() ||
      (parts_.room != nullptr && !parts_.room->Admit(0).ok())) {
    return;
  }
  if (!again_proposed_.emplace(stored.entry(), stored.index).second) return;
  again_.insert(stored.index);
  PostDrain();
}

ClientReply Group::NotLeader() const {
  ClientReply reply =
      Failure(ReplyCode::kNotLeader,
              absl::FailedPreconditionError(fmt::format(
                  "server {} does not lead group {}; leader: {}", parts_.options->self.id.value,
                  parts_.spec.id.ToString(), core_->leader().empty() ? "unknown" : core_->leader().value)));
  if (const raft::Peer* leader = core_->configuration().Find(core_->leader());
      leader != nullptr && leader->id != parts_.options->self.id) {
    reply.leader = *leader;
  }
  reply.peers = core_->configuration().AllPeers();
  return reply;
}

void Group::Submit(ClientRequest request, ReplyFn reply) {
  if (stopped_) {
    return reply(Failure(ReplyCode::kUnavailable, absl::UnavailableError("the server is stopping")));
  }
  switch (request.kind) {
    case RequestKind::kWrite:
      if (request.client == kSystemClient) {
        return reply(Failure(ReplyCode::kStateMachine, absl::InvalidArgumentError("reserved client id")));
      }
      // Clients do not write the machine's commands to a blob group themselves: its commands name other
      // servers' bytes, which this server has to check first.
      if (parts_.spec.machine == "blob" && !parts_.spec.factory) {
        return reply(
            Failure(ReplyCode::kStateMachine,
                    absl::InvalidArgumentError("a blob group is written by streams, not by messages")));
      }
      if (leads()) {
        if (auto status = applier_->Admit(request.message); !status.ok()) {
          return reply(Failure(ReplyCode::kStateMachine, std::move(status)));
        }
      }
      {
        Proposal proposal;
        proposal.key = {request.client, request.call};
        proposal.bytes = request.message.size() + 64;
        proposal.payload = std::move(request.message);
        proposal.reply = std::move(reply);
        proposal.replication = request.replication;
        Enqueue(std::move(proposal));
      }
      return;
    case RequestKind::kRead:
      return SubmitRead(std::move(request), std::move(reply));
    case RequestKind::kStaleRead:
      if (core_->commit() < request.min_index) {
        return reply(Failure(ReplyCode::kStateMachine, absl::FailedPreconditionError(fmt::format(
                                                           "stale read: commit index {} is behind {}",
                                                           core_->commit().value, request.min_index.value))));
      }
      return Query(std::move(request.message), std::move(reply));
    case RequestKind::kWatch:
      return SubmitWatch(std::move(request), std::move(reply), std::nullopt);
    case RequestKind::kForward:
      return reply(Failure(ReplyCode::kDataStream, absl::UnimplementedError("this group has no streams")));
  }
}

void Group::Propose(ClientId client, CallId call, bool data_stream, Bytes data, ReplyFn reply,
                    bool frees_space) {
  if (stopped_) {
    return reply(Failure(ReplyCode::kUnavailable, absl::UnavailableError("the server is stopping")));
  }
  Proposal proposal;
  proposal.key = {client, call};
  proposal.data_stream = data_stream;
  proposal.frees_space = frees_space;
  proposal.bytes = data.size() + 64;
  proposal.payload = std::move(data);
  proposal.reply = std::move(reply);
  Enqueue(std::move(proposal));
}

void Group::Enqueue(Proposal proposal) {
  // The log would refuse it, which stops this member for good: what is appended must become durable.
  if (const uint64_t most = log::EntryBytesMax(parts_.options->log); proposal.bytes > most) {
    return proposal.reply(Failure(ReplyCode::kStateMachine,
                                  absl::InvalidArgumentError(fmt::format(
                                      "a write of {} bytes; the log takes {}, half of its segment_bytes",
                                      proposal.payload.size(), most))));
  }
  if (inbox_.size() >= parts_.options->pending_writes_max ||
      inbox_bytes_ + proposal.bytes > parts_.options->pending_bytes_max) {
    Refused().Increment();
    return proposal.reply(Failure(
        ReplyCode::kResource,
        absl::ResourceExhaustedError(fmt::format("{} writes of {} bytes wait in group {}", inbox_.size(),
                                                 inbox_bytes_, parts_.spec.id.ToString()))));
  }
  inbox_bytes_ += proposal.bytes;
  inbox_.push_back(std::move(proposal));
  PostDrain();
}

void Group::PostDrain() {
  if (std::exchange(drain_posted_, true)) return;
  parts_.shard->Post([this, alive = alive_] {
    if (*alive) DrainProposals();
  });
}

// Why a write gets its answer now instead of a place in the log; nullopt: it goes on.
std::optional<ClientReply> Group::AnswerAtOnce(const Proposal& proposal) {
  if (!failed_.ok()) return Stopped();
  if (!leads()) return NotLeader();
  if (const auto stored = sessions_->Find(proposal.key.client, proposal.key.call)) {
    if (IsOtherContent(proposal.payload, stored->content)) return IdsInUse(proposal.key);
    AskedAgain(*stored);
    return FromStored(*stored);
  }
  if (ready()) return std::nullopt;
  return Failure(ReplyCode::kLeaderNotReady,
                 absl::UnavailableError("the leader has not applied an entry of its term yet"));
}

bool Group::IsOtherContent(const Bytes& payload, uint32_t content) const {
  return applier_->ContentOf(payload) != content;
}

void Group::AnswerWrite(ReplyFn done, Replication replication, CallId call, ClientReply reply) {
  if (replication == Replication::kMajority || reply.code != ReplyCode::kOk) return done(std::move(reply));
  ClientRequest watch;
  watch.min_index = reply.log_index;
  watch.replication = replication;
  watch.call = call;
  SubmitWatch(std::move(watch), std::move(done), std::move(reply));
}

// Only along with commands, so that a group in which nothing happens writes nothing. `frees_space`: one of them is
// taken on a full disk.
std::optional<int64_t> Group::ClockDue(bool frees_space) {
  if (!ready() || parts_.spec.mode == GroupMode::kRatis) return std::nullopt;
  const env::Instant now = parts_.clock->MonotonicNow();
  if (std::exchange(clock_term_, core_->term()) != core_->term()) {
    // It goes on where the last leader's stands in the log: what passed meanwhile does not count.
    clock_base_ms_ = clock_proposed_ms_ = clock_ms_;
    clock_base_at_ = now;
  }
  const int64_t now_ms = clock_base_ms_ + (now - clock_base_at_) / std::chrono::milliseconds(1);
  if (now_ms < clock_proposed_ms_ + kClockEveryMs) return std::nullopt;
  const bool kept_free = parts_.room != nullptr && !frees_space && !parts_.room->Admit(0).ok();
  if (kept_free || !parts_.log->HasRoom(0, frees_space).ok()) {
    // The room that is left is for what frees space (F-12), which brings the time along: without it the replies of
    // what frees space would never be old enough to make room for more of it. Meanwhile the log's time stands still,
    // due for the next of these.
    clock_base_ms_ = clock_proposed_ms_;
    clock_base_at_ = now - std::chrono::milliseconds(kClockEveryMs);
    return std::nullopt;
  }
  return now_ms;
}

// And of the one that is asked for. How large a pending one will be only the machine can say, by making it: as large as
// the largest that is remembered.
uint64_t Group::ReplyBytes() const {
  constexpr uint64_t kLeast = 256;
  const uint64_t pending = waiting_.size() + again_proposed_.size() + 1;
  return sessions_->bytes() + pending * std::max(kLeast, sessions_->largest());
}

// RESOURCE_EXHAUSTED when the write may not wait too; `taken` bytes are on their way to the log.
absl::Status Group::HasRoom(const Proposal& proposal, uint64_t taken) const {
  const HostOptions& limits = *parts_.options;
  if (waiting_.size() >= limits.pending_writes_max ||
      pending_bytes_ + proposal.bytes > limits.pending_bytes_max) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} writes of {} bytes are pending in group {} (limits {} and {})", waiting_.size(), pending_bytes_,
        parts_.spec.id.ToString(), limits.pending_writes_max, limits.pending_bytes_max));
  }
  // Before the log is full, so that the leader can go on leading and answering reads (F-12).
  if (log_full_) return absl::ResourceExhaustedError("earlier writes wait for room in the log");
  if (apply_refused_since_ && !proposal.frees_space) {
    return absl::ResourceExhaustedError("applied entries wait for room on the disk");
  }
  if (!apply_refused_since_) RETURN_IF_ERROR(unfit_);
  // What is remembered for less than its time is not forgotten for a new write: the retry would be executed
  // again (P3). Rather this one waits until some are old.
  if (parts_.spec.mode == GroupMode::kSluice && ReplyBytes() > limits.session_bytes_max / 8 * 7) {
    return absl::ResourceExhaustedError(fmt::format(
        "group {} remembers {} replies of {} bytes for {} ms each, {} more are pending, one takes up to {} "
        "bytes, and the limit is {}: write less, or raise session_bytes_max",
        parts_.spec.id.ToString(), sessions_->size(), sessions_->bytes(), limits.session_keep_ms,
        waiting_.size() + again_proposed_.size(), sessions_->largest(), limits.session_bytes_max));
  }
  RETURN_IF_ERROR(parts_.log->HasRoom(taken + proposal.bytes, proposal.frees_space));
  if (proposal.frees_space || parts_.room == nullptr) return absl::OkStatus();
  return parts_.room->Admit(proposal.bytes);
}

// Everything that arrived since the last turn of the shard becomes one proposal of several entries.
void Group::DrainProposals() {
  drain_posted_ = false;
  if (stopped_) return;
  std::vector<Proposal> inbox = std::exchange(inbox_, {});
  inbox_bytes_ = 0;
  std::vector<Bytes> payloads;
  std::vector<Proposal> admitted;
  uint64_t taken = 0;
  const bool frees_space =
      std::any_of(inbox.begin(), inbox.end(), [](const Proposal& each) { return each.frees_space; });
  const std::optional<int64_t> clock_ms = ClockDue(frees_space);
  if (clock_ms) payloads.push_back(EncodeClockEntry(*clock_ms));
  for (Proposal& proposal : inbox) {
    if (auto answer = AnswerAtOnce(proposal)) {
      AnswerWrite(std::move(proposal.reply), proposal.replication, proposal.key.call, std::move(*answer));
      continue;
    }
    if (const auto it = waiting_.find(proposal.key); it != waiting_.end()) {
      if (IsOtherContent(proposal.payload, applier_->ContentOf(it->second.payload))) {
        proposal.reply(IdsInUse(proposal.key));
        continue;
      }
      if (it->second.replies.size() >= kRetriesMax) {
        Refused().Increment();
        proposal.reply(Failure(ReplyCode::kResource,
                               absl::ResourceExhaustedError("too many retries of one call are waiting")));
        continue;
      }
      it->second.replies.emplace_back(std::move(proposal.reply), proposal.replication);
      continue;
    }
    if (commit_stalls_) {
      // Not later, and not in doubt: it is not in the log.
      Refused().Increment();
      proposal.reply(Failure(ReplyCode::kNotReplicated, NotTaken()));
      continue;
    }
    if (auto room = HasRoom(proposal, taken); !room.ok()) {
      Refused().Increment();
      const bool full = absl::IsResourceExhausted(room);
      proposal.reply(Failure(full ? ReplyCode::kResource : ReplyCode::kUnavailable, std::move(room)));
      continue;
    }
    taken += proposal.bytes;
    Waiting waiting;
    waiting.bytes = proposal.bytes;
    waiting.payload = proposal.payload;
    waiting.replies.emplace_back(std::move(proposal.reply), proposal.replication);
    pending_bytes_ += waiting.bytes;
    waiting_.emplace(proposal.key, std::move(waiting));
    payloads.push_back(EncodeCommand({proposal.data_stream ? CommandType::kDataStream : CommandType::kWrite,
                                      proposal.key.client, proposal.key.call, std::move(proposal.payload)}));
    admitted.push_back(std::move(proposal));
  }
  // Of the end of the turn: what was answered in it is among them.
  const std::set<Index> again = std::exchange(again_, {});
  for (const Index kept : again) payloads.push_back(EncodeAskedAgain(kept));
  if (payloads.empty()) return;
  auto first = core_->Propose(std::move(payloads));
  // Not under way: the next retry asks for it anew.
  if (!first.ok())
    std::erase_if(again_proposed_, [&](const auto& one) { return again.contains(one.second); });
  if (clock_ms && first.ok()) {
    clock_proposed_ms_ = *clock_ms;
    first = first->Next();
  }
  for (size_t i = 0; i < admitted.size(); ++i) {
    const auto it = waiting_.find(admitted[i].key);
    if (it == waiting_.end()) continue;
    if (first.ok()) {
      it->second.index = *first + static_cast<int64_t>(i);
      proposed_[it->second.index] = admitted[i].key;
      continue;
    }
    Waiting waiting = std::move(it->second);
    waiting_.erase(it);
    pending_bytes_ -= waiting.bytes;
    const ReplyCode code = absl::IsUnavailable(first.status())         ? ReplyCode::kSteppingDown
                           : absl::IsResourceExhausted(first.status()) ? ReplyCode::kResource
                                                                       : ReplyCode::kNotLeader;
    Refuse(std::move(waiting), code == ReplyCode::kNotLeader ? NotLeader() : Failure(code, first.status()));
  }
  Pump();
}

void Group::Refuse(Waiting waiting, const ClientReply& reply) {
  for (auto& [done, replication] : waiting.replies) done(reply);
}

void Group::FailProposalsFrom(Index from) {
  for (auto it = proposed_.lower_bound(from); it != proposed_.end();) {
    const auto waiting = waiting_.find(it->second);
    it = proposed_.erase(it);
    if (waiting == waiting_.end()) continue;
    Waiting lost = std::move(waiting->second);
    waiting_.erase(waiting);
    pending_bytes_ -= lost.bytes;
    Refuse(std::move(lost), NotLeader());
  }
}

// --- Reads -------------------------------------------------------------------------------------------------

void Group::ReadBarrier(absl::AnyInvocable<void(ReplyCode, absl::Status)> done, Index at_least) {
  if (stopped_) return done(ReplyCode::kUnavailable, absl::UnavailableError("the server is stopping"));
  if (core_rests_) {
    return done(ReplyCode::kUnavailable, absl::UnavailableError("a snapshot is being installed"));
  }
  if (!apply_hangs_.ok()) return done(ReplyCode::kUnavailable, apply_hangs_);
  if (reads_.size() >= kReadsMax) {
    Refused().Increment();
    return done(ReplyCode::kResource,
                absl::ResourceExhaustedError(fmt::format("{} reads wait for an index", reads_.size())));
  }
  const uint64_t token = next_token_++;
  reads_.emplace(
      token, Read{parts_.clock->MonotonicNow() + std::chrono::milliseconds(parts_.options->read_timeout_ms),
                  kNoIndex, at_least, std::move(done)});
  core_->RequestRead(token);
  Pump();
}

// In the order of their arrival; what waits for an apply that is blocked is refused.
void Group::ReleaseReads() {
  for (auto it = reads_.begin(); it != reads_.end();) {
    Read& read = it->second;
    const bool waits = !read.index.valid() || read.index > applied_.index;
    const absl::Status blocked = waits && read.index.valid() ? ReadBlocked(read) : absl::OkStatus();
    if (waits && blocked.ok()) {
      ++it;
      continue;
    }
    auto done = std::move(read.done);
    it = reads_.erase(it);
    waits ? done(ReplyCode::kUnavailable, blocked) : done(ReplyCode::kOk, absl::OkStatus());
  }
}

void Group::SubmitRead(ClientRequest request, ReplyFn reply) {
  if (!request.linearizable) {
    if (!leads()) return reply(NotLeader());
    if (!ready()) {
      return reply(
          Failure(ReplyCode::kLeaderNotReady, absl::UnavailableError("the leader is not ready yet")));
    }
    return Query(std::move(request.message), std::move(reply));
  }
  Index at_least = kNoIndex;
  if (request.after_writes) {
    // Only the leader knows which writes it has taken.
    if (!leads()) return reply(NotLeader());
    if (!inbox_.empty()) DrainProposals();
    at_least = core_->last().index;
  }
  ReadBarrier(
      [this, alive = alive_, message = std::move(request.message), reply = std::move(reply)](
          ReplyCode code, absl::Status error) mutable {
        if (code != ReplyCode::kOk) return reply(Failure(code, std::move(error)));
        Query(std::move(message), std::move(reply));
      },
      at_least);
}

std::optional<uint64_t> Group::BeginLookup(Refusal refuse) {
  absl::Status refused = apply_hangs_;
  if (stopped_) refused = absl::UnavailableError("the server is stopping");
  if (refused.ok() && lookups_.size() >= kQueriesMax) {
    Refused().Increment();
    refused = absl::ResourceExhaustedError(fmt::format("{} queries wait for the machine of group {}",
                                                       lookups_.size(), parts_.spec.id.ToString()));
  }
  if (!refused.ok()) {
    refuse(std::move(refused));
    return std::nullopt;
  }
  const uint64_t token = next_token_++;
  lookups_.emplace(token, Lookup{parts_.clock->MonotonicNow(), std::move(refuse)});
  return token;
}

void Group::Query(Bytes request, ReplyFn reply) {
  const Index index = applied_.index;
  auto answer = std::make_shared<ReplyFn>(std::move(reply));
  const auto token = BeginLookup([answer](absl::Status refused) {
    const bool full = absl::IsResourceExhausted(refused);
    (*answer)(Failure(full ? ReplyCode::kResource : ReplyCode::kUnavailable, std::move(refused)));
  });
  if (!token) return;
  parts_.apply->Post([this, alive = alive_, request = std::move(request), answer, index, token = *token] {
    auto result = std::make_shared<absl::StatusOr<Bytes>>(applier_->Query(request));
    parts_.shard->Post([this, alive, answer, result, index, token] {
      if (!*alive || !EndLookup(token)) return;
      ClientReply answered;
      answered.log_index = index;
      if (result->ok()) {
        answered.message = std::move(**result);
      } else {
        answered.code = ReplyCode::kStateMachine;
        answered.error = result->status();
      }
      (*answer)(std::move(answered));
    });
  });
}

// --- Watches -----------------------------------------------------------------------------------------------

void Group::SubmitWatch(ClientRequest request, ReplyFn reply, std::optional<ClientReply> write) {
  constexpr size_t kWatchesMax = 65536;
  if (!leads()) return reply(NotLeader());
  if (!ready()) {
    return reply(Failure(ReplyCode::kLeaderNotReady, absl::UnavailableError("the leader is not ready yet")));
  }
  if (watches_.size() >= kWatchesMax) {
    return reply(Failure(ReplyCode::kResource, absl::ResourceExhaustedError(
                                                   fmt::format("{} watches are pending", watches_.size()))));
  }
  watches_.push_back({request.min_index, request.replication,
                      parts_.clock->MonotonicNow() + std::chrono::seconds(10), std::move(reply),
                      std::move(write), request.call});
  CheckWatches();
}

Index Group::Replicated(Replication level) const {
  if (level == Replication::kMajority) return core_->commit();
  std::vector<Index> indexes{level == Replication::kAll ? core_->durable() : core_->commit()};
  for (const auto& peer : core_->Progress()) {
    if (!peer.learner && peer.id != parts_.options->self.id) {
      indexes.push_back(level == Replication::kAll ? peer.match : peer.commit);
    }
  }
  std::sort(indexes.begin(), indexes.end());
  return level == Replication::kMajorityCommitted ? indexes[(indexes.size() - 1) / 2] : indexes.front();
}

void Group::CheckWatches() {
  if (watches_.empty()) return;
  const Index reached[4] = {Replicated(Replication::kMajority), Replicated(Replication::kAll),
                            Replicated(Replication::kMajorityCommitted),
                            Replicated(Replication::kAllCommitted)};
  const env::Instant now = parts_.clock->MonotonicNow();
  auto pending = std::exchange(watches_, {});
  for (Watch& watch : pending) {
    const Index level = reached[static_cast<size_t>(watch.replication)];
    if (level >= watch.index) {
      ClientReply reply = watch.write ? std::move(*watch.write) : ClientReply{};
      if (!watch.write) reply.log_index = level;
      watch.reply(std::move(reply));
    } else if (now >= watch.deadline) {
      ClientReply reply = watch.write ? std::move(*watch.write) : ClientReply{};
      reply.code = ReplyCode::kNotReplicated;
      reply.error = absl::DeadlineExceededError(
          fmt::format("index {} is not replicated yet: {} is", watch.index.value, level.value));
      reply.log_index = watch.index;
      watch.reply(std::move(reply));
    } else {
      watches_.push_back(std::move(watch));
    }
  }
}

GroupStatus Group::Status() const {
  GroupStatus status;
  const env::Instant now = parts_.clock->MonotonicNow();
  const auto elapsed_ms = [now](env::Instant since) { return (now - since).count() / 1'000'000; };
  status.id = parts_.spec.id;
  status.machine = parts_.spec.machine;
  status.role = core_->role();
  status.term = core_->term();
  status.leader = core_->leader();
  status.serving = Serving();
  status.ready = ready() || (!leads() && !core_->leader().empty() && !core_rests_);
  status.first = core_->first_index();
  status.last = core_->last();
  status.commit = core_->commit();
  status.applied = applied_.index;
  if (snapshot_) status.snapshot = *snapshot_;
  status.voting = core_->voting();
  status.repairing = core_->repairing();
  if (!Waits().ok()) status.waits_for = waits_for_;
  status.storage = failed_;
  status.unreadable = core_->unreadable();
  status.installing = installing_;
  for (const auto& [peer, transfer] : transfers_) {
    status.transfers.push_back({peer, transfer.at, transfer.progress->bytes, transfer.progress->total});
  }
  status.role_elapsed_ms = elapsed_ms(role_since_);
  status.leader_elapsed_ms = leads() ? 0 : elapsed_ms(leader_heard_);
  status.configuration = core_->configuration();
  status.progress = core_->Progress();
  if (const raft::Peer* self = status.configuration.Find(parts_.options->self.id)) {
    status.commits.push_back({*self, status.commit});
  }
  for (const auto& peer : status.progress) {
    const raft::Peer* known = status.configuration.Find(peer.id);
    if (known != nullptr && peer.id != parts_.options->self.id)
      status.commits.push_back({*known, peer.commit});
  }
  return status;
}

}  // namespace sluice::node
