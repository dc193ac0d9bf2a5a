#include "wire/datastream.h"

#include <algorithm>

#include "base/status.h"
#include "wire/proto_reader.h"

namespace sluice::wire {
namespace {

using Proto = ratis::common::DataStreamPacketHeaderProto;

constexpr size_t kRequestPrefixBytes = 12;
constexpr size_t kReplyPrefixBytes = 4;
constexpr uint64_t kReplyHeaderBytesMax = 64 << 10;

// Tags of DataStreamPacketHeaderProto and of the two messages around it.
constexpr uint32_t kTagClientId = 0x0a;
constexpr uint32_t kTagType = 0x10;
constexpr uint32_t kTagStreamId = 0x18;
constexpr uint32_t kTagOffset = 0x20;
constexpr uint32_t kTagDataLength = 0x28;
constexpr uint32_t kTagOption = 0x30;
constexpr uint32_t kTagOptions = 0x32;
constexpr uint32_t kTagPacketHeader = 0x0a;
constexpr uint32_t kTagBytesWritten = 0x10;
constexpr uint32_t kTagSuccess = 0x18;
constexpr uint32_t kTagCommitInfo = 0x7a;

uint64_t ReadBigEndian(std::string_view raw) {
  uint64_t value = 0;
  for (char c : raw) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

void AppendBigEndian(uint64_t value, int bytes, std::string& out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("DataStream packet: {}", what));
}

// What a packet header holds before its values are judged. Fields that come twice: the last one counts.
struct RawHeader {
  std::string_view client;
  int32_t type = 0;
  uint64_t stream = 0;
  uint64_t offset = 0;
  uint64_t data_length = 0;
  bool sync = false;
  bool close = false;

