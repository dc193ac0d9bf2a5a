// From holders to an entry: who holds an upload, how a majority comes to hold it,
// and how the leader enters it (D-11, D-12).

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "node/command.h"
#include "node/lane.h"

namespace sluice::node {
namespace {

constexpr size_t kSealedMax = 4096;  // remembered notices of who holds what
// A majority must hold the upload within this time;
// a fetch of a large one is given longer by its own progress.
constexpr auto kGatherTime = std::chrono::seconds(60);
// Too many fetches at a time pass by themselves; a disk that is full stays so.
constexpr auto kRefusedTime = std::chrono::seconds(2);
constexpr auto kLeaderRetry = std::chrono::milliseconds(50);

constexpr size_t kRetriesMax = 64;  // of one stream's FORWARD that wait for its end

Counter& Refused() {
  static Counter& counter =
      NewCounter("sluice_node_publishes_refused_total", "Uploads and calls that were not let in to wait");
  return counter;
}

bool Contains(const std::vector<PeerId>& peers, const PeerId& id) {
  return std::find(peers.begin(), peers.end(), id) != peers.end();
}

std::string NamesOf(const std::vector<PeerId>& peers) {
  std::string names;
  for (const PeerId& peer : peers)
    names += fmt::format("{}{}", names.empty() ? "" : " ", Printable(peer.value));
  return names.empty() ? "nobody" : names;
}

ClientReply Failure(ReplyCode code, absl::Status error) {
  ClientReply reply;
  reply.code = code;
  reply.error = std::move(error);
  return reply;
}

}  // namespace

// Asks every voter what it holds, counts those that agree,
// and orders fetches from them while they are too few.
struct Lane::Gathering {
  SealedUpload upload;
  bool sealed_known = false;  // length and checksum are those of the upload, else of the most frequent answer
  Done<SealedUpload> done;
  env::Instant deadline{};
  size_t waiting = 0;
  std::vector<std::pair<PeerId, HaveReply>> answers;
  bool unsure = false;                     // one that answered cannot look at what it has (F-14)
  std::vector<PeerId> full;                // have no room for the bytes, as they said last
  absl::Status refusal;                    // of one of them
  std::optional<env::Instant> full_since;  // that those which are left are no majority
  bool finished = false;
};

void Lane::Gather(SealedUpload upload, bool sealed_known, Done<SealedUpload> done) {
  if (gathering_ >= parts_.options->pending_writes_max) {
    Refused().Increment();
    return done(absl::ResourceExhaustedError(
        fmt::format("{} uploads wait for a majority to hold them, the limit", gathering_)));
  }
  ++gathering_;
  auto gathering = std::make_shared<Gathering>();
  gathering->upload = std::move(upload);
  gathering->sealed_known = sealed_known;
  gathering->done = [this, alive = alive_,
                     done = std::move(done)](absl::StatusOr<SealedUpload> ended) mutable {
    if (*alive) --gathering_;
    done(std::move(ended));
  };
  gathering->deadline = parts_.clock->MonotonicNow() + kGatherTime;
  GatherStep(std::move(gathering));
}

void Lane::GatherStep(std::shared_ptr<Gathering> gathering) {
  if (stopped_) return gathering->done(absl::UnavailableError("the server is stopping"));
  if (gathering->sealed_known && Majority(gathering->upload.holders)) {
    return gathering->done(std::move(gathering->upload));
  }
  if (parts_.clock->MonotonicNow() >= gathering->deadline) {
    return gathering->done(absl::UnavailableError(
        fmt::format("upload {}: no majority came to hold it; held by: {}", gathering->upload.upload.ToHex(),
                    NamesOf(gathering->upload.holders))));
  }
  gathering->answers.clear();
  gathering->unsure = false;
  const auto asked = [this, alive = alive_, gathering](PeerId id) {
    return [this, alive, gathering, id](absl::StatusOr<HaveReply> reply) {
      if (!*alive) return;
      if (reply.ok()) gathering->answers.emplace_back(id, *reply);
      gathering->unsure |= absl::IsResourceExhausted(reply.status());
      if (--gathering->waiting == 0) GatherAnswers(gathering, false);
    };
  };
  const auto peers = PeersOf({});
  gathering->waiting = peers.size() + 1;
  for (const raft::Peer& peer : peers) {
    bytes_->Have(peer, parts_.id, gathering->upload.upload, parts_.shard, asked(peer.id));
  }
  Have(gathering->upload.upload, parts_.shard, asked(parts_.options->self.id));
}

void Lane::GatherAnswers(std::shared_ptr<Gathering> gathering, bool after_orders) {
  SealedUpload& upload = gathering->upload;
  for (const auto& [id, reply] : gathering->answers) {
    // The log has decided what the id means.
    if (reply.abandoned) {
      return gathering->done(absl::AbortedError(
          fmt::format("upload {} was abandoned after its time-to-live", upload.upload.ToHex())));
    }
    if (!reply.entered) continue;
    if (!gathering->sealed_known) upload.sealed = reply.sealed;
    gathering->sealed_known = true;
    if (Matches(reply.sealed, upload.sealed)) continue;
    return gathering->done(absl::FailedPreconditionError(
        fmt::format("upload {} was entered already with other bytes: its id cannot be used again",
                    upload.upload.ToHex())));
  }
  if (!gathering->sealed_known) {
    // What most of those who hold it sealed agree on. More than one answer can only be the work of two
    // uploads under one id, of which at most one can have a majority.
    size_t most = 0;
    for (const auto& [id, reply] : gathering->answers) {
      if (reply.state != HoldState::kSealed) continue;
      const auto same = static_cast<size_t>(std::count_if(
          gathering->answers.begin(), gathering->answers.end(), [&reply = reply](const auto& other) {
            return other.second.state == HoldState::kSealed &&
                   other.second.sealed.length == reply.sealed.length &&
                   other.second.sealed.checksum == reply.sealed.checksum;
          }));
      if (same > most || (same == most && reply.sealed.digest && !upload.sealed.digest)) {
        most = same;
        upload.sealed = reply.sealed;
      }
    }
    if (most == 0 && gathering->unsure) {
      parts_.shard->PostAfter(std::chrono::milliseconds(200), [this, alive = alive_, gathering] {
        if (*alive) GatherStep(gathering);
      });
      return;
    }
    if (most == 0) {
      return gathering->done(absl::NotFoundError(
          fmt::format("no server that answered holds upload {} sealed", upload.upload.ToHex())));
    }
    gathering->sealed_known = true;
  }
  for (const auto& [id, reply] : gathering->answers) {
    if (reply.state != HoldState::kSealed || !Matches(reply.sealed, upload.sealed)) continue;
    if (!upload.sealed.digest) upload.sealed.digest = reply.sealed.digest;
    if (!Contains(upload.holders, id)) upload.holders.push_back(id);
  }
  if (Majority(upload.holders) || after_orders) return GatherStep(std::move(gathering));
  OrderFetches(std::move(gathering));
}

// Those that are left are no majority.
bool Lane::CannotHold(const std::vector<PeerId>& full) const {
  if (full.empty()) return false;
  std::vector<PeerId> others;
  for (const raft::Peer& peer : PeersOf({})) {
    if (!Contains(full, peer.id)) others.push_back(peer.id);
  }
  if (!Contains(full, parts_.options->self.id)) others.push_back(parts_.options->self.id);
  return !Majority(others);
}

void Lane::OrderFetches(std::shared_ptr<Gathering> gathering) {
  gathering->answers.clear();
  gathering->full.clear();
  std::vector<raft::Peer> lacking;
  for (const raft::Peer& peer : PeersOf({})) {
    if (!Contains(gathering->upload.holders, peer.id)) lacking.push_back(peer);
  }
  const bool self_lacks = !Contains(gathering->upload.holders, parts_.options->self.id);
  gathering->waiting = lacking.size() + (self_lacks ? 1 : 0);
  const auto fetched = [this, alive = alive_, gathering](PeerId id) {
    return [this, alive, gathering, id](absl::StatusOr<HaveReply> reply) {
      if (!*alive || gathering->finished) return;
      const bool holds = reply.ok() && reply->state == HoldState::kSealed &&
                         Matches(reply->sealed, gathering->upload.sealed);
      if (holds && !Contains(gathering->upload.holders, id)) gathering->upload.holders.push_back(id);
      if (absl::IsResourceExhausted(reply.status())) {
        gathering->full.push_back(id);
        gathering->refusal = reply.status();
      }
      // The first that completes a majority is enough: a slow minority slows nobody.
      if (Majority(gathering->upload.holders)) {
        gathering->finished = true;
        return GatherStep(gathering);
      }
      if (--gathering->waiting > 0) return;
      const env::Instant now = parts_.clock->MonotonicNow();
      if (!CannotHold(gathering->full)) {
        gathering->full_since.reset();
      } else if (now - gathering->full_since.value_or(now) < kRefusedTime) {
        gathering->full_since = gathering->full_since.value_or(now);
      } else {
        return gathering->done(absl::ResourceExhaustedError(fmt::format(
            "upload {}: a majority has no room for it: {} refuse it ({})", gathering->upload.upload.ToHex(),
            NamesOf(gathering->full), Message(gathering->refusal))));
      }
      parts_.shard->PostAfter(std::chrono::milliseconds(200), [this, alive, gathering] {
        if (*alive && !gathering->finished) GatherStep(gathering);
      });
    };
  };
  for (const raft::Peer& peer : lacking) {
    bytes_->OrderFetch(peer, parts_.id, gathering->upload, parts_.shard, fetched(peer.id));
  }
  if (self_lacks) Fetch(gathering->upload, false, parts_.shard, fetched(parts_.options->self.id));
}

// --- A primary's end of an upload --------------------------------------------------------------------------

void Lane::ConfirmStream(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done) {
  Gather(std::move(upload), true,
         [this, alive = alive_, done = std::move(done)](absl::StatusOr<SealedUpload> gathered) mutable {
           if (!gathered.ok()) return done(gathered.status());
           if (!*alive || stopped_) return done(absl::UnavailableError("the server is stopping"));
           const PeerId leader = parts_.group->leader();
           // Without an answer there is nobody to tell: the next leader asks every voter when it hears
           // FORWARD.
           auto told = [done = std::move(done)](const absl::Status& status) mutable {
             const bool refused = absl::IsFailedPrecondition(status) || absl::IsAborted(status);
             done(refused ? status : absl::OkStatus());
           };
           if (leader == parts_.options->self.id) return OnSealed(std::move(*gathered), std::move(told));
           const raft::Peer* peer = parts_.group->configuration().Find(leader);
           if (peer == nullptr) return told(absl::OkStatus());
           bytes_->TellSealed(*peer, parts_.id, *gathered, parts_.shard, std::move(told));
         });
}

void Lane::ConfirmWrite(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done) {
  const WriteKey write = KeyOf(upload.header);
  const UploadId id = upload.upload;
  Gather(std::move(upload), true,
         [this, alive = alive_, write, id,
          done = std::move(done)](absl::StatusOr<SealedUpload> gathered) mutable {
           if (*alive && absl::IsAborted(gathered.status()))
             FinishedWrite(write, id);  // the next one is another
           if (!gathered.ok()) return done(gathered.status());
           if (!*alive || stopped_) return done(absl::UnavailableError("the server is stopping"));
           PublishRequest request;
           request.group = parts_.id;
           request.upload = std::move(*gathered);
           AskLeader(std::move(request),
                     [this, alive, write, id, done = std::move(done)](ClientReply reply) mutable {
                       if (*alive && reply.code != ReplyCode::kUnavailable) FinishedWrite(write, id);
                       done(reply.code == ReplyCode::kOk ? absl::OkStatus() : reply.error);
                     });
         });
}

// --- The leader's part -------------------------------------------------------------------------------------

void Lane::OnSealed(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done) {
  auto told = std::make_shared<std::pair<SealedUpload, absl::AnyInvocable<void(absl::Status)>>>(
      std::move(upload), std::move(done));
  parts_.apply->Post([this, alive = alive_, told] {
    const auto entered = parts_.group->applier().FindEntered(told->first.upload);
    const bool same = entered && Matches(entered->sealed, told->first.sealed);
    absl::Status free = same ? absl::OkStatus() : parts_.group->applier().CheckFree(told->first.upload);
    parts_.shard->Post([this, alive, told, same, free = std::move(free)]() mutable {
      if (!*alive) return;
      const UploadId id = told->first.upload;
      if (free.ok() && !same && parts_.group->FindReply(id.client, id.call).has_value()) {
        free = absl::AlreadyExistsError(fmt::format("upload {} was entered already", id.ToHex()));
      }
      if (absl::IsAlreadyExists(free)) free = absl::FailedPreconditionError(free.message());
      if (free.ok() && !same) {
        if (!sealed_.contains(id)) {
          sealed_order_.push_back(id);
          if (sealed_order_.size() > kSealedMax) {
            sealed_.erase(sealed_order_.front());
            sealed_order_.pop_front();
          }
        }
        sealed_[id] = std::move(told->first);
      }
      told->second(std::move(free));
    });
  });
}

void Lane::OnRole() {
  if (!parts_.group->leads()) {
    sealed_.clear();
    sealed_order_.clear();
  }
}

void Lane::ProposePublish(SealedUpload upload, bool data_stream, ReplyFn reply) {
  BlobCommand command;
  command.op = BlobOp::kPublish;
  command.name = upload.header.name;
  command.upload = upload.upload;
  command.sealed = upload.sealed;
  command.holders = upload.holders;
  command.stamp_ms = parts_.clock->WallNowMs();
  Enter(std::move(command), data_stream, std::move(reply));
}

// --- Requests of clients and of other servers ---------------------------------------------------------------

// The first answer goes to whoever asks for the same again, not to another upload under its id (F-66).
// Whoever was told what is sealed compares it whole; what the reply says is compared by everybody.
absl::Status Lane::CheckForward(const ClientRequest& request, const StoredReply& first) const {
  const BlobHeader& header = request.header;
  bool other = false;
  std::string as = "and refused";
  if (first.reply.ok()) {
    ASSIGN_OR_RETURN(const BlobReply entered, DecodeBlobReply(*first.reply));
    other = (!header.name.empty() && header.name != entered.name) ||
            (header.expected_length && *header.expected_length != entered.length) ||
            (header.expected_digest && entered.digest && *header.expected_digest != *entered.digest);
    as = fmt::format("as {} with {} bytes", Printable(entered.name), entered.length);
  }
  if (const auto told = sealed_.find(request.upload); told != sealed_.end()) {
    BlobCommand asked;
    asked.op = BlobOp::kPublish;
    asked.name = header.name;
    asked.upload = request.upload;
    asked.sealed = told->second.sealed;
    other = other || BlobCommandContent(EncodeBlobCommand(asked)) != first.content;
  }
  if (!other) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "upload {} was entered already {}: its id cannot be used again", request.upload.ToHex(), as));
}

