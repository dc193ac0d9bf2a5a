#include "node/lane.h"

#include <algorithm>

#include "base/fields.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "node/fetch_job.h"
#include "node/sources.h"

namespace sluice::node {
namespace {

constexpr size_t kFetchesMax = 2;    // contents fetched in the background at a time
constexpr size_t kQueriesMax = 128;  // passed on to the other members at a time
// What the log has entered may still be on its way here for so long, before it is fetched.
constexpr auto kArrivingPatience = std::chrono::seconds(60);

}  // namespace

std::string EncodeStageContext(const BlobHeader& header, bool by_name) {
  FieldWriter out;
  out.PutText(1, header.name);
  if (header.expected_length) out.PutVarint(2, *header.expected_length + 1);
  if (header.expected_digest) out.PutText(3, header.expected_digest->AsBytes());
  out.PutVarint(4, header.compute_digest ? 1 : 0);
  out.PutVarint(5, by_name ? 1 : 0);
  if (!header.writer.empty()) out.PutText(6, header.writer);
  return out.Take();
}

StageContext DecodeStageContext(std::string_view context) {
  StageContext stage;
  stage.header.compute_digest = false;
  FieldReader in(context);
  while (in.Next()) {
    if (in.tag() == 1) stage.header.name = std::string(in.text());
    if (in.tag() == 2) stage.header.expected_length = in.varint() - 1;
    if (in.tag() == 3) stage.header.expected_digest = Sha256::FromBytes(in.text());
    if (in.tag() == 4) stage.header.compute_digest = in.varint() != 0;
    if (in.tag() == 5) stage.by_name = in.varint() != 0;
    if (in.tag() == 6) stage.header.writer = std::string(in.text());
  }
  return stage;
}

Lane::Lane(Parts parts) : parts_(std::move(parts)) {
  for (const MissingContent& content : parts_.missing) SetMissing(content);
  // Uploads by name that outlived a restart can be taken up again (D-20).
  for (const auto& stage : parts_.store->Stages()) {
    if (stage->spec().group != parts_.id || stage->sealed()) continue;
    const StageContext context = DecodeStageContext(stage->spec().context);
    if (context.by_name) writes_[KeyOf(context.header)] = {stage->spec().id, {}};
  }
}

Lane::~Lane() { *alive_ = false; }

void Lane::Start(ByteTransport* bytes) { bytes_ = bytes; }

void Lane::Stop() {
  stopped_ = true;
  ClientReply unavailable;
  unavailable.code = ReplyCode::kUnavailable;
  unavailable.error = absl::UnavailableError("the server is stopping");
  auto forwards = std::exchange(forwards_, {});
  for (auto& [upload, replies] : forwards) {
    for (ReplyFn& reply : replies) reply(unavailable);
  }
  writes_.clear();
  // No upload is entered through this server any more. Who feeds one holds it and waits for its answers, which
  // hold who waits: whatever is left without one would stay for ever.
  for (auto& [id, weak] : relays_) {
    auto relay = weak.lock();
    if (relay == nullptr) continue;
    env::Executor* home = relay->home();
    home->Post([relay = std::move(relay), why = unavailable.error] { relay->GiveWay(why); });
  }
}

CallId Lane::NextCall() { return CallId{next_call_++}; }

Index Lane::bytes_complete() const {
  Index complete = parts_.group->applied();
  for (const auto& [id, missing] : missing_) complete = std::min(complete, missing.content.index.Prev());
  return complete;
}

std::vector<raft::Peer> Lane::PeersOf(const std::vector<PeerId>& first) const {
  std::vector<raft::Peer> peers;
  const raft::Configuration& configuration = parts_.group->configuration();
  const auto add = [&](const raft::Peer* peer) {
    if (peer == nullptr || peer->id == parts_.options->self.id) return;
    if (std::none_of(peers.begin(), peers.end(), [&](const auto& p) { return p.id == peer->id; })) {
      peers.push_back(*peer);
    }
  };
  for (const PeerId& id : first) add(configuration.Find(id));
  for (const raft::Peer& peer : configuration.voters) add(&peer);
  return peers;
}

bool Lane::Majority(const std::vector<PeerId>& holders) const {
  const raft::Configuration& configuration = parts_.group->configuration();
  const auto held = [&](const std::vector<raft::Peer>& voters) {
    const auto count = std::count_if(voters.begin(), voters.end(), [&](const raft::Peer& voter) {
      return std::find(holders.begin(), holders.end(), voter.id) != holders.end();
    });
    return 2 * static_cast<size_t>(count) > voters.size();
  };
  return held(configuration.voters) && (!configuration.joint() || held(configuration.old_voters));
}

// --- Uploads through this server ---------------------------------------------------------------------------

absl::StatusOr<std::vector<Downstream>> Lane::CheckHeader(const StreamHeader& header) const {
  if (header.blob.name.empty()) {
    if (!header.blob.compute_digest && !header.blob.expected_digest) {
      return absl::InvalidArgumentError("an upload without a name needs a digest");
    }
  } else {
    RETURN_IF_ERROR(CheckName(header.blob.name));
  }
  const raft::Configuration& configuration = parts_.group->configuration();
  const PeerId& self = parts_.options->self.id;
  if (header.take_over && header.route.primary == self) {
    return absl::InvalidArgumentError("an upload is not taken over at its primary");
  }
  if (!header.route.given) {
    std::vector<Downstream> successors;
    if (header.route.primary != self) return successors;
    for (const raft::Peer& peer : configuration.voters) {
      if (peer.id != self) successors.push_back({peer, {}});
    }
    return successors;
  }
  for (const auto& [from, to] : header.route.successors) {
    std::vector<PeerId> named = to;
    named.push_back(from);
    for (const PeerId& id : named) {
      if (configuration.Find(id) == nullptr) {
        return absl::InvalidArgumentError(fmt::format("route: {} is not in the group", Printable(id.value)));
      }
    }
  }
  std::set<PeerId> seen{self};
  return Below(self, header.route, seen);
}

// Each server once, whatever the route says.
std::vector<Downstream> Lane::Below(const PeerId& from, const Route& route, std::set<PeerId>& seen) const {
  std::vector<Downstream> below;
  for (const auto& [server, to] : route.successors) {
    if (server != from) continue;
    for (const PeerId& id : to) {
      if (seen.insert(id).second) below.push_back({*parts_.group->configuration().Find(id), {}});
    }
  }
  for (Downstream& one : below) one.below = Below(one.peer.id, route, seen);
  return below;
}

std::shared_ptr<RelayUpload> Lane::NewRelay(StreamHeader header, env::Executor* home) {
  const bool primary = header.route.primary == parts_.options->self.id;
  // A digest is computed at most once, by the server that receives the upload (D-09).
  if (!primary) header.blob.compute_digest = false;
  if (header.blob.expected_digest && primary) header.blob.compute_digest = true;
  const bool by_name = header.raw.empty() && primary;
  RelayParts parts;
  parts.context = EncodeStageContext(header.blob, by_name);
  parts.header = std::move(header);
  parts.home = home;
  parts.files = parts_.disk;
  parts.store = parts_.store;
  parts.bytes = bytes_;
  parts.window_bytes = parts_.options->upload_window_bytes;
  parts.silence = std::chrono::milliseconds(parts_.options->successor_silence_ms);
  parts.lenient = true;
  parts.keep_on_bad_offset = by_name;
  parts.self = parts_.options->self.id;
  parts.may_open = [applier = &parts_.group->applier()](const UploadId& upload) {
    return applier->CheckFree(upload);
  };
  if (primary) {
    parts.confirm = [this, alive = alive_, by_name, shard = parts_.shard](
                        SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done) {
      shard->Post([this, alive, by_name, upload = std::move(upload), done = std::move(done)]() mutable {
        if (!*alive || stopped_) return done(absl::UnavailableError("the server is stopping"));
        if (by_name) return ConfirmWrite(std::move(upload), std::move(done));
        ConfirmStream(std::move(upload), std::move(done));
      });
    };
  }
  return std::make_shared<RelayUpload>(std::move(parts));
}

// Takes down that it passes through here.
absl::Status Lane::AdmitRelay(const std::shared_ptr<RelayUpload>& relay) {
  static Counter& refused =
      NewCounter("sluice_node_uploads_refused_total", "Uploads beyond the limit of one group");
  if (stopped_) return absl::UnavailableError("the server is stopping");
  if (relays_.size() >= parts_.options->group_uploads_max) {
    std::erase_if(relays_, [](const auto& one) { return one.second.expired(); });
  }
  if (relays_.size() >= parts_.options->group_uploads_max) {
    refused.Increment();
    return absl::ResourceExhaustedError(
        fmt::format("{} uploads of the group are under way, the limit", relays_.size()));
  }
  // Another one of the same id is refused by the store.
  auto& place = relays_[relay->header().upload];
  if (place.expired()) place = relay;
  return absl::OkStatus();
}

void Lane::OpenRelay(std::shared_ptr<RelayUpload> relay, absl::AnyInvocable<void(absl::Status)> opened) {
  absl::StatusOr<std::vector<Downstream>> successors = CheckHeader(relay->header());
  std::shared_ptr<RelayUpload> before;
  if (successors.ok() && relay->header().take_over) {
    if (fetches_.contains(relay->header().upload)) {
      successors = absl::AlreadyExistsError("the upload is being fetched");
    } else if (const auto it = relays_.find(relay->header().upload); it != relays_.end()) {
      before = it->second.lock();
      relays_.erase(it);
    }
  }
  // What came of the id is remembered although nothing may be left of it.
  if (const UploadId& id = relay->header().upload;
      successors.ok() && parts_.group->FindReply(id.client, id.call).has_value()) {
    successors = absl::AlreadyExistsError(
        fmt::format("upload {} was entered already: its id cannot be used again", id.ToHex()));
  }
  if (successors.ok()) {
    if (const absl::Status admitted = AdmitRelay(relay); !admitted.ok()) successors = admitted;
  }
  env::Executor* home = relay->home();
  env::Task open = [relay = std::move(relay), successors = std::move(successors),
                    opened = std::move(opened)]() mutable {
    relay->Open(std::move(successors), std::move(opened));
  };
  if (before == nullptr) return home->Post(std::move(open));
  // Whoever fed it is fenced first: what it appended until then counts, nothing after.
  env::Executor* old_home = before->home();
  old_home->Post([before = std::move(before), home, open = std::move(open)]() mutable {
    before->GiveWay(absl::AbortedError(
        fmt::format("upload {} goes on over another way", before->header().upload.ToHex())));
    home->Post(std::move(open));
  });
}

// Through the other voters: each passes the bytes on once.
Route Lane::ChainFromHere() const {
  Route route;
  route.primary = parts_.options->self.id;
  route.given = true;
  PeerId from = route.primary;
  for (const raft::Peer& peer : PeersOf({})) {
    route.successors.push_back({from, {peer.id}});
    from = peer.id;
  }
  return route;
}

void Lane::OpenNewWrite(BlobHeader header, env::Executor* home, Done<std::shared_ptr<Relay>> done) {
  if (const auto it = writes_.find(KeyOf(header)); it != writes_.end()) {
    // A new upload fences the old one (D-20).
    if (auto old = it->second.relay.lock()) {
      old->home()->Post([old] {
        (void)old->Handle();
        old->Abort();
      });
    } else if (auto stage = parts_.store->Find(parts_.id, it->second.upload)) {
      stage->Abort();
    }
    writes_.erase(it);
  }
  if (writes_.size() >= parts_.options->blob.stages_max) {
    std::erase_if(writes_, [&](const auto& write) {
      return write.second.relay.expired() && parts_.store->Find(parts_.id, write.second.upload) == nullptr;
    });
    if (writes_.size() >= parts_.options->blob.stages_max) {
      return done(absl::ResourceExhaustedError(
          fmt::format("{} uploads by name are here, the limit", writes_.size())));
    }
  }
  StreamHeader stream;
  stream.group = parts_.id;
  stream.upload = {client(), NextCall()};
  stream.blob = header;
  stream.route = ChainFromHere();
  auto relay = NewRelay(stream, home);
  if (!header.name.empty()) writes_[KeyOf(header)] = {stream.upload, relay};
  auto answer = std::make_shared<Done<std::shared_ptr<Relay>>>(std::move(done));
  OpenRelay(relay, [this, alive = alive_, relay, answer, shard = parts_.shard](absl::Status opened) {
    if (opened.ok()) return (*answer)(relay->Handle());
    shard->Post([this, alive, write = KeyOf(relay->header().blob), upload = relay->header().upload] {
      if (*alive) FinishedWrite(write, upload);  // a refused one leaves nothing behind
    });
    (*answer)(opened);
  });
}

void Lane::OpenWrite(BlobHeader header, uint64_t offset, env::Executor* home,
                     Done<std::shared_ptr<Relay>> done) {
  auto on_home = [home, done = std::make_shared<Done<std::shared_ptr<Relay>>>(std::move(done))](
                     absl::StatusOr<std::shared_ptr<Relay>> relay) {
    home->Post([done, relay = std::move(relay)] { (*done)(relay); });
  };
  if (offset == 0) return OpenNewWrite(std::move(header), home, on_home);
  const auto it = writes_.find(KeyOf(header));
  if (it == writes_.end()) {
    return on_home(absl::InvalidArgumentError(
        fmt::format("write at {} to {}: this server has no such upload; expected offset 0", offset,
                    Printable(header.name))));
  }
  std::shared_ptr<RelayUpload> relay = Feeding(it->second);
  if (relay == nullptr) {
    auto stage = parts_.store->Find(parts_.id, it->second.upload);
    if (!stage) {
      writes_.erase(it);
      return on_home(absl::InvalidArgumentError("the upload has expired; start again at 0"));
    }
    StreamHeader stream;
    stream.group = parts_.id;
    stream.upload = it->second.upload;
    stream.route = ChainFromHere();
    stream.blob = DecodeStageContext(stage->spec().context).header;
    auto successors = CheckHeader(stream);
    relay = NewRelay(stream, home);
    const absl::Status admitted = successors.ok() ? AdmitRelay(relay) : successors.status();
    if (!admitted.ok()) return on_home(admitted);
    it->second.relay = relay;
    home->Post([relay, stage, successors = *std::move(successors)]() mutable {
      relay->Resume(stage, std::move(successors));
    });
  }
  relay->home()->Post([relay, offset, on_home, name = header.name] {
    // Behind what is still on its way to the stage.
    relay->Flush([relay, offset, on_home, name](const absl::StatusOr<uint64_t>& flushed) {
      if (!flushed.ok()) return on_home(flushed.status());
      if (relay->length() != offset) {
        return on_home(absl::InvalidArgumentError(
            fmt::format("write at {} to {}: expected offset {}", offset, Printable(name), relay->length())));
      }
      on_home(std::shared_ptr<Relay>(relay->Handle()));
    });
  });
}

std::shared_ptr<RelayUpload> Lane::Feeding(const Write& write) {
  auto relay = write.relay.lock();
  return relay != nullptr && !relay->failed() ? relay : nullptr;
}

void Lane::QueryWrite(const WriteKey& write, Done<WriteStatus> done) {
  const auto it = writes_.find(write);
  if (it == writes_.end())
    return done(absl::NotFoundError(fmt::format("{} is not being written", Printable(write.name))));
  auto answer = std::make_shared<Done<WriteStatus>>(std::move(done));
  const auto flushed = [shard = parts_.shard, answer](absl::StatusOr<uint64_t> durable) {
    shard->Post([answer, durable = std::move(durable)] {
      if (!durable.ok()) return (*answer)(durable.status());
      (*answer)(WriteStatus{*durable, false});
    });
  };
  if (const auto relay = Feeding(it->second)) {
    // The call that feeds it may end meanwhile, as those do whose clients then ask: it stays until it has answered.
    relay->home()->Post([relay, flushed] {
      relay->Flush([relay, flushed](absl::StatusOr<uint64_t> durable) { flushed(std::move(durable)); });
    });
  } else if (auto stage = parts_.store->Find(parts_.id, it->second.upload)) {
    // What it holds beyond its durable length counts too: the next write has to begin behind that.
    stage->Flush(parts_.shard, [stage, flushed](absl::StatusOr<uint64_t> durable) {
      // A queue that is full or too few descriptors pass; what failed for good has to go.
      if (!durable.ok() && !absl::IsResourceExhausted(durable.status())) {
        stage->Abort();
        durable = absl::NotFoundError("the upload cannot be gone on with; start again at 0");
      }
      flushed(std::move(durable));
    });
  } else {
    writes_.erase(it);
    (*answer)(absl::NotFoundError("the upload has expired"));
  }
}

void Lane::QueryOthers(const WriteKey& write, Done<WriteStatus> done) {
  if (stopped_) return done(absl::UnavailableError("the server is stopping"));
  static Counter& refused =
      NewCounter("sluice_node_queries_refused_total", "Queries of a write beyond those that are passed on");
  if (querying_ >= kQueriesMax) {
    refused.Increment();
    return done(absl::ResourceExhaustedError(
        fmt::format("{} queries are passed on to other servers, the limit", querying_)));
  }
  struct Query {
    size_t waiting = 0;
    absl::StatusOr<WriteStatus> best;
    Done<WriteStatus> done;
  };
  auto query = std::make_shared<Query>();
  query->best =
      absl::NotFoundError(fmt::format("{} is not known at any server that answered", Printable(write.name)));
  query->done = std::move(done);
  std::vector<raft::Peer> others = parts_.group->configuration().AllPeers();
  std::erase_if(others, [&](const raft::Peer& peer) { return peer.id == parts_.options->self.id; });
  if (others.empty()) return query->done(std::move(query->best));
  ++querying_;
  query->waiting = others.size();
  for (const raft::Peer& peer : others) {
    // Whoever fails to answer is left out: the transport ends the call at its deadline.
    bytes_->QueryWrite(peer, parts_.id, write, parts_.shard,
                       [this, alive = alive_, query](absl::StatusOr<WriteStatus> told) {
                         if (told.ok() && (!query->best.ok() ||
                                           std::pair(told->complete, told->committed) >
                                               std::pair(query->best->complete, query->best->committed))) {
                           query->best = std::move(told);
                         }
                         if (--query->waiting > 0) return;
                         if (*alive) --querying_;
                         query->done(std::move(query->best));
                       });
  }
}

void Lane::FinishedWrite(const WriteKey& write, const UploadId& upload) {
  const auto it = writes_.find(write);
  if (it != writes_.end() && it->second.upload == upload) writes_.erase(it);
}

void Lane::PutInline(BlobHeader header, Bytes data, blob::Sealed sealed, Done<BlobInfo> done) {
  PublishRequest request;
  request.group = parts_.id;
  request.upload.upload = {client(), NextCall()};
  request.upload.header = header;
  request.upload.sealed = sealed;
  request.inline_bytes = std::move(data);
  AskLeader(std::move(request), [done = std::move(done), header, sealed](ClientReply reply) mutable {
    if (reply.code != ReplyCode::kOk) return done(reply.error);
    BlobInfo info;
    info.name = header.name;
    info.length = sealed.length;
    info.digest = sealed.digest;
    info.inlined = true;
    done(std::move(info));
  });
}

// --- What is held here -------------------------------------------------------------------------------------

// What the log has entered under the id counts, not what somebody sends under it later; and what is known to
// be damaged is not held.
void Lane::Have(const UploadId& upload, env::Executor* reply_on, Done<HaveReply> done) {
  parts_.shard->Post([this, upload, reply_on, done = std::move(done)]() mutable {
    parts_.disk->Post(
        [this, lacking = missing_.contains(upload), upload, reply_on, done = std::move(done)]() mutable {
          HaveReply reply;
          const auto entered = parts_.group->applier().FindEntered(upload);
          if (entered) {
            reply.entered = true;
            reply.sealed = entered->sealed;
          } else {
            reply.abandoned = parts_.group->applier().WasAbandoned(upload);
          }
          const auto here = parts_.store->SealedState(parts_.id, upload);
          if (!here.ok() && !SaysLost(here.status())) {
            // Neither held nor lacking: it cannot be told now (F-14).
            reply_on->Post(
                [status = here.status(), done = std::move(done)]() mutable { done(std::move(status)); });
            return;
          }
          if (const bool held = here.ok() && *here && (!entered || Matches(**here, entered->sealed)); !held) {
            if (auto stage = parts_.store->Find(parts_.id, upload)) {
              reply.state = HoldState::kOpen;
              reply.durable_length = stage->durable_length();
            }
            // Said to be here, and is not: it is fetched.
            if (entered && !entered->inlined && !lacking) {
              parts_.shard->Post([this, upload] { MarkDamaged(upload); });
            }
          } else if (!lacking) {
            reply.state = HoldState::kSealed;
            if (!entered) reply.sealed = **here;
          }
          reply_on->Post(
              [reply = std::move(reply), done = std::move(done)]() mutable { done(std::move(reply)); });
        });
  });
}

void Lane::Fetch(SealedUpload upload, bool replace_held, env::Executor* reply_on, Done<HaveReply> done) {
  constexpr size_t kOrderedFetchesMax = 64;
  constexpr size_t kJoinedMax = 64;  // each leader that gathers asks once, so these are many
  auto answer = std::make_shared<Done<HaveReply>>(std::move(done));
  const auto refuse = [reply_on, answer](absl::Status why) {
    reply_on->Post([answer, why = std::move(why)] { (*answer)(why); });
  };
  const UploadId id = upload.upload;
  if (const auto it = fetches_.find(id); it != fetches_.end()) {
    // Joins the fetch under way, unless what that brings is not what is wanted here.
    if (it->second.waiting.size() >= kJoinedMax) {
      return refuse(absl::ResourceExhaustedError(fmt::format("upload {}: {} calls wait for it to be fetched",
                                                             id.ToHex(), it->second.waiting.size())));
    }
    if (Matches(it->second.wanted, upload.sealed) && (it->second.replaces_held || !replace_held)) {
      it->second.waiting.emplace_back(reply_on, answer);
      return;
    }
    return refuse(absl::UnavailableError(
        fmt::format("upload {}: other bytes are being fetched under its id", id.ToHex())));
  }
  if (fetches_.size() >= kOrderedFetchesMax || stopped_) {
    return refuse(absl::ResourceExhaustedError("too many fetches are under way"));
  }
  fetches_[id] = {upload.sealed, replace_held, {{reply_on, answer}}};
  FetchParts parts;
  parts.home = parts_.shard;
  parts.files = parts_.disk;
  parts.store = parts_.store;
  parts.bytes = bytes_;
  parts.group = parts_.id;
  parts.sources = PeersOf(upload.holders);
  parts.wanted = std::move(upload);
  parts.entered = missing_.contains(id);
  parts.replace_held = replace_held;
  FetchUpload(std::move(parts), [this, alive = alive_, id](absl::StatusOr<blob::Sealed> fetched) {
    if (!*alive) return;
    auto joined = fetches_.extract(id);
    if (joined.empty()) return;
    for (auto& [executor, callback] : joined.mapped().waiting) {
      executor->Post([callback = callback, fetched] {
        if (!fetched.ok()) return (*callback)(fetched.status());
        (*callback)(HaveReply{HoldState::kSealed, *fetched, 0});
      });
    }
  });
}

void Lane::OnApplied(const Applied& applied) {
  for (const MissingContent& content : applied.missing) {
    SetMissing(content);
    // What this server receives under the id is not what was entered: that it would have sealed first.
    const UploadId& id = content.upload.upload;
    const auto it = relays_.find(id);
    const auto relay = it == relays_.end() ? nullptr : it->second.lock();
    if (relay == nullptr || relay->header().route.primary != parts_.options->self.id) continue;
    if (const auto stage = parts_.store->Find(parts_.id, id);
        stage && stage->state() != blob::StageState::kOpen)
      continue;
    relay->home()->Post([relay, id] {
      relay->GiveWay(absl::AbortedError(
          fmt::format("upload {} was entered with other bytes: its id cannot be used again", id.ToHex())));
    });
  }
  for (const UploadId& id : applied.no_longer_missing) missing_.erase(id);
}

void Lane::SetMissing(const MissingContent& content) {
  Missing& missing = missing_[content.upload.upload];
  missing.content = content;
  missing.since = parts_.clock->MonotonicNow();
}

void Lane::MarkDamaged(const UploadId& upload) {
  if (missing_.contains(upload)) return;
  parts_.apply->Post([this, alive = alive_, upload] {
    auto marked = std::make_shared<absl::StatusOr<std::vector<MissingContent>>>(
        parts_.group->applier().MarkDamaged(upload));
    parts_.shard->Post([this, alive, marked] {
      if (!*alive || !marked->ok()) return;
      for (const MissingContent& content : **marked) SetMissing(content);
    });
  });
}

void Lane::Tick() {
  if (stopped_) return;
  FetchMissing();
  const env::Instant now = parts_.clock->MonotonicNow();
  if (now < next_reclaim_) return;
  const auto ttl = std::chrono::milliseconds(parts_.options->upload_idle_ttl_ms);
  std::erase_if(relays_, [](const auto& one) { return one.second.expired(); });
  next_reclaim_ = now + std::max<env::Duration>(ttl / 4, std::chrono::milliseconds(100));
  Reclaim();
}

void Lane::FetchMissing() {
  while (fetching_ < kFetchesMax) {
    Missing* const next = NextMissing();
    if (next == nullptr) return;
    next->fetching = true;
    ++fetching_;
    const bool reread = next->content.damaged && !IsFetched(next->content.upload);
    reread ? Reread(next->content.upload) : FetchOne(next->content.upload, false);
  }
}

// What waits longest for its turn: contents that nobody has do not hold up the others, however many they are (D-14).
Lane::Missing* Lane::NextMissing() {
  const env::Instant now = parts_.clock->MonotonicNow();
  constexpr env::Instant kNeverTried{};
  Missing* next = nullptr;
  for (auto& [id, missing] : missing_) {
    if (missing.fetching || missing.retry_at > now || StillArriving(missing, now)) continue;
    if (missing.retry_at == kNeverTried) return &missing;
    if (next == nullptr || missing.retry_at < next->retry_at) next = &missing;
  }
  return next;
}

// Its bytes lie beside the copy that is damaged, since before a restart perhaps, and need only take its place.
bool Lane::IsFetched(const SealedUpload& upload) const {
  const auto stage = parts_.store->Find(parts_.id, upload.upload);
  return stage && stage->sealed() && Matches(stage->sealed_state(), upload.sealed);
}

// One error of the disk may pass, and nobody else may have these bytes: a copy counts as damaged no longer than until
// it has been read to its end (F-24).
void Lane::Reread(SealedUpload upload) {
  const UploadId id = upload.upload;
  const blob::Sealed sealed = upload.sealed;
  ReadHeld(id, sealed, [this, upload = std::move(upload)](const absl::Status& whole) mutable {
    if (SaysLost(whole)) return FetchOne(std::move(upload), true);
    if (whole.ok()) LogInfo("content {} is whole here: read to its end", upload.upload.ToHex());
    EndFetch(upload.upload, whole);
  });
}

void Lane::FetchOne(SealedUpload upload, bool replace_held) {
  const UploadId id = upload.upload;
  Fetch(std::move(upload), replace_held, parts_.shard,
        [this, alive = alive_, id](const absl::StatusOr<HaveReply>& fetched) {
          if (*alive) EndFetch(id, fetched.status());
        });
}

// What was missing is here if `status` is ok; else it is tried again after a pause.
void Lane::EndFetch(const UploadId& id, absl::Status status) {
  parts_.apply->Post([this, alive = alive_, id, status = std::move(status)] {
    absl::Status linked = status.ok() ? parts_.group->applier().BytesArrived(id) : status;
    parts_.shard->Post([this, alive, id, linked] {
      if (!*alive) return;
      --fetching_;
      const auto it = missing_.find(id);
      if (it == missing_.end()) return;
      if (linked.ok()) {
        missing_.erase(it);
        return;
      }
      // Once: it is tried again and again, and `status` counts what is missing.
      if (it->second.backoff == kFirstRetry) {
        LogWarn("content {} is missing here, and is asked for again: {}", id.ToHex(), Message(linked));
      }
      it->second.fetching = false;
      it->second.retry_at = parts_.clock->MonotonicNow() + it->second.backoff;
      it->second.backoff = std::min<env::Duration>(it->second.backoff * 2, std::chrono::seconds(30));
    });
  });
}

// Bounded, because it may be something else that arrives under the id.
bool Lane::StillArriving(const Missing& missing, env::Instant now) const {
  const auto stage = parts_.store->Find(parts_.id, missing.content.upload.upload);
  return stage && stage->state() == blob::StageState::kOpen &&
         stage->length() <= missing.content.upload.sealed.length && now - missing.since < kArrivingPatience &&
         now - stage->last_progress() < std::chrono::milliseconds(parts_.options->successor_silence_ms);
}

void Lane::Reclaim() {
  const env::Instant now = parts_.clock->MonotonicNow();
  const auto ttl = std::chrono::milliseconds(parts_.options->upload_idle_ttl_ms);
  std::set<UploadId> dropped;
  for (const auto& stage : parts_.store->Stages()) {
    const UploadId id = stage->spec().id;
    if (stage->spec().group != parts_.id || now - stage->last_progress() < ttl) continue;
    if (fetches_.contains(id) || forwards_.contains(id)) continue;
    if (stage->state() == blob::StageState::kSealing) continue;
    if (!stage->sealed()) {
      LogInfo("upload {}: reclaimed at {} bytes after {} ms without progress", id.ToHex(), stage->length(),
              parts_.options->upload_idle_ttl_ms);
      stage->Abort();
      dropped.insert(id);
      continue;
    }
    // Sealed: only the log may say that it will never be entered (D-10), and nobody asks it to while a client
    // waits for a majority here: for servers that are silent, longer than the stage lives.
    if (const auto it = relays_.find(id); it != relays_.end()) {
      if (const auto relay = it->second.lock(); relay != nullptr && relay->awaited()) continue;
    }
    const auto asked = abandoning_.find(id);
    if (missing_.contains(id) || (asked != abandoning_.end() && now - asked->second < ttl)) continue;
    // The calls that wait for the leader are for clients: the rest of the stages waits for the next turn.
    if (abandoning_.size() >= std::max<size_t>(1, parts_.options->pending_writes_max / 4)) continue;
    abandoning_[id] = now;
    PublishRequest request;
    request.group = parts_.id;
    request.upload.upload = id;
    request.abandon = true;
    AskLeader(std::move(request), [this, alive = alive_, id](ClientReply reply) {
      if (!*alive) return;
      abandoning_.erase(id);
      // It may have been entered after all, and be left of a fetch that came second.
      if (reply.code == ReplyCode::kOk && !fetches_.contains(id)) {
        parts_.apply->Post([this, id] { (void)parts_.group->applier().SettleStage(id); });
      }
    });
  }
  if (!dropped.empty()) {
    std::erase_if(writes_, [&](const auto& write) { return dropped.contains(write.second.upload); });
    parts_.disk->Post([store = parts_.store] { (void)store->SyncLinks(); });
  }
}

}  // namespace sluice::node
