// The hard-state file of one group: two copies, each update written to both.
//
//   const std::string path = dir + "/" + HardStateName(group);
//   ASSIGN_OR_RETURN(LoadedHardState loaded, LoadHardState(files, path, group));
//   HardStateFile file(files, path, group, loaded.newest->sequence);
//   RETURN_IF_ERROR(file.Store(state, log_sequence));    // durable when it returns
//
// The log's own file of this kind, kExtentName, is of the group of zeros and holds no state: only how far the log goes.
// Page: docs/formats/log.md. Blocks; one thread. After a failed Store the caller must not go on (F-10).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "env/files.h"
#include "log/format.h"

namespace sluice::log {

struct LoadedHardState {
  std::optional<HardStateBlock> newest;
  bool exists = false;
  bool healthy = false;  // both copies are valid and the same; else Store once before depending on it
};
// Reads only. Both copies invalid: exists without newest (F-08).
absl::StatusOr<LoadedHardState> LoadHardState(env::Files& files, const std::string& path,
                                              const GroupId& group);

class HardStateFile {
 public:
  // `sequence` of what was loaded; the file is made by the first Store if it is absent.
  HardStateFile(env::Files& files, std::string path, const GroupId& group, uint64_t sequence);
  absl::Status Store(const raft::HardState& state, uint64_t log_sequence);

 private:
  env::Files& files_;
  const std::string path_;
  const GroupId group_;
  uint64_t sequence_;
  std::unique_ptr<env::File> file_;
};

}  // namespace sluice::log
