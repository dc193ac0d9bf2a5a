#include "node/relay_upload.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/metrics.h"

namespace sluice::node {
namespace {

// Calls of one upload that may wait for their answer; a sender of tiny pieces meets this before the window.
constexpr size_t kCallsMax = 4096;
// The silence of a successor is measured in ticks of a quarter of it.
constexpr uint32_t kSilenceTicks = 4;
// And this much longer for each server behind it:
// the one that is silent must be left behind by its neighbour.
constexpr uint32_t kSilenceTicksBelow = 2;
// A successor that was taken over gets its bytes in pieces that end at multiples of this (D-07).
constexpr uint64_t kTailPieceBytes = 256u << 10;

Counter& LeftBehind() {
  static Counter& counter = NewCounter("sluice_node_successors_left_behind_total",
                                       "Successors of uploads that failed or stayed silent");
  return counter;
}

Counter& TakenOver() {
  static Counter& counter = NewCounter("sluice_node_successors_taken_over_total",
                                       "Servers that an upload goes on to directly, past one left behind");
  return counter;
}
Counter& ResentBytes() {
  static Counter& counter =
      NewCounter("sluice_node_resent_bytes_total", "Bytes sent to servers taken over, out of the stage");
  return counter;
}

// Servers behind one another: each waits a while for the next, and whoever waits for it a while longer.
uint32_t Height(const std::vector<Downstream>& below) {
  uint32_t height = 0;
  for (const Downstream& one : below) height = std::max(height, 1 + Height(one.below));
  return height;
}

// What one caller holds of an upload that may change hands.
class RelayHandle final : public Relay {
 public:
  RelayHandle(std::shared_ptr<RelayUpload> upload, uint64_t epoch)
      : upload_(std::move(upload)), epoch_(epoch) {}

  const StreamHeader& header() const override { return upload_->header(); }
  env::Executor* home() const override { return upload_->home(); }
  void Append(uint64_t offset, Bytes piece, absl::AnyInvocable<void(absl::Status)> done) override {
    if (!newest()) return Fenced(std::move(done));
    upload_->Append(offset, std::move(piece), std::move(done));
  }
  void Close(absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) override {
    if (!newest()) return Fenced(std::move(done));
    upload_->Close(std::move(done));
  }
  void Flush(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) override {
    if (!newest()) return Fenced(std::move(done));
    upload_->Flush(std::move(done));
  }
  void ExpectDigest(const Sha256& digest) override {
    if (newest()) upload_->ExpectDigest(digest);
  }
  void Abort() override {
    if (newest()) upload_->Abort();
  }
  uint64_t length() const override { return upload_->length(); }

 private:
  bool newest() const { return upload_->epoch() == epoch_; }
  template <typename Done>
  void Fenced(Done done) {
    home()->Post([done = std::move(done)]() mutable {
      done(absl::AbortedError("another call took this upload over"));
    });
  }

