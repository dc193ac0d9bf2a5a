#include "edge/bytestream/write_call.h"

#include <algorithm>
#include <chrono>

#include "edge/bytestream/buffers.h"
#include "edge/bytestream/target.h"
#include "edge/handshake.h"
#include "edge/status.h"
#include "sluice/bytestream/bytestream.pb.h"

namespace sluice::edge::bytestream {
namespace {

constexpr uint64_t kPieceBytes = 256 << 10;  // D-07
constexpr uint64_t kPassOnBytes = 64 << 10;  // messages of this size are not gathered
// How long a small beginning may wait for its end before it becomes an upload.
constexpr env::Duration kPatience = std::chrono::milliseconds(50);

}  // namespace

WriteCall::WriteCall(node::Host* host, env::Loop* lane, const grpc::CallbackServerContext* context,
                     grpc::ByteBuffer* response)
    : host_(host),
      lane_(lane),
      context_(context),
      response_(response),
      window_bytes_(host->options().upload_window_bytes),
      inline_bytes_(host->options().inline_upload_bytes_max),
      silence_(lane, std::chrono::milliseconds(host->options().upload_idle_ttl_ms),
               [this] { return OnSilence(); }) {}

void WriteCall::Begin(absl::StatusOr<CallPlace> place) {
  self_ = shared_from_this();
  if (!place.ok()) return End(ToGrpc(place.status()));
  place_ = *std::move(place);
  silence_.Start(weak_from_this());
  ReadNext();
}

// --- On gRPC's thread ---

void WriteCall::OnReadDone(bool ok) {
  silence_.Sign();
  if (!ok) {
    if (named_) {
      std::unique_lock lock(mutex_);
      Bytes rest = TakeGathered();
      lock.unlock();
      return HandOver({.data = std::move(rest), .finish = false, .end = true});
    }
    return lane_->Post([self = shared_from_this()] {
      self->Answer(absl::InvalidArgumentError("the first message must name the resource"));
    });
  }
  absl::StatusOr<wire::WriteRequest> request = wire::ParseWriteRequest(ToBytes(message_));
  message_.Clear();
  const absl::Status status = request.ok() ? Check(*request) : request.status();
  if (!status.ok()) {
    // What came before is kept: the upload can be resumed behind it.
    return lane_->Post([self = shared_from_this(), status] { self->Answer(status); });
  }
  const uint64_t size = request->data.size();
  next_offset_ += size;
  received_ += size;
  finished_ = request->finish_write;
  if (std::optional<Bytes> due = Gather(request->data)) {
    HandOver({.data = *std::move(due), .finish = finished_, .end = false});
  }
  ReadOn();
}

// What is to be handed over now: small messages wait for more while others are unanswered.
std::optional<Bytes> WriteCall::Gather(const Bytes& data) {
  std::lock_guard lock(mutex_);
  gathered_.Append(data);
  const bool due = finished_ || data.size() >= kPassOnBytes || gathered_.size() >= kPieceBytes ||
                   received_ <= inline_bytes_ || unanswered_ == 0;
  return due ? std::optional(TakeGathered()) : std::nullopt;
}

Bytes WriteCall::TakeGathered() {
  unanswered_ += gathered_.size();
  return std::exchange(gathered_, Bytes());
}

absl::Status WriteCall::CheckFirst(const wire::WriteRequest& request) {
  if (request.resource_name.empty())
    return absl::InvalidArgumentError("the first message must name the resource");
  RETURN_IF_ERROR(CheckClient(*context_, *host_));
  ASSIGN_OR_RETURN(group_, GroupOf(*context_));
  ASSIGN_OR_RETURN(header_, HeaderFor(request.resource_name, *context_));
  if (request.write_offset < 0)
    return absl::InvalidArgumentError(fmt::format("write_offset {}", request.write_offset));
  name_ = request.resource_name;
  named_ = true;
  first_offset_ = next_offset_ = static_cast<uint64_t>(request.write_offset);
  return absl::OkStatus();
}

absl::Status WriteCall::Check(const wire::WriteRequest& request) {
  if (finished_) return absl::InvalidArgumentError("a message after finish_write");
  if (!named_) RETURN_IF_ERROR(CheckFirst(request));
  if (!request.resource_name.empty() && request.resource_name != name_)
    return absl::InvalidArgumentError("the name changes within one call");
  if (request.write_offset < 0 || static_cast<uint64_t>(request.write_offset) != next_offset_) {
    return absl::InvalidArgumentError(
        fmt::format("write_offset {}: expected {}", request.write_offset, next_offset_));
  }
  if (next_offset_ > uint64_t{INT64_MAX} - request.data.size())
    return absl::InvalidArgumentError(fmt::format("write_offset {}: too large", request.write_offset));
  return absl::OkStatus();
}

void WriteCall::HandOver(Batch batch) {
  lane_->Post(
      [self = shared_from_this(), batch = std::move(batch)]() mutable { self->OnBatch(std::move(batch)); });
}

void WriteCall::ReadOn() {
  if (unanswered_ <= window_bytes_) return ReadNext();
  paused_ = true;
  if (unanswered_ <= window_bytes_ && paused_.exchange(false)) ReadNext();
}

void WriteCall::ReadNext() {
  std::lock_guard lock(mutex_);
  if (!ended_) StartRead(&message_);
}

void WriteCall::End(const grpc::Status& status) {
  std::lock_guard lock(mutex_);
  if (!std::exchange(ended_, true)) Finish(status);
}

// --- On the lane ---

void WriteCall::OnBatch(Batch batch) {
  if (Gone() || silent_) return;
  if (appended_ == 0 && arrived_ == 0) appended_ = first_offset_;
  finish_ = finish_ || batch.finish;
  end_ = end_ || batch.end;
  Feed(std::move(batch.data));
  if (relay_ != nullptr || opening_) return Pump();
  // Small and whole: no upload at all (D-16).
  if (finish_ && first_offset_ == 0 && arrived_ <= inline_bytes_) return PutWhole();
  if (finish_ || end_ || first_offset_ > 0 || arrived_ > inline_bytes_) return OpenUpload();
  if (patience_ != env::TimerId::kNone) return;
  patience_ = lane_->PostAfter(kPatience, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr || self->Gone() || self->relay_ != nullptr || self->opening_) return;
    self->OpenUpload();
  });
}

