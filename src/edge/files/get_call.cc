#include "edge/files/get_call.h"

#include <algorithm>
#include <string>
#include <utility>

#include "wire/resource_name.h"

namespace sluice::edge::files {
namespace {

absl::Status CheckReadName(const std::string& name) {
  ASSIGN_OR_RETURN(const wire::ResourceName parsed, wire::ParseResourceName(name));
  if (parsed.kind == wire::ResourceName::Kind::kRemoteCache)
    return absl::UnimplementedError("remote cache names are not served here");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GroupId> GroupNamed(const std::string& text) {
  if (text.empty()) return kDefaultGroup;
  const auto group = GroupId::Parse(text);
  if (!group || group->IsZero()) return absl::InvalidArgumentError("the group is no UUID");
  return *group;
}

GetCall::GetCall(node::Host* host, env::Executor* lane, FileGetRequest request, CallPlace place)
    : FileStream(lane, host->options().upload_idle_ttl_ms, std::move(place)),
      host_(host),
      request_(std::move(request)) {}

void GetCall::Begin() {
  lane()->Post([self = Self(this)] {
    const absl::StatusOr<GroupId> group = GroupNamed(self->request_.group());
    absl::Status status = group.status();
    if (status.ok()) status = CheckReadName(self->request_.name());
    status.ok() ? self->Open(*group) : self->End(status);
  });
}

void GetCall::Open(const GroupId& group) {
  const auto content = UploadId::FromHex(request_.content());
  if (!request_.content().empty() && !content) {
    return End(absl::InvalidArgumentError("the content is not 48 hex digits"));
  }
  host_->OpenRead(
      group, request_.name(), content, lane(),
      [self = Self(this)](absl::StatusOr<node::Reading> reading) { self->OnOpened(std::move(reading)); });
}

void GetCall::OnOpened(absl::StatusOr<node::Reading> reading) {
  if (gone()) return;
  if (!reading.ok()) return End(reading.status());
  source_ = reading->source;
  const uint64_t length = source_->length();
  if (request_.offset() > length) {
    return End(absl::OutOfRangeError(
        fmt::format("read at {}: the resource has {} bytes", request_.offset(), length)));
  }
  const uint64_t rest = length - request_.offset();
  const uint64_t count = request_.limit() == 0 ? rest : std::min(request_.limit(), rest);
  next_ = request_.offset();
  end_at_ = next_ + count;
  FileGetHeader header;
  header.set_name(reading->info.name);
  header.set_length(length);
  if (reading->info.digest) header.set_digest(std::string(reading->info.digest->AsBytes()));
  header.set_created_ms(reading->info.created_ms);
  for (const PeerId& holder : reading->info.holders) header.add_holders(holder.value);
  header.set_count(count);
  header.set_content(reading->info.content.ToHex());
  Write(ControlRecord(RecordKind::kHeader, header));
  ReadAhead();
  Pump();
}

void GetCall::ReadAhead() {
  while (!ended() && next_ < end_at_ && slots_.size() < kReadsAhead) {
    auto slot = std::make_shared<Slot>();
    slot->count = std::min(kDataBytes, end_at_ - next_);
    slots_.push_back(slot);
    const uint64_t at = std::exchange(next_, next_ + slot->count);
    source_->Read(at, slot->count, lane(), [self = Self(this), slot](absl::StatusOr<Bytes> data) {
      slot->data = std::move(data);
      self->Pump();
    });
  }
}

void GetCall::Pump() {
  while (!ended() && !gone() && AllWritten()) {
    if (slots_.empty()) return End(absl::OkStatus());
    if (!slots_.front()->data.has_value()) return;
    const std::shared_ptr<Slot> slot = std::move(slots_.front());
    slots_.pop_front();
    if (!slot->data->ok()) return End(slot->data->status());
    const Bytes& data = **slot->data;
    if (data.size() != slot->count)
      return End(absl::DataLossError(fmt::format("{} bytes read of {}", data.size(), slot->count)));
    sent_ += data.size();
    Write(DataRecord(data));
    ReadAhead();
  }
}

// What a client sends on this stream means nothing.
void GetCall::OnMessages(std::vector<Bytes> messages) {
  uint64_t bytes = 0;
  for (const Bytes& message : messages) bytes += message.size();
  Credit(bytes);
}

void GetCall::OnGone() {
  slots_.clear();
  source_.reset();
}

void GetCall::End(const absl::Status& status) {
  FileResult result;
  result.set_length(sent_);
  slots_.clear();
  source_.reset();
  EndWith(status, std::move(result));
}

}  // namespace sluice::edge::files