void Lane::Forward(ClientRequest request, ReplyFn reply) {
  if (!parts_.group->leads()) return reply(parts_.group->NotLeader());
  const UploadId id = request.upload;
  if (const auto stored = parts_.group->FindReply(id.client, id.call)) {
    if (absl::Status same = CheckForward(request, *stored); !same.ok()) {
      return reply(Failure(ReplyCode::kDataStream, std::move(same)));
    }
    parts_.group->AskedAgain(*stored);
    return reply(Group::FromStored(*stored));
  }
  if (!parts_.group->ready()) {
    return reply(Failure(ReplyCode::kLeaderNotReady, absl::UnavailableError("the leader is not ready yet")));
  }
  if (!forwards_.contains(id) && forwards_.size() >= parts_.options->pending_writes_max) {
    Refused().Increment();
    return reply(
        Failure(ReplyCode::kResource, absl::ResourceExhaustedError(fmt::format(
                                          "{} streams wait to be entered, the limit", forwards_.size()))));
  }
  auto& waiting = forwards_[id];
  if (waiting.size() >= kRetriesMax) {
    Refused().Increment();
    return reply(
        Failure(ReplyCode::kResource, absl::ResourceExhaustedError(fmt::format(
                                          "{} retries wait for upload {}", waiting.size(), id.ToHex()))));
  }
  waiting.push_back(std::move(reply));
  if (waiting.size() > 1) return;  // a retry joins the pending request
  const auto answer = [this, alive = alive_, id](ClientReply result) {
    if (!*alive) return;
    auto replies = forwards_.extract(id);
    if (replies.empty()) return;
    for (ReplyFn& each : replies.mapped()) each(result);
  };
  SealedUpload upload;
  upload.upload = id;
  const auto known = sealed_.find(id);
  const bool sealed_known = known != sealed_.end();
  if (sealed_known) upload = known->second;
  upload.header = std::move(request.header);
  Gather(std::move(upload), sealed_known,
         [this, alive = alive_, answer](absl::StatusOr<SealedUpload> gathered) {
           if (!gathered.ok()) return answer(Failure(ReplyCode::kDataStream, gathered.status()));
           if (!*alive) return;
           ProposePublish(std::move(*gathered), true, answer);
         });
}

