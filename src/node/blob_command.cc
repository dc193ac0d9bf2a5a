#include "node/blob_command.h"

#include "base/crc32c.h"
#include "base/fields.h"

namespace sluice::node {
namespace {

// Field numbers of docs/formats/blob_command.md.
enum : uint32_t {
  kOp = 1,
  kName,
  kUpload,
  kLength,
  kChecksum,
  kDigest,
  kHolder,
  kStamp,
  kData,
  kSameAs,
  kLost
};

}  // namespace

std::string UploadKey(const UploadId& id) {
  std::string key(id.client.AsBytes());
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(id.call.value >> shift));
  return key;
}

std::optional<UploadId> ParseUploadKey(std::string_view key) {
  if (key.size() != 24) return std::nullopt;
  UploadId id;
  id.client = *ClientId::FromBytes(key.substr(0, 16));
  for (size_t i = 16; i < 24; ++i) id.call.value = id.call.value << 8 | static_cast<uint8_t>(key[i]);
  return id;
}

Bytes EncodeBlobCommand(const BlobCommand& command) {
  FieldWriter out;
  out.PutVarint(kOp, static_cast<uint64_t>(command.op));
  out.PutText(kName, command.name);
  if (command.op != BlobOp::kRemove) out.PutText(kUpload, UploadKey(command.upload));
  out.PutVarint(kLength, command.sealed.length);
  out.PutVarint(kChecksum, command.sealed.checksum);
  if (command.sealed.digest) out.PutText(kDigest, command.sealed.digest->AsBytes());
  for (const PeerId& holder : command.holders) out.PutRecord(kHolder, holder.value);
  out.PutVarint(kStamp, static_cast<uint64_t>(command.stamp_ms));
  if (command.same_as) out.PutText(kSameAs, UploadKey(*command.same_as));
  if (command.lost) out.PutText(kLost, UploadKey(*command.lost));
  if (command.op != BlobOp::kPublishInline) return Bytes::Take(out.Take());
  out.PutLength(kData, command.data.size());
  Bytes encoded = Bytes::Take(out.Take());
  encoded.Append(command.data);
  return encoded;
}

absl::StatusOr<BlobCommand> DecodeBlobCommand(const Bytes& data) {
  BlobCommand command;
  bool has_upload = false;
  Bytes flat = data;
  const std::string_view text = flat.Flatten();
  FieldReader in(text);
  uint64_t op = 0;
  bool malformed = false;
  while (in.Next()) {
    switch (in.tag()) {
      case kOp:
        op = in.varint();
        break;
      case kName:
        command.name = std::string(in.text());
        break;
      case kUpload: {
        const auto id = ParseUploadKey(in.text());
        if (id) command.upload = *id;
        has_upload = id.has_value();
        break;
      }
      case kLength:
        command.sealed.length = in.varint();
        break;
      case kChecksum:
        command.sealed.checksum = static_cast<uint32_t>(in.varint());
        break;
      case kDigest:
        command.sealed.digest = Sha256::FromBytes(in.text());
        malformed |= !command.sealed.digest;
        break;
      case kHolder:
        command.holders.push_back({std::string(in.text())});
        break;
      case kStamp:
        command.stamp_ms = static_cast<int64_t>(in.varint());
        break;
      case kSameAs:
        command.same_as = ParseUploadKey(in.text());
        malformed |= !command.same_as;
        break;
      case kLost:
        command.lost = ParseUploadKey(in.text());
        malformed |= !command.lost;
        break;
      case kData:
        command.data = flat.Slice(static_cast<size_t>(in.text().data() - text.data()), in.text().size());
        break;
      default:
        break;  // of a later version
    }
  }
  if (!in.ok() || malformed || op < 1 || op > 4 || (op != 3 && !has_upload)) {
    return absl::InvalidArgumentError(
        fmt::format("blob command of {} bytes, op {}: malformed", data.size(), op));
  }
  command.op = static_cast<BlobOp>(op);
  return command;
}

uint32_t BlobCommandContent(const Bytes& data) {
  Bytes flat = data;
  FieldReader in(flat.Flatten());
  FieldWriter asked;
  while (in.Next()) {
    if (in.tag() == kOp || in.tag() == kLength || in.tag() == kChecksum)
      asked.PutVarint(in.tag(), in.varint());
    if (in.tag() == kName || in.tag() == kUpload) asked.PutText(in.tag(), in.text());
  }
  return Crc32c(asked.Take());
}

Bytes EncodeBlobReply(const BlobReply& reply) {
  FieldWriter out;
  out.PutText(1, reply.name);
  out.PutVarint(2, reply.length);
  if (reply.digest) out.PutText(3, reply.digest->AsBytes());
  return Bytes::Take(out.Take());
}

absl::StatusOr<BlobReply> DecodeBlobReply(const Bytes& data) {
  BlobReply reply;
  const std::string text = data.ToString();
  FieldReader in(text);
  while (in.Next()) {
    if (in.tag() == 1) reply.name = std::string(in.text());
    if (in.tag() == 2) reply.length = in.varint();
    if (in.tag() == 3) reply.digest = Sha256::FromBytes(in.text());
  }
  if (!in.ok()) return absl::InvalidArgumentError("blob reply: malformed");
  return reply;
}

}  // namespace sluice::node
