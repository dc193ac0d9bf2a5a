#include "edge/files/put_call.h"

#include <algorithm>
#include <utility>

#include "edge/files/errors.h"
#include "wire/resource_name.h"

namespace sluice::edge::files {
namespace {

constexpr uint64_t kPieceBytes = 256 << 10;  // D-07
constexpr uint64_t kPassOnBytes = 64 << 10;  // smaller pieces wait for more while others are under way

absl::StatusOr<std::optional<Sha256>> DigestIn(const std::string& raw) {
  if (raw.empty()) return std::optional<Sha256>();
  const auto digest = Sha256::FromBytes(raw);
  if (digest) return digest;
  return absl::InvalidArgumentError(fmt::format("a digest of {} bytes: 32 expected", raw.size()));
}

// Two promises about the same blob agree.
template <typename T>
absl::Status Agree(const std::optional<T>& one, const std::optional<T>& other, const char* what) {
  if (!one || !other || *one == *other) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("two promises of the {} that differ", what));
}

absl::StatusOr<node::BlobHeader> HeaderOf(const FilePutHeader& message) {
  node::BlobHeader header;
  ASSIGN_OR_RETURN(header.expected_digest, DigestIn(message.digest()));
  if (message.has_length()) header.expected_length = message.length();
  if (!message.name().empty()) {
    ASSIGN_OR_RETURN(const wire::ResourceName name, wire::ParseResourceName(message.name()));
    switch (name.kind) {
      case wire::ResourceName::Kind::kRemoteCache:
        return absl::UnimplementedError("remote cache names are not served here");
      case wire::ResourceName::Kind::kDigest:
        RETURN_IF_ERROR(Agree(header.expected_digest, std::optional(name.digest), "digest"));
        header.expected_digest = name.digest;
        break;
      case wire::ResourceName::Kind::kGeneric:
        header.name = message.name();
        break;
    }
  }
  header.compute_digest = !message.no_digest() || header.expected_digest.has_value();
  if (header.name.empty() && !header.compute_digest)
    return absl::InvalidArgumentError("a blob without a name needs a digest");
  return header;
}

}  // namespace

PutCall::PutCall(node::Host* host, absl::StatusOr<GroupId> group, env::Executor* lane, CallPlace place)
    : FileStream(lane, host->options().upload_idle_ttl_ms, std::move(place)),
      host_(host),
      group_(std::move(group)),
      window_bytes_(host->options().upload_window_bytes),
      inline_bytes_(host->options().inline_upload_bytes_max) {}

// --- Records ---

void PutCall::OnMessages(std::vector<Bytes> messages) {
  for (const Bytes& message : messages) {
    if (Over() || finished_) {  // nobody waits for it
      untold_ += message.size();
      continue;
    }
    if (const absl::Status status = Take(message); !status.ok()) Answer(status);
  }
  Credit(std::exchange(untold_, 0));
  if (!Over() && headed_) Step();
}

absl::Status PutCall::Take(const Bytes& message) {
  const absl::StatusOr<Record> record = ParseRecord(message);
  const bool is_data = record.ok() && record->kind == RecordKind::kData;
  untold_ += is_data ? 1 : message.size();
  if (!record.ok()) return record.status();
  if (record->kind == RecordKind::kHeader) return TakeHeader(*record);
  if (record->kind == RecordKind::kResult) return absl::InvalidArgumentError("record R is the server's");
  if (!headed_) {
    if (is_data) untold_ += record->rest.size();
    return absl::InvalidArgumentError("the first record must be H");
  }
  return is_data ? TakeData(record->rest) : TakeEnd(*record);
}

absl::Status PutCall::TakeHeader(const Record& record) {
  if (std::exchange(headed_, true)) return absl::InvalidArgumentError("a second record H");
  RETURN_IF_ERROR(group_.status());
  ASSIGN_OR_RETURN(const auto message, ParseControl<FilePutHeader>(record));
  ASSIGN_OR_RETURN(header_, HeaderOf(message));
  tell_holders_ = message.tell_holders();
  return absl::OkStatus();
}

absl::Status PutCall::TakeData(Bytes data) {
  const uint64_t size = data.size();
  const uint64_t most = header_.expected_length.value_or(uint64_t{INT64_MAX});
  if (size > most - arrived_) {
    untold_ += size;
    return absl::InvalidArgumentError(
        fmt::format("{} bytes behind {}: {} were announced", size, arrived_, most));
  }
  arrived_ += size;
  const bool may_be_small = header_.expected_length.value_or(arrived_) <= inline_bytes_;
  if (relay_ == nullptr && !opening_ && pieces_.empty() && may_be_small && arrived_ <= inline_bytes_) {
    data.ForEachChunk([&](std::string_view chunk) { small_ += chunk; });
    untold_ += size;
    return absl::OkStatus();
  }
  if (!small_.empty()) pieces_.push_back({Bytes::Take(std::exchange(small_, {})), 0});
  Feed(std::move(data));
  return absl::OkStatus();
}

absl::Status PutCall::TakeEnd(const Record& record) {
  ASSIGN_OR_RETURN(const auto message, ParseControl<FilePutEnd>(record));
  ASSIGN_OR_RETURN(const auto digest, DigestIn(message.digest()));
  RETURN_IF_ERROR(Agree(header_.expected_digest, digest, "digest"));
  if (digest && !header_.compute_digest)
    return absl::InvalidArgumentError("a digest in E after no_digest in H");
  if (digest) header_.expected_digest = digest;
  const uint64_t in_header = header_.expected_length.value_or(arrived_);
  const uint64_t in_end = message.has_length() ? message.length() : arrived_;
  if (in_header != arrived_ || in_end != arrived_) {
    return absl::InvalidArgumentError(fmt::format("{} bytes came, {} were announced", arrived_,
                                                  in_header != arrived_ ? in_header : in_end));
  }
  finished_ = true;
  return absl::OkStatus();
}