void Lane::Publish(PublishRequest request, ReplyFn reply) {
  if (!parts_.group->leads()) return reply(parts_.group->NotLeader());
  SealedUpload& upload = request.upload;
  if (request.abandon) {
    if (forwards_.contains(upload.upload)) {
      return reply(
          Failure(ReplyCode::kStateMachine, absl::FailedPreconditionError("the upload is being entered")));
    }
    BlobCommand command;
    command.op = BlobOp::kAbandon;
    command.upload = upload.upload;
    command.stamp_ms = parts_.clock->WallNowMs();
    return parts_.group->Propose(client(), NextCall(), false, EncodeBlobCommand(command), std::move(reply));
  }
  if (request.inline_bytes) {
    BlobCommand command;
    command.op = BlobOp::kPublishInline;
    command.name = upload.header.name;
    command.upload = upload.upload;
    command.sealed = upload.sealed;
    command.stamp_ms = parts_.clock->WallNowMs();
    command.data = std::move(*request.inline_bytes);
    return Enter(std::move(command), false, std::move(reply));
  }
  auto answer = std::make_shared<ReplyFn>(std::move(reply));
  Gather(std::move(upload), true, [this, alive = alive_, answer](absl::StatusOr<SealedUpload> gathered) {
    if (!gathered.ok()) return (*answer)(Failure(ReplyCode::kDataStream, gathered.status()));
    if (!*alive) return;
    ProposePublish(std::move(*gathered), false,
                   [answer](ClientReply result) { (*answer)(std::move(result)); });
  });
}

