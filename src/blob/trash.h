// Files that nobody needs any more: renamed away at once, freed in steps beside everything else.
//
//   Trash trash(files, executors, dir, {.before_freeing = sync_names, .in_use = is_read});
//   RETURN_IF_ERROR(trash.Recover(still_named));    // goes on with what an earlier life left
//   RETURN_IF_ERROR(trash.Take(path, id));          // takes as long as a rename
//
// Freeing gigabytes takes a file system seconds in which it syncs nothing else, so a file is cut from its end
// in steps, each a task of the `blob-trash` thread, and removed at last. What waits is a folder,
// so it outlives a crash. With entries_max files in it, and where the rename fails (a full disk may have no
// room for a name), Take removes the file itself. Threading: thread-safe; Take blocks for one file operation.
// Failure: a file that cannot be freed is left to the next start. Format: docs/formats/blob.md.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "base/ids.h"
#include "base/metrics.h"
#include "base/status.h"
#include "env/executor.h"
#include "env/files.h"

namespace sluice::blob {

class Trash {
 public:
  // The functions are called on the trash's thread.
  struct Options {
    // Makes it durable that the files have their names no more. RESOURCE_EXHAUSTED is tried again later.
    std::function<absl::Status()> before_freeing;
    // Whether the file that had this id may be open: it must not be cut under a reader.
    std::function<bool(const UploadId& id)> in_use;
    uint64_t step_bytes = 64u << 20;
    size_t entries_max = 65'536;
  };

  Trash(env::Files& files, env::Executors& executors, std::string dir, Options options);
  ~Trash();  // leaves the rest to the next start

  // Makes the folder, and frees what is in it. `still_named`: a crash gave the file its old name back, too.
  absl::Status Recover(const std::function<absl::StatusOr<bool>(const UploadId& id)>& still_named);
  // NOT_FOUND if there is no such file.
  absl::Status Take(const std::string& path, const UploadId& id);

 private:
  struct Entry {
    std::string name;
    UploadId id;
  };

  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WorkAfter(env::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Trash thread.
  void Work();
  // Frees up to a step of the first file; true if the file is gone, or cannot be freed now.
  bool Free(const Entry& entry);
  bool CutStep(const std::string& path);

  env::Files& files_;
  const std::string dir_;
  const Options options_;
  Gauge& entries_gauge_ = NewGauge("sluice_blob_trash_files", "Removed files whose space is not free yet");

  std::mutex mutex_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t durable_ = 0;  // trash thread: so many entries at the front have no other name any more

  std::unique_ptr<env::Executor> thread_;  // last: its tasks end before what they use
};

}  // namespace sluice::blob
