// What a publish meets on its way to the log: a name that is taken, the same bytes under another name, bytes that
// everybody has lost. The machine decides; what only the bytes themselves can tell is found out here, at the
// leader, before the entry is proposed (docs/formats/blob_command.md).

#include <algorithm>

#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "node/lane.h"
#include "node/sources.h"

namespace sluice::node {
namespace {

constexpr size_t kComparesMax = 8;  // contents read to their end at a time
constexpr auto kVerifyTime = std::chrono::seconds(5);

Counter& RefusedEntries() {
  static Counter& counter =
      NewCounter("sluice_node_entries_refused_total", "Publishes beyond those that may wait to be proposed");
  return counter;
}

ClientReply NotEntered(ReplyCode code, absl::Status error) {
  ClientReply reply;
  reply.code = code;
  reply.error = std::move(error);
  return reply;
}

ClientReply LeaderNotReady() {
  return NotEntered(ReplyCode::kLeaderNotReady, absl::UnavailableError("the leader is not ready yet"));
}

}  // namespace

// A publish on its way to the log. The machine decides; what only the bytes themselves can tell is found out
// before: whether they are those of a content without a digest, and whether a content that would make them
// superfluous is held by anybody.
struct Lane::Entering {
  BlobCommand command;
  bool data_stream = false;
  ReplyFn reply;
  Term term;  // in which it met what it met
  std::optional<ContentRecord> rival;
};

void Lane::Enter(BlobCommand command, bool data_stream, ReplyFn reply) {
  if (auto status = BlobMachine().Admit(EncodeBlobCommand(command)); !status.ok()) {
    return reply(NotEntered(ReplyCode::kStateMachine, std::move(status)));
  }
  // What the log has entered is known only to a leader that has applied what it inherited.
  if (!parts_.group->leads()) return reply(parts_.group->NotLeader());
  if (!parts_.group->ready()) return reply(LeaderNotReady());
  const HostOptions& options = *parts_.options;
  const uint64_t bytes = command.data.size();
  if (entering_ >= options.pending_writes_max || entering_bytes_ + bytes > options.pending_bytes_max) {
    RefusedEntries().Increment();
    return reply(NotEntered(
        ReplyCode::kResource,
        absl::ResourceExhaustedError(fmt::format("{} uploads with {} bytes wait to be entered, the limit",
                                                 entering_, entering_bytes_))));
  }
  ++entering_;
  entering_bytes_ += bytes;
  auto entering = std::make_shared<Entering>();
  entering->command = std::move(command);
  entering->data_stream = data_stream;
  const std::string& name = entering->command.name;
  entering->reply = [this, alive = alive_, bytes, name, reply = std::move(reply)](ClientReply ended) mutable {
    if (*alive) {
      --entering_;
      entering_bytes_ -= bytes;
      EndUnder(name);
    }
    reply(std::move(ended));
  };
  if (name.empty()) return FindRival(std::move(entering));
  // One after another: the second of two that come at once meets the first when that is applied, and is compared
  // with it.
  auto& line = entering_under_[name];
  line.push_back(entering);
  if (line.size() == 1) FindRival(std::move(entering));
}

void Lane::EndUnder(const std::string& name) {
  const auto line = entering_under_.find(name);
  if (line == entering_under_.end()) return;
  line->second.pop_front();
  if (line->second.empty()) {
    entering_under_.erase(line);
  } else {
    FindRival(line->second.front());
  }
}

void Lane::FindRival(std::shared_ptr<Entering> entering) {
  entering->term = parts_.group->term();
  parts_.apply->Post([this, alive = alive_, entering] {
    entering->rival = parts_.group->applier().FindRival(entering->command.name, entering->command.sealed);
    parts_.shard->Post([this, alive, entering] {
      if (*alive) Meet(entering);
    });
  });
}

void Lane::Meet(std::shared_ptr<Entering> entering) {
  if (stopped_) {
    return entering->reply(
        NotEntered(ReplyCode::kUnavailable, absl::UnavailableError("the server is stopping")));
  }
  const BlobCommand& command = entering->command;
  const auto& rival = entering->rival;
  // Equal lengths and checksums may be the same bytes; anything else is not.
  if (!rival || rival->id == command.upload || !Matches(rival->sealed, command.sealed)) {
    return ProposeEntered(*entering);
  }
  if (rival->inlined) return MeetHeld(std::move(entering), {}, false);
  CountHolders(rival->id, rival->sealed,
               [this, entering](const absl::StatusOr<std::vector<PeerId>>& holders) {
                 if (holders.ok()) return MeetHeld(entering, *holders, true);
                 entering->reply(NotEntered(ReplyCode::kResource, holders.status()));
               });
}

void Lane::MeetHeld(std::shared_ptr<Entering> entering, const std::vector<PeerId>& holders, bool counted) {
  const ContentRecord& rival = *entering->rival;
  const bool lost = counted && !Majority(holders);
  if (lost) entering->command.lost = rival.id;
  const bool same = rival.sealed.digest && entering->command.sealed.digest;
  if (same && counted && !lost) return Verify(std::move(entering));
  if (same || (counted && holders.empty())) return ProposeEntered(*entering);
  Compare(std::move(entering), holders);
}

// Whoever says that it holds a content has looked at its footer. Before new bytes are dropped as superfluous the
// leader reads its own copy to the end; if it cannot, or not soon, they take its place, which is never wrong.
void Lane::Verify(std::shared_ptr<Entering> entering) {
  const UploadId id = entering->rival->id;
  const blob::Sealed sealed = entering->rival->sealed;
  if (const auto under_way = verifying_.find(id); under_way != verifying_.end()) {
    under_way->second.push_back(std::move(entering));
    return;
  }
  if (comparing_ >= kComparesMax) {
    entering->command.lost = id;
    return ProposeEntered(*entering);
  }
  ++comparing_;
  verifying_[id].push_back(std::move(entering));
  const auto timer = parts_.shard->PostAfter(kVerifyTime, [this, alive = alive_, id] {
    if (*alive) EndVerify(id, absl::DeadlineExceededError("it takes too long to be read"));
  });
  ReadHeld(id, sealed, [this, id, timer](const absl::Status& whole) {
    --comparing_;
    parts_.shard->Cancel(timer);
    EndVerify(id, whole);
  });
}

void Lane::ReadHeld(const UploadId& upload, const blob::Sealed& sealed,
                    absl::AnyInvocable<void(absl::Status)> done) {
  parts_.disk->Post([this, alive = alive_, upload, sealed, done = std::move(done)]() mutable {
    auto read = [this, alive, done = std::move(done)](absl::Status whole) mutable {
      parts_.shard->Post([alive, done = std::move(done), whole = std::move(whole)]() mutable {
        if (*alive) done(std::move(whole));
      });
    };
    auto source = parts_.store->OpenSource(parts_.id, upload, sealed);
    if (!source.ok()) return read(source.status());
    ReadWhole(*std::move(source), parts_.disk, std::move(read));
  });
}

void Lane::EndVerify(const UploadId& id, const absl::Status& whole) {
  auto waiting = verifying_.extract(id);
  if (waiting.empty()) return;
  if (!whole.ok()) LogWarn("content {} is replaced by the same bytes: {}", id.ToHex(), Message(whole));
  for (const auto& entering : waiting.mapped()) {
    if (!whole.ok()) entering->command.lost = id;
    ProposeEntered(*entering);
  }
}

// Asks every voter; those who hold exactly these bytes. A majority is enough. Who is there and cannot look (F-14) does
// not lack them: RESOURCE_EXHAUSTED if that leaves open whether a majority holds them.
void Lane::CountHolders(const UploadId& upload, const blob::Sealed& sealed, Done<std::vector<PeerId>> done) {
  struct Count {
    std::vector<PeerId> holders;
    absl::Status unsure;
    size_t waiting = 0;
    Done<std::vector<PeerId>> done;
  };
  auto count = std::make_shared<Count>();
  count->done = std::move(done);
  const auto asked = [this, alive = alive_, count, sealed](PeerId id) {
    return [this, alive, count, sealed, id](absl::StatusOr<HaveReply> reply) {
      if (!*alive || count->done == nullptr) return;
      --count->waiting;
      if (reply.ok() && reply->state == HoldState::kSealed && Matches(reply->sealed, sealed)) {
        count->holders.push_back(id);
      }
      if (absl::IsResourceExhausted(reply.status())) count->unsure = reply.status();
      const bool majority = Majority(count->holders);
      if (count->waiting > 0 && !majority) return;
      auto answer = std::exchange(count->done, nullptr);
      if (!majority && !count->unsure.ok()) return answer(count->unsure);
      answer(std::move(count->holders));
    };
  };
  const auto peers = PeersOf({});
  count->waiting = peers.size() + 1;
  for (const raft::Peer& peer : peers) bytes_->Have(peer, parts_.id, upload, parts_.shard, asked(peer.id));
  Have(upload, parts_.shard, asked(parts_.options->self.id));
}

void Lane::Compare(std::shared_ptr<Entering> entering, const std::vector<PeerId>& holders) {
  if (comparing_ >= kComparesMax) {
    RefusedEntries().Increment();
    return entering->reply(NotEntered(
        ReplyCode::kResource,
        absl::ResourceExhaustedError(fmt::format("{} contents are being compared, the limit", comparing_))));
  }
  ++comparing_;
  // Opening one blocks.
  parts_.disk->Post([this, alive = alive_, entering, there_at = PeersOf(holders),
                     here_at = PeersOf(entering->command.holders)] {
    const BlobCommand& command = entering->command;
    const ContentRecord& rival = *entering->rival;
    const auto inlined = [](Bytes bytes) { return std::make_shared<InlineSource>(std::move(bytes)); };
    std::shared_ptr<blob::Source> there =
        rival.inlined ? inlined(Bytes::Take(parts_.group->applier().InlineBytes(rival.id).value_or("")))
                      : SourceOf(rival.id, rival.sealed, there_at);
    std::shared_ptr<blob::Source> here = command.op == BlobOp::kPublishInline
                                             ? inlined(command.data)
                                             : SourceOf(command.upload, command.sealed, here_at);
    CompareBytes(
        std::move(there), std::move(here), parts_.disk, [this, alive, entering](absl::StatusOr<bool> same) {
          parts_.shard->Post([this, alive, entering, same = std::move(same)] {
            if (!*alive) return;
            --comparing_;
            if (!same.ok()) {
              return entering->reply(NotEntered(
                  ReplyCode::kUnavailable, absl::UnavailableError(fmt::format(
                                               "{} exists, and cannot be compared now: {}",
                                               Printable(entering->command.name), Message(same.status())))));
            }
            if (*same) entering->command.same_as = entering->rival->id;
            ProposeEntered(*entering);
          });
        });
  });
}

// Here if it is here, else of another server. Blocks.
std::shared_ptr<blob::Source> Lane::SourceOf(const UploadId& upload, const blob::Sealed& sealed,
                                             std::vector<raft::Peer> peers) {
  if (auto source = parts_.store->OpenSource(parts_.id, upload, sealed); source.ok())
    return *std::move(source);
  RemoteParts remote;
  remote.bytes = bytes_;
  remote.clock = parts_.clock;
  remote.wanted = {parts_.id, upload, sealed.length, sealed.checksum};
  remote.timeout = std::chrono::milliseconds(parts_.options->read_timeout_ms);
  remote.sources = std::move(peers);
  return std::make_shared<RemoteSource>(std::move(remote));
}

void Lane::ProposeEntered(Entering& entering) {
  // Another leader may have entered something since.
  if (entering.term != parts_.group->term()) return entering.reply(LeaderNotReady());
  const UploadId& id = entering.command.upload;
  parts_.group->Propose(id.client, id.call, entering.data_stream, EncodeBlobCommand(entering.command),
                        std::move(entering.reply));
}

}  // namespace sluice::node
