#include "node/fetch_job.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "base/log.h"
#include "node/sources.h"

namespace sluice::node {
namespace {

// What the files' thread found or made: one of the three.
struct Prepared {
  std::optional<blob::Sealed> held;
  std::shared_ptr<blob::Upload> sealing;  // by somebody else
  std::shared_ptr<blob::Upload> stage;
};

class FetchJob : public std::enable_shared_from_this<FetchJob> {
 public:
  FetchJob(FetchParts parts, absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done)
      : parts_(std::move(parts)), done_(std::move(done)) {}

  void Start() {
    parts_.files->Post([self = shared_from_this(), replace = parts_.replace_held || restarts_ > 0]() mutable {
      auto prepared = self->Prepare(replace);
      env::Executor* home = self->parts_.home;
      home->Post([self = std::move(self), prepared = std::move(prepared)]() mutable {
        self->OnPrepared(std::move(prepared));
      });
    });
  }

 private:
  // On the files' thread.
  absl::StatusOr<Prepared> Prepare(bool replace_held) const {
    const UploadId& id = parts_.wanted.upload;
    const auto present = parts_.store->Find(parts_.group, id);
    if (present != nullptr && present->state() == blob::StageState::kSealing) {
      return Prepared{std::nullopt, present, nullptr};
    }
    const bool was_sealed = present != nullptr && present->sealed();
    const auto state = parts_.store->SealedState(parts_.group, id);
    // It cannot tell now what it has: nothing is thrown away for that.
    if (!state.ok() && !SaysLost(state.status())) return state.status();
    if (!replace_held && state.ok() && *state && Matches(**state, parts_.wanted.sealed)) {
      return Prepared{**state, nullptr, nullptr};
    }
    // Whole, and of another upload under the id: it may count elsewhere already, and only the log throws it away (D-10).
    if (!parts_.entered && state.ok() && *state && !Matches(**state, parts_.wanted.sealed)) {
      return absl::AlreadyExistsError(fmt::format("upload {} is sealed here with other bytes", id.ToHex()));
    }
    // Unsealed it lacks bytes, sealed it has others or is damaged: no part of it is of use.
    if (present != nullptr) {
      was_sealed ? present->Drop() : present->Abort();  // one that was sealed meanwhile stays
    }
    ASSIGN_OR_RETURN(auto created, parts_.store->Create({.id = id, .group = parts_.group}, parts_.entered));
    return Prepared{std::nullopt, nullptr, std::move(created)};
  }

  void OnPrepared(absl::StatusOr<Prepared> prepared) {
    if (!prepared.ok()) return Finish(prepared.status());
    if (prepared->held) return Finish(*prepared->held);
    if (prepared->sealing) {
      // A read of nothing is answered behind the seal.
      return prepared->sealing->Read(
          0, 0, parts_.home, [self = shared_from_this()](const absl::StatusOr<Bytes>&) { self->Start(); });
    }
    stage_ = std::move(prepared->stage);
    if (parts_.sources.empty())
      return Finish(absl::UnavailableError(Name() + ": no server is known to hold it"));
    Ask();
  }

  uint64_t length() const { return parts_.wanted.sealed.length; }
  std::string Name() const { return fmt::format("fetch of upload {}", parts_.wanted.upload.ToHex()); }
  const raft::Peer& source() const { return parts_.sources[source_ % parts_.sources.size()]; }

  // Keeps as many pieces under way as are allowed.
  void Ask() {
    while (next_ < length() && under_way_ < parts_.pieces_in_flight) {
      const uint64_t count = std::min(parts_.piece_bytes, length() - next_);
      ++under_way_;
      AskPiece(next_, count);
      next_ += count;
    }
    if (appended_ == length() && under_way_ == 0) Seal();
  }