  const std::shared_ptr<RelayUpload> upload_;
  const uint64_t epoch_;
};

}  // namespace

RelayUpload::RelayUpload(RelayParts parts) : parts_(std::move(parts)) {}

RelayUpload::~RelayUpload() {
  parts_.home->Cancel(silence_timer_);
  if (upload_ != nullptr && !gave_way_) upload_->Rest();
  // Streams and callbacks belong to home, whoever drops the relay.
  if (calls_.empty() && successors_.empty() && opened_ == nullptr) return;
  parts_.home->Post([calls = std::move(calls_), successors = std::move(successors_),
                     opened = std::move(opened_)]() mutable {
    const absl::Status dropped = absl::AbortedError("the upload was dropped by its caller");
    if (opened) opened(dropped);
    for (Call& call : calls) {
      if (call.append_done) call.append_done(dropped);
      if (call.flush_done) call.flush_done(dropped);
      if (call.close_done) call.close_done(dropped);
    }
  });
}

std::string RelayUpload::Name() const { return fmt::format("upload {}", parts_.header.upload.ToHex()); }

std::shared_ptr<Relay> RelayUpload::Handle() {
  return std::make_shared<RelayHandle>(shared_from_this(), NewEpoch());
}

std::optional<env::Instant> RelayUpload::last_progress() const {
  if (!open_) return std::nullopt;
  return upload_->last_progress();
}

// ---- opening

void RelayUpload::Open(absl::StatusOr<std::vector<Downstream>> successors,
                       absl::AnyInvocable<void(absl::Status)> opened) {
  opened_ = std::move(opened);
  if (successors.ok() && failed_) successors = failure_;
  if (!successors.ok()) return OnCreated(successors.status());
  to_open_ = std::move(successors).value();
  FindOrCreate(parts_.header.take_over.has_value());
}

void RelayUpload::FindOrCreate(bool take_over) {
  blob::UploadSpec spec{.id = parts_.header.upload,
                        .group = parts_.header.group,
                        .compute_digest = parts_.header.blob.compute_digest,
                        .context = parts_.context};
  // The way back is weak, so that the last reference never goes on the files' thread.
  parts_.files->Post([weak = weak_from_this(), store = parts_.store, home = parts_.home,
                      may_open = parts_.may_open, take_over, spec = std::move(spec)]() mutable {
    std::shared_ptr<blob::Upload> present = take_over ? store->Find(spec.group, spec.id) : nullptr;
    absl::StatusOr<std::shared_ptr<blob::Upload>> created = present;
    if (const absl::Status free = may_open ? may_open(spec.id) : absl::OkStatus(); !free.ok()) {
      created = free;
    } else if (present == nullptr) {
      created = store->Create(std::move(spec));
    }
    home->Post([weak = std::move(weak), created = std::move(created)]() mutable {
      if (auto self = weak.lock()) self->OnCreated(std::move(created));
    });
  });
}

void RelayUpload::Resume(std::shared_ptr<blob::Upload> upload, std::vector<Downstream> successors) {
  parts_.header.take_over = std::numeric_limits<uint64_t>::max();  // whatever it has
  to_open_ = std::move(successors);
  length_ = upload->length();
  OnCreated(std::move(upload));
}

void RelayUpload::GiveWay(absl::Status why) {
  gave_way_ = true;
  Fail(std::move(why));
  Pump();  // at once: what it posts may find that home has stopped
}

void RelayUpload::OnCreated(absl::StatusOr<std::shared_ptr<blob::Upload>> upload) {
  if (!failed_ && upload.ok() && parts_.header.take_over) {
    // Whoever had it may have left appends behind.
    blob::Upload* stage = upload->get();
    return stage->Read(
        0, 0, parts_.home,
        [weak = weak_from_this(), upload = *std::move(upload)](const absl::StatusOr<Bytes>& read) {
          if (auto self = weak.lock()) self->OnSettled(upload, read.status());
        });
  }
  if (!failed_ && !upload.ok()) Fail(upload.status());
  OnSettled(upload.ok() ? *std::move(upload) : nullptr, absl::OkStatus());
}

void RelayUpload::OnSettled(std::shared_ptr<blob::Upload> upload, const absl::Status& settled) {
  if (!failed_ && settled.ok() && parts_.header.take_over && upload->length() > *parts_.header.take_over &&
      !upload->sealed()) {
    // The sender lost its end in a crash, and may get another one.
    upload->Abort();
    return FindOrCreate(false);
  }
  auto opened = std::exchange(opened_, nullptr);
  if (!failed_ && !settled.ok()) {
    // Nobody can go on with it, unless what is short comes back.
    if (!absl::IsResourceExhausted(settled)) upload->Abort();
    Fail(settled);
  }
  if (failed_) {  // given up meanwhile
    if (upload != nullptr && !gave_way_ && !parts_.header.take_over) upload->Abort();
  } else {
    SetUpload(std::move(upload));
  }
  to_open_.clear();
  if (opened) opened(failure_);
}

void RelayUpload::SetUpload(std::shared_ptr<blob::Upload> upload) {
  const uint64_t start = upload->length();
  upload_ = std::move(upload);
  if (start > length_) length_ = start;
  open_ = true;
  for (Downstream& to : to_open_) {
    if (parts_.header.take_over) {
      TakeOver(std::move(to));
      continue;
    }
    Successor& successor = AddSuccessor(std::move(to));
    successor.sink = parts_.bytes->Open(parts_.home, successor.peer, parts_.header, nullptr);
  }
  // Starting one may fail the upload, which empties the queue.
  for (uint64_t number = first_number_; number < first_number_ + calls_.size(); ++number) Start(number);
}

// ---- calls

void RelayUpload::Append(uint64_t offset, Bytes piece, absl::AnyInvocable<void(absl::Status)> done) {
  const uint64_t size = piece.size();
  const auto& expected = parts_.header.blob.expected_length;
  Call call;
  call.offset = offset;
  call.append_done = std::move(done);
  if (closing_ || (open_ && upload_->sealed())) {
    call.refused = absl::FailedPreconditionError(fmt::format("{} is closed", Name()));
  } else if (offset != length_) {
    return Refuse(std::move(call), absl::InvalidArgumentError(fmt::format(
                                       "append at {} to {}: expected offset {}", offset, Name(), length())));
  } else if (expected && size > *expected - std::min(*expected, offset)) {
    return Refuse(std::move(call),
                  absl::InvalidArgumentError(fmt::format("append of {} bytes at {} to {}: {} were announced",
                                                         size, offset, Name(), *expected)));
  } else if (size > parts_.window_bytes - std::min(parts_.window_bytes, unanswered_bytes_)) {
    call.refused = absl::ResourceExhaustedError(
        fmt::format("{}: {} bytes are unanswered, {} more exceed the window of {}", Name(), unanswered_bytes_,
                    size, parts_.window_bytes));
  } else {
    call.piece = std::move(piece);
    call.window_bytes = size;
    if (!failed_) length_ += size;
  }
  Enqueue(std::move(call));
}

void RelayUpload::Flush(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) {
  Call call;
  call.kind = CallKind::kFlush;
  call.flush_done = std::move(done);
  Enqueue(std::move(call));
}

void RelayUpload::Close(absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) {
  const auto& expected = parts_.header.blob.expected_length;
  Call call;
  call.kind = CallKind::kClose;
  call.offset = length_;
  call.close_done = std::move(done);
  if (expected && *expected != length_) {
    return Refuse(std::move(call), absl::InvalidArgumentError(fmt::format(
                                       "close of {} at {}: {} were announced", Name(), length(), *expected)));
  }
  Enqueue(std::move(call));
}

void RelayUpload::Abort() { Fail(absl::CancelledError(fmt::format("{} was given up", Name()))); }

void RelayUpload::Refuse(Call call, absl::Status status) {
  call.refused = status;
  Enqueue(std::move(call));
  if (!parts_.keep_on_bad_offset && !closing_) Fail(std::move(status));
}

void RelayUpload::Enqueue(Call call) {
  if (!failed_ && calls_.size() >= kCallsMax) {
    Fail(absl::ResourceExhaustedError(fmt::format("{}: {} calls are unanswered", Name(), calls_.size())));
  }
  const uint64_t number = first_number_ + calls_.size();
  unanswered_bytes_ += call.window_bytes;
  const bool idle = failed_ || !call.refused.ok();
  if (!idle) call.waits = 1;  // until it was started
  const bool first_close = call.kind == CallKind::kClose && !closing_ && !idle;
  if (call.kind == CallKind::kClose && !first_close) call.waits = 0;  // gets the first one's result
  if (call.kind == CallKind::kClose) ++closes_;
  const uint32_t waits = call.waits;
  calls_.push_back(std::move(call));
  if (first_close) closing_ = true;
  if (waits == 0) return SchedulePump();
  if (open_) Start(number);
}

void RelayUpload::Start(uint64_t number) {
  Call* call = Find(number);
  if (call == nullptr || call->waits == 0) return;
  switch (call->kind) {
    case CallKind::kAppend:
      return StartAppend(number);
    case CallKind::kFlush:
      return StartFlush(number);
    case CallKind::kClose:
      return StartClose(number);
  }
}

void RelayUpload::StartAppend(uint64_t number) {
  Call* call = Find(number);
  const uint64_t offset = call->offset;
  const Bytes piece = std::move(call->piece);
  for (const Successor& successor : successors_) call->waits += AppendsWaitFor(successor);
  upload_->Append(offset, piece, parts_.home,
                  [weak = weak_from_this(), number](const absl::StatusOr<uint64_t>& appended) {
                    if (auto self = weak.lock()) self->OnLocalDone(number, appended.status());
                  });
  for (size_t which = 0; which < successors_.size(); ++which) {
    Successor& successor = successors_[which];
    if (!AppendsWaitFor(successor)) continue;
    if (successor.unanswered.empty()) successor.quiet_ticks = 0;
    successor.unanswered.push_back(number);
    if (successor.tail) continue;  // gets it out of the stage
    successor.sink->Append(offset, piece,
                           [weak = weak_from_this(), which, number](const absl::Status& status) {
                             if (auto self = weak.lock()) self->OnSuccessorDone(which, number, status);
                           });
  }
  ArmSilence();
}

void RelayUpload::StartFlush(uint64_t number) {
  upload_->Flush(parts_.home, [weak = weak_from_this(), number](const absl::StatusOr<uint64_t>& flushed) {
    auto self = weak.lock();
    if (!self) return;
    if (Call* call = self->Find(number); call != nullptr && flushed.ok()) call->durable = *flushed;
    self->OnLocalDone(number, flushed.status());
  });
}

void RelayUpload::StartClose(uint64_t number) {
  sealing_ = true;
  close_number_ = number;
  Call* call = Find(number);
  const uint64_t offset = call->offset;
  for (const Successor& successor : successors_) call->waits += successor.sink != nullptr;
  upload_->Seal({.length = offset, .digest = parts_.header.blob.expected_digest}, parts_.home,
                [weak = weak_from_this(), number](absl::StatusOr<blob::Sealed> sealed) {
                  if (auto self = weak.lock()) self->OnLocalSealed(number, std::move(sealed));
                });
  for (size_t which = 0; which < successors_.size(); ++which) {
    Successor& successor = successors_[which];
    if (successor.sink == nullptr) continue;
    if (successor.unanswered.empty()) successor.quiet_ticks = 0;
    successor.unanswered.push_back(number);
    if (successor.tail) {
      FeedTail(which);
      continue;
    }
    successor.sink->Close(offset, OnSuccessorClosed(which, number));
  }
  ArmSilence();
}

// ---- answers of the stage and of the successors

void RelayUpload::OnLocalDone(uint64_t number, const absl::Status& status) {
  Call* call = Find(number);
  if (call == nullptr) return;  // answered when the upload failed
  if (!status.ok()) return Fail(status);
  --call->waits;
  FeedTails();
  Pump();
}

void RelayUpload::OnLocalSealed(uint64_t number, absl::StatusOr<blob::Sealed> sealed) {
  if (sealed.ok()) {
    sealed_state_ = *sealed;
    sealed_ = true;
    // They have as much to seal as we had: their silence counts from here.
    for (Successor& successor : successors_) successor.quiet_ticks = 0;
  }
  OnLocalDone(number, sealed.status());
}

void RelayUpload::OnSuccessorDone(size_t which, uint64_t number, const absl::Status& status) {
  if (failed_) return;
  Successor& successor = successors_[which];
  if (successor.sink == nullptr) return;  // left behind before it answered
  if (!status.ok()) return LeaveBehind(which, status);
  if (successor.unanswered.empty() || successor.unanswered.front() != number) {
    return LeaveBehind(which, absl::InternalError("it answered out of order"));
  }
  successor.unanswered.pop_front();
  successor.quiet_ticks = 0;
  Call* call = Find(number);
  if (call->kind == CallKind::kClose) DropSink(successor);
  --call->waits;
  Pump();
}

ByteSink::Closed RelayUpload::OnSuccessorClosed(size_t which, uint64_t number) {
  return [weak = weak_from_this(), which, number](const absl::StatusOr<blob::Sealed>& sealed) {
    auto self = weak.lock();
    if (!self) return;
    if (sealed.ok() && self->successors_[which].sink != nullptr) self->successors_[which].sealed = *sealed;
    self->OnSuccessorDone(which, number, sealed.status());
  };
}

void RelayUpload::LeaveBehind(size_t which, const absl::Status& why) {
  Successor& successor = successors_[which];
  const std::string text = Printable(Message(why));
  LeftBehind().Increment();
  LogWarn("{}: {} is left behind: {}", Name(), successor.peer.id.value, text);
  if (!parts_.lenient) {
    return Fail(absl::Status(why.code(), fmt::format("successor {}: {}", successor.peer.id.value, text)));
  }
  DropSink(successor);
  for (uint64_t number : std::exchange(successor.unanswered, {})) --Find(number)->waits;
  // Those behind it are reached directly.
  for (Downstream& below : std::exchange(successor.below, {})) TakeOver(std::move(below));
  Pump();
}

// ---- successors that are taken over

RelayUpload::Successor& RelayUpload::AddSuccessor(Downstream to) {
  Successor& successor = successors_.emplace_back();
  successor.patience_ticks = kSilenceTicks + kSilenceTicksBelow * Height(to.below);
  successor.peer = std::move(to.peer);
  successor.below = std::move(to.below);
  return successor;
}

void RelayUpload::TakeOver(Downstream to) {
  const size_t which = successors_.size();
  Successor& successor = AddSuccessor(std::move(to));
  successor.tail.emplace();
  if (Call* close = sealing_ ? Find(close_number_) : nullptr; close != nullptr) {
    ++close->waits;
    successor.unanswered.push_back(close_number_);
  }
  StreamHeader header = parts_.header;
  header.take_over = length_;
  successor.sink = parts_.bytes->Open(parts_.home, successor.peer, header,
                                      [weak = weak_from_this(), which](absl::StatusOr<uint64_t> length) {
                                        if (auto self = weak.lock()) self->OnTakenOver(which, length);
                                      });
  ArmSilence();
}

void RelayUpload::OnTakenOver(size_t which, absl::StatusOr<uint64_t> length) {
  if (failed_ || successors_[which].sink == nullptr) return;
  if (!length.ok()) return LeaveBehind(which, length.status());
  if (*length > length_) {
    return LeaveBehind(which, absl::OutOfRangeError(
                                  fmt::format("it has {} bytes, this server {}", *length, length_.load())));
  }
  Successor& successor = successors_[which];
  LogInfo("{}: goes on to {} at {} of {} bytes", Name(), successor.peer.id.value, *length, length_.load());
  TakenOver().Increment();
  successor.quiet_ticks = 0;
  successor.tail->opened = true;
  successor.tail->next = successor.tail->answered = *length;
  SettleTail(which);
  FeedTail(which);
}

bool RelayUpload::AppendsWaitFor(const Successor& successor) {
  return successor.sink != nullptr && (!successor.tail || successor.tail->caught_up);
}

bool RelayUpload::OwesAnswer(const Successor& successor) {
  if (successor.sink == nullptr) return false;
  if (!successor.tail) return !successor.unanswered.empty();
  return !successor.tail->opened || successor.tail->in_flight > 0 || successor.tail->close_sent;
}

void RelayUpload::FeedTails() {
  for (size_t which = 0; which < successors_.size() && !failed_; ++which) {
    if (successors_[which].tail) FeedTail(which);
  }
}

// Reads the next piece for it out of the stage, or sends the Close behind the last one.
void RelayUpload::FeedTail(size_t which) {
  Successor& successor = successors_[which];
  if (successor.sink == nullptr || !successor.tail->opened || successor.tail->reading) return;
  RelayTail& tail = *successor.tail;
  const uint64_t written = upload_->length();
  if (tail.next < written) {
    const uint64_t room = std::max<uint64_t>(parts_.window_bytes / 2, 1);
    const uint64_t piece =
        std::min({kTailPieceBytes - tail.next % kTailPieceBytes, written - tail.next, room});
    if (tail.in_flight + piece > room) return;
    tail.reading = true;
    return upload_->Read(tail.next, piece, parts_.home,
                         [weak = weak_from_this(), which, offset = tail.next](absl::StatusOr<Bytes> read) {
                           if (auto self = weak.lock()) self->OnTailRead(which, offset, std::move(read));
                         });
  }
  const Call* close = sealing_ ? Find(close_number_) : nullptr;
  if (close == nullptr || tail.next != close->offset || std::exchange(tail.close_sent, true)) return;
  if (tail.in_flight == 0) successor.quiet_ticks = 0;
  successor.sink->Close(close->offset, OnSuccessorClosed(which, close_number_));
  ArmSilence();
}

void RelayUpload::OnTailRead(size_t which, uint64_t offset, absl::StatusOr<Bytes> piece) {
  if (failed_ || successors_[which].sink == nullptr) return;
  Successor& successor = successors_[which];
  RelayTail& tail = *successor.tail;
  tail.reading = false;
  if (piece.ok() && piece->empty()) piece = absl::DataLossError("the stage gave no bytes");
  if (!piece.ok()) return LeaveBehind(which, piece.status());
  const uint64_t size = piece->size();
  ResentBytes().Increment(static_cast<double>(size));
  if (tail.in_flight == 0) successor.quiet_ticks = 0;
  tail.next += size;
  tail.in_flight += size;
  successor.sink->Append(
      offset, *std::move(piece),
      [weak = weak_from_this(), which, end = offset + size, size](const absl::Status& status) {
        if (auto self = weak.lock()) self->OnTailDone(which, end, size, status);
      });
  ArmSilence();
  FeedTail(which);
}

void RelayUpload::OnTailDone(size_t which, uint64_t end, uint64_t size, const absl::Status& status) {
  if (failed_ || successors_[which].sink == nullptr) return;
  if (!status.ok()) return LeaveBehind(which, status);
  Successor& successor = successors_[which];
  successor.quiet_ticks = 0;
  successor.tail->answered = end;
  successor.tail->in_flight -= size;
  SettleTail(which);
  FeedTail(which);
}

void RelayUpload::SettleTail(size_t which) {
  Successor& successor = successors_[which];
  const uint64_t answered = successor.tail->answered;
  while (!successor.unanswered.empty()) {
    Call* call = Find(successor.unanswered.front());
    if (call->kind != CallKind::kAppend || call->offset + call->window_bytes > answered) break;
    --call->waits;
    successor.unanswered.pop_front();
  }
  if (length_ - answered <= parts_.window_bytes / 2) successor.tail->caught_up = true;
  Pump();
}

void RelayUpload::DropSink(Successor& successor) {
  // Later: the sink may be the one that is calling.
  if (successor.sink) parts_.home->Post([sink = std::move(successor.sink)] {});
}

void RelayUpload::ArmSilence() {
  if (silence_timer_ != env::TimerId::kNone) return;
  if (std::none_of(successors_.begin(), successors_.end(), OwesAnswer)) return;
  silence_timer_ = parts_.home->PostAfter(parts_.silence / kSilenceTicks, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->OnSilenceTick();
  });
}

