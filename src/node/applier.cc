#include "node/applier.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/fields.h"
#include "base/log.h"
#include "node/command.h"
#include "node/counter_machine.h"
#include "node/log_clock.h"

namespace sluice::node {
namespace {

std::string EncodeMissing(const MissingContent& missing) {
  FieldWriter out;
  out.PutVarint(1, static_cast<uint64_t>(missing.index.value + 1));
  out.PutVarint(2, missing.upload.sealed.length);
  out.PutVarint(3, missing.upload.sealed.checksum);
  for (const PeerId& holder : missing.upload.holders) out.PutRecord(4, holder.value);
  if (missing.damaged) out.PutVarint(5, 1);
  return out.Take();
}

MissingContent DecodeMissing(const UploadId& id, std::string_view record) {
  MissingContent missing;
  missing.upload.upload = id;
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 1) missing.index = Index{static_cast<int64_t>(in.varint()) - 1};
    if (in.tag() == 2) missing.upload.sealed.length = in.varint();
    if (in.tag() == 3) missing.upload.sealed.checksum = static_cast<uint32_t>(in.varint());
    if (in.tag() == 4) missing.upload.holders.push_back({std::string(in.text())});
    if (in.tag() == 5) missing.damaged = in.varint() != 0;
  }
  return missing;
}

std::unique_ptr<StateMachine> NewMachine(const std::string& name) {
  if (name == "blob") return std::make_unique<BlobMachine>();
  if (name == "counter") return std::make_unique<CounterMachine>();
  return nullptr;
}

// What `call` gives, or INTERNAL if the user's machine throws (F-41): no exception goes on from here.
template <typename Result, typename Call>
Result OfMachine(const char* what, Call call) {
  try {
    return call();
  } catch (const std::exception& thrown) {
    return absl::InternalError(fmt::format("the state machine threw in {}: {}", what, thrown.what()));
  } catch (...) {
    return absl::InternalError(fmt::format("the state machine threw in {}", what));
  }
}

// RESOURCE_EXHAUSTED promises that the same call can be made again; this one cannot.
absl::Status NotForRoom(const absl::Status& status) {
  return absl::IsResourceExhausted(status) ? absl::InternalError(status.message()) : status;
}

}  // namespace

Applier::Applier(Parts parts)
    : parts_(std::move(parts)),
      prefix_("g" + std::string(parts_.spec.id.AsBytes())),
      state_(parts_.index, prefix_ + "s"),
      ages_(parts_.session_bytes_max, parts_.session_keep_ms) {}

absl::StatusOr<std::unique_ptr<Applier>> Applier::Open(Parts parts, Start* start) {
  auto applier = std::unique_ptr<Applier>(new Applier(std::move(parts)));
  applier->machine_ = applier->parts_.spec.factory ? applier->parts_.spec.factory()
                                                   : NewMachine(applier->parts_.spec.machine);
  if (applier->machine_ == nullptr) {
    return absl::InvalidArgumentError(fmt::format("group {}: there is no machine '{}' (blob or counter)",
                                                  applier->parts_.spec.id.ToString(),
                                                  applier->parts_.spec.machine));
  }
  applier->blob_ = dynamic_cast<BlobMachine*>(applier->machine_.get());
  RETURN_IF_ERROR(applier->Load(start));
  ASSIGN_OR_RETURN(const bool waiting, applier->parts_.files->Exists(applier->parts_.snapshot_path));
  if (waiting) RETURN_IF_ERROR(applier->TakeUp(start));
  return applier;
}

// A snapshot that was being installed when the server died: from the start again (it is whole, and loading it
// twice is the same as once), but not now, when it may take long, or find no room (K23).
absl::Status Applier::TakeUp(Start* start) {
  const auto head = CheckSnapshot(parts_.snapshot_path);
  // Never back: it may be one that was loaded, and whose removal was lost (F-32).
  if (head.ok() && applied_.index >= head->at.index) return DropSnapshotFile();
  if (head.ok()) {
    ASSIGN_OR_RETURN(std::vector<UploadId> missing, MissingIds());
    replaced_ = Replaced{std::move(missing), ContentIds()};
    replacing_ = start->interrupted = true;
    return absl::OkStatus();
  }
  // It was whole when it was taken. The applied index goes first when a state is replaced: with it, the old
  // one is still there.
  if (!applied_.index.valid()) {
    return absl::DataLossError(fmt::format(
        "{}; the state that it replaces is gone: this server must be filled again from an empty folder",
        Message(head.status())));
  }
  LogError("{}; it is dropped, the state up to entry {} stays", Message(head.status()), applied_.index.value);
  return DropSnapshotFile();
}

