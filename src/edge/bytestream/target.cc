#include "edge/bytestream/target.h"

#include "base/status.h"
#include "wire/bytestream.h"
#include "wire/resource_name.h"

namespace sluice::edge::bytestream {
namespace {

constexpr size_t kUuidBytes = 16;
constexpr size_t kFetchBytes = 2 * kUuidBytes + 8 + 8 + 4;

std::optional<std::string> Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto at = context.client_metadata().find(key);
  if (at == context.client_metadata().end()) return std::nullopt;
  return std::string(at->second.data(), at->second.size());
}

void AppendNumber(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

uint64_t TakeNumber(std::string_view& raw, size_t bytes) {
  uint64_t value = 0;
  for (const char byte : raw.substr(0, bytes)) value = value << 8 | static_cast<uint8_t>(byte);
  raw.remove_prefix(bytes);
  return value;
}

}  // namespace

absl::StatusOr<GroupId> GroupOf(const grpc::CallbackServerContext& context) {
  const auto text = Metadata(context, wire::kGroupKey);
  if (!text) return kDefaultGroup;
  const auto group = GroupId::Parse(*text);
  if (!group || group->IsZero())
    return absl::InvalidArgumentError(fmt::format("metadata {}: a UUID expected", wire::kGroupKey));
  return *group;
}

absl::Status CheckResource(const std::string& name) {
  ASSIGN_OR_RETURN(const wire::ResourceName parsed, wire::ParseResourceName(name));
  if (parsed.kind == wire::ResourceName::Kind::kRemoteCache)
    return absl::UnimplementedError("remote cache names are served later");
  return absl::OkStatus();
}

absl::StatusOr<node::BlobHeader> HeaderFor(const std::string& name,
                                           const grpc::CallbackServerContext& context) {
  RETURN_IF_ERROR(CheckResource(name));
  ASSIGN_OR_RETURN(const wire::ResourceName parsed, wire::ParseResourceName(name));
  node::BlobHeader header;
  if (parsed.kind == wire::ResourceName::Kind::kDigest) {
    header.expected_digest = parsed.digest;
  } else {
    header.name = name;
    header.writer = Metadata(context, wire::kWriterKey).value_or("");
    header.compute_digest = !Metadata(context, wire::kNoDigestKey).has_value();
  }
  if (const auto digest = Metadata(context, wire::kDigestKey)) {
    const auto wanted = Sha256::FromHex(*digest);
    if (!wanted || (header.expected_digest && *header.expected_digest != *wanted)) {
      return absl::InvalidArgumentError(
          fmt::format("metadata {}: 64 hex digits expected, the same as in the name", wire::kDigestKey));
    }
    header.expected_digest = wanted;
  }
  return header;
}

node::WriteKey WriteOf(const std::string& name, const grpc::CallbackServerContext& context) {
  return {name, Metadata(context, wire::kWriterKey).value_or("")};
}

std::string EncodeFetchTarget(const node::FetchWanted& target) {
  std::string out(target.group.AsBytes());
  out.append(target.upload.client.AsBytes());
  AppendNumber(out, target.upload.call.value, 8);
  AppendNumber(out, target.length, 8);
  AppendNumber(out, target.checksum, 4);
  return out;
}

absl::StatusOr<node::FetchWanted> DecodeFetchTarget(const std::string& raw) {
  if (raw.size() != kFetchBytes)
    return absl::InvalidArgumentError(
        fmt::format("metadata {}: {} bytes expected", wire::kFetchKey, kFetchBytes));
  node::FetchWanted target;
  target.group = *GroupId::FromBytes(raw.substr(0, kUuidBytes));
  target.upload.client = *ClientId::FromBytes(raw.substr(kUuidBytes, kUuidBytes));
  std::string_view numbers = std::string_view(raw).substr(2 * kUuidBytes);
  target.upload.call.value = TakeNumber(numbers, 8);
  target.length = TakeNumber(numbers, 8);
  target.checksum = static_cast<uint32_t>(TakeNumber(numbers, 4));
  return target;
}

absl::StatusOr<std::optional<node::FetchWanted>> FetchTargetOf(const grpc::CallbackServerContext& context) {
  const auto raw = Metadata(context, wire::kFetchKey);
  if (!raw) return std::optional<node::FetchWanted>();
  ASSIGN_OR_RETURN(node::FetchWanted target, DecodeFetchTarget(*raw));
  return std::optional<node::FetchWanted>(std::move(target));
}

absl::StatusOr<std::optional<UploadId>> ContentOf(const grpc::CallbackServerContext& context) {
  const auto text = Metadata(context, wire::kContentKey);
  if (!text) return std::optional<UploadId>();
  const auto content = UploadId::FromHex(*text);
  if (!content)
    return absl::InvalidArgumentError(fmt::format("metadata {}: 48 hex digits expected", wire::kContentKey));
  return content;
}

}  // namespace sluice::edge::bytestream
