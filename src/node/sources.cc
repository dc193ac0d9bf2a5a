#include "node/sources.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"

namespace sluice::node {
namespace {

using Done = blob::Upload::Done<Bytes>;

void Reply(env::Executor* reply_on, Done done, absl::StatusOr<Bytes> result) {
  reply_on->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

// The rules of blob::Source: how many bytes a read gets.
absl::StatusOr<uint64_t> CheckRange(uint64_t offset, uint64_t count, uint64_t length) {
  if (count > blob::kReadBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("read of {} bytes, at most {}", count, blob::kReadBytesMax));
  }
  if (offset > length) {
    return absl::OutOfRangeError(fmt::format("read at {} of {} bytes", offset, length));
  }
  return std::min(count, length - offset);
}

}  // namespace

// ---- remote

// One read: attempts one after another, on the executor of its caller.
class RemoteSource::Reading : public std::enable_shared_from_this<Reading> {
 public:
  Reading(std::shared_ptr<Shared> shared, uint64_t offset, uint64_t count, env::Executor* home, Done done)
      : shared_(std::move(shared)),
        offset_(offset),
        count_(count),
        home_(home),
        done_(std::move(done)),
        deadline_(parts().clock->MonotonicNow() + parts().timeout),
        source_(shared_->preferred),
        last_error_(parts().here) {}

  void Try() {
    if (done_ == nullptr) return;
    if (parts().clock->MonotonicNow() >= deadline_ || parts().sources.empty()) return GiveUp();
    const size_t which = source_ % parts().sources.size();
    const uint64_t attempt = ++attempt_;
    // Every source has its turn within the deadline, however silent those before it are.
    const env::Duration patience = parts().timeout / static_cast<int64_t>(parts().sources.size() + 1);
    const env::Duration left = deadline_ - parts().clock->MonotonicNow();
    patience_ = home_->PostAfter(std::min(patience, left), [self = shared_from_this(), attempt] {
      if (attempt == self->attempt_) self->Next(absl::DeadlineExceededError("no answer"));
    });
    parts().bytes->Fetch(parts().sources[which], parts().wanted, offset_, count_, home_,
                         [self = shared_from_this(), which, attempt](absl::StatusOr<Bytes> data) {
                           self->OnFetched(which, attempt, std::move(data));
                         });
  }

 private:
  const RemoteParts& parts() const { return shared_->parts; }

  void OnFetched(size_t which, uint64_t attempt, absl::StatusOr<Bytes> data) {
    if (done_ == nullptr) return;
    if (data.ok() && data->size() == count_) {  // late is as good
      home_->Cancel(patience_);
      shared_->preferred = which;
      return std::exchange(done_, nullptr)(std::move(data));
    }
    if (attempt != attempt_) return;
    home_->Cancel(patience_);
    Next(data.ok() ? absl::DataLossError(fmt::format("{} bytes instead of {}", data->size(), count_))
                   : data.status());
  }

  void Next(absl::Status why) {
    if (done_ == nullptr) return;
    ++attempt_;  // what is still under way may succeed, but not fail this read again
    // Only damage is a loss: bytes that are not there may have been removed meanwhile, or be on their way.
    if (absl::IsDataLoss(why)) {
      ++damaged_in_a_row_;
    } else if (parts().clock->MonotonicNow() < deadline_) {  // one that is cut short says nothing
      damaged_in_a_row_ = 0;
    }
    last_error_ = std::move(why);
    ++source_;
    if (++failures_ % parts().sources.size() != 0) return Try();
    const env::Duration left = deadline_ - parts().clock->MonotonicNow();
    home_->PostAfter(std::clamp(left, env::Duration(0), parts().retry_delay),
                     [self = shared_from_this()] { self->Try(); });
  }

  void GiveUp() {
    std::string asked;
    for (const raft::Peer& peer : parts().sources) asked += (asked.empty() ? "" : ", ") + peer.id.value;
    std::string text = fmt::format("upload {}: none of its holders [{}] gives bytes at {}",
                                   parts().wanted.upload.ToHex(), asked, offset_);
    if (asked.empty()) {
      text = fmt::format("upload {}: there is no other server that could give bytes at {}",
                         parts().wanted.upload.ToHex(), offset_);
    }
    if (!last_error_.ok()) text += fmt::format("; the last said: {}", Printable(Message(last_error_)));
    const bool lost = damaged_in_a_row_ >= parts().sources.size() && !absl::IsNotFound(parts().here);
    std::exchange(done_, nullptr)(
        absl::Status(lost ? absl::StatusCode::kDataLoss : absl::StatusCode::kUnavailable, text));
  }

  const std::shared_ptr<Shared> shared_;
  const uint64_t offset_;
  const uint64_t count_;
  env::Executor* const home_;
  Done done_;  // null once called
  const env::Instant deadline_;
  size_t source_;
  uint64_t attempt_ = 0;
  size_t failures_ = 0;
  size_t damaged_in_a_row_ = 0;  // sources that said so of their copies
  absl::Status last_error_;
  env::TimerId patience_ = env::TimerId::kNone;
};

void RemoteSource::Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done done) {
  const auto clipped = CheckRange(offset, count, length());
  if (!clipped.ok()) return Reply(reply_on, std::move(done), clipped.status());
  if (*clipped == 0) return Reply(reply_on, std::move(done), Bytes());
  auto reading = std::make_shared<Reading>(shared_, offset, *clipped, reply_on, std::move(done));
  reply_on->Post([reading = std::move(reading)] { reading->Try(); });
}

