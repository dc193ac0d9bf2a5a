#include "log/durable_log.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace sluice::log {
namespace {

constexpr uint64_t kOpCost = 256;    // beside its entries
constexpr uint64_t kEntryCost = 64;  // beside its payload
// Part of a segment that new work leaves free when the disk is full.
constexpr uint64_t kReserveShare = 8;

GroupState StateOf(const RecoveredGroup& recovered) {
  GroupState state;
  if (recovered.hard_state.newest) state.hard_state = recovered.hard_state.newest->state;
  state.hard_state_lost = recovered.hard_state.exists && !recovered.hard_state.newest;
  state.compacted = recovered.log.compacted;
  for (const ReplayedEntry& entry : recovered.log.entries) {
    state.entries.push_back(
        {.term = entry.term, .kind = entry.kind, .bytes = entry.bytes, .configuration = entry.configuration});
  }
  for (const ReplayedEntry& entry : recovered.log.beyond) {
    state.beyond.push_back(
        {{.term = entry.term, .kind = entry.kind, .bytes = entry.bytes, .configuration = entry.configuration},
         entry.condition == ReplayedEntry::Condition::kIntact});
  }
  if (recovered.log.promise) {
    state.promised_last = recovered.log.promise->last;
    state.damage_at_end = recovered.log.promise->at_end;
  }
  return state;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> Log::Open(env::Files& files, env::Executors& executors,
                                               const std::string& dir, LogOptions options) {
  RETURN_IF_ERROR(CheckSizes(options.segment_bytes, options.block_bytes));
  RETURN_IF_ERROR(files.MakeDirs(dir));
  ASSIGN_OR_RETURN(Recovered recovered, Recover(files, dir, options));
  for (const std::string& line : recovered.damage) LogError("log damage: {}", line);
  auto log = std::make_unique<DurableLog>(files, executors, dir, options, recovered);
  RETURN_IF_ERROR(log->Tidy(recovered));
  log->Start();
  return log;
}

DurableLog::DurableLog(env::Files& files, env::Executors& executors, std::string dir, LogOptions options,
                       Recovered recovered)
    : files_(files),
      dir_(std::move(dir)),
      options_(options),
      segment_blocks_(options.segment_bytes / options.block_bytes - 1),
      cache_(options.cache_bytes_max),
      encoder_(options.block_bytes),
      next_sequence_(recovered.next_sequence),
      extent_(files, fmt::format("{}/{}", dir_, kExtentName), {}, recovered.extent_sequence),
      pool_(files, dir_, options, recovered.next_generation, recovered.spares),
      io_owner_(executors.NewExecutor("log-io")),
      writer_owner_(executors.NewExecutor("log-write")),
      io_(io_owner_.get()),
      writer_(writer_owner_.get()) {
  std::lock_guard lock(mutex_);
  for (const RecoveredSegment& segment : recovered.segments) {
    segments_[segment.generation] = {.file = nullptr,
                                     .path = segment.path,
                                     .file_bytes = segment.bytes,
                                     .block_bytes = segment.block_bytes,
                                     .clean = segment.clean};
  }
  for (const auto& [group, state] : recovered.groups) AdoptGroup(group, state);
  stats_.torn_tails_cut = recovered.torn_tails_cut;
}

void DurableLog::AdoptGroup(const GroupId& group,
                            const RecoveredGroup& recovered) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  auto memory = std::make_unique<GroupMemory>(recovered.log.compacted);
  for (const ReplayedEntry& entry : recovered.log.entries) {
    memory->AddRecovered({.term = entry.term,
                          .place = {entry.place.generation, static_cast<uint32_t>(entry.place.offset)},
                          .bytes = entry.bytes,
                          .kind = entry.kind,
                          .cached = false,
                          .copied = entry.copied,
                          .payload = {}});
    SegmentUse& use = segments_[entry.place.generation];
    ++use.entries;
    use.bytes += entry.bytes;
  }
  for (const ReplayedEntry& entry : recovered.log.beyond) {
    const bool intact = entry.condition == ReplayedEntry::Condition::kIntact;
    EntryPlace place;
    if (intact) place = {entry.place.generation, static_cast<uint32_t>(entry.place.offset)};
    memory->AddBeyond({.term = entry.term,
                       .place = place,
                       .bytes = entry.bytes,
                       .kind = entry.kind,
                       .cached = false,
                       .copied = true,
                       .payload = intact ? entry.configuration : Bytes()});
    if (!intact) continue;
    SegmentUse& use = segments_[place.generation];
    ++use.entries;
    use.bytes += entry.bytes;
  }
  Written& written = written_[group];
  written = {
      .compacted = recovered.log.compacted, .last = recovered.log.last(), .promise = recovered.log.promise};
  if (!recovered.log.beyond.empty()) {
    const auto lost = static_cast<int64_t>(recovered.log.beyond.size());
    written.beyond = {recovered.log.beyond.back().term, written.last.index + lost};
  }
  if (recovered.hard_state.exists) {
    hard_state_sequences_[group] = recovered.hard_state.newest ? recovered.hard_state.newest->sequence : 0;
  }
  groups_[group] = std::move(memory);
  recovered_[group] = StateOf(recovered);
}

absl::Status DurableLog::Tidy(const Recovered& recovered) {
  for (const std::string& name : recovered.leftovers) RETURN_IF_ERROR(files_.Remove(dir_ + "/" + name));
  if (!recovered.leftovers.empty()) RETURN_IF_ERROR(files_.SyncDir(dir_));
  for (const auto& [group, state] : recovered.groups) {
    const LoadedHardState& hard = state.hard_state;
    if (!hard.newest || hard.healthy) continue;
    HardStateFile file(files_, dir_ + "/" + HardStateName(group), group, hard.newest->sequence);
    RETURN_IF_ERROR(file.Store(hard.newest->state, hard.newest->log_sequence));
    ++hard_state_sequences_[group];
  }
  std::lock_guard lock(mutex_);
  for (auto& [generation, segment] : segments_) {
    ASSIGN_OR_RETURN(segment.file, files_.Open(segment.path, {.read_only = true}));
  }
  return absl::OkStatus();
}

void DurableLog::Start() {
  std::lock_guard lock(mutex_);
  WantSegments();
}

DurableLog::~DurableLog() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  io_owner_.reset();
  writer_->Post([this] { Drain(); });
  writer_owner_.reset();
}