void RelayUpload::OnSilenceTick() {
  silence_timer_ = env::TimerId::kNone;
  for (size_t which = 0; which < successors_.size() && !failed_; ++which) {
    Successor& successor = successors_[which];
    if (!OwesAnswer(successor)) continue;
    const bool only_close = successor.tail
                                ? successor.tail->close_sent && successor.tail->in_flight == 0
                                : sealing_ && Find(successor.unanswered.front())->kind == CallKind::kClose;
    if (only_close && !sealed_) continue;
    if (++successor.quiet_ticks > successor.patience_ticks) {
      LeaveBehind(which, absl::DeadlineExceededError("it has not answered for too long"));
    }
  }
  if (!failed_) ArmSilence();
}

// ---- the end of calls

void RelayUpload::Fail(absl::Status status) {
  if (failed_) return;
  failure_ = std::move(status);
  failed_ = true;
  LogInfo("{} fails at {} bytes: {}", Name(), length(), Printable(Message(failure_)));
  for (Successor& successor : successors_) {
    DropSink(successor);
    successor.unanswered.clear();
  }
  parts_.home->Cancel(std::exchange(silence_timer_, env::TimerId::kNone));
  // A full disk may have room again when the caller of a kept upload comes back.
  const bool keep = parts_.keep_on_bad_offset && absl::IsResourceExhausted(failure_);
  if (open_ && !sealing_ && !keep && !gave_way_) upload_->Abort();
  SchedulePump();
}

