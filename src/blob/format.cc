#include "blob/format.h"

#include <limits>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"

namespace sluice::blob {
namespace {

constexpr std::string_view kTrailerMagic = "SLUBLOB\n";
constexpr std::string_view kSideMagic = "SLUSTG1\n";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kFlagDigest = 1;
constexpr size_t kRecordFrameBytes = 12;
constexpr size_t kSpecBytes = 52;
constexpr size_t kSealBytes = 48;
enum RecordType : uint32_t { kSpecRecord = 1, kFlushRecord = 2, kSealRecord = 3 };

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
}

template <typename T>
T Get(std::string_view in, size_t offset) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<uint64_t>(static_cast<uint8_t>(in[offset + i])) << (8 * i);
  }
  return static_cast<T>(value);
}

void PutId(std::string& out, const UploadId& id) {
  out.append(id.client.AsBytes());
  Put<uint64_t>(out, id.call.value);
}

UploadId GetId(std::string_view in, size_t offset) {
  return {*ClientId::FromBytes(in.substr(offset, 16)), CallId{Get<uint64_t>(in, offset + 16)}};
}

// flags (4), digest or zeros (32)
void PutDigest(std::string& out, const std::optional<Sha256>& digest) {
  Put<uint32_t>(out, digest ? kFlagDigest : 0);
  out.append(digest.value_or(Sha256{}).AsBytes());
}

std::optional<Sha256> GetDigest(std::string_view in, size_t offset) {
  if ((Get<uint32_t>(in, offset) & kFlagDigest) == 0) return std::nullopt;
  return Sha256::FromBytes(in.substr(offset + 4, 32));
}

std::string Record(RecordType type, std::string_view payload) {
  std::string out;
  Put<uint32_t>(out, static_cast<uint32_t>(payload.size()));
  Put<uint32_t>(out, type);
  out.append(payload);
  Put<uint32_t>(out, Crc32c(out));
  return out;
}

bool ReadSpec(std::string_view payload, SideState& state) {
  if (payload.size() < kSpecBytes || payload.size() - kSpecBytes > kContextBytesMax) return false;
  state.spec.id = GetId(payload, 0);
  state.spec.group = *GroupId::FromBytes(payload.substr(24, 16));
  state.spec.epoch = Get<uint64_t>(payload, 40);
  state.spec.compute_digest = (Get<uint32_t>(payload, 48) & kFlagDigest) != 0;
  state.spec.context = std::string(payload.substr(kSpecBytes));
  return true;
}

bool ReadFlush(std::string_view payload, SideState& state) {
  if (payload.size() < 16 || payload.size() % 4 != 0) return false;
  const auto length = Get<uint64_t>(payload, 0);
  const auto first = Get<uint64_t>(payload, 8);
  const uint64_t listed = (payload.size() - 16) / 4;
  const uint64_t before = state.durable.length();
  if (length < before || first != before / kChunkBytes || ChunkCount(length) - first != listed) return false;
  std::vector<uint32_t> crcs = state.durable.crcs();
  crcs.resize(first);
  for (size_t i = 0; i < listed; ++i) crcs.push_back(Get<uint32_t>(payload, 16 + 4 * i));
  state.durable = ChunkList(length, std::move(crcs));
  return true;
}

bool ReadSeal(std::string_view payload, SideState& state) {
  if (payload.size() != kSealBytes) return false;
  state.sealed = Sealed{Get<uint64_t>(payload, 0), Get<uint32_t>(payload, 8), GetDigest(payload, 12)};
  return true;
}

}  // namespace

std::string ContentFolder(const UploadId& id) { return fmt::format("{:02x}", Crc32c(id.ToHex()) & 0xff); }

std::string EncodeFooter(const Footer& footer, const ChunkList& chunks) {
  SLUICE_CHECK(footer.sealed.length == chunks.length())
      << footer.sealed.length << " is not " << chunks.length();
  std::string trailer;
  Put<uint64_t>(trailer, footer.sealed.length);
  Put<uint32_t>(trailer, footer.sealed.checksum);
  PutDigest(trailer, footer.sealed.digest);
  PutId(trailer, footer.id);
  trailer.append(footer.group.AsBytes());
  Put<uint64_t>(trailer, footer.epoch);
  Put<uint32_t>(trailer, static_cast<uint32_t>(kChunkBytes));
  Put<uint32_t>(trailer, kVersion);
  Put<uint32_t>(trailer, 0);
  Put<uint32_t>(trailer, Crc32c(trailer));
  trailer.append(kTrailerMagic);
  SLUICE_CHECK(trailer.size() == kTrailerBytes) << trailer.size();
  return EncodeChunks(chunks.crcs()) + trailer;
}

