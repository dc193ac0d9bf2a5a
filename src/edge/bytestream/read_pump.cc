#include "edge/bytestream/read_pump.h"

#include <algorithm>
#include <utility>

#include "wire/bytestream.h"

namespace sluice::edge::bytestream {
namespace {

constexpr uint64_t kMessageBytes = 1 << 20;
constexpr size_t kReadsAhead = 4;  // the device, two checks and the wire at a time

}  // namespace

void ReadPump::OnSource(absl::StatusOr<std::shared_ptr<blob::Source>> source) {
  if (!source.ok()) return End(source.status());
  source_ = *std::move(source);
  const uint64_t length = source_->length();
  if (offset_ < 0 || static_cast<uint64_t>(offset_) > length)
    return End(absl::OutOfRangeError(fmt::format("read at {}: the resource has {} bytes", offset_, length)));
  next_ = static_cast<uint64_t>(offset_);
  end_ = limit_ == 0 ? length : next_ + std::min<uint64_t>(static_cast<uint64_t>(limit_), length - next_);
  ReadAhead();
  Pump();
}

void ReadPump::ReadAhead() {
  while (!ended_ && next_ < end_ && slots_.size() < kReadsAhead) {
    auto slot = std::make_shared<Slot>();
    slot->count = std::min(kMessageBytes, end_ - next_);
    slots_.push_back(slot);
    const uint64_t at = std::exchange(next_, next_ + slot->count);
    source_->Read(at, slot->count, lane_, [self = shared_from_this(), slot](absl::StatusOr<Bytes> data) {
      slot->data = std::move(data);
      self->Pump();
    });
  }
}

void ReadPump::Pump() {
  if (ended_ || writing_) return;
  if (slots_.empty()) return End(absl::OkStatus());
  if (!slots_.front()->data.has_value()) return;
  const std::shared_ptr<Slot> slot = slots_.front();
  if (!slot->data->ok()) return End(slot->data->status());
  const Bytes& data = **slot->data;
  if (data.size() != slot->count)
    return End(absl::DataLossError(fmt::format("{} bytes read of {}", data.size(), slot->count)));
  slots_.pop_front();
  writing_ = true;
  Send(wire::EncodeReadResponse(data));
  ReadAhead();
}

void ReadPump::OnSent() {
  writing_ = false;
  Pump();
}

void ReadPump::End(const absl::Status& status) {
  if (std::exchange(ended_, true)) return;
  slots_.clear();
  source_.reset();
  Finish(status);
}

absl::Status OpenFetch(const CallerSays& says, const node::FetchWanted& wanted, node::Host& host,
                       const std::shared_ptr<ReadPump>& call) {
  RETURN_IF_ERROR(CheckServer(says, host, {.group = wanted.group, .from = {}, .target = {}}));
  host.OpenUploadRead(wanted, call->lane(), [call](auto source) { call->OnSource(std::move(source)); });
  return absl::OkStatus();
}

}  // namespace sluice::edge::bytestream
