// A file with a footer, read back chunk by chunk with its checksums.
//
//   ASSIGN_OR_RETURN(auto file, SealedFile::Open(files, path));
//   ASSIGN_OR_RETURN(Bytes data, file->Read(0, 256 << 10));
//
// Blocks; thread-safe, since it is immutable. It keeps its file open, also after a removal. DATA_LOSS names
// file and offset; no byte of a chunk that does not match its checksum is given out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blob/format.h"
#include "env/files.h"

namespace sluice::blob {

// Bytes [offset, offset + count) of `file`, which lie within `chunks`: whole chunks around the range are
// read, in pieces of up to 1 MiB, and verified; the result refers to the read buffers.
absl::StatusOr<Bytes> ReadVerified(env::File& file, const std::string& path, uint64_t length,
                                   const std::vector<uint32_t>& crcs, uint64_t offset, uint64_t count);

class SealedFile {
 public:
  // May also be a sealed stage. Files of at least `direct_read_bytes` are read past the page cache, 0: none.
  static absl::StatusOr<std::unique_ptr<SealedFile>> Open(env::Files& files, const std::string& path,
                                                          uint64_t direct_read_bytes = 0);

  const Footer& footer() const { return footer_; }
  uint64_t length() const { return footer_.sealed.length; }
  const std::string& path() const { return path_; }
  // Up to `count` bytes at `offset`; fewer only at the end. OUT_OF_RANGE beyond it.
  absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t count);

 private:
  SealedFile(std::string path, std::unique_ptr<env::File> file, Footer footer, std::vector<uint32_t> crcs)
      : path_(std::move(path)), file_(std::move(file)), footer_(std::move(footer)), crcs_(std::move(crcs)) {}

  const std::string path_;
  const std::unique_ptr<env::File> file_;
  const Footer footer_;
  const std::vector<uint32_t> crcs_;
};

// Only the trailer: what a file says that it is.
absl::StatusOr<Footer> ReadFooter(env::File& file, const std::string& path);

}  // namespace sluice::blob