absl::Status Applier::Load(Start* start) {
  ASSIGN_OR_RETURN(const auto record, parts_.index->Get(prefix_ + "a"));
  if (record) {
    FieldReader in(*record);
    while (in.Next()) {
      if (in.tag() == 1) applied_.term = Term{in.varint()};
      if (in.tag() == 2) applied_.index = Index{static_cast<int64_t>(in.varint()) - 1};
      if (in.tag() == 3) {
        ASSIGN_OR_RETURN(configuration_, raft::DecodeConfiguration(Bytes::Copy(in.text())));
        start->configuration = configuration_;
      }
      ReadFacts(in, facts_);
    }
    if (!in.ok()) return absl::DataLossError("the applied index in the index is malformed");
    if (facts_) RETURN_IF_ERROR(CheckFacts(parts_.spec, parts_.cluster->id(), *facts_));
  }
  start->applied = applied_;
  start->facts_known = facts_.has_value();
  if (facts_) start->cluster = facts_->cluster;
  start->clock_ms = facts_ ? facts_->clock_ms : 0;
  RETURN_IF_ERROR(LoadReplies(start));

  const std::string missing = prefix_ + "m";
  return parts_.index->Scan(missing, missing, [&](std::string_view key, std::string_view value) {
    if (const auto id = ParseUploadKey(key.substr(missing.size()))) {
      start->missing.push_back(DecodeMissing(*id, value));
    }
    return true;
  });
}

std::string Applier::ReplyKey(Index index) const {
  std::string key = prefix_ + "r";
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(index.value >> shift));
  return key;
}

absl::Status Applier::LoadReplies(Start* start) {
  ages_ = ReplyAges(parts_.session_bytes_max, parts_.session_keep_ms);
  replies_from_ = Index{0};
  absl::Status malformed;
  const std::string prefix = prefix_ + "r";
  RETURN_IF_ERROR(parts_.index->Scan(prefix, prefix, [&](std::string_view key, std::string_view value) {
    Index index{0};
    for (const char byte : key.substr(prefix.size()))
      index.value = index.value << 8 | static_cast<uint8_t>(byte);
    const auto reply = DecodeReply(index, value);
    malformed = reply.status();
    if (!reply.ok()) return false;
    start->replies->Record(reply->key, reply->stored);
    ages_.Clock(reply->stored.since_ms);
    ages_.Add(index, Sessions::BytesOf(reply->stored));
    return true;
  }));
  RETURN_IF_ERROR(malformed);
  ages_.Clock(start->clock_ms);
  start->replies->ForgetBefore(ages_.first_kept());
  return absl::OkStatus();
}

void Applier::PutApplied(blob::IndexBatch& batch) {
  FieldWriter out;
  out.PutVarint(1, applied_.term.value);
  out.PutVarint(2, static_cast<uint64_t>(applied_.index.value + 1));
  if (!configuration_.voters.empty()) out.PutText(3, raft::EncodeConfiguration(configuration_).ToString());
  PutFacts(out);
  batch.Put(prefix_ + "a", out.Take());
}

void Applier::PutFacts(FieldWriter& out) const {
  if (!facts_) return;
  out.PutVarint(kModeTag, static_cast<uint64_t>(facts_->mode));
  out.PutText(kMachineTag, facts_->machine);
  out.PutVarint(kClockTag, static_cast<uint64_t>(facts_->clock_ms));
  if (!facts_->cluster.IsZero()) out.PutText(kClusterTag, facts_->cluster.AsBytes());
}

// True if the command says what the group is. The first one counts.
absl::StatusOr<bool> Applier::LearnFacts(const Command& command) {
  ASSIGN_OR_RETURN(const auto facts, FactsOf(command));
  if (facts && !facts_) {
    RETURN_IF_ERROR(CheckFacts(parts_.spec, parts_.cluster->id(), *facts));
    facts_ = facts;
  }
  if (!facts_ && parts_.spec.mode == GroupMode::kSluice) {
    return absl::FailedPreconditionError(fmt::format(
        "group {}: its log does not say what it is before its first command, so it is in ratis mode; "
        "this server is set up for sluice mode (D-01)",
        parts_.spec.id.ToString()));
  }
  return facts.has_value();
}

