#include "blob/stage.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace sluice::blob {
namespace {

// Adjacent appends of one burst are written together up to this size.
constexpr uint64_t kRunBytesMax = 1u << 20;
// What a queued call counts beside its payload, so that empty calls are bounded too.
constexpr uint64_t kCallBytes = 256;
constexpr uint64_t kHashPieceBytes = 1u << 20;

template <typename T>
void Reply(env::Executor* on, Upload::Done<T> done, absl::StatusOr<T> result) {
  on->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

}  // namespace

Stage::Stage(StagePlace& place, Threads threads, UploadSpec spec, std::unique_ptr<StageFile> file)
    : place_(place),
      threads_(threads),
      spec_(std::move(spec)),
      paths_(place.PathsOf(spec_.id)),
      last_progress_(place.clock().MonotonicNow().count()),
      names_durable_(false) {
  SetFile(std::move(file));
}

Stage::Stage(StagePlace& place, Threads threads, const SideState& found)
    : place_(place),
      threads_(threads),
      spec_(found.spec),
      paths_(place.PathsOf(spec_.id)),
      length_(found.sealed ? found.sealed->length : found.durable.length()),
      durable_length_(length_.load()),
      last_progress_(place.clock().MonotonicNow().count()),
      state_(found.sealed ? StageState::kSealed : StageState::kOpen),
      sealed_state_(found.sealed.value_or(Sealed{})),
      names_durable_(true) {}

void Stage::Append(uint64_t offset, Bytes data, env::Executor* reply_on, Done<uint64_t> done) {
  if (absl::Status room = Reserve(data.size()); !room.ok())
    return Reply<uint64_t>(reply_on, std::move(done), room);
  Enqueue(AppendCall{offset, std::move(data), reply_on, std::move(done)});
}

void Stage::Flush(env::Executor* reply_on, Done<uint64_t> done) {
  if (absl::Status room = Reserve(0); !room.ok()) return Reply<uint64_t>(reply_on, std::move(done), room);
  Enqueue(FlushCall{reply_on, std::move(done)});
}

void Stage::Seal(SealExpectation expected, env::Executor* reply_on, Done<Sealed> done) {
  if (absl::Status room = Reserve(0); !room.ok()) return Reply<Sealed>(reply_on, std::move(done), room);
  Move(StageState::kOpen, StageState::kSealing);
  Enqueue(SealCall{std::move(expected), reply_on, std::move(done)});
}

void Stage::Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done<Bytes> done) {
  if (absl::Status room = Reserve(0); !room.ok()) return Reply<Bytes>(reply_on, std::move(done), room);
  Enqueue(ReadCall{offset, count, reply_on, std::move(done)});
}

absl::Status Stage::Reserve(uint64_t bytes) {
  const uint64_t wanted = bytes + kCallBytes;
  const uint64_t queued = queued_bytes_.fetch_add(wanted);
  if (queued + wanted <= place_.options().queue_bytes) return absl::OkStatus();
  queued_bytes_ -= wanted;
  return absl::ResourceExhaustedError(
      fmt::format("{}: {} bytes are queued already, {} more are too many", Name(), queued, bytes));
}

void Stage::Release(uint64_t bytes) { queued_bytes_ -= bytes + kCallBytes; }

void Stage::Rest() {
  if (!Reserve(0).ok()) return;
  Enqueue(RestCall{});
}

void Stage::SetFile(std::unique_ptr<StageFile> file) {
  const bool awake = file != nullptr;
  file_ = std::move(file);
  if (awake_.exchange(awake) != awake) place_.CountAwake(awake ? 1 : -1);
}

void Stage::CloseFiles() {
  SetFile(nullptr);
  sealed_file_.reset();
}

void Stage::Enqueue(Call call) {
  bool post;
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(call));
    post = !std::exchange(drain_posted_, true);
  }
  if (post) threads_.disk.Post([self = shared_from_this()] { self->Drain(); });
}

