// The blob machine's service at any server: names in, bytes in and out (D-18, D-19).

#include "base/crc32c.h"
#include "base/log.h"
#include "base/names.h"
#include "blob/chunks.h"
#include "node/node_host.h"
#include "node/sources.h"

namespace sluice::node {
namespace {

// `done`, once, on `reply_on`. Copies share it.
template <typename Result>
auto AnswerOn(env::Executor* reply_on, absl::AnyInvocable<void(Result)> done) {
  return [reply_on, done = std::make_shared<decltype(done)>(std::move(done))](Result result) {
    reply_on->Post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
  };
}

absl::Status CheckWrite(const WriteKey& write) {
  RETURN_IF_ERROR(CheckName(write.name));
  if (write.writer.size() <= kWriterBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("the writer of {} is named by {} bytes, {} are the limit",
                                                Printable(write.name), write.writer.size(), kWriterBytesMax));
}

absl::Status Replacing() {
  return absl::UnavailableError("a snapshot is being installed here; ask again, or another server");
}

}  // namespace

void NodeHost::PutInline(const GroupId& group, BlobHeader header, Bytes data, env::Executor* reply_on,
                         Done<BlobInfo> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  if (!header.name.empty()) {
    if (auto status = CheckName(header.name); !status.ok()) return finish(status);
  }
  if (data.size() > options_.inline_upload_bytes_max) {
    return finish(absl::InvalidArgumentError(fmt::format("{} bytes are too many for the log: at most {}",
                                                         data.size(), options_.inline_upload_bytes_max)));
  }
  if (header.expected_length && *header.expected_length != data.size()) {
    return finish(absl::InvalidArgumentError(
        fmt::format("{} bytes came, {} were announced", data.size(), *header.expected_length)));
  }
  // Small enough to hash where it stands.
  blob::Sealed sealed;
  sealed.length = data.size();
  blob::ChunkList chunks;
  chunks.Extend(data);
  sealed.checksum = chunks.Checksum();
  DigestBuilder digest;
  data.ForEachChunk([&](std::string_view chunk) { digest.Update(chunk); });
  sealed.digest = digest.Finish();
  if (header.expected_digest && *header.expected_digest != *sealed.digest) {
    return finish(absl::InvalidArgumentError(fmt::format(
        "the bytes have the digest {}, not {}", sealed.digest->ToHex(), header.expected_digest->ToHex())));
  }
  (*slot)->shard->Post(
      [lane = (*slot)->lane.get(), header = std::move(header), data = std::move(data), sealed,
       finish]() mutable { lane->PutInline(std::move(header), std::move(data), sealed, finish); });
}

void NodeHost::OpenWrite(const GroupId& group, BlobHeader header, uint64_t offset, env::Executor* home,
                         Done<std::shared_ptr<Relay>> done) {
  const auto slot = FindLane(group);
  absl::Status wrong = slot.ok() ? absl::OkStatus() : slot.status();
  if (wrong.ok() && !header.name.empty()) wrong = CheckWrite(KeyOf(header));
  if (!wrong.ok()) return home->Post([done = std::move(done), wrong]() mutable { done(wrong); });
  (*slot)->shard->Post([lane = (*slot)->lane.get(), header = std::move(header), offset, home,
                        done = std::move(done)]() mutable {
    lane->OpenWrite(std::move(header), offset, home, std::move(done));
  });
}

void NodeHost::FinishWrite(std::shared_ptr<Relay> relay, env::Executor* reply_on, Done<BlobInfo> done) {
  env::Executor* home = relay->home();
  home->Post([relay = std::move(relay), reply_on, done = std::move(done)]() mutable {
    BlobInfo info;
    info.name = relay->header().blob.name;
    info.content = relay->header().upload;
    info.local = true;
    // Not the relay itself, whose answer this is: it would hold itself if the answer never comes.
    relay->Close([info = std::move(info), reply_on,
                  done = std::move(done)](absl::StatusOr<blob::Sealed> sealed) mutable {
      reply_on->Post([info = std::move(info), sealed = std::move(sealed), done = std::move(done)]() mutable {
        if (!sealed.ok()) return done(sealed.status());
        info.length = sealed->length;
        info.digest = sealed->digest;
        done(std::move(info));
      });
    });
  });
}

void NodeHost::QueryWrite(const GroupId& group, const WriteKey& write, bool ask_others,
                          env::Executor* reply_on, Done<WriteStatus> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  if (auto status = CheckWrite(write); !status.ok()) return finish(status);
  (*slot)->shard->Post([this, slot = *slot, write, ask_others, finish] {
    slot->lane->QueryWrite(
        write, [this, slot, write, ask_others, finish](absl::StatusOr<WriteStatus> writing) {
          if (!absl::IsNotFound(writing.status())) return finish(std::move(writing));
          // Not being written here: complete, or unknown to this server.
          Lookup(slot, {write.name, {}}, [slot, write, ask_others, finish](absl::StatusOr<Found> found) {
            if (ask_others && absl::IsNotFound(found.status())) return slot->lane->QueryOthers(write, finish);
            if (!found.ok()) return finish(found.status());
            finish(WriteStatus{found->record.content.sealed.length, true});
          });
        });
  });
}

// --- Lookups -----------------------------------------------------------------------------------------------

void NodeHost::LookupNow(Slot* slot, const Target& target, Done<Found> done) {
  auto answer = std::make_shared<Done<Found>>(std::move(done));
  const auto token =
      slot->group->BeginLookup([answer](absl::Status refused) { (*answer)(std::move(refused)); });
  if (!token) return;
  apply_->Post([slot, target, answer, token = *token] {
    const std::string& name = target.name;
    auto found = std::make_shared<absl::StatusOr<Found>>(
        absl::NotFoundError(fmt::format("{} does not exist", Printable(name))));
    if (slot->group->applier().replacing()) {
      *found = Replacing();
      slot->shard->Post([slot, found, answer, token] {
        if (slot->group->EndLookup(token)) (*answer)(std::move(*found));
      });
      return;
    }
    const State& state = slot->group->applier().state();
    auto record = BlobMachine::FindName(name, state);
    if (const auto digest = DigestName(name); !record && digest) {
      if (const auto id = BlobMachine::FindDigest(*digest, state)) {
        if (auto content = BlobMachine::FindContent(*id, state))
          record = NameRecord{name, 0, std::move(*content)};
      }
    }
    if (target.content) {
      // Whatever the name says now: a read that began finishes with the bytes that it began with (D-18).
      if (auto content = BlobMachine::FindContent(*target.content, state)) {
        record = NameRecord{name, record ? record->created_ms : 0, std::move(*content)};
      } else if (record) {
        record.reset();
        *found = absl::AbortedError(
            fmt::format("{} has other bytes now than upload {}", Printable(name), target.content->ToHex()));
      }
    }
    if (record) {
      Found result;
      if (record->content.inlined) result.inline_bytes = BlobMachine::InlineBytes(record->content.id, state);
      result.record = std::move(*record);
      *found = std::move(result);
    }
    slot->shard->Post([slot, found, answer, token] {
      if (!slot->group->EndLookup(token)) return;
      if (found->ok()) (*found)->missing = slot->lane->IsMissing((*found)->record.content.id);
      (*answer)(std::move(*found));
    });
  });
}

void NodeHost::Lookup(Slot* slot, const Target& target, Done<Found> done) {
  auto answer = std::make_shared<Done<Found>>(std::move(done));
  const auto after_barrier = [this, slot, target, answer] {
    slot->group->ReadBarrier([this, slot, target, answer](ReplyCode code, absl::Status error) {
      if (code != ReplyCode::kOk) return (*answer)(std::move(error));
      LookupNow(slot, target, [answer](absl::StatusOr<Found> found) { (*answer)(std::move(found)); });
    });
  };
  if (!DigestName(target.name) && !target.content) return after_barrier();
  // A content, and what is under a digest, cannot be stale: a read index is needed only when it is not here
  // (D-18).
  LookupNow(slot, target, [after_barrier, answer](absl::StatusOr<Found> found) {
    if (!found.ok()) return after_barrier();
    (*answer)(std::move(found));
  });
}

BlobInfo NodeHost::InfoOf(const Found& found) const {
  BlobInfo info;
  info.name = found.record.name;
  info.length = found.record.content.sealed.length;
  info.digest = found.record.content.sealed.digest;
  info.created_ms = found.record.created_ms;
  info.content = found.record.content.id;
  info.holders = found.record.content.holders;
  info.inlined = found.record.content.inlined;
  info.local = !found.missing;
  return info;
}

void NodeHost::OpenFound(Slot* slot, Found found, Done<Reading> done) {
  Reading reading;
  reading.info = InfoOf(found);
  if (found.inline_bytes) {
    reading.source = std::make_shared<InlineSource>(Bytes::Take(std::move(*found.inline_bytes)));
    return done(std::move(reading));
  }
  const UploadId id = found.record.content.id;
  const blob::Sealed sealed = found.record.content.sealed;
  const auto remote = [bytes = bytes_,
                       wanted = FetchWanted{slot->group->spec().id, id, sealed.length, sealed.checksum},
                       peers = slot->lane->PeersOf(found.record.content.holders), clock = seams_.clock,
                       timeout = std::chrono::milliseconds(options_.read_timeout_ms)](
                          absl::Status here) -> std::shared_ptr<blob::Source> {
    RemoteParts parts;
    parts.bytes = bytes;
    parts.clock = clock;
    parts.wanted = wanted;
    parts.sources = peers;
    parts.here = std::move(here);
    parts.timeout = timeout;
    return std::make_shared<RemoteSource>(std::move(parts));
  };
  // Also a copy that is known to be damaged: what is whole of it may be all that there is (F-24).
  disk_->Post([this, slot, id, sealed, known = found.missing, reading = std::move(reading), remote,
               done = std::move(done)]() mutable {
    auto local = store_->OpenSource(slot->group->spec().id, id, sealed);
    const auto damaged = [slot, id] {
      slot->shard->Post([lane = slot->lane.get(), id] { lane->MarkDamaged(id); });
    };
    if (local.ok()) {
      const auto elsewhere = [remote] { return remote(absl::OkStatus()); };
      reading.source = std::make_shared<RepairingSource>(std::move(*local), elsewhere, damaged);
    } else if (!SaysLost(local.status())) {
      // No descriptor left says nothing of the copy (F-14).
      return done(local.status());
    } else {
      // Said to be here and is not, or not whole: it is repaired, and read from a holder meanwhile (F-24).
      if (!known) {
        LogWarn("content {} cannot be opened here: {}", id.ToHex(), Message(local.status()));
        damaged();
      }
      reading.source = remote(local.status());
    }
    done(std::move(reading));
  });
}

void NodeHost::OpenRead(const GroupId& group, const std::string& name, const std::optional<UploadId>& content,
                        env::Executor* reply_on, Done<Reading> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  if (auto status = CheckName(name); !status.ok()) return finish(status);
  (*slot)->shard->Post([this, slot = *slot, target = Target{name, content}, finish] {
    Lookup(slot, target, [this, slot, finish](absl::StatusOr<Found> found) {
      if (!found.ok()) return finish(found.status());
      OpenFound(slot, std::move(*found), finish);
    });
  });
}

void NodeHost::OpenUploadRead(const FetchWanted& wanted, env::Executor* reply_on,
                              Done<std::shared_ptr<blob::Source>> done) {
  const auto slot = FindLane(wanted.group);
  if (!slot.ok()) {
    return reply_on->Post([done = std::move(done), status = slot.status()]() mutable { done(status); });
  }
  disk_->Post([this, wanted, reply_on, done = std::move(done)]() mutable {
    auto source = store_->OpenSource(wanted.group, wanted.upload, wanted.sealed());
    reply_on->Post(
        [source = std::move(source), done = std::move(done)]() mutable { done(std::move(source)); });
  });
}

void NodeHost::Stat(const GroupId& group, const std::string& name, env::Executor* reply_on,
                    Done<BlobInfo> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  if (auto status = CheckName(name); !status.ok()) return finish(status);
  (*slot)->shard->Post([this, slot = *slot, name, finish] {
    Lookup(slot, {name, {}}, [this, finish](absl::StatusOr<Found> found) {
      if (!found.ok()) return finish(found.status());
      finish(InfoOf(*found));
    });
  });
}

void NodeHost::List(const GroupId& group, const std::string& prefix, const std::string& after, uint32_t limit,
                    env::Executor* reply_on, Done<std::vector<BlobInfo>> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  (*slot)->shard->Post([this, slot = *slot, prefix, after, limit, finish] {
    slot->group->ReadBarrier([this, slot, prefix, after, limit, finish](ReplyCode code, absl::Status error) {
      if (code != ReplyCode::kOk) return finish(error);
      const auto token = slot->group->BeginLookup([finish](absl::Status refused) { finish(refused); });
      if (!token) return;
      apply_->Post([this, slot, prefix, after, limit, finish, token = *token] {
        if (slot->group->applier().replacing()) {
          return slot->shard->Post([slot, finish, token] {
            if (slot->group->EndLookup(token)) finish(Replacing());
          });
        }
        auto records = std::make_shared<std::vector<NameRecord>>(
            BlobMachine::List(prefix, after, limit, slot->group->applier().state()));
        slot->shard->Post([this, slot, records, finish, token] {
          if (!slot->group->EndLookup(token)) return;
          std::vector<BlobInfo> infos;
          for (NameRecord& record : *records) {
            const bool missing = slot->lane->IsMissing(record.content.id);
            infos.push_back(InfoOf({std::move(record), missing, std::nullopt}));
          }
          finish(std::move(infos));
        });
      });
    });
  });
}

void NodeHost::RemoveName(const GroupId& group, const std::string& name, const UploadId& asked,
                          env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  const auto finish = AnswerOn(reply_on, std::move(done));
  const auto slot = FindLane(group);
  if (!slot.ok()) return finish(slot.status());
  if (auto status = CheckName(name); !status.ok()) return finish(status);
  if (asked.client == kSystemClient) return finish(absl::InvalidArgumentError("reserved client id"));
  (*slot)->shard->Post([slot = *slot, name, asked, finish] {
    RemoveRequest request;
    request.group = slot->group->spec().id;
    request.name = name;
    const bool anonymous = asked.client.IsZero();
    request.client = anonymous ? slot->lane->client() : asked.client;
    request.call = anonymous ? slot->lane->NextCall() : asked.call;
    slot->lane->AskLeader(std::move(request), [finish](ClientReply reply) {
      finish(reply.code == ReplyCode::kOk ? absl::OkStatus() : reply.error);
    });
  });
}

}  // namespace sluice::node