void Applier::Remember(Outcome outcome, Unwritten& unwritten) {
  outcome.stored.since_ms = facts_ ? facts_->clock_ms : 0;
  unwritten.batch.Put(ReplyKey(outcome.stored.index), EncodeReply(outcome.key, outcome.stored));
  ages_.Add(outcome.stored.index, Sessions::BytesOf(outcome.stored));
  unwritten.applied.outcomes.push_back(std::move(outcome));
}

// A reply that was asked for again is kept under the entry that says so, as if it was made now. What the log has
// forgotten by then stays forgotten, at every server.
absl::Status Applier::KeepLonger(Index at, Index kept, Unwritten& unwritten) {
  if (kept < ages_.first_kept()) return absl::OkStatus();
  Outcome again;
  const auto& outcomes = unwritten.applied.outcomes;
  const auto here =
      std::lower_bound(outcomes.begin(), outcomes.end(), kept,
                       [](const Outcome& one, Index index) { return one.stored.index < index; });
  if (here != outcomes.end() && here->stored.index == kept) {
    again = *here;
  } else {
    ASSIGN_OR_RETURN(const auto record, parts_.index->Get(ReplyKey(kept)));
    if (!record) return absl::OkStatus();
    ASSIGN_OR_RETURN(ReplyRecord reply, DecodeReply(kept, *record));
    again = {reply.key, std::move(reply.stored)};
  }
  again.stored.executed = again.stored.entry();
  again.stored.index = at;
  Remember(std::move(again), unwritten);
  return absl::OkStatus();
}

// What is old goes at once, a second's worth of replies by one record.
void Applier::Forget(blob::IndexBatch& batch) {
  if (ages_.first_kept() <= replies_from_) return;
  batch.DeleteRange(ReplyKey(replies_from_), ReplyKey(ages_.first_kept()));
  replies_from_ = ages_.first_kept();
}

uint32_t Applier::ContentOf(const Bytes& data) const {
  return is_blob() ? BlobCommandContent(data) : Crc32c(data);
}

void Applier::ChangeContent(const ContentChange& change, blob::IndexBatch& batch, Applied& applied) {
  const std::string key = prefix_ + "m" + UploadKey(change.upload);
  switch (change.kind) {
    case ContentChange::Kind::kLink: {
      if (parts_.store->Link(parts_.spec.id, change.upload, change.sealed).ok()) {
        // What somebody else sends under the same id can never be entered.
        if (auto stage = parts_.store->Find(parts_.spec.id, change.upload)) stage->Drop();
        return;
      }
      // Absent, unsealed, or other bytes than the log says: fetched in the background (D-14).
      MissingContent missing{change.index, {change.upload, {}, change.sealed, change.holders}};
      batch.Put(key, EncodeMissing(missing));
      applied.missing.push_back(std::move(missing));
      return;
    }
    case ContentChange::Kind::kDropStage:
      if (auto stage = parts_.store->Find(parts_.spec.id, change.upload)) stage->Drop();
      return;
    case ContentChange::Kind::kRemove:
      if (const auto status = RemoveContent(change.upload); !status.ok()) {
        LogWarn("bytes of {} stay on disk: {}", change.upload.ToHex(), Message(status));
      }
      if (auto stage = parts_.store->Find(parts_.spec.id, change.upload)) stage->Drop();
      batch.Delete(key);
      applied.no_longer_missing.push_back(change.upload);
      return;
  }
}

// What was never linked here may be another group's, under the same id. Its footer tells; who linked it knows.
absl::Status Applier::RemoveContent(const UploadId& upload) {
  ASSIGN_OR_RETURN(const auto missing, parts_.index->Get(prefix_ + "m" + UploadKey(upload)));
  if (!missing) return parts_.store->Remove(upload);
  return RemoveIfOwn(upload);
}

absl::Status Applier::RemoveIfOwn(const UploadId& upload) {
  const auto held = parts_.store->SealedState(parts_.spec.id, upload);
  if (held.ok() && !*held) return absl::OkStatus();
  if (!held.ok() && !absl::IsDataLoss(held.status())) return held.status();
  return parts_.store->Remove(upload);
}

