#include "blob/sealed_file.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"
#include "env/aligned_memory.h"

namespace sluice::blob {
namespace {

constexpr uint64_t kReadPieceBytes = 1u << 20;

absl::Status AtPath(const absl::Status& status, const std::string& path) {
  return absl::Status(status.code(), fmt::format("{}: {}", path, Message(status)));
}

// Reads and verifies [begin, end): begin at a chunk boundary, end at one or at the blob's end.
absl::StatusOr<Bytes> ReadPiece(env::File& file, const std::string& path, const std::vector<uint32_t>& crcs,
                                uint64_t begin, uint64_t end) {
  const size_t size = end - begin;
  // Whole blocks of aligned memory, for files that are read past the page cache.
  env::AlignedMemory buffer = env::AllocateAligned(env::WholeBlocks(size));
  if (buffer == nullptr) return absl::ResourceExhaustedError(fmt::format("no memory to read {}", path));
  ASSIGN_OR_RETURN(const size_t got, file.ReadAt(begin, buffer.get(), size));
  if (got != size) return absl::DataLossError(fmt::format("{} ends at {}", path, begin + got));
  for (uint64_t at = begin; at < end; at += kChunkBytes) {
    const std::string_view chunk(buffer.get() + (at - begin), std::min(kChunkBytes, end - at));
    if (Crc32c(chunk) != crcs[at / kChunkBytes]) {
      return absl::DataLossError(fmt::format("{}: the chunk at {} does not match its checksum", path, at));
    }
  }
  const char* memory = buffer.get();
  return Bytes::Wrap(memory, size, [owner = std::move(buffer)] {});
}

}  // namespace

absl::StatusOr<Bytes> ReadVerified(env::File& file, const std::string& path, uint64_t length,
                                   const std::vector<uint32_t>& crcs, uint64_t offset, uint64_t count) {
  const uint64_t end = offset + count;
  Bytes out;
  uint64_t at = offset / kChunkBytes * kChunkBytes;
  while (at < end) {
    const uint64_t last_chunk_end = (end + kChunkBytes - 1) / kChunkBytes * kChunkBytes;
    const uint64_t piece_end = std::min({at + kReadPieceBytes, last_chunk_end, length});
    ASSIGN_OR_RETURN(Bytes piece, ReadPiece(file, path, crcs, at, piece_end));
    const uint64_t from = std::max(at, offset);
    out.Append(piece.Slice(from - at, std::min(piece_end, end) - from));
    at = piece_end;
  }
  return out;
}

absl::StatusOr<Footer> ReadFooter(env::File& file, const std::string& path) {
  ASSIGN_OR_RETURN(const uint64_t file_bytes, file.Size());
  std::string tail(std::min<uint64_t>(kTrailerBytes, file_bytes), '\0');
  ASSIGN_OR_RETURN(const size_t got, file.ReadAt(file_bytes - tail.size(), tail.data(), tail.size()));
  tail.resize(got);
  auto footer = DecodeTrailer(tail, file_bytes);
  if (!footer.ok()) return AtPath(footer.status(), path);
  return footer;
}

absl::StatusOr<std::unique_ptr<SealedFile>> SealedFile::Open(env::Files& files, const std::string& path,
                                                             uint64_t direct_read_bytes) {
  ASSIGN_OR_RETURN(auto file, files.Open(path, {.read_only = true, .for_client = true}));
  ASSIGN_OR_RETURN(Footer footer, ReadFooter(*file, path));
  if (direct_read_bytes > 0 && footer.sealed.length >= direct_read_bytes) {
    ASSIGN_OR_RETURN(file, files.Open(path, {.direct = true, .read_only = true, .for_client = true}));
  }
  std::string list(4 * ChunkCount(footer.sealed.length), '\0');
  ASSIGN_OR_RETURN(const size_t got, file->ReadAt(footer.sealed.length, list.data(), list.size()));
  list.resize(got);
  auto crcs = DecodeChunks(list, footer.sealed);
  if (!crcs.ok()) return AtPath(crcs.status(), path);
  return std::unique_ptr<SealedFile>(
      new SealedFile(path, std::move(file), std::move(footer), std::move(crcs).value()));
}

absl::StatusOr<Bytes> SealedFile::Read(uint64_t offset, uint64_t count) {
  if (offset > length()) {
    return absl::OutOfRangeError(fmt::format("read at {} of {} bytes", offset, length()));
  }
  count = std::min(count, length() - offset);
  if (count == 0) return Bytes();
  return ReadVerified(*file_, path_, length(), crcs_, offset, count);
}

}  // namespace sluice::blob