  void AddOption(uint64_t value) {  // unknown ones are ignored
    const auto option = static_cast<int32_t>(value);
    sync |= option == Proto::SYNC;
    close |= option == Proto::CLOSE;
  }
};

bool ParseOptions(std::string_view packed, RawHeader* raw) {
  FlatSource source{packed};
  while (!source.AtEnd()) {
    uint64_t value = 0;
    if (!ReadVarint(source, &value)) return false;
    raw->AddOption(value);
  }
  return true;
}

bool ParsePacketHeader(std::string_view text, RawHeader* raw) {
  FlatSource source{text};
  while (!source.AtEnd()) {
    uint32_t tag = 0;
    uint64_t value = 0;
    size_t length = 0;
    if (!ReadTag(source, &tag)) return false;
    switch (tag) {
      case kTagClientId:
        if (!ReadLength(source, &length)) return false;
        raw->client = source.TakeView(length);
        break;
      case kTagType:
        if (!ReadVarint(source, &value)) return false;
        raw->type = static_cast<int32_t>(value);
        break;
      case kTagStreamId:
        if (!ReadVarint(source, &raw->stream)) return false;
        break;
      case kTagOffset:
        if (!ReadVarint(source, &raw->offset)) return false;
        break;
      case kTagDataLength:
        if (!ReadVarint(source, &raw->data_length)) return false;
        break;
      case kTagOption:
        if (!ReadVarint(source, &value)) return false;
        raw->AddOption(value);
        break;
      case kTagOptions:
        if (!ReadLength(source, &length) || !ParseOptions(source.TakeView(length), raw)) return false;
        break;
      default:
        if (!SkipField(source, tag)) return false;
    }
  }
  return true;
}

absl::Status Judge(const RawHeader& raw, PacketHeader* header) {
  const std::optional<ClientId> client = ClientId::FromBytes(raw.client);
  if (!client) return Malformed(fmt::format("client id of {} bytes", raw.client.size()));
  if (raw.type != Proto::STREAM_HEADER && raw.type != Proto::STREAM_DATA) {
    return Malformed(fmt::format("type {}", raw.type));
  }
  *header = {.client = *client,
             .type = raw.type == Proto::STREAM_DATA ? PacketType::kStreamData : PacketType::kStreamHeader,
             .stream = {raw.stream},
             .offset = raw.offset,
             .data_length = raw.data_length,
             .sync = raw.sync,
             .close = raw.close};
  return absl::OkStatus();
}

void AppendField(uint32_t tag, uint64_t value, std::string& out) {
  if (value == 0) return;
  out.push_back(static_cast<char>(tag));
  AppendVarint(value, out);
}

// At most 16 + 2 + 2 + 3 * 11 + 4 bytes, so that its length is one byte.
void AppendPacketHeader(const PacketHeader& header, std::string& out) {
  out.push_back(static_cast<char>(kTagPacketHeader));
  const size_t length_at = out.size();
  out.push_back(0);
  out.push_back(static_cast<char>(kTagClientId));
  out.push_back(16);
  out.append(header.client.AsBytes());
  AppendField(kTagType, static_cast<uint64_t>(header.type), out);
  AppendField(kTagStreamId, header.stream.value, out);
  AppendField(kTagOffset, header.offset, out);
  AppendField(kTagDataLength, header.data_length, out);
  if (header.sync || header.close) {
    out.push_back(static_cast<char>(kTagOptions));
    out.push_back(static_cast<char>(int{header.sync} + int{header.close}));
    if (header.sync) out.push_back(static_cast<char>(Proto::SYNC));
    if (header.close) out.push_back(static_cast<char>(Proto::CLOSE));
  }
  out[length_at] = static_cast<char>(out.size() - length_at - 1);
}

}  // namespace

absl::Status ParseRequestHeader(std::string_view text, PacketHeader* header) {
  RawHeader raw;
  FlatSource source{text};
  while (!source.AtEnd()) {
    uint32_t tag = 0;
    size_t length = 0;
    if (!ReadTag(source, &tag)) return Malformed("header is not protobuf");
    const bool ok = tag == kTagPacketHeader
                        ? ReadLength(source, &length) && ParsePacketHeader(source.TakeView(length), &raw)
                        : SkipField(source, tag);
    if (!ok) return Malformed("header is not protobuf");
  }
  return Judge(raw, header);
}

absl::Status ParseReplyHeader(std::string_view text, DataStreamReply* reply) {
  RawHeader raw;
  reply->bytes_written = 0;
  reply->success = false;
  reply->commit_infos.clear();
  FlatSource source{text};
  while (!source.AtEnd()) {
    uint32_t tag = 0;
    uint64_t value = 0;
    size_t length = 0;
    const std::string_view field_start = source.rest;
    if (!ReadTag(source, &tag)) return Malformed("reply header is not protobuf");
    bool ok = true;
    switch (tag) {
      case kTagPacketHeader:
        ok = ReadLength(source, &length) && ParsePacketHeader(source.TakeView(length), &raw);
        break;
      case kTagBytesWritten:
        ok = ReadVarint(source, &reply->bytes_written);
        break;
      case kTagSuccess:
        ok = ReadVarint(source, &value);
        reply->success = value != 0;
        break;
      default:
        ok = SkipField(source, tag);
        if (ok && tag == kTagCommitInfo) {
          reply->commit_infos.append(field_start.substr(0, field_start.size() - source.rest.size()));
        }
    }
    if (!ok) return Malformed("reply header is not protobuf");
  }
  return Judge(raw, &reply->header);
}

bool FrameInput::Gather(std::string& part, size_t want) {
  const size_t count = std::min(want - part.size(), pending_.size());
  if (count > 0) {
    const size_t had = part.size();
    part.resize(had + count);
    Take(count).CopyTo(part.data() + had);
  }
  return part.size() == want;
}

Bytes FrameInput::Take(size_t n) {
  if (n == pending_.size()) return std::exchange(pending_, Bytes());
  Bytes taken = pending_.Slice(0, n);
  pending_ = pending_.Slice(n, pending_.size() - n);
  return taken;
}

absl::StatusOr<bool> RequestDecoder::Next(RequestEvent* event) {
  if (state_ == State::kFailed) return failure_;
  absl::StatusOr<bool> result = Step(event);
  if (!result.ok()) {
    failure_ = result.status();
    state_ = State::kFailed;
    front_.clear();
    input_ = FrameInput();
  }
  return result;
}

absl::StatusOr<bool> RequestDecoder::Step(RequestEvent* event) {
  if (state_ == State::kPrefix) {
    const bool whole = input_.Gather(front_, kRequestPrefixBytes);
    RETURN_IF_ERROR(OnPrefix());
    if (!whole) return false;
    front_.clear();
    state_ = State::kHeader;
  }
  if (state_ == State::kHeader) {
    if (!input_.Gather(front_, header_length_)) return false;
    RETURN_IF_ERROR(OnHeader());
    front_.clear();
    taken_ = 0;
    event->header = header_;
    if (header_.type == PacketType::kStreamHeader) {
      state_ = State::kStreamHeader;
    } else {
      state_ = State::kData;
      event->kind = RequestEvent::Kind::kPacket;
      event->offset = header_.offset;
      event->data = Bytes();
      event->last = false;
      return true;
    }
  }
  const bool is_data = state_ == State::kData;
  const uint64_t left = data_length_ - taken_;
  const uint64_t want = is_data ? std::min(left, limits_.piece_bytes) : left;
  if (input_.size() < want) return false;
  event->kind = is_data ? RequestEvent::Kind::kPiece : RequestEvent::Kind::kStreamHeader;
  event->header = header_;
  event->offset = header_.offset + taken_;
  event->data = input_.Take(want);
  taken_ += want;
  event->last = taken_ == data_length_;
  if (event->last) state_ = State::kPrefix;
  return true;
}

// Also called with half a prefix: eight bytes suffice to refuse another protocol or an absurd length.
absl::Status RequestDecoder::OnPrefix() {
  if (front_.size() < 8) return absl::OkStatus();
  const uint64_t body_length = ReadBigEndian(std::string_view(front_).substr(0, 8));
  if (body_length > uint64_t{INT32_MAX} + limits_.packet_header_bytes_max) {
    return Malformed(fmt::format("body length {}", static_cast<int64_t>(body_length)));
  }
  if (front_.size() < kRequestPrefixBytes) return absl::OkStatus();
  header_length_ = ReadBigEndian(std::string_view(front_).substr(8, 4));
  if (header_length_ == 0 || header_length_ > limits_.packet_header_bytes_max ||
      header_length_ > body_length) {
    return Malformed(
        fmt::format("header length {} in a body of {}", static_cast<int32_t>(header_length_), body_length));
  }
  data_length_ = body_length - header_length_;
  if (data_length_ > INT32_MAX) return Malformed(fmt::format("data length {}", data_length_));
  return absl::OkStatus();
}

absl::Status RequestDecoder::OnHeader() {
  RETURN_IF_ERROR(ParseRequestHeader(front_, &header_));
  absl::Status lengths = CheckLengths();
  if (!lengths.ok()) failed_packet_ = header_;
  return lengths;
}

absl::Status RequestDecoder::CheckLengths() {
  if (header_.data_length != data_length_) {
    return Malformed(fmt::format("header says {} bytes, prefix {}", header_.data_length, data_length_));
  }
  if (header_.offset > uint64_t{INT64_MAX} - data_length_) {
    return Malformed(fmt::format("offset {} of {} bytes", header_.offset, data_length_));
  }
  const bool is_data = header_.type == PacketType::kStreamData;
  const uint64_t limit = is_data ? limits_.frame_bytes_max : limits_.stream_header_bytes_max;
  if (data_length_ > limit) {
    return absl::ResourceExhaustedError(
        fmt::format("DataStream packet of {} bytes: at most {}", data_length_, limit));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ReplyDecoder::Next(DataStreamReply* reply) {
  if (state_ == State::kFailed) return failure_;
  absl::StatusOr<bool> result = Step(reply);
  if (!result.ok()) {
    failure_ = result.status();
    state_ = State::kFailed;
    front_.clear();
    input_ = FrameInput();
  }
  return result;
}

absl::StatusOr<bool> ReplyDecoder::Step(DataStreamReply* reply) {
  if (state_ == State::kPrefix) {
    if (!input_.Gather(front_, kReplyPrefixBytes)) return false;
    header_length_ = ReadBigEndian(front_);
    if (header_length_ == 0 || header_length_ > kReplyHeaderBytesMax) {
      return Malformed(fmt::format("reply header length {}", static_cast<int32_t>(header_length_)));
    }
    front_.clear();
    state_ = State::kHeader;
  }
  if (state_ == State::kHeader) {
    if (!input_.Gather(front_, header_length_)) return false;
    RETURN_IF_ERROR(OnHeader());
    front_.clear();
    state_ = State::kBody;
  }
  if (input_.size() < reply_.header.data_length) return false;
  reply_.body = input_.Take(reply_.header.data_length);
  *reply = std::exchange(reply_, DataStreamReply());
  state_ = State::kPrefix;
  return true;
}

absl::Status ReplyDecoder::OnHeader() {
  RETURN_IF_ERROR(ParseReplyHeader(front_, &reply_));
  if (reply_.header.data_length > body_bytes_max_) {
    return absl::ResourceExhaustedError(
        fmt::format("DataStream reply of {} bytes: at most {}", reply_.header.data_length, body_bytes_max_));
  }
  return absl::OkStatus();
}

std::string EncodeRequestFront(const PacketHeader& header) {
  std::string front(kRequestPrefixBytes, '\0');
  AppendPacketHeader(header, front);
  const uint64_t header_length = front.size() - kRequestPrefixBytes;
  std::string prefix;
  AppendBigEndian(header_length + header.data_length, 8, prefix);
  AppendBigEndian(header_length, 4, prefix);
  std::copy(prefix.begin(), prefix.end(), front.begin());
  return front;
}

Bytes EncodeRequest(PacketHeader header, const Bytes& payload) {
  header.data_length = payload.size();
  Bytes packet = Bytes::Take(EncodeRequestFront(header));
  packet.Append(payload);
  return packet;
}

Bytes EncodeReply(const DataStreamReply& reply) {
  std::string front(kReplyPrefixBytes, '\0');
  PacketHeader header = reply.header;
  header.data_length = reply.body.size();
  header.sync = header.close = false;  // replies carry no options
  AppendPacketHeader(header, front);
  AppendField(kTagBytesWritten, reply.bytes_written, front);
  AppendField(kTagSuccess, reply.success ? 1 : 0, front);
  front.append(reply.commit_infos);
  std::string prefix;
  AppendBigEndian(front.size() - kReplyPrefixBytes, 4, prefix);
  std::copy(prefix.begin(), prefix.end(), front.begin());
  Bytes packet = Bytes::Take(std::move(front));
  packet.Append(reply.body);
  return packet;
}

std::string EncodeCommitInfos(const CommitInfos& infos) {
  ratis::common::DataStreamReplyHeaderProto holder;
  *holder.mutable_commit_infos() = infos;
  return holder.SerializeAsString();
}

absl::StatusOr<CommitInfos> DecodeCommitInfos(std::string_view encoded) {
  ratis::common::DataStreamReplyHeaderProto holder;
  if (!holder.ParseFromArray(encoded.data(), static_cast<int>(encoded.size()))) {
    return Malformed("commit infos are not protobuf");
  }
  return std::move(*holder.mutable_commit_infos());
}

}  // namespace sluice::wire
