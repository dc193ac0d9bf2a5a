// The hard-state file of one group: two copies, each update written to both.
//
//   ASSIGN_OR_RETURN(LoadedHardState loaded, LoadHardState(files, dir, group));
//   HardStateFile file(files, dir, group, loaded.sequence);
//   RETURN_IF_ERROR(file.Store(state, log_sequence));    // durable when it returns
//
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
absl::StatusOr<LoadedHardState> LoadHardState(env::Files& files, const std::string& dir,
                                              const GroupId& group);

class HardStateFile {
 public:
  // `sequence` of what was loaded; the file is made by the first Store if it is absent.
  HardStateFile(env::Files& files, std::string dir, const GroupId& group, uint64_t sequence);
  absl::Status Store(const raft::HardState& state, uint64_t log_sequence);

 private:
  env::Files& files_;
  const std::string dir_;
  const GroupId group_;
  uint64_t sequence_;
  std::unique_ptr<env::File> file_;
};

}  // namespace sluice::log
