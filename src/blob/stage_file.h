// The two files of one stage, written by one thread: data (with footer once sealed) and side file.
//
//   ASSIGN_OR_RETURN(auto stage, StageFile::Create(files, paths, spec));
//   RETURN_IF_ERROR(stage->Append(data));
//   RETURN_IF_ERROR(stage->Flush());          // data and checksums are durable; the folder is the caller's
//   RETURN_IF_ERROR(stage->Seal(sealed));
//
// Every call blocks; blob thread only, except data(), whose ReadAt may run beside anything. After
// RESOURCE_EXHAUSTED from Append the stage is as before the call. After any other error, of Flush and Seal
// too, it must not be used again (F-10): the caller sees to that. Format: docs/formats/blob.md.
#pragma once

#include <memory>
#include <string>

#include "blob/chunks.h"
#include "blob/format.h"
#include "env/files.h"

namespace sluice::blob {

struct StagePaths {
  std::string data;  // blobs/XX/ID.stage
  std::string side;  // stage/ID
};

class StageFile {
 public:
  // Makes both files, the spec written and nothing synced. What may have been there under these names is
  // overwritten. `run_bytes` as in env::OpenOptions, for the data.
  static absl::StatusOr<std::unique_ptr<StageFile>> Create(env::Files& files, const StagePaths& paths,
                                                           const UploadSpec& spec, size_t run_bytes);
  // Opens an unsealed stage again: cuts both files to what the side file proves, and checks the last, partial
  // chunk. DATA_LOSS if the data is shorter or differs.
  static absl::StatusOr<std::unique_ptr<StageFile>> Reopen(env::Files& files, const StagePaths& paths,
                                                           size_t run_bytes);

  // Writes `data` at the end: one pass of CRC32C, and one copy into a run or into the page cache.
  absl::Status Append(const Bytes& data);
  // Hints that everything written so far may go to the device.
  void StartWriteback();
  // Makes data and a flush record durable.
  absl::Status Flush();
  // Writes the footer, makes everything durable, then says so in the side file.
  absl::Status Seal(const UploadSpec& spec, const Sealed& sealed);

  const ChunkList& chunks() const { return chunks_; }
  uint64_t durable_length() const { return durable_length_; }
  uint64_t unwritten_back() const { return chunks_.length() - writeback_to_; }
  const std::shared_ptr<env::File>& data() const { return data_; }

 private:
  StageFile(std::shared_ptr<env::File> data, std::unique_ptr<env::File> side)
      : data_(std::move(data)), side_(std::move(side)) {}
  absl::Status Write(uint64_t offset, const Bytes& data);
  absl::Status AppendRecord(std::string record);

  // Shared with the hashing thread, which may still read after the stage is dropped.
  std::shared_ptr<env::File> data_;
  std::unique_ptr<env::File> side_;
  ChunkList chunks_;
  uint64_t side_bytes_ = 0;
  uint64_t durable_length_ = 0;
  uint64_t writeback_to_ = 0;
};

// What a side file proves. RESOURCE_EXHAUSTED if it is too large to be one.
absl::StatusOr<SideState> ReadSide(env::Files& files, const std::string& path);

}  // namespace sluice::blob