absl::StatusOr<Applied> Applier::Apply(const std::vector<raft::Entry>& entries) {
  RETURN_IF_ERROR(broken_);
  // The machine runs once, however often the disk has no room for what came of it.
  if (!unwritten_) {
    auto executed = Execute(entries);
    if (!executed.ok()) {
      // Half executed: neither again nor on. Whatever the disk lacked, it was no room for the result.
      broken_ = NotForRoom(executed.status());
      state_.DropChanges();
      return broken_;
    }
    unwritten_ = *std::move(executed);
  }
  RETURN_IF_ERROR(parts_.index->Write(unwritten_->batch));
  dirty_ = true;
  return std::exchange(unwritten_, std::nullopt)->applied;
}

absl::StatusOr<Applier::Unwritten> Applier::Execute(const std::vector<raft::Entry>& entries) {
  Unwritten unwritten;
  Applied& applied = unwritten.applied;
  blob::IndexBatch& batch = unwritten.batch;
  for (const raft::Entry& entry : entries) {
    SLUICE_CHECK(entry.at.index == applied_.index.Next())
        << "apply " << entry.at.index.value << " after " << applied_.index.value;
    applied_ = entry.at;
    if (entry.kind == raft::EntryKind::kConfiguration) {
      ASSIGN_OR_RETURN(configuration_, raft::DecodeConfiguration(entry.payload));
      continue;
    }
    if (entry.kind != raft::EntryKind::kCommand) continue;
    auto command = DecodeCommand(entry.payload);
    if (!command.ok()) {
      LogError("entry {} is no command: {}", entry.at.index.value, Message(command.status()));
      continue;
    }
    ASSIGN_OR_RETURN(const bool is_facts, LearnFacts(*command));
    if (is_facts) continue;
    if (const auto clock_ms = ClockOf(*command); clock_ms && facts_) {
      facts_->clock_ms = std::max(facts_->clock_ms, *clock_ms);
      ages_.Clock(facts_->clock_ms);
      continue;
    }
    if (const auto kept = AskedAgainOf(*command); kept && facts_) {
      RETURN_IF_ERROR(KeepLonger(entry.at.index, *kept, unwritten));
      continue;
    }
    (void)command->data.Flatten();  // once, for all who look at it
    Outcome outcome{{command->client, command->call}, {entry.at.index, Bytes(), ContentOf(command->data)}};
    bool threw = true;
    outcome.stored.reply = OfMachine<absl::StatusOr<Bytes>>("Apply", [&] {
      auto reply = machine_->Apply({entry.at, command->type == CommandType::kDataStream, command->client,
                                    command->call, std::move(command->data)},
                                   state_);
      threw = false;
      return reply;
    });
    // Half done, and to be done once: neither an answer nor to be tried again.
    if (threw) return outcome.stored.reply.status();
    Remember(std::move(outcome), unwritten);
    if (blob_ != nullptr) {
      for (const ContentChange& change : blob_->TakeChanges()) ChangeContent(change, batch, applied);
    }
  }
  state_.MoveChangesTo(batch);
  RETURN_IF_ERROR(state_.status());
  Forget(batch);
  PutApplied(batch);
  applied.upto = applied_;
  applied.facts_known = facts_.has_value();
  applied.first_kept = ages_.first_kept();
  applied.clock_ms = facts_ ? facts_->clock_ms : 0;
  if (facts_) applied.cluster = facts_->cluster;
  return unwritten;
}

absl::StatusOr<TermIndex> Applier::Checkpoint() {
  RETURN_IF_ERROR(Whole());
  if (!dirty_) return applied_;
  RETURN_IF_ERROR(parts_.index->Flush());
  if (parts_.store != nullptr) {
    parts_.store->LinksEntered(parts_.spec.id);
    // What stood for these links goes now: in an idle group no flush comes that would take it along. The store
    // keeps a failure for the next one.
    (void)parts_.store->SyncLinks();
  }
  dirty_ = false;
  return applied_;
}

// Not ok while what the index shows is not the state as of applied_.
absl::Status Applier::Whole() const {
  RETURN_IF_ERROR(NotReplacing());
  if (unwritten_) return absl::ResourceExhaustedError("applied entries wait for room on the disk");
  return broken_;
}