std::vector<GroupId> DurableLog::RecoveredGroups() const {
  std::lock_guard lock(mutex_);
  std::vector<GroupId> groups;
  for (const auto& [group, state] : recovered_) groups.push_back(group);
  return groups;
}

GroupState DurableLog::TakeRecovered(const GroupId& group) {
  std::lock_guard lock(mutex_);
  const auto found = recovered_.find(group);
  if (found == recovered_.end()) return {};
  GroupState state = std::move(found->second);
  recovered_.erase(found);
  return state;
}

void DurableLog::Reply(env::Executor* reply_on, Done done, absl::Status status) {
  if (reply_on == nullptr || !done) return;
  reply_on->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

GroupMemory& DurableLog::MemoryOf(const GroupId& group) {
  std::unique_ptr<GroupMemory>& memory = groups_[group];
  if (memory == nullptr) memory = std::make_unique<GroupMemory>(TermIndex{Term{0}, kNoIndex});
  return *memory;
}

absl::Status DurableLog::Admit(const AppendBatch& batch, uint64_t cost) {
  if (!stats_.failed.ok()) return stats_.failed;
  // An empty queue takes whatever comes: it would wait for ever otherwise. Hard states are few, and small.
  if (queued_bytes_ > 0 && !batch.entries.empty() && queued_bytes_ + cost > options_.queue_bytes_max) {
    return absl::ResourceExhaustedError(
        fmt::format("log {}: {} bytes wait to be written", dir_, queued_bytes_));
  }
  const auto found = groups_.find(batch.group);
  const bool is_new = found == groups_.end();
  // A state record for each group must fit into a quarter of a segment.
  const uint64_t mark_bytes = kRecordHeaderBytes + kStateMarkBytes;
  if (is_new && (groups_.size() + 1) * mark_bytes > options_.segment_bytes / 4) {
    return absl::ResourceExhaustedError(fmt::format("log {}: {} groups are its limit", dir_, groups_.size()));
  }
  for (const raft::Entry& entry : batch.entries) {
    if (entry.payload.size() <= EntryBytesMax(options_)) continue;
    return absl::InvalidArgumentError(fmt::format("log {}: an entry of {} bytes; half a segment is {}", dir_,
                                                  entry.payload.size(), EntryBytesMax(options_)));
  }
  if (no_space_ && (is_new || !batch.entries.empty())) {
    // Twice: batches are padded to blocks, and the end of a segment may stay empty.
    if (is_new || 2 * (queued_bytes_ + cost) > FreeBytes()) {
      return absl::ResourceExhaustedError(fmt::format("log {}: the disk is full", dir_));
    }
  }
  if (batch.entries.empty()) return absl::OkStatus();
  return is_new ? GroupMemory(TermIndex{Term{0}, kNoIndex}).Check(batch.entries)
                : found->second->Check(batch.entries);
}

// What the segments that are there still take.
uint64_t DurableLog::FreeBytes() const {
  return (active_blocks_left_ + ready_.size() * segment_blocks_ * 3 / 4) * options_.block_bytes;
}

absl::Status DurableLog::HasRoom(uint64_t bytes, bool frees_space) const {
  const uint64_t reserve = options_.segment_bytes / kReserveShare / (frees_space ? 2 : 1);
  std::lock_guard lock(mutex_);
  if (queued_bytes_ + bytes > options_.queue_bytes_max) {
    return absl::ResourceExhaustedError(
        fmt::format("log {}: {} bytes wait to be written", dir_, queued_bytes_));
  }
  if (no_space_ && 2 * (queued_bytes_ + bytes) + reserve > FreeBytes()) {
    return absl::ResourceExhaustedError(fmt::format("log {}: the disk is full", dir_));
  }
  return absl::OkStatus();
}

bool DurableLog::ShortOfSpace() const {
  std::lock_guard lock(mutex_);
  return no_space_;
}

void DurableLog::Append(AppendBatch batch, env::Executor* reply_on, Done done) {
  if (TryAppend(batch, reply_on, done)) return;
  Reply(reply_on, std::move(done), absl::ResourceExhaustedError(fmt::format("log {}: no room", dir_)));
}

bool DurableLog::TryAppend(AppendBatch& batch, env::Executor* reply_on, Done& done) {
  Op op;
  op.cost = kOpCost;
  for (const raft::Entry& entry : batch.entries) op.cost += entry.payload.size() + kEntryCost;
  std::unique_lock lock(mutex_);
  absl::Status admitted = Admit(batch, op.cost);
  if (absl::IsResourceExhausted(admitted)) return false;
  if (!admitted.ok()) {
    lock.unlock();
    Reply(reply_on, std::move(done), std::move(admitted));
    return true;
  }
  GroupMemory& memory = MemoryOf(batch.group);
  if (!batch.entries.empty()) {
    op.previous_term = memory.TermOf(batch.entries.front().at.index.Prev());
    memory.Append(batch.entries, op.frees);
  }
  op.group = batch.group;
  bool ahead = batch.hard_state && !drops_.contains(batch.group);
  if (batch.hard_state) op.hard_state_number = ++hard_state_number_;
  if (ahead && !batch.entries.empty()) {
    Op state;
    state.group = batch.group;
    state.hard_state = std::move(batch.hard_state);
    state.hard_state_number = op.hard_state_number;
    Enqueue(std::move(state), hard_state_queue_);
    batch.hard_state.reset();
    ahead = false;
  }
  op.hard_state = std::move(batch.hard_state);
  op.entries = std::move(batch.entries);
  op.reply_on = reply_on;
  op.done = std::move(done);
  Enqueue(std::move(op), ahead ? hard_state_queue_ : queue_);
  return true;
}

void DurableLog::Enqueue(Op op, std::vector<Op>& queue) {
  queued_bytes_ += op.cost;
  queue.push_back(std::move(op));
  if (std::exchange(writer_posted_, true)) return;
  writer_->Post([this] { WriteBatch(); });
}

std::vector<raft::Entry> DurableLog::ReadCached(const GroupId& group, Index from, Index end,
                                                uint64_t bytes_max) {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return {};
  return found->second->Cached(from, end, bytes_max);
}

void DurableLog::Compact(const GroupId& group, TermIndex upto) {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end() || upto.index <= found->second->compacted().index) return;
  Op op;
  op.kind = RecordKind::kCompact;
  op.group = group;
  op.at = upto;
  op.cost = kOpCost;
  found->second->Compact(upto, op.frees);
  if (stats_.failed.ok()) Enqueue(std::move(op), queue_);
}

