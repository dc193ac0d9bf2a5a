// The bytes of docs/formats/blob.md: footer of a sealed file, records of a stage's side file, names.
//
//   ASSIGN_OR_RETURN(Footer footer, DecodeTrailer(last_bytes, file_size));
//
// Pure functions, no I/O. Decoders take anything that a disk may hold: they answer DATA_LOSS (or
// FAILED_PRECONDITION for a newer version), and never allocate more than a small multiple of their input.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "blob/chunks.h"
#include "blob/upload.h"

namespace sluice::blob {

inline constexpr size_t kTrailerBytes = 120;
inline constexpr size_t kContextBytesMax = 64u << 10;
inline constexpr char kStageSuffix[] = ".stage";

// The folder of a content, and of its stage, below blobs/: two hex digits.
std::string ContentFolder(const UploadId& id);

struct Footer {
  UploadId id;
  GroupId group;
  uint64_t epoch = 0;
  Sealed sealed;
};

// Chunk list and trailer, to be written at offset footer.sealed.length.
std::string EncodeFooter(const Footer& footer, const ChunkList& chunks);
// `tail` is the last kTrailerBytes of a file of `file_bytes`.
absl::StatusOr<Footer> DecodeTrailer(std::string_view tail, uint64_t file_bytes);
// `list` are the 4 × ChunkCount(length) bytes before the trailer.
absl::StatusOr<std::vector<uint32_t>> DecodeChunks(std::string_view list, const Sealed& sealed);

// The beginning of a side file: magic and spec record.
std::string EncodeSideStart(const UploadSpec& spec);
// What changed since `durable_before`.
std::string EncodeFlushRecord(const ChunkList& chunks, uint64_t durable_before);
std::string EncodeSealRecord(const Sealed& sealed);

struct SideState {
  UploadSpec spec;
  ChunkList durable;             // length and checksums of the last flush record
  std::optional<Sealed> sealed;  // of the seal record
  uint64_t valid_bytes = 0;      // end of the last valid record
};
// DATA_LOSS if there is no valid spec record. A torn tail is not an error.
absl::StatusOr<SideState> DecodeSide(std::string_view file);

}  // namespace sluice::blob