absl::StatusOr<Footer> DecodeTrailer(std::string_view tail, uint64_t file_bytes) {
  if (tail.size() != kTrailerBytes || file_bytes < kTrailerBytes) {
    return absl::DataLossError(fmt::format("no footer: the file has {} bytes", file_bytes));
  }
  if (tail.substr(112) != kTrailerMagic) return absl::DataLossError("no footer: wrong magic");
  if (Get<uint32_t>(tail, 108) != Crc32c(tail.substr(0, 108)))
    return absl::DataLossError("footer is damaged");
  if (const auto version = Get<uint32_t>(tail, 100); version != kVersion) {
    return absl::FailedPreconditionError(
        fmt::format("blob format version {}, this program reads {}", version, kVersion));
  }
  Footer footer;
  footer.sealed = {Get<uint64_t>(tail, 0), Get<uint32_t>(tail, 8), GetDigest(tail, 12)};
  footer.id = GetId(tail, 48);
  footer.group = *GroupId::FromBytes(tail.substr(72, 16));
  footer.epoch = Get<uint64_t>(tail, 88);
  const uint64_t length = footer.sealed.length;
  // The first comparison keeps the sum of the second from wrapping.
  if (Get<uint32_t>(tail, 96) != kChunkBytes || length > file_bytes ||
      length + 4 * ChunkCount(length) + kTrailerBytes != file_bytes) {
    return absl::DataLossError(
        fmt::format("footer says {} bytes of payload in a file of {}", length, file_bytes));
  }
  return footer;
}

absl::StatusOr<std::vector<uint32_t>> DecodeChunks(std::string_view list, const Sealed& sealed) {
  if (list.size() != 4 * ChunkCount(sealed.length) || Crc32c(list) != sealed.checksum) {
    return absl::DataLossError("the list of chunk checksums is damaged");
  }
  std::vector<uint32_t> crcs;
  crcs.reserve(list.size() / 4);
  for (size_t i = 0; i < list.size(); i += 4) crcs.push_back(Get<uint32_t>(list, i));
  return crcs;
}

std::string EncodeSideStart(const UploadSpec& spec) {
  std::string payload;
  PutId(payload, spec.id);
  payload.append(spec.group.AsBytes());
  Put<uint64_t>(payload, spec.epoch);
  Put<uint32_t>(payload, spec.compute_digest ? kFlagDigest : 0);
  payload.append(spec.context);
  return std::string(kSideMagic) + Record(kSpecRecord, payload);
}

std::string EncodeFlushRecord(const ChunkList& chunks, uint64_t durable_before) {
  const uint64_t first = durable_before / kChunkBytes;
  std::string payload;
  Put<uint64_t>(payload, chunks.length());
  Put<uint64_t>(payload, first);
  payload.append(EncodeChunks(chunks.crcs(), first));
  return Record(kFlushRecord, payload);
}

std::string EncodeSealRecord(const Sealed& sealed) {
  std::string payload;
  Put<uint64_t>(payload, sealed.length);
  Put<uint32_t>(payload, sealed.checksum);
  PutDigest(payload, sealed.digest);
  return Record(kSealRecord, payload);
}

absl::StatusOr<SideState> DecodeSide(std::string_view file) {
  SideState state;
  if (file.substr(0, kSideMagic.size()) != kSideMagic) return absl::DataLossError("side file: wrong magic");
  state.valid_bytes = kSideMagic.size();
  bool have_spec = false;
  while (!state.sealed) {
    const std::string_view rest = file.substr(state.valid_bytes);
    if (rest.size() < kRecordFrameBytes) break;
    const size_t size = Get<uint32_t>(rest, 0);
    if (size > rest.size() - kRecordFrameBytes) break;
    if (Get<uint32_t>(rest, 8 + size) != Crc32c(rest.substr(0, 8 + size))) break;
    const std::string_view payload = rest.substr(8, size);
    const auto type = Get<uint32_t>(rest, 4);
    bool valid = false;
    if (!have_spec) {
      valid = have_spec = type == kSpecRecord && ReadSpec(payload, state);
    } else if (type == kFlushRecord) {
      valid = ReadFlush(payload, state);
    } else if (type == kSealRecord) {
      valid = ReadSeal(payload, state);
    }
    if (!valid) break;
    state.valid_bytes += size + kRecordFrameBytes;
  }
  if (!have_spec) return absl::DataLossError("side file: no valid spec record");
  return state;
}

}  // namespace sluice::blob