void DurableLog::Restart(const GroupId& group, TermIndex at, env::Executor* reply_on, Done done) {
  std::unique_lock lock(mutex_);
  if (!stats_.failed.ok()) {
    absl::Status failed = stats_.failed;
    lock.unlock();
    Reply(reply_on, std::move(done), std::move(failed));
    return;
  }
  Op op;
  op.kind = RecordKind::kRestart;
  op.group = group;
  op.at = at;
  op.cost = kOpCost;
  op.reply_on = reply_on;
  op.done = std::move(done);
  MemoryOf(group).Restart(at, op.frees);
  Enqueue(std::move(op), queue_);
}

void DurableLog::Mend(const GroupId& group, std::vector<raft::Entry> entries, env::Executor* reply_on,
                      Done done) {
  Op op;
  op.kind = RecordKind::kCopy;
  op.mends = true;
  op.group = group;
  op.cost = kOpCost;
  op.reply_on = reply_on;
  std::unique_lock lock(mutex_);
  const auto found = groups_.find(group);
  absl::Status refused = stats_.failed;
  if (refused.ok() &&
      (found == groups_.end() || entries.empty() || entries.front().at.index != found->second->next())) {
    refused = absl::FailedPreconditionError(fmt::format("log {}: these entries are not the lost ones", dir_));
  }
  for (raft::Entry& entry : entries) {
    // It comes from another server, which may have larger segments, or be wrong.
    if (refused.ok() && entry.payload.size() > EntryBytesMax(options_)) {
      refused =
          absl::InvalidArgumentError(fmt::format("log {}: a lost entry of {} bytes; half a segment is {}",
                                                 dir_, entry.payload.size(), EntryBytesMax(options_)));
    }
    if (!refused.ok() || found->second->FindBeyond(entry.at.index) != nullptr) continue;
    op.cost += entry.payload.size() + kEntryCost;
    op.old_places.emplace_back();
    op.entries.push_back(std::move(entry));
  }
  if (refused.ok() && no_space_ && 2 * (queued_bytes_ + op.cost) > FreeBytes()) {
    refused = absl::ResourceExhaustedError(fmt::format("log {}: the disk is full", dir_));
  }
  if (!refused.ok()) {
    lock.unlock();
    return Reply(reply_on, std::move(done), std::move(refused));
  }
  op.overwritten = found->second->overwritten();
  op.done = std::move(done);
  Enqueue(std::move(op), queue_);
}