absl::Status Applier::NotReplacing() const {
  return replacing_ ? absl::UnavailableError("a snapshot is being installed") : absl::OkStatus();
}

absl::StatusOr<Bytes> Applier::Query(const Bytes& request) {
  RETURN_IF_ERROR(NotReplacing());
  auto reply = OfMachine<absl::StatusOr<Bytes>>("Query", [&] { return machine_->Query(request, state_); });
  state_.DropChanges();
  return reply;
}

absl::Status Applier::Admit(const Bytes& message) {
  return OfMachine<absl::Status>("Admit", [&] { return machine_->Admit(message); });
}

// A view of their own: state_ carries what is being applied.
std::optional<ContentRecord> Applier::FindEntered(const UploadId& upload) const {
  return BlobMachine::FindContent(upload, MachineState(parts_.index, prefix_ + "s"));
}

absl::Status Applier::CheckFree(const UploadId& upload) const {
  const MachineState state(parts_.index, prefix_ + "s");
  if (BlobMachine::FindContent(upload, state)) {
    return absl::AlreadyExistsError(
        fmt::format("upload {} was entered already: its id cannot be used again", upload.ToHex()));
  }
  if (BlobMachine::IsAbandoned(upload, state)) {
    return absl::AbortedError(fmt::format("upload {} was abandoned after its time-to-live", upload.ToHex()));
  }
  return state.status();
}

bool Applier::WasAbandoned(const UploadId& upload) const {
  return BlobMachine::IsAbandoned(upload, MachineState(parts_.index, prefix_ + "s"));
}

std::optional<ContentRecord> Applier::FindRival(const std::string& name, const blob::Sealed& sealed) const {
  const MachineState state(parts_.index, prefix_ + "s");
  if (auto present = BlobMachine::FindName(name, state)) return std::move(present->content);
  if (!sealed.digest) return std::nullopt;
  const auto same = BlobMachine::FindDigest(*sealed.digest, state);
  return same ? BlobMachine::FindContent(*same, state) : std::nullopt;
}

std::optional<std::string> Applier::InlineBytes(const UploadId& content) const {
  return BlobMachine::InlineBytes(content, MachineState(parts_.index, prefix_ + "s"));
}

absl::Status Applier::BytesArrived(const UploadId& upload) {
  RETURN_IF_ERROR(NotReplacing());
  const std::string key = prefix_ + "m" + UploadKey(upload);
  ASSIGN_OR_RETURN(const auto missing, parts_.index->Get(key));
  if (!missing) return absl::OkStatus();  // removed meanwhile
  RETURN_IF_ERROR(parts_.store->Link(parts_.spec.id, upload, DecodeMissing(upload, *missing).upload.sealed));
  blob::IndexBatch batch;
  batch.Delete(key);
  dirty_ = true;
  return parts_.index->Write(batch);
}

absl::Status Applier::SettleStage(const UploadId& upload) {
  RETURN_IF_ERROR(NotReplacing());
  const auto content = BlobMachine::FindContent(upload, state_);
  if (!content) return absl::OkStatus();  // the log abandons it, or has removed it
  // As a duplicate it may have been entered as the content of another upload.
  ASSIGN_OR_RETURN(const auto missing, parts_.index->Get(prefix_ + "m" + UploadKey(content->id)));
  if (missing) return absl::OkStatus();
  // Not only dropped: the content's own copy may be damaged, and nobody has read it yet.
  const bool own = content->id == upload && !content->inlined;
  if (own && parts_.store->Link(parts_.spec.id, upload, content->sealed).ok()) dirty_ = true;
  if (auto stage = parts_.store->Find(parts_.spec.id, upload)) stage->Drop();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<MissingContent>> Applier::MarkDamaged(const UploadId& upload) {
  RETURN_IF_ERROR(NotReplacing());
  const auto content = BlobMachine::FindContent(upload, state_);
  if (!content || content->id != upload || content->inlined) return std::vector<MissingContent>();
  MissingContent missing{applied_.index, {upload, {}, content->sealed, content->holders}, true};
  blob::IndexBatch batch;
  batch.Put(prefix_ + "m" + UploadKey(upload), EncodeMissing(missing));
  RETURN_IF_ERROR(parts_.index->Write(batch));
  dirty_ = true;
  return std::vector<MissingContent>{std::move(missing)};
}

}  // namespace sluice::node
