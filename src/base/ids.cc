#include "base/ids.h"

#include "base/cluster_id.h"

#include "base/strings.h"

namespace sluice {
template <typename Tag>
std::optional<Uuid<Tag>> Uuid<Tag>::Parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  std::string hex;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash != (text[i] == '-')) return std::nullopt;
    if (!dash) hex.push_back(text[i]);
  }
  auto raw = sluice::FromHex(hex);
  if (!raw) return std::nullopt;
  return FromBytes(*raw);
}

template <typename Tag>
std::string Uuid<Tag>::ToString() const {
  const std::string hex = ToHex(AsBytes());
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

template struct Uuid<GroupTag>;
template struct Uuid<ClientTag>;
template struct Uuid<ClusterTag>;

std::string UploadId::ToHex() const {
  return fmt::format("{}{:016x}", sluice::ToHex(client.AsBytes()), call.value);
}

std::optional<UploadId> UploadId::FromHex(std::string_view hex) {
  auto raw = sluice::FromHex(hex);
  if (!raw || raw->size() != 24) return std::nullopt;
  UploadId id;
  id.client = *ClientId::FromBytes(std::string_view(*raw).substr(0, 16));
  for (size_t i = 16; i < 24; ++i) id.call.value = id.call.value << 8 | static_cast<uint8_t>((*raw)[i]);
  return id;
}

}  // namespace sluice