void Stage::Drain() {
  std::vector<Call> calls;
  {
    std::lock_guard lock(mutex_);
    calls.swap(queue_);
    drain_posted_ = false;
  }
  std::move(calls.begin(), calls.end(), std::back_inserter(pending_));
  Process();
}

void Stage::Process() {
  while (!pending_.empty() && !sealing_) {
    Call call = std::move(pending_.front());
    pending_.pop_front();
    std::visit([this](auto& one) { Run(std::move(one)); }, call);
  }
}

absl::Status Stage::Usable() {
  RETURN_IF_ERROR(CheckState());
  return OpenFiles();
}

absl::Status Stage::CheckState() const {
  switch (state_.load()) {
    case StageState::kDropped:
      return absl::FailedPreconditionError(fmt::format("{} was aborted", Name()));
    case StageState::kFailed:
      return absl::FailedPreconditionError(fmt::format("{} has failed: {}", Name(), Message(failure_)));
    case StageState::kSealed:
    case StageState::kLinked:
      return absl::FailedPreconditionError(fmt::format("{} is sealed", Name()));
    case StageState::kOpen:
    case StageState::kSealing:  // what was asked before the seal comes first
      break;
  }
  return absl::OkStatus();
}

absl::Status Stage::OpenFiles() {
  if (file_ != nullptr) return absl::OkStatus();
  auto file = StageFile::Reopen(place_.files(), paths_, place_.options().direct_run_bytes);
  if (!file.ok()) {
    // Too few descriptors or no memory may pass; damage does not.
    return absl::IsResourceExhausted(file.status()) ? file.status() : Fail(file.status());
  }
  SetFile(std::move(file).value());
  return absl::OkStatus();
}

absl::Status Stage::Fail(absl::Status status) {
  failure_ = status;
  // What was aborted meanwhile may miss its files, and that is no failure of the disk.
  if (Move(StageState::kOpen, StageState::kFailed) || Move(StageState::kSealing, StageState::kFailed)) {
    LogError("{} has failed: {}", Name(), Message(status));
  }
  SetFile(nullptr);
  return status;
}

void Stage::Run(AppendCall first) {
  const uint64_t offset = length_;
  Bytes run = first.data;
  absl::Status status = Usable();
#ifndef SLUICE_BREAK_WRONG_OFFSET
  if (status.ok() && first.offset != offset) {
    status = absl::InvalidArgumentError(
        fmt::format("append at {} to {}: expected offset {}", first.offset, Name(), offset));
  }
#endif
  size_t more = status.ok() ? GatherRun(first, run) : 0;
  std::vector<AppendCall> calls;
  calls.push_back(std::move(first));
  for (; more > 0; --more) {
    calls.push_back(std::move(std::get<AppendCall>(pending_.front())));
    pending_.pop_front();
  }
  if (status.ok()) status = WriteRun(run);
  if (!spec_.compute_digest) return Answer(std::move(calls), status, offset);
  // Refusals take the same way, so that answers keep the order of the calls.
  threads_.hash.Post(
      [self = shared_from_this(), run = std::move(run), calls = std::move(calls), status, offset]() mutable {
        if (status.ok()) run.ForEachChunk([&](std::string_view piece) { self->builder_->Update(piece); });
        self->Answer(std::move(calls), status, offset);
      });
}

// How many of the next calls continue `first`, their bytes added to `run`.
size_t Stage::GatherRun(const AppendCall& first, Bytes& run) const {
  uint64_t expected = first.offset + first.data.size();
  size_t count = 0;
  for (const Call& call : pending_) {
    const auto* append = std::get_if<AppendCall>(&call);
    if (append == nullptr || append->offset != expected || run.size() + append->data.size() > kRunBytesMax)
      break;
    run.Append(append->data);
    expected += append->data.size();
    ++count;
  }
  return count;
}

