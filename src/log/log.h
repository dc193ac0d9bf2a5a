// The durable log of all groups on one device: entries in recycled segments,
// hard state in two alternating copies.
//
//   ASSIGN_OR_RETURN(auto log, Log::Open(files, executors, dir, identity, options));
//   GroupState state = log->TakeRecovered(group);
//   log->Append({group, hard_state, entries}, &shard, [](absl::Status done) { ... });
//
// One writer (an env::Executor of its own) takes what arrived while the previous batch was written and puts
// it into one synced write (group commit). `done` runs on the executor that the caller names. Threading:
// Append, Read and Compact may be called from any thread; results come back by Post. When a write or a sync
// fails the log is failed for good (F-10): every later Append is answered with the first error, and nothing
// is synced again. Format: docs/formats/log.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "env/executor.h"
#include "env/files.h"
#include "raft/types.h"

namespace sluice::log {

struct LogOptions {
  uint64_t segment_bytes = 32u << 20;    // every segment has this size, written in full before its first use
  uint64_t block_bytes = 4096;           // the device's atomic write size
  uint64_t batch_bytes_max = 4u << 20;   // one synced write
  uint64_t queue_bytes_max = 64u << 20;  // beyond it RESOURCE_EXHAUSTED, but for one batch alone
  uint64_t cache_bytes_max = 64u << 20;  // recent entries kept in memory for Read, all groups together
  uint32_t spare_segments = 1;           // recycled segments kept ready
};

// The payload of one entry; Append refuses more.
inline uint64_t EntryBytesMax(const LogOptions& options) { return options.segment_bytes / 2; }

// Entries and hard state of one group that must become durable together, in this order: hard state, then
// truncation, then entries.
struct AppendBatch {
  GroupId group;
  std::optional<raft::HardState> hard_state;
  // If the first entry's index is not beyond the log's end, the log is truncated there.
  std::vector<raft::Entry> entries;
};

// What recovery found for a group.
struct GroupState {
  std::optional<raft::HardState> hard_state;  // nullopt: none was ever written
  bool hard_state_lost = false;               // both copies are invalid (F-08): the server must not vote
  // The log starts after this entry: what Compact() was last told.
  TermIndex compacted{Term{0}, kNoIndex};
  // Term, kind and size of each entry from compacted.index + 1 on; payload of configurations.
  struct Info {
    Term term;
    raft::EntryKind kind;
    uint64_t bytes;
    Bytes configuration;
  };
  std::vector<Info> entries;
  // What lies behind the first damaged one, which is the first of these.
  struct Beyond {
    Info info;  // term 0: not known
    bool intact = false;
  };
  std::vector<Beyond> beyond;
  // Damage that is not a torn tail (D-21): the last entry known to have been held; `entries` ends before the
  // first damaged one. Index INT64_MAX when the damaged blocks do not tell, of any entry up to the hard state's
  // term; without a hard state that tells, of any entry at all (raft::kEveryTerm).
  std::optional<TermIndex> promised_last;
  // True if the damage is the very end of the log (a group of one cuts it with a warning),
  // false if valid blocks follow.
  bool damage_at_end = false;
};

class Log {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<raft::Entry>>)>;

  // Opens or creates the log in `dir`; recovers. Blocks. DATA_LOSS names file and offset when a group of one
  // could not be cut safely by the rules above; FAILED_PRECONDITION for another format version.
  static absl::StatusOr<std::unique_ptr<Log>> Open(env::Files& files, env::Executors& executors,
                                                   const std::string& dir, LogOptions options);
  virtual ~Log() = default;  // finishes what was appended, then stops the writer

  // Groups found on open.
  virtual std::vector<GroupId> RecoveredGroups() const = 0;
  // The recovered state of a group, once; empty for a group that is new.
  virtual GroupState TakeRecovered(const GroupId& group) = 0;

  // Makes the batch durable, then posts `done` to `reply_on`.
  // Batches of one group become durable in call order.
  virtual void Append(AppendBatch batch, env::Executor* reply_on, Done done) = 0;
  // The same, but false when queue or disk have no room for the batch now (F-12): then nothing has changed,
  // batch and `done` are as they were, and the caller tries again. Keeps the order of what it holds back.
  virtual bool TryAppend(AppendBatch& batch, env::Executor* reply_on, Done& done) = 0;
  // Whether entries of so many payload bytes should be started now. RESOURCE_EXHAUSTED, while there is still
  // room for what a group has to write for itself; half of that room is for entries that free space.
  virtual absl::Status HasRoom(uint64_t bytes, bool frees_space = false) const = 0;
  // The disk has no room for another segment, which the next start needs at the latest: what need not be kept should
  // be compacted now.
  virtual bool ShortOfSpace() const = 0;
  // Entries [from, end), as many from the start as fit into `bytes_max` (at least one). Served from memory
  // when they are recent: then `done` still comes by Post. OUT_OF_RANGE: compacted.
  // DATA_LOSS: damaged on disk (F-15). Also of one that lies behind damage: there it ends at the next lost one.
  virtual void Read(const GroupId& group, Index from, Index end, uint64_t bytes_max, env::Executor* reply_on,
                    ReadDone done) = 0;
  // The same from memory only, at once; fewer entries (maybe none) if some are not there. Any thread.
  virtual std::vector<raft::Entry> ReadCached(const GroupId& group, Index from, Index end,
                                              uint64_t bytes_max) = 0;
  // Entries up to `upto` are no longer needed (their effects are durable elsewhere).
  // Frees segments in the background.
  virtual void Compact(const GroupId& group, TermIndex upto) = 0;
  // Drops the group's whole log and restarts it after `at` (a snapshot was installed, durably).
  // Ordered with Append.
  virtual void Restart(const GroupId& group, TermIndex at, env::Executor* reply_on, Done done) = 0;
  // Damage (GroupState::beyond). Puts back lost entries, as they were: consecutive, from the first lost one on;
  // they are durable when `done` comes. Nothing happens to what has been overwritten since.
  virtual void Mend(const GroupId& group, std::vector<raft::Entry> entries, env::Executor* reply_on,
                    Done done) = 0;
  // Takes the entries that follow the log's end and are whole again into the log, and tells them.
  virtual std::vector<GroupState::Info> TakeMended(const GroupId& group) = 0;
  // GroupState::promised_last goes up to `last` at most, which later recoveries then tell, too.
  virtual void LowerPromise(const GroupId& group, TermIndex last) = 0;
  // Gives up what is lost, and what lies behind it: the log ends where it ends, and has no promise.
  virtual void GiveUp(const GroupId& group) = 0;
  // Forgets the group.
  virtual void Drop(const GroupId& group) = 0;

  struct Stats {
    uint64_t segments = 0;
    uint64_t bytes_on_disk = 0;
    uint64_t torn_tails_cut = 0;  // F-01
    uint64_t batches = 0;         // synced writes
    uint64_t entries = 0;
    absl::Status failed;  // not ok: the log has failed (F-10)
  };
  virtual Stats stats() const = 0;
};

}  // namespace sluice::log