// Small data joins what waits already; large data is cut.
void PutCall::Feed(Bytes data) {
  if (data.empty()) return;
  if (!pieces_.empty() && pieces_.back().data.size() + data.size() <= kPieceBytes) {
    pieces_.back().credit += data.size();
    pieces_.back().data.Append(data);
    return;
  }
  for (size_t at = 0; at < data.size(); at += kPieceBytes) {
    Bytes piece = data.Slice(at, kPieceBytes);
    const uint64_t size = piece.size();
    pieces_.push_back({std::move(piece), size});
  }
}

// --- The upload ---

void PutCall::Step() {
  if (relay_ != nullptr) return Pump();
  if (opening_ || last_step_) return;
  if (!pieces_.empty()) return OpenUpload();
  if (finished_) PutWhole();
}

void PutCall::PutWhole() {
  last_step_ = true;
  host_->PutInline(
      *group_, header_, Bytes::Take(std::exchange(small_, {})), lane(),
      [self = Self(this)](absl::StatusOr<node::BlobInfo> info) { self->OnPublished(std::move(info)); });
}

void PutCall::OpenUpload() {
  opening_ = true;
  host_->OpenWrite(*group_, header_, 0, lane(),
                   [self = Self(this)](absl::StatusOr<std::shared_ptr<node::Relay>> relay) {
                     self->OnOpened(std::move(relay));
                   });
}

void PutCall::OnOpened(absl::StatusOr<std::shared_ptr<node::Relay>> relay) {
  opening_ = false;
  if (Over()) return;
  if (!relay.ok()) return Answer(relay.status());
  relay_ = *std::move(relay);
  Pump();
}

void PutCall::Pump() {
  while (!Over() && !pieces_.empty()) {
    const uint64_t size = pieces_.front().data.size();
    if (in_flight_ > 0 && in_flight_ + size > window_bytes_) return;
    if (in_flight_ > 0 && size < kPassOnBytes && !finished_) return;
    Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    const uint64_t at = std::exchange(appended_, appended_ + size);
    in_flight_ += size;
    auto answered = [self = Self(this), size, credit = piece.credit](absl::Status status) {
      env::Dispatch(*self->lane(), [self, size, credit, status = std::move(status)] {
        self->OnAppended(size, credit, status);
      });
    };
    env::Dispatch(*relay_->home(), [relay = relay_, at, data = std::move(piece.data),
                                    answered = std::move(answered)]() mutable {
      relay->Append(at, std::move(data), std::move(answered));
    });
  }
  if (Over() || in_flight_ > 0 || !finished_ || std::exchange(last_step_, true)) return;
  FinishUpload();
}

void PutCall::OnAppended(uint64_t size, uint64_t credit, const absl::Status& status) {
  in_flight_ -= size;
  Credit(credit);
  if (Over()) return;
  if (!status.ok()) return Answer(status);
  Pump();
}

void PutCall::FinishUpload() {
  if (header_.expected_digest)
    env::Dispatch(*relay_->home(),
                  [relay = relay_, digest = *header_.expected_digest] { relay->ExpectDigest(digest); });
  host_->FinishWrite(relay_, lane(), [self = Self(this)](absl::StatusOr<node::BlobInfo> info) {
    self->OnPublished(std::move(info));
  });
}

void PutCall::OnPublished(absl::StatusOr<node::BlobInfo> info) {
  last_step_ = false;
  if (!info.ok()) return Answer(info.status());
  if (!tell_holders_ || Over()) return Answer(absl::OkStatus(), *info);
  const std::string name =
      !header_.name.empty() ? header_.name : "sha256:" + info->digest.value_or(Sha256()).ToHex();
  host_->Stat(*group_, name, lane(),
              [self = Self(this), info = *info](const absl::StatusOr<node::BlobInfo>& found) mutable {
                // It is stored, whether they can be told or not.
                if (found.ok()) info.holders = found->holders;
                self->Answer(absl::OkStatus(), info);
              });
}

// --- Ends ---

void PutCall::OnSilence() {
  if (in_flight_ > 0 || opening_ || last_step_) return;  // it is not the client who is late
  Answer(absl::DeadlineExceededError(
      fmt::format("nothing came for {} ms", host_->options().upload_idle_ttl_ms)));
}

void PutCall::OnGone() {
  if (last_step_) return;  // it is published, whoever hears of it
  relay_.reset();
  pieces_.clear();
  small_.clear();
}

void PutCall::Answer(const absl::Status& status, const node::BlobInfo& info) {
  FileResult result;
  if (status.ok()) {
    result.set_length(info.length);
    if (info.digest) result.set_digest(std::string(info.digest->AsBytes()));
    for (const PeerId& holder : info.holders) result.add_holders(holder.value);
  } else if (relay_ != nullptr && !finished_) {
    env::Dispatch(*relay_->home(), [relay = relay_] { relay->Abort(); });  // nobody can go on with it
  }
  for (const Piece& piece : pieces_) untold_ += piece.credit;
  Credit(std::exchange(untold_, 0));
  pieces_.clear();
  small_.clear();
  relay_.reset();
  EndWith(status, std::move(result));
}

}  // namespace sluice::edge::files