void Lane::Remove(RemoveRequest request, ReplyFn reply) {
  if (!parts_.group->leads()) return reply(parts_.group->NotLeader());
  if (auto status = CheckName(request.name); !status.ok()) {
    return reply(Failure(ReplyCode::kStateMachine, std::move(status)));
  }
  BlobCommand command;
  command.op = BlobOp::kRemove;
  command.name = request.name;
  command.stamp_ms = parts_.clock->WallNowMs();
  parts_.group->Propose(request.client, request.call, false, EncodeBlobCommand(command), std::move(reply),
                        /*frees_space=*/true);
}

// --- Any server: find the leader, retry --------------------------------------------------------------------

struct Lane::LeaderCall {
  std::optional<PublishRequest> publish;
  std::optional<RemoveRequest> remove;
  ReplyFn reply;
  env::Instant deadline{};
};

void Lane::AskLeader(PublishRequest request, ReplyFn reply) {
  auto call = std::make_shared<LeaderCall>();
  call->publish = std::move(request);
  call->reply = std::move(reply);
  StartLeaderCall(std::move(call));
}

void Lane::AskLeader(RemoveRequest request, ReplyFn reply) {
  auto call = std::make_shared<LeaderCall>();
  call->remove = std::move(request);
  call->reply = std::move(reply);
  StartLeaderCall(std::move(call));
}