void RelayUpload::SchedulePump() {
  if (std::exchange(pump_posted_, true)) return;
  parts_.home->Post([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    self->pump_posted_ = false;
    self->Pump();
  });
}

RelayUpload::Call* RelayUpload::Find(uint64_t number) {
  if (number < first_number_ || number - first_number_ >= calls_.size()) return nullptr;
  return &calls_[number - first_number_];
}

RelayUpload::Call RelayUpload::PopFront() {
  Call call = std::move(calls_.front());
  calls_.pop_front();
  ++first_number_;
  unanswered_bytes_ -= call.window_bytes;
  if (call.kind == CallKind::kClose) --closes_;
  return call;
}

void RelayUpload::Pump() {
  // Who opens it need not wait for the stage, which may never come when the server stops.
  if (failed_ && opened_ != nullptr) std::exchange(opened_, nullptr)(failure_);
  while (!calls_.empty()) {
    const Call& front = calls_.front();
    const bool ended = failed_ || !front.refused.ok();
    if (!ended && front.waits > 0) return;
    if (!ended && front.kind == CallKind::kClose) {
      if (!confirmed_) return Confirm();
      AnswerCloses(sealed_state_);
      continue;
    }
    Call call = PopFront();
    const absl::Status status = !call.refused.ok() ? call.refused : failure_;
    if (call.append_done) call.append_done(status);
    if (call.close_done) call.close_done(status);
    if (!call.flush_done) continue;
    if (status.ok()) {
      call.flush_done(call.durable);
    } else {
      call.flush_done(status);
    }
  }
}

