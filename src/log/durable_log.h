// The Log on files: a queue, a writer executor that turns it into synced batches, and an I/O executor for
// reads, preparing and recycling of segments.
//
//   auto log = Log::Open(...);   // makes one
//
// Threading: what callers touch is guarded by mutex_; the writer's own part belongs to the writer's tasks,
// the pool to the I/O executor's. Nothing blocks while it holds mutex_.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "log/batch_encoder.h"
#include "log/group_memory.h"
#include "log/hard_state.h"
#include "log/log.h"
#include "log/recovery.h"
#include "log/segment_pool.h"

namespace sluice::log {

class DurableLog final : public Log {
 public:
  DurableLog(env::Files& files, env::Executors& executors, std::string dir, LogOptions options,
             Recovered recovered);
  ~DurableLog() override;
  // The part of opening that writes: leftovers go, hard states get both copies back.
  absl::Status Tidy(const Recovered& recovered);
  void Start();

  std::vector<GroupId> RecoveredGroups() const override;
  GroupState TakeRecovered(const GroupId& group) override;
  void Append(AppendBatch batch, env::Executor* reply_on, Done done) override;
  bool TryAppend(AppendBatch& batch, env::Executor* reply_on, Done& done) override;
  absl::Status HasRoom(uint64_t bytes, bool frees_space) const override;
  bool ShortOfSpace() const override;
  void Read(const GroupId& group, Index from, Index end, uint64_t bytes_max, env::Executor* reply_on,
            ReadDone done) override;
  std::vector<raft::Entry> ReadCached(const GroupId& group, Index from, Index end,
                                      uint64_t bytes_max) override;
  void Compact(const GroupId& group, TermIndex upto) override;
  void Restart(const GroupId& group, TermIndex at, env::Executor* reply_on, Done done) override;
  void Mend(const GroupId& group, std::vector<raft::Entry> entries, env::Executor* reply_on,
            Done done) override;
  std::vector<GroupState::Info> TakeMended(const GroupId& group) override;
  void LowerPromise(const GroupId& group, TermIndex last) override;
  void GiveUp(const GroupId& group) override;
  void Drop(const GroupId& group) override;
  Stats stats() const override;

 private:
  // One request, in the order in which it became part of the log.
  struct Op {
    RecordKind kind = RecordKind::kEntry;  // of all its records
    GroupId group;
    std::optional<raft::HardState> hard_state;
    uint64_t hard_state_number = 0;  // an older one never replaces a newer one
    std::vector<raft::Entry> entries;
    std::vector<EntryPlace> old_places;  // of a copy: where the entries were
    bool mends = false;                  // a copy of entries that were lost
    uint64_t overwritten = 0;            // GroupMemory::overwritten() when it was asked for
    std::optional<TermIndex> promised;   // a state: the promise goes no further; without it, it is given up
    TermIndex at{Term{0}, kNoIndex};     // compact, restart
    Term previous_term;                  // of the entry before the next one to write
    size_t written = 0;                  // entries that an earlier or this batch has
    Frees frees;                         // what does not count any more once this is durable
    uint64_t cost = 0;
    env::Executor* reply_on = nullptr;
    Done done;
  };
  // What the log says about a group up to the end of the current batch: what a state record would say.
  struct Written {
    TermIndex compacted{Term{0}, kNoIndex};
    TermIndex last{Term{0}, kNoIndex};
    // The last of what lies behind damage, so that the next recovery finds it again.
    std::optional<TermIndex> beyond = std::nullopt;
    std::optional<Promise> promise;
    void Heal() {
      if (promise && last >= promise->last) promise.reset();
    }
    Bytes Mark() const { return Bytes::Take(EncodeStateMark({beyond.value_or(last), promise})); }
  };
  struct Landing {
    GroupId group;
    TermIndex at;
    uint32_t bytes;
    uint64_t offset;         // in the batch
    EntryPlace copied_from;  // generation 0: not a copy
    std::optional<raft::Entry> mends = std::nullopt;
    uint64_t overwritten = 0;
  };
  struct SegmentUse {
    std::shared_ptr<env::File> file;
    std::string path;
    uint64_t file_bytes = 0;
    uint64_t block_bytes = 0;
    bool clean = true;
    uint64_t entries = 0;  // that count
    uint64_t bytes = 0;
  };
  struct Active {
    uint64_t generation = 0;  // 0: none
    std::shared_ptr<env::File> file;
    uint64_t next_block = 0;
  };
  struct ReadRequest {
    GroupId group;
    Index from;
    Index end;
    uint64_t bytes_max;
    env::Executor* reply_on;
    ReadDone done;
  };