absl::Status Stage::WriteRun(const Bytes& run) {
  RETURN_IF_ERROR(place_.Admit(run.size()));
  if (spec_.compute_digest) StartHashing();
  if (absl::Status status = file_->Append(run); !status.ok()) {
    return absl::IsResourceExhausted(status) ? status : Fail(status);
  }
  length_ = file_->chunks().length();
  last_progress_ = place_.clock().MonotonicNow().count();
  if (file_->unwritten_back() >= place_.options().writeback_bytes) file_->StartWriteback();
  return absl::OkStatus();
}

void Stage::Answer(std::vector<AppendCall> calls, const absl::Status& status, uint64_t offset) {
  for (AppendCall& call : calls) {
    offset += call.data.size();
    Release(call.data.size());
    absl::StatusOr<uint64_t> result = offset;
    if (!status.ok()) result = status;
    Reply(call.reply_on, std::move(call.done), std::move(result));
  }
}

void Stage::Run(FlushCall call) {
  Release(0);
  if (sealed()) return Reply<uint64_t>(call.reply_on, std::move(call.done), length_.load());
  Reply(call.reply_on, std::move(call.done), FlushNow());
}

absl::StatusOr<uint64_t> Stage::FlushNow() {
  RETURN_IF_ERROR(CheckState());
  if (durable_length_ == length_) return durable_length_.load();
  RETURN_IF_ERROR(OpenFiles());
  if (absl::Status status = file_->Flush(); !status.ok()) return Fail(status);
  if (absl::Status status = SyncNames(); !status.ok()) return Fail(status);
  durable_length_ = file_->durable_length();
  return durable_length_.load();
}

absl::Status Stage::SyncNames() {
  if (names_durable_) return absl::OkStatus();
  RETURN_IF_ERROR(place_.SyncNames(spec_.id));
  names_durable_ = true;
  return absl::OkStatus();
}

void Stage::Run(ReadCall call) {
  Release(0);
  Reply(call.reply_on, std::move(call.done), ReadNow(call.offset, call.count));
}

absl::StatusOr<Bytes> Stage::ReadNow(uint64_t offset, uint64_t count) {
  if (!sealed()) {
    RETURN_IF_ERROR(Usable());
    const ChunkList& chunks = file_->chunks();
    if (offset > chunks.length()) {
      return absl::OutOfRangeError(
          fmt::format("read at {} of {}, which has {} bytes", offset, Name(), chunks.length()));
    }
    if (count == 0) return Bytes();
    return ReadVerified(*file_->data(), paths_.data, chunks.length(), chunks.crcs(), offset,
                        std::min(count, chunks.length() - offset));
  }
  if (sealed_file_ == nullptr) {
    ASSIGN_OR_RETURN(sealed_file_, SealedFile::Open(place_.files(), paths_.data));
  }
  return sealed_file_->Read(offset, count);
}

void Stage::Run(SealCall call) {
  Release(0);
  if (sealed()) {
    // The stage is final: a call that expects something else changes nothing.
    const absl::Status match = CheckExpectation(call.expected, sealed_state_);
    absl::StatusOr<Sealed> result = sealed_state_;
    if (!match.ok()) result = match;
    return Reply(call.reply_on, std::move(call.done), std::move(result));
  }
  if (absl::Status status = Usable(); !status.ok())
    return Reply<Sealed>(call.reply_on, std::move(call.done), status);
  Move(StageState::kOpen, StageState::kSealing);  // a seal before this one may have found no room
  sealing_ = std::move(call);
  if (!spec_.compute_digest) return FinishSeal(std::optional<Sha256>());
  if (digested_ && digested_->length == length_) return FinishSeal(std::optional(digested_->digest));
  file_->StartWriteback();
  StartHashing();
  hashing_ = false;  // the builder is spent by what follows
  threads_.hash.Post([self = shared_from_this()] {
    absl::StatusOr<std::optional<Sha256>> digest = std::optional<Sha256>();
    if (self->hash_failure_.ok()) {
      digest = self->builder_->Finish();
    } else {
      digest = self->hash_failure_;
    }
    env::Executor& disk = self->threads_.disk;
    StagePlace& place = self->place_;
    place.PostUnlessStopping(disk, [self, digest = std::move(digest)] {
      self->FinishSeal(digest);
      self->Process();
    });
  });
}

