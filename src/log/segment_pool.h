// Prepares segments ahead of use and takes emptied ones back.
//
//   SegmentPool pool(files, dir, options, next_generation, spares);
//   ASSIGN_OR_RETURN(bool done, pool.PrepareStep());   // again and again until done; a step is at most 1 MiB
//   PreparedSegment segment = pool.TakePrepared();
//
// A prepared segment is written in full, has its name and generation, and both are durable. One thread at a
// time (the log's I/O executor). RESOURCE_EXHAUSTED from a step: nothing is left behind, try again later.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env/files.h"
#include "log/log.h"
#include "log/recovery.h"

namespace sluice::log {

struct PreparedSegment {
  uint64_t generation = 0;
  std::shared_ptr<env::File> file;  // shared by the writer and the readers of the segment
};

class SegmentPool {
 public:
  SegmentPool(env::Files& files, std::string dir, const LogOptions& options, uint64_t next_generation,
              std::vector<std::string> spares);

  // True: a segment is ready for TakePrepared.
  absl::StatusOr<bool> PrepareStep();
  PreparedSegment TakePrepared() { return std::move(*std::exchange(prepared_, std::nullopt)); }
  // The segment is not part of the log any more. The oldest one first, each before the next. RESOURCE_EXHAUSTED may
  // pass: then it is to be called again, with the same.
  absl::Status Recycle(const std::string& path, uint64_t generation, uint64_t bytes, bool clean);

 private:
  absl::StatusOr<bool> Fill();
  absl::Status UseAs(const std::string& from);
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }

  env::Files& files_;
  const std::string dir_;
  const LogOptions options_;
  uint64_t next_generation_;
  std::vector<std::string> spares_;  // names
  std::unique_ptr<env::File> filling_;
  uint64_t filled_ = 0;
  std::optional<PreparedSegment> prepared_;
};

}  // namespace sluice::log