  void AskPiece(uint64_t offset, uint64_t count) {
    const FetchWanted wanted{parts_.group, parts_.wanted.upload, length(), parts_.wanted.sealed.checksum};
    parts_.bytes->Fetch(source(), wanted, offset, count, parts_.home,
                        [self = shared_from_this(), asked = source_, run = restarts_, offset,
                         count](absl::StatusOr<Bytes> piece) {
                          if (self->done_ == nullptr || run != self->restarts_) return;
                          if (piece.ok() && piece->size() != count) {
                            piece = absl::DataLossError(
                                fmt::format("{} bytes instead of {} at {}", piece->size(), count, offset));
                          }
                          if (!piece.ok()) return self->OnPieceFailed(asked, offset, count, piece.status());
                          self->fruitless_ = 0;
                          self->arrived_.emplace(offset, std::move(*piece));
                          self->AppendArrived();
                        });
  }

  void OnPieceFailed(size_t asked, uint64_t offset, uint64_t count, const absl::Status& why) {
    // Of several pieces that one source failed, the first moves on to the next source.
    if (asked == source_) {
      LogInfo("{} from {}: {}", Name(), source().id.value, Printable(Message(why)));
      ++source_;
      if (++fruitless_ >= parts_.rounds * parts_.sources.size()) {
        return Finish(absl::UnavailableError(
            fmt::format("{}: no source has it, the last said: {}", Name(), Printable(Message(why)))));
      }
    }
    parts_.home->PostAfter(parts_.retry_delay, [self = shared_from_this(), run = restarts_, offset, count] {
      if (self->done_ != nullptr && run == self->restarts_) self->AskPiece(offset, count);
    });
  }

  void AppendArrived() {
    for (auto it = arrived_.begin(); it != arrived_.end() && it->first == handed_; it = arrived_.erase(it)) {
      const uint64_t size = it->second.size();
      handed_ += size;
      stage_->Append(it->first, std::move(it->second), parts_.home,
                     [self = shared_from_this(), size](const absl::StatusOr<uint64_t>& appended) {
                       if (self->done_ == nullptr) return;
                       if (!appended.ok()) return self->Finish(appended.status());
                       self->appended_ += size;
                       --self->under_way_;
                       self->Ask();
                     });
    }
  }

  void Seal() {
    stage_->Seal({.length = length(), .checksum = parts_.wanted.sealed.checksum}, parts_.home,
                 [self = shared_from_this()](absl::StatusOr<blob::Sealed> sealed) {
                   if (absl::IsInvalidArgument(sealed.status()) && self->Restart()) return;
                   self->Finish(std::move(sealed));
                 });
  }

  // Somebody sent other bytes: once more from the start, beginning with another source.
  bool Restart() {
    if (restarts_ + 1 >= parts_.sources.size()) return false;
    LogWarn("{}: the bytes differ from what was sealed; starting again", Name());
    source_ = ++restarts_;
    next_ = handed_ = appended_ = 0;
    stage_ = nullptr;
    Start();
    return true;
  }

  void Finish(absl::StatusOr<blob::Sealed> result) {
    if (!result.ok() && stage_ != nullptr) stage_->Abort();
    auto done = std::exchange(done_, nullptr);
    done(std::move(result));
  }

  FetchParts parts_;
  absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done_;  // null once called
  std::shared_ptr<blob::Upload> stage_;
  size_t source_ = 0;
  size_t restarts_ = 0;
  size_t fruitless_ = 0;    // sources that failed since a piece came
  uint32_t under_way_ = 0;  // pieces asked for and not yet appended
  uint64_t next_ = 0;       // the first byte not asked for
  uint64_t handed_ = 0;     // the first byte not handed to the stage
  uint64_t appended_ = 0;
  std::map<uint64_t, Bytes> arrived_;  // out of order; at most what is under way
};

}  // namespace

void FetchUpload(FetchParts parts, absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) {
  std::make_shared<FetchJob>(std::move(parts), std::move(done))->Start();
}

}  // namespace sluice::node