std::vector<GroupState::Info> DurableLog::TakeMended(const GroupId& group) {
  std::lock_guard lock(mutex_);
  std::vector<GroupState::Info> infos;
  const auto found = groups_.find(group);
  if (found == groups_.end()) return infos;
  for (Slot& slot : found->second->TakeMended()) {
    infos.push_back({.term = slot.term,
                     .kind = slot.kind,
                     .bytes = slot.bytes,
                     .configuration = std::move(slot.payload)});
  }
  return infos;
}

void DurableLog::LowerPromise(const GroupId& group, TermIndex last) {
  std::lock_guard lock(mutex_);
  if (!groups_.contains(group) || !stats_.failed.ok()) return;
  Op op;
  op.kind = RecordKind::kState;
  op.group = group;
  op.cost = kOpCost;
  op.promised = last;
  Enqueue(std::move(op), queue_);
}

void DurableLog::GiveUp(const GroupId& group) {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end() || !stats_.failed.ok()) return;
  Op op;
  op.kind = RecordKind::kState;
  op.group = group;
  op.cost = kOpCost;
  found->second->DropBeyond(op.frees);
  Enqueue(std::move(op), queue_);
}

void DurableLog::Drop(const GroupId& group) {
  std::lock_guard lock(mutex_);
  recovered_.erase(group);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return;
  Op op;
  op.kind = RecordKind::kDrop;
  op.group = group;
  op.cost = kOpCost;
  found->second->Restart({Term{0}, kNoIndex}, op.frees);
  groups_.erase(found);
  if (!stats_.failed.ok()) return;
  ++drops_[group];
  Enqueue(std::move(op), queue_);
}

Log::Stats DurableLog::stats() const {
  std::lock_guard lock(mutex_);
  Stats stats = stats_;
  stats.segments = segments_.size() + ready_.size();
  stats.bytes_on_disk = ready_.size() * options_.segment_bytes;
  for (const auto& [generation, segment] : segments_) stats.bytes_on_disk += segment.file_bytes;
  return stats;
}

}  // namespace sluice::log