  // --- durable_log.cc: the callers' side ---
  void AdoptGroup(const GroupId& group, const RecoveredGroup& recovered);
  GroupMemory& MemoryOf(const GroupId& group);                  // under mutex_
  absl::Status Admit(const AppendBatch& batch, uint64_t cost);  // under mutex_
  uint64_t FreeBytes() const;                                   // under mutex_
  void Enqueue(Op op, std::vector<Op>& queue);                  // under mutex_
  static void Reply(env::Executor* reply_on, Done done, absl::Status status);

  // --- log_writer.cc: the writer executor ---
  void WriteBatch();
  void Drain();
  void TakeHardState(Op& op);
  bool FillBatch();
  bool AddOp(Op& op);
  bool AddRecord(const RecordHeader& header, const Bytes& payload, uint64_t* offset);
  bool BeginBatch(uint64_t first_payload_bytes);
  void AddStateMarks();
  uint64_t StateMarkBlocks() const;
  absl::Status StoreHardStates();
  absl::Status WriteEncoded();
  absl::Status StoreExtent();
  absl::Status FinishBatch();
  absl::Status RemoveHardState(const GroupId& group);
  void Land(const Landing& landing);                  // under mutex_
  void LandMended(const Landing& landing);            // under mutex_
  void Release(const Freed& freed);                   // under mutex_
  bool WorthCopying(const SegmentUse& oldest) const;  // under mutex_
  void Settle();                                      // under mutex_
  void FailAll(const absl::Status& status);
  static void ReplyAll(std::vector<Op> ops, const absl::Status& status);

  // --- log_io.cc: the I/O executor ---
  void PostIo(env::Task task);  // under mutex_
  void WantSegments();          // under mutex_
  void PrepareStep();
  void WakeWriterLater();  // under mutex_
  void ReadNow(ReadRequest request);
  absl::StatusOr<std::vector<raft::Entry>> ReadEntries(const ReadRequest& request);
  absl::StatusOr<Bytes> ReadRecord(const SegmentUse& segment, const GroupId& group, TermIndex at,
                                   const Slot& slot);
  void RecycleNow(uint64_t generation, const SegmentUse& segment);
  void RecycleStep();
  void CopyForward(uint64_t generation);
  bool EnqueueCopy(uint64_t generation, Op op);

  env::Files& files_;
  const std::string dir_;
  const LogOptions options_;
  const uint64_t segment_blocks_;  // of data

  mutable std::mutex mutex_;  // std: thread sanitizers see it, unlike the system's Abseil
  // Guarded by mutex_, up to the writer's own.
  EntryCache::Groups groups_;
  EntryCache cache_;
  std::map<GroupId, GroupState> recovered_;
  std::vector<Op> queue_;
  // Hard states alone wait for nothing that entries may wait for (F-13). Of a group that is being dropped they
  // stay in the queue, behind the drop.
  std::vector<Op> hard_state_queue_;
  std::map<GroupId, int> drops_;  // in the queue
  uint64_t hard_state_number_ = 0;
  uint64_t queued_bytes_ = 0;
  bool writer_posted_ = false;
  bool stopping_ = false;
  bool preparing_ = false;
  bool wake_posted_ = false;
  bool no_space_ = false;
  uint64_t copying_ = 0;     // copies in the queue, + 1 while they are read
  uint64_t not_copied_ = 0;  // a segment that could not be read
  uint64_t active_blocks_left_ = 0;
  uint64_t active_generation_ = 0;
  std::map<uint64_t, SegmentUse> segments_;  // of the log, by generation
  std::deque<PreparedSegment> ready_;
  Stats stats_;

  // The writer's own.
  std::deque<Op> work_;
  std::vector<Op> finished_;  // by the current batch
  std::vector<Op> waiting_;   // their hard states found no room
  bool told_of_waiting_ = false;
  std::map<GroupId, raft::HardState> hard_states_;  // to store before the current batch
  std::map<GroupId, uint64_t> hard_states_taken_;   // their numbers
  std::vector<Landing> landings_;
  BatchEncoder encoder_;
  bool begun_ = false;
  Active active_;
  uint64_t next_sequence_;
  HardStateFile extent_;
  std::map<GroupId, Written> written_;
  absl::flat_hash_map<GroupId, std::unique_ptr<HardStateFile>> hard_state_files_;
  absl::flat_hash_map<GroupId, uint64_t> hard_state_sequences_;  // recovered

  // The I/O executor's own.
  SegmentPool pool_;
  std::deque<std::pair<uint64_t, SegmentUse>>
      recycling_;  // generations that are not part of the log any more

  std::unique_ptr<env::Executor> io_owner_;
  std::unique_ptr<env::Executor> writer_owner_;
  env::Executor* const io_;  // valid while its tasks may run
  env::Executor* const writer_;
};

}  // namespace sluice::log