void Lane::StartLeaderCall(std::shared_ptr<LeaderCall> call) {
  const HostOptions& options = *parts_.options;
  const uint64_t bytes =
      call->publish && call->publish->inline_bytes ? call->publish->inline_bytes->size() : 0;
  if (asking_ >= options.pending_writes_max || asking_bytes_ + bytes > options.pending_bytes_max) {
    Refused().Increment();
    return call->reply(
        Failure(ReplyCode::kResource,
                absl::ResourceExhaustedError(fmt::format(
                    "{} calls with {} bytes wait for the leader, the limit", asking_, asking_bytes_))));
  }
  ++asking_;
  asking_bytes_ += bytes;
  call->reply = [this, alive = alive_, bytes, reply = std::move(call->reply)](ClientReply ended) mutable {
    if (*alive) {
      --asking_;
      asking_bytes_ -= bytes;
    }
    reply(std::move(ended));
  };
  call->deadline = parts_.clock->MonotonicNow() + std::chrono::milliseconds(options.read_timeout_ms);
  CallLeader(std::move(call));
}

void Lane::CallLeader(std::shared_ptr<LeaderCall> call) {
  if (stopped_)
    return call->reply(Failure(ReplyCode::kUnavailable, absl::UnavailableError("the server is stopping")));
  const auto answered = [this, alive = alive_, call](ClientReply reply) {
    if (!*alive) return;
    AnswerLeaderCall(call, std::move(reply));
  };
  const PeerId leader = parts_.group->leader();
  if (leader == parts_.options->self.id) {
    if (call->publish) return Publish(*call->publish, answered);
    return Remove(*call->remove, answered);
  }
  const raft::Peer* peer = parts_.group->configuration().Find(leader);
  if (peer == nullptr) return answered(parts_.group->NotLeader());
  if (call->publish) return bytes_->Publish(*peer, *call->publish, parts_.shard, answered);
  bytes_->Remove(*peer, *call->remove, parts_.shard, answered);
}

void Lane::AnswerLeaderCall(std::shared_ptr<LeaderCall> call, ClientReply reply) {
  const bool passing = reply.code == ReplyCode::kNotLeader || reply.code == ReplyCode::kLeaderNotReady ||
                       reply.code == ReplyCode::kSteppingDown || reply.code == ReplyCode::kUnavailable ||
                       reply.code == ReplyCode::kResource;
  if (!passing || stopped_) return call->reply(std::move(reply));
  if (parts_.clock->MonotonicNow() >= call->deadline) {
    if (reply.code != ReplyCode::kResource) {
      reply.code = ReplyCode::kUnavailable;
      reply.error =
          absl::UnavailableError(fmt::format("no leader took the request within {} ms: {}",
                                             parts_.options->read_timeout_ms, Message(reply.error)));
    }
    return call->reply(std::move(reply));
  }
  parts_.shard->PostAfter(kLeaderRetry, [this, alive = alive_, call] {
    if (*alive) CallLeader(call);
  });
}

}  // namespace sluice::node