void Stage::FinishSeal(absl::StatusOr<std::optional<Sha256>> digest) {
  SealCall call = std::move(*sealing_);
  sealing_.reset();
  absl::StatusOr<Sealed> result = SealWith(call.expected, std::move(digest));
  Reply(call.reply_on, std::move(call.done), std::move(result));
}

absl::StatusOr<Sealed> Stage::SealWith(const SealExpectation& expected,
                                       absl::StatusOr<std::optional<Sha256>> digest_or) {
  if (!digest_or.ok()) return Fail(digest_or.status());
  RETURN_IF_ERROR(Usable());
  const std::optional<Sha256> digest = *digest_or;
  if (digest) digested_ = Digested{length_, *digest};
  const Sealed sealed{length_, file_->chunks().Checksum(), digest};
  if (absl::Status match = CheckExpectation(expected, sealed); !match.ok()) {
    Abort();
    return match;
  }
  // Checked here, because a write that fails half-way through sealing is final.
  if (absl::Status room = place_.Admit(4 * file_->chunks().crcs().size() + kTrailerBytes); !room.ok()) {
    Move(StageState::kSealing, StageState::kOpen);
    return room;
  }
  if (absl::Status status = file_->Seal(spec_, sealed); !status.ok()) return Fail(status);
  if (absl::Status status = SyncNames(); !status.ok()) return Fail(status);
  sealed_state_ = sealed;
  durable_length_ = sealed.length;
  last_progress_ = place_.clock().MonotonicNow().count();
  SetFile(nullptr);
  if (!Move(StageState::kSealing, StageState::kSealed)) return Usable();  // aborted meanwhile: says so
  return sealed;
}

void Stage::Run(RestCall) {
  Release(0);
  sealed_file_.reset();
  if (file_ != nullptr && FlushNow().ok()) SetFile(nullptr);
}

absl::Status Stage::CheckExpectation(const SealExpectation& expected, const Sealed& sealed) const {
  if (expected.length && *expected.length != sealed.length) {
    return absl::InvalidArgumentError(
        fmt::format("{} has {} bytes, {} were expected", Name(), sealed.length, *expected.length));
  }
  if (expected.checksum && *expected.checksum != sealed.checksum) {
    return absl::InvalidArgumentError(fmt::format("{} has chunk checksum {:08x}, {:08x} was expected", Name(),
                                                  sealed.checksum, *expected.checksum));
  }
  if (expected.digest && sealed.digest && *expected.digest != *sealed.digest) {
    return absl::InvalidArgumentError(fmt::format("{} has digest {}, {} was expected", Name(),
                                                  sealed.digest->ToHex(), expected.digest->ToHex()));
  }
  return absl::OkStatus();
}

void Stage::StartHashing() {
  if (std::exchange(hashing_, true)) return;
  // After a restart, or when a seal did not succeed, the bytes so far are read back.
  threads_.hash.Post([self = shared_from_this(), data = file_->data(), chunks = file_->chunks()] {
    self->HashAgain(*data, chunks);
  });
}

void Stage::HashAgain(env::File& data, const ChunkList& chunks) {
  builder_.emplace();
  hash_failure_ = absl::OkStatus();
  for (uint64_t at = 0; at < chunks.length(); at += kHashPieceBytes) {
    const uint64_t count = std::min(kHashPieceBytes, chunks.length() - at);
    auto piece = ReadVerified(data, paths_.data, chunks.length(), chunks.crcs(), at, count);
    if (!piece.ok()) {
      hash_failure_ = piece.status();
      return;
    }
    piece->ForEachChunk([this](std::string_view part) { builder_->Update(part); });
  }
}

}  // namespace sluice::blob
