// The disk of one simulated machine: env::Files in memory that knows what a power loss may take.
//
//   sim::SimFiles disk;
//   {
//     Log log(disk, ...);
//     log.Append(...);
//     disk.Halt();      // from Halt on, every call fails and changes nothing
//   }
//   disk.Crash(seed);   // power is back: unsynced data and names kept, cut or lost
//   { Log log(disk, ...); EXPECT_THAT(log, HoldsAllThatWasSynced()); }
//
//   for (uint64_t n = 1; n <= total; ++n) disk.HaltAt(n);   // sweep: power fails in the nth mutating call
//
// A write is unsynced until its file's Sync (or its WriteDurably) returns; a creation, rename or removal
// until the folder's SyncDir (MakeDirs syncs its own). A file's Sync does not make its name durable. A rename
// within one folder is atomic; between two folders see CrashPolicy. Calls take no virtual time. Threading:
// thread-safe, so that code with real threads can be tested too; reproducible from one seed when the calls
// come in one order. Ownership: files and locks may outlive the SimFiles; after Halt, KillProcess or Crash
// they are inert: every call on them fails with INTERNAL. Errors are those that env/files.h names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "env/files.h"
#include "sim/volatile_content.h"

namespace sluice::sim {

class SimFiles final : public env::Files {
 public:
  // What was called since the disk was made, to count syncs in tests.
  struct Counts {
    uint64_t writes = 0;          // WriteAt
    uint64_t durable_writes = 0;  // WriteDurably
    uint64_t syncs = 0;           // File::Sync
    uint64_t folder_syncs = 0;    // SyncDir
    uint64_t device_errors = 0;   // planned failures of syncs and writes that have come
  };

  // What a disk holds on which SetCapacity was never called.
  static constexpr uint64_t kUnlimitedBytes = uint64_t{1} << 40;

  SimFiles();
  ~SimFiles() override;

  // --- The end of a process or of power ---

  // Every call from now on fails and changes nothing, until Crash or KillProcess. Destroy the dead process's
  // objects in between, so that their destructors do nothing to the disk.
  void Halt();
  // Power fails inside the `operation`th mutating call (see operations()): that call is in flight when it
  // does, like an unsynced one, and fails; then as Halt. 0 takes it back.
  void HaltAt(uint64_t operation);
  bool halted() const;
  // Mutating calls so far: creating Open, WriteAt, WriteDurably, Sync, Truncate, Remove, Rename, each folder
  // made by MakeDirs, SyncDir.
  uint64_t operations() const;
  // The process dies, the machine stays up: nothing is lost, open files become inert, locks are released.
  void KillProcess();
  // The power fails and comes back. The same seed, policy and history give the same disk.
  // Planned faults stay.
  void Crash(uint64_t seed, const CrashPolicy& policy = {});
  // Another disk in the state that Crash would have left here; this one goes on untouched.
  std::unique_ptr<SimFiles> CrashClone(uint64_t seed, const CrashPolicy& policy = {}) const;

  // --- Faults. `path_part` matches every path that contains it ---

  // The next `count` calls of Sync or WriteDurably on matching files, or SyncDir on matching folders, fail
  // with DATA_LOSS. As on Linux the pages count as clean afterwards:
  // later syncs succeed and do not save them (F-10).
  void FailNextSync(const std::string& path_part, uint64_t count = 1);
  // The next `count` WriteAt, WriteDurably or Truncate calls fail with DATA_LOSS and change nothing.
  void FailNextWrite(const std::string& path_part, uint64_t count = 1);
  // The next `count` calls of Open fail with RESOURCE_EXHAUSTED, as when no descriptor is left; and of SyncDir, which
  // opens the folder: "log/." stands for the folder alone.
  void FailNextOpen(const std::string& path_part, uint64_t count = 1);
  // Reads that touch the range fail with DATA_LOSS.
  void FailReads(const std::string& path_part, uint64_t offset, uint64_t count);
  // Syncs of every kind succeed and do nothing: a test that passes with this tests no sync.
  void LoseSyncs(bool lose);
  // Bytes that all files together may hold; a write beyond writes what fits
  // and fails with RESOURCE_EXHAUSTED.
  void SetCapacity(uint64_t bytes);
  // Ends all of the above.
  void ClearFaults();
  // Damages what the device holds. NOT_FOUND, OUT_OF_RANGE beyond the end.
  absl::Status FlipBit(const std::string& path, uint64_t offset, uint32_t bit = 0);
  absl::Status Overwrite(const std::string& path, uint64_t offset, std::string_view data);

  Counts counts() const;

  // --- env::Files ---
  absl::StatusOr<std::unique_ptr<env::File>> Open(const std::string& path,
                                                  const env::OpenOptions& options) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status MakeDirs(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<bool> Exists(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<env::FileLock>> LockFile(const std::string& path) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override;

  struct Disk;  // the state, shared with open files

 private:
  explicit SimFiles(std::shared_ptr<Disk> disk);
  std::shared_ptr<Disk> disk_;
};

}  // namespace sluice::sim