// ---- inline

void InlineSource::Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done done) {
  const auto clipped = CheckRange(offset, count, length());
  if (!clipped.ok()) return Reply(reply_on, std::move(done), clipped.status());
  Reply(reply_on, std::move(done), data_.Slice(offset, *clipped));
}

// ---- repairing

blob::Source& RepairingSource::fallback() {
  if (auto* made = fallback_.load()) return **made;
  auto mine = std::make_unique<std::shared_ptr<blob::Source>>(make_fallback_());
  std::shared_ptr<blob::Source>* none = nullptr;
  if (fallback_.compare_exchange_strong(none, mine.get())) return **mine.release();
  return **none;
}

void RepairingSource::Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done done) {
  local_->Read(offset, count, reply_on,
               [self = shared_from_this(), offset, count, reply_on,
                done = std::move(done)](absl::StatusOr<Bytes> data) mutable {
                 if (!absl::IsDataLoss(data.status())) return done(std::move(data));
                 if (!self->damaged_.exchange(true)) {
                   LogWarn("local copy is damaged, read from a holder: {}", Message(data.status()));
                   if (self->on_damage_) self->on_damage_();
                 }
                 auto answer = [here = data.status(),
                                done = std::move(done)](absl::StatusOr<Bytes> there) mutable {
                   if (!absl::IsDataLoss(there.status())) return done(std::move(there));
                   done(absl::DataLossError(fmt::format("{}; {}", Message(here), Message(there.status()))));
                 };
                 self->fallback().Read(offset, count, reply_on, std::move(answer));
               });
}

// ---- compared

namespace {

constexpr uint64_t kComparedBytes = 1u << 20;  // read at a time

class Comparison : public std::enable_shared_from_this<Comparison> {
 public:
  Comparison(std::shared_ptr<blob::Source> a, std::shared_ptr<blob::Source> b, env::Executor* on,
             absl::AnyInvocable<void(absl::StatusOr<bool>)> done)
      : sources_{std::move(a), std::move(b)}, on_(on), done_(std::move(done)) {}

  void Next() {
    const uint64_t count = std::min(kComparedBytes, sources_[0]->length() - at_);
    if (count == 0) return done_(true);
    for (size_t i = 0; i < 2; ++i) {
      pieces_[i].reset();
      sources_[i]->Read(at_, count, on_, [self = shared_from_this(), i](absl::StatusOr<Bytes> piece) {
        self->pieces_[i] = std::move(piece);
        if (self->pieces_[1 - i]) self->OnBoth();
      });
    }
  }

  void Differ() { done_(false); }

 private:
  void OnBoth() {
    for (const auto& piece : pieces_) {
      if (!piece->ok()) return done_(piece->status());
    }
    if (!(**pieces_[0] == **pieces_[1])) return done_(false);
    at_ += (*pieces_[0])->size();
    Next();
  }

  const std::shared_ptr<blob::Source> sources_[2];
  env::Executor* const on_;
  absl::AnyInvocable<void(absl::StatusOr<bool>)> done_;
  uint64_t at_ = 0;
  std::optional<absl::StatusOr<Bytes>> pieces_[2];
};

}  // namespace

void CompareBytes(std::shared_ptr<blob::Source> a, std::shared_ptr<blob::Source> b, env::Executor* on,
                  absl::AnyInvocable<void(absl::StatusOr<bool>)> done) {
  const bool same_length = a->length() == b->length();
  auto comparison = std::make_shared<Comparison>(std::move(a), std::move(b), on, std::move(done));
  on->Post([comparison = std::move(comparison), same_length]() mutable {
    same_length ? comparison->Next() : comparison->Differ();
  });
}

namespace {

void ReadOn(std::shared_ptr<blob::Source> source, uint64_t at, env::Executor* on,
            absl::AnyInvocable<void(absl::Status)> done) {
  const uint64_t count = std::min(kComparedBytes, source->length() - at);
  if (count == 0) return done(absl::OkStatus());
  blob::Source* const from = source.get();
  from->Read(
      at, count, on,
      [source = std::move(source), at, on, done = std::move(done)](absl::StatusOr<Bytes> piece) mutable {
        if (!piece.ok()) return done(piece.status());
        ReadOn(std::move(source), at + piece->size(), on, std::move(done));
      });
}

}  // namespace

void ReadWhole(std::shared_ptr<blob::Source> source, env::Executor* on,
               absl::AnyInvocable<void(absl::Status)> done) {
  on->Post([source = std::move(source), on, done = std::move(done)]() mutable {
    ReadOn(std::move(source), 0, on, std::move(done));
  });
}

}  // namespace sluice::node