void WriteCall::Feed(Bytes data) {
  arrived_ += data.size();
  for (size_t at = 0; at < data.size(); at += kPieceBytes) pieces_.push_back(data.Slice(at, kPieceBytes));
}

template <typename T>
auto WriteCall::OnLane(void (WriteCall::*then)(T)) {
  return [self = shared_from_this(), then](auto result) {
    env::Dispatch(*self->lane_,
                  [self, then, result = std::move(result)]() mutable { ((*self).*then)(std::move(result)); });
  };
}

void WriteCall::OpenUpload() {
  opening_ = true;
  host_->OpenWrite(group_, header_, first_offset_, lane_, OnLane(&WriteCall::OnOpened));
}

void WriteCall::OnOpened(absl::StatusOr<std::shared_ptr<node::Relay>> relay) {
  opening_ = false;
  silence_.Sign();
  if (Gone()) return;
  if (!relay.ok()) return Answer(relay.status());
  relay_ = *std::move(relay);
  Pump();
}

void WriteCall::Pump() {
  if (relay_ == nullptr || Gone()) return;
  while (!pieces_.empty() && (in_flight_ == 0 || in_flight_ + pieces_.front().size() <= window_bytes_)) {
    Bytes piece = std::move(pieces_.front());
    pieces_.pop_front();
    const uint64_t size = piece.size();
    const uint64_t at = std::exchange(appended_, appended_ + size);
    in_flight_ += size;
    auto answered = [self = shared_from_this(), size](absl::Status status) {
      env::Dispatch(*self->lane_,
                    [self, size, status = std::move(status)] { self->OnAppended(size, status); });
    };
    // An upload that was taken up again may live on another lane.
    env::Dispatch(*relay_->home(),
                  [relay = relay_, at, piece = std::move(piece), answered = std::move(answered)]() mutable {
                    relay->Append(at, std::move(piece), std::move(answered));
                  });
    if (Gone()) return;
  }
  if (!pieces_.empty() || in_flight_ > 0 || last_step_) return;
  // finish_write ends the write, whether or not the client ends its side of the call.
  if (!finish_ && !end_) return;
  last_step_ = true;
  finish_ ? FinishUpload() : FlushUpload();
}

void WriteCall::OnAppended(uint64_t size, const absl::Status& status) {
  in_flight_ -= size;
  unanswered_ -= size;
  silence_.Sign();
  if (Gone()) return;
  if (!status.ok()) return Answer(status);
  if (unanswered_ <= window_bytes_ && paused_.exchange(false)) ReadNext();
  Pump();
}

void WriteCall::FinishUpload() {
  host_->FinishWrite(relay_, lane_, [self = shared_from_this()](absl::StatusOr<node::BlobInfo> info) {
    self->Answer(info.ok() ? absl::StatusOr<uint64_t>(info->length) : info.status());
  });
}

// The pause of a write: what has arrived becomes durable, so that the size told never decreases.
void WriteCall::FlushUpload() {
  env::Dispatch(*relay_->home(), [relay = relay_, answer = OnLane(&WriteCall::Answer)]() mutable {
    relay->Flush(std::move(answer));
  });
}

void WriteCall::PutWhole() {
  opening_ = last_step_ = true;
  Bytes data;
  for (const Bytes& piece : pieces_) data.Append(piece);
  pieces_.clear();
  host_->PutInline(group_, header_, std::move(data), lane_,
                   [self = shared_from_this()](absl::StatusOr<node::BlobInfo> info) {
                     self->Answer(info.ok() ? absl::StatusOr<uint64_t>(info->length) : info.status());
                   });
}

// As at a broken connection: what came is flushed, and can be gone on with.
bool WriteCall::OnSilence() {
  if (Gone()) return true;
  if (opening_ || last_step_) return false;  // it is not the client who is late
  std::unique_lock lock(mutex_);
  if (unanswered_ > 0) return false;
  Bytes rest = TakeGathered();  // nothing that was handed over is still on its way here
  lock.unlock();
  silent_ = end_ = true;
  if (relay_ == nullptr) return Answer(0), true;
  Feed(std::move(rest));
  Pump();
  return true;
}

absl::Status WriteCall::Silent(const absl::StatusOr<uint64_t>& committed) const {
  return absl::DeadlineExceededError(
      fmt::format("nothing came for {} ms; {}", host_->options().upload_idle_ttl_ms,
                  committed.ok() ? fmt::format("{} bytes are here, go on behind them", *committed)
                                 : fmt::format("what came before is lost: {}", Message(committed.status()))));
}

void WriteCall::Answer(absl::StatusOr<uint64_t> committed) {
  if (std::exchange(answered_, true)) return;
  lane_->Cancel(patience_);
  silence_.Stop();
  if (silent_) committed = Silent(committed);
  relay_.reset();
  pieces_.clear();
  if (!committed.ok()) return End(ToGrpc(committed.status()));
  ::sluice::bytestream::WriteResponse response;
  response.set_committed_size(static_cast<int64_t>(*committed));
  *response_ = ToBuffer(Bytes::Take(response.SerializeAsString()));
  End(grpc::Status::OK);
}

}  // namespace sluice::edge::bytestream