void RelayUpload::Confirm() {
  if (confirming_) return;
  if (parts_.confirm == nullptr) {
    confirmed_ = true;
    return AnswerCloses(sealed_state_);
  }
  confirming_ = true;
  SealedUpload upload{parts_.header.upload, parts_.header.blob, sealed_state_, {parts_.self}};
  for (const Successor& successor : successors_) {
    if (!successor.sealed) continue;
    if (Matches(*successor.sealed, sealed_state_)) {
      upload.holders.push_back(successor.peer.id);
      continue;
    }
    // Every byte was answered for, and it sealed others (F-72): it holds nothing of use.
    LeftBehind().Increment();
    const absl::Status why = absl::DataLossError(fmt::format(
        "{} sealed {} bytes with checksum {:08x}, this server {} with {:08x}", successor.peer.id.value,
        successor.sealed->length, successor.sealed->checksum, sealed_state_.length, sealed_state_.checksum));
    LogWarn("{}: {}", Name(), Message(why));
    if (!parts_.lenient) return Fail(why);
  }
  parts_.confirm(std::move(upload), [weak = weak_from_this(), home = parts_.home](absl::Status status) {
    home->Post([weak, status = std::move(status)]() mutable {
      if (auto self = weak.lock()) self->OnConfirmed(std::move(status));
    });
  });
}

void RelayUpload::OnConfirmed(absl::Status status) {
  confirming_ = false;
  if (failed_) return;
  confirmed_ = status.ok();
  if (confirmed_) return AnswerCloses(sealed_state_);
  AnswerCloses(status);  // the next Close asks again
}

void RelayUpload::AnswerCloses(const absl::StatusOr<blob::Sealed>& result) {
  std::vector<Call> closes;
  while (!calls_.empty() && calls_.front().kind == CallKind::kClose && calls_.front().waits == 0) {
    closes.push_back(PopFront());
  }
  if (!calls_.empty()) SchedulePump();
  for (Call& close : closes) close.close_done(close.refused.ok() ? result : close.refused);
}

}  // namespace sluice::node
