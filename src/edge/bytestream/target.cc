#include "edge/bytestream/target.h"

#include "base/status.h"
#include "wire/bytestream.h"
#include "wire/resource_name.h"

namespace sluice::edge::bytestream {
namespace {

constexpr size_t kUuidBytes = 16;
constexpr size_t kFetchBytes = 2 * kUuidBytes + 8;

std::optional<std::string> Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto at = context.client_metadata().find(key);
  if (at == context.client_metadata().end()) return std::nullopt;
  return std::string(at->second.data(), at->second.size());
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
    header.compute_digest = !Metadata(context, wire::kNoDigestKey).has_value();
  }
  return header;
}

std::string EncodeFetchTarget(const FetchTarget& target) {
  std::string out(target.group.AsBytes());
  out.append(target.upload.client.AsBytes());
  for (int shift = 56; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(target.upload.call.value >> shift));
  return out;
}

absl::StatusOr<std::optional<FetchTarget>> FetchTargetOf(const grpc::CallbackServerContext& context) {
  const auto raw = Metadata(context, wire::kFetchKey);
  if (!raw) return std::optional<FetchTarget>();
  if (raw->size() != kFetchBytes)
    return absl::InvalidArgumentError(
        fmt::format("metadata {}: {} bytes expected", wire::kFetchKey, kFetchBytes));
  FetchTarget target;
  target.group = *GroupId::FromBytes(raw->substr(0, kUuidBytes));
  target.upload.client = *ClientId::FromBytes(raw->substr(kUuidBytes, kUuidBytes));
  for (size_t i = 2 * kUuidBytes; i < kFetchBytes; ++i)
    target.upload.call.value = target.upload.call.value << 8 | static_cast<uint8_t>((*raw)[i]);
  return std::optional<FetchTarget>(target);
}

}  // namespace sluice::edge::bytestream
