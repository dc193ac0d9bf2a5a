// Any bytes as the end of a data file and as a side file: no crash, no allocation beyond the input's size,
// and what is accepted encodes back to itself.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/crc32c.h"
#include "blob/format.h"

namespace sluice::blob {
namespace {

void FuzzFooter(std::string_view file) {
  if (file.size() < kTrailerBytes) return;
  auto footer = DecodeTrailer(file.substr(file.size() - kTrailerBytes), file.size());
  if (!footer.ok()) return;
  const Sealed& sealed = footer->sealed;
  auto crcs = DecodeChunks(file.substr(sealed.length, 4 * ChunkCount(sealed.length)), sealed);
  if (!crcs.ok()) return;
  const ChunkList chunks(sealed.length, *crcs);
  SLUICE_CHECK(chunks.Checksum() == sealed.checksum) << "list of " << crcs->size();
}

void FuzzSide(std::string_view file) {
  auto state = DecodeSide(file);
  if (!state.ok()) return;
  SLUICE_CHECK(state->valid_bytes <= file.size()) << state->valid_bytes;
  SLUICE_CHECK(state->durable.crcs().size() == ChunkCount(state->durable.length()))
      << state->durable.length();
  // The same state, said in as few records as possible, means the same.
  std::string again = EncodeSideStart(state->spec) + EncodeFlushRecord(state->durable, 0);
  if (state->sealed) again += EncodeSealRecord(*state->sealed);
  auto decoded = DecodeSide(again);
  SLUICE_CHECK(decoded.ok() && decoded->valid_bytes == again.size()) << decoded.status().ToString();
  SLUICE_CHECK(decoded->durable.crcs() == state->durable.crcs() && decoded->sealed == state->sealed)
      << "changed";
}

// The same input with every checksum made right, so that the fuzzer gets behind them.
std::string WithRecord(std::string_view payload, const UploadSpec& spec) {
  std::string file = EncodeSideStart(spec);
  std::string record;
  const auto put = [&record](uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) record.push_back(static_cast<char>(value >> shift));
  };
  put(static_cast<uint32_t>(payload.size()));
  put(payload.empty() ? 2 : 1 + static_cast<uint8_t>(payload[0]) % 3);
  record.append(payload);
  put(Crc32c(record));
  return file + record;
}

}  // namespace
}  // namespace sluice::blob

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  sluice::blob::FuzzFooter(file);
  sluice::blob::FuzzSide(file);
  sluice::blob::FuzzSide(sluice::blob::WithRecord(file, {.context = "c"}));
  return 0;
}
