// DurableLog on its writer executor: requests in, one synced write out.
#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "log/durable_log.h"

namespace sluice::log {

void DurableLog::WriteBatch() {
  absl::Status failed;
  for (Op& op : std::exchange(waiting_, {})) finished_.push_back(std::move(op));
  {
    std::lock_guard lock(mutex_);
    failed = stats_.failed;
    for (Op& op : queue_) work_.push_back(std::move(op));
    queue_.clear();
    for (Op& op : hard_state_queue_) {
      TakeHardState(op);
      written_.try_emplace(op.group);
      finished_.push_back(std::move(op));
    }
    hard_state_queue_.clear();
  }
  const bool has_room = failed.ok() && FillBatch();
  if (failed.ok() && (begun_ || !finished_.empty())) {
    failed = StoreHardStates();
    if (failed.ok() && begun_) failed = WriteEncoded();
    if (failed.ok()) failed = FinishBatch();
  }
  if (!failed.ok()) {
    FailAll(failed);
    return;
  }
  std::lock_guard lock(mutex_);
  const bool more =
      !hard_state_queue_.empty() || (has_room ? !work_.empty() || !queue_.empty() : !ready_.empty());
  writer_posted_ = more;  // when there is no segment, the next one wakes the writer
  if (more) writer_->Post([this] { WriteBatch(); });
  if (!waiting_.empty()) WakeWriterLater();
}

void DurableLog::TakeHardState(Op& op) {
  if (!op.hard_state) return;
  uint64_t& taken = hard_states_taken_[op.group];
  if (op.hard_state_number > taken) hard_states_[op.group] = *op.hard_state;
  taken = std::max(taken, op.hard_state_number);
  op.hard_state.reset();
}

// Takes requests into the batch until it is full. False: the next one needs a segment and none is ready.
bool DurableLog::FillBatch() {
  begun_ = false;
  while (!work_.empty()) {
    Op& op = work_.front();
    if (!AddOp(op)) return begun_ || !finished_.empty();
    const bool is_drop = op.kind == RecordKind::kDrop;
    finished_.push_back(std::move(op));
    work_.pop_front();
    if (is_drop) return true;  // so that a hard state of the group's next life is stored after it
  }
  return true;
}

bool DurableLog::AddOp(Op& op) {
  TakeHardState(op);
  RecordHeader header;
  header.kind = op.kind;
  header.group = op.group;
  header.at = op.at;
  uint64_t offset = 0;
  if (op.kind == RecordKind::kState) {
    // What is put back counts once it has landed: in the next batch.
    if (std::ranges::any_of(landings_, [&](const Landing& l) { return l.mends && l.group == op.group; }))
      return false;
    Written& written = written_[op.group];
    Written now = written;
    if (!op.promised) {
      now.promise.reset();
      now.beyond.reset();
    } else if (now.promise) {
      now.promise->last = std::min(now.promise->last, *op.promised);
      now.Heal();
    }
    header.at = now.compacted;
    if (!AddRecord(header, now.Mark(), &offset)) return false;
    written = now;
    return true;
  }
  if (op.kind == RecordKind::kCompact || op.kind == RecordKind::kRestart || op.kind == RecordKind::kDrop) {
    if (!AddRecord(header, Bytes(), &offset)) return false;
    if (op.kind == RecordKind::kDrop) {
      written_.erase(op.group);
      return true;
    }
    Written& written = written_[op.group];
    written.compacted = op.at;
    if (op.kind == RecordKind::kRestart) written.beyond.reset();
    if (op.kind == RecordKind::kRestart || written.last.index <= op.at.index) written.last = op.at;
    written.Heal();
    return true;
  }
  for (; op.written < op.entries.size(); ++op.written) {
    const raft::Entry& entry = op.entries[op.written];
    header.entry_kind = entry.kind;
    header.at = entry.at;
    header.previous_term = op.previous_term;
    if (!AddRecord(header, entry.payload, &offset)) return false;
    const bool is_copy = op.kind == RecordKind::kCopy;
    landings_.push_back({.group = op.group,
                         .at = entry.at,
                         .bytes = static_cast<uint32_t>(entry.payload.size()),
                         .offset = offset,
                         .copied_from = is_copy ? op.old_places[op.written] : EntryPlace{},
                         .mends = op.mends ? std::optional(entry) : std::nullopt,
                         .overwritten = op.overwritten});
    op.previous_term = entry.at.term;
    if (is_copy) continue;
    Written& written = written_[op.group];
    written.last = entry.at;
    written.beyond.reset();
    written.Heal();
  }
  written_.try_emplace(op.group);
  return true;
}

bool DurableLog::AddRecord(const RecordHeader& header, const Bytes& payload, uint64_t* offset) {
  if (!begun_ && !BeginBatch(payload.size())) return false;
  if (!encoder_.Fits(payload.size())) return false;
  *offset = encoder_.Add(header, payload);
  return true;
}

// A batch with room for this record at least, in the next segment if the current one has not.
bool DurableLog::BeginBatch(uint64_t first_payload_bytes) {
  const uint64_t needed = BatchEncoder::BlocksFor(first_payload_bytes, options_.block_bytes);
  uint64_t blocks = std::max<uint64_t>(options_.batch_bytes_max / options_.block_bytes, needed);
  uint64_t left = active_.file == nullptr ? 0 : segment_blocks_ + 1 - active_.next_block;
  BatchEncoder::Place place;
  if (left < needed) {
    std::lock_guard lock(mutex_);
    WantSegments();
    if (ready_.empty()) return false;
    active_ = {ready_.front().generation, ready_.front().file, 0};
    ready_.pop_front();
    segments_[active_.generation] = {.file = active_.file,
                                     .path = dir_ + "/" + SegmentName(active_.generation),
                                     .file_bytes = options_.segment_bytes,
                                     .block_bytes = options_.block_bytes};
    WantSegments();
  }
  if (active_.next_block == 0) {
    place.segment_header = SegmentHeader{.block_bytes = static_cast<uint32_t>(options_.block_bytes),
                                         .segment_bytes = options_.segment_bytes,
                                         .generation = active_.generation,
                                         .first_sequence = next_sequence_};
    blocks += StateMarkBlocks();
    left = segment_blocks_;
  }
  place.generation = active_.generation;
  place.sequence = next_sequence_;
  place.blocks_max = std::min(blocks, left);
  encoder_.Begin(place);
  begun_ = true;
  if (place.segment_header) AddStateMarks();
  return true;
}

uint64_t DurableLog::StateMarkBlocks() const {
  const uint64_t in_a_block =
      (options_.block_bytes - BlockBodyOffset(options_.block_bytes)) / (kRecordHeaderBytes + kStateMarkBytes);
  return written_.size() / in_a_block + 1;
}

void DurableLog::AddStateMarks() {
  for (const auto& [group, written] : written_) {
    RecordHeader header;
    header.kind = RecordKind::kState;
    header.group = group;
    header.at = written.compacted;
    encoder_.Add(header, written.Mark());
  }
}

// A full disk is no broken one: a first hard state, whose file is still to be made, stays and waits (F-12).
absl::Status DurableLog::StoreHardStates() {
  for (auto next = hard_states_.begin(); next != hard_states_.end();) {
    const auto& [group, state] = *next;
    std::unique_ptr<HardStateFile>& file = hard_state_files_[group];
    if (file == nullptr) {
      file = std::make_unique<HardStateFile>(files_, dir_ + "/" + HardStateName(group), group,
                                             hard_state_sequences_[group]);
    }
    const absl::Status stored = file->Store(state, next_sequence_);
    if (absl::IsResourceExhausted(stored)) {
      ++next;
      continue;
    }
    RETURN_IF_ERROR(stored);
    next = hard_states_.erase(next);
  }
  return absl::OkStatus();
}

absl::Status DurableLog::WriteEncoded() {
  const uint64_t offset = active_.next_block * options_.block_bytes;
  const uint64_t data_blocks = encoder_.data_blocks();
  const Bytes data = encoder_.Finish();
#ifdef SLUICE_BREAK_SKIP_SYNC
  RETURN_IF_ERROR(active_.file->WriteAt(offset, data));
#else
  RETURN_IF_ERROR(active_.file->WriteDurably(offset, data));
#endif
  for (Landing& landing : landings_) landing.offset += offset;
  active_.next_block += data.size() / options_.block_bytes;
  next_sequence_ += data_blocks;
  return offset == 0 ? StoreExtent() : absl::OkStatus();
}

// A segment is in use: somebody else than the segment itself says so, before what is in it is acknowledged. Else
// its loss would look like a log that ends before it (F-18). A full disk leaves the older word (F-12).
absl::Status DurableLog::StoreExtent() {
  const absl::Status stored = extent_.Store({}, next_sequence_);
  return absl::IsResourceExhausted(stored) ? absl::OkStatus() : stored;
}

// The batch is durable: say so to memory, then to who asked.
absl::Status DurableLog::FinishBatch() {
  const auto waits = std::stable_partition(finished_.begin(), finished_.end(), [&](const Op& op) {
    return op.hard_state_number == 0 || !hard_states_.contains(op.group);
  });
  std::move(waits, finished_.end(), std::back_inserter(waiting_));
  finished_.erase(waits, finished_.end());
  const bool told = std::exchange(told_of_waiting_, !waiting_.empty());
  if (!told && !waiting_.empty()) {
    LogError("log {}: no space for the first hard state of group {}", dir_, waiting_[0].group.ToString());
  }
  for (const Op& op : finished_) {
    if (op.kind == RecordKind::kDrop) RETURN_IF_ERROR(RemoveHardState(op.group));
  }
  {
    std::lock_guard lock(mutex_);
    if (begun_) {
      ++stats_.batches;
      active_generation_ = active_.generation;
      active_blocks_left_ = segment_blocks_ + 1 - active_.next_block;
    }
    for (const Landing& landing : landings_) Land(landing);
    for (const Op& op : finished_) {
      for (const Freed& freed : op.frees) Release(freed);
      queued_bytes_ -= op.cost;
      if (op.kind == RecordKind::kCopy && !op.mends) --copying_;
      if (op.kind == RecordKind::kDrop && --drops_[op.group] == 0) drops_.erase(op.group);
    }
    Settle();
  }
  landings_.clear();
  ReplyAll(std::exchange(finished_, {}), absl::OkStatus());
  return absl::OkStatus();
}

absl::Status DurableLog::RemoveHardState(const GroupId& group) {
  hard_state_files_.erase(group);
  hard_state_sequences_.erase(group);
  hard_states_taken_.erase(group);
  hard_states_.erase(group);
  const absl::Status removed = files_.Remove(dir_ + "/" + HardStateName(group));
  if (removed.code() == absl::StatusCode::kNotFound) return absl::OkStatus();
  RETURN_IF_ERROR(removed);
  return files_.SyncDir(dir_);
}

void DurableLog::Land(const Landing& landing) {
  const EntryPlace place{active_.generation, static_cast<uint32_t>(landing.offset)};
  SegmentUse& use = segments_[active_.generation];
  const auto found = groups_.find(landing.group);
  if (landing.mends) return LandMended(landing);
  if (landing.copied_from.generation == 0) ++stats_.entries;
  if (found == groups_.end()) return;
  if (landing.copied_from.generation == 0) {
    if (!found->second->Land(landing.at, place)) return;
    cache_.Add(landing.group, landing.at, landing.bytes, groups_);
  } else {
    Slot* slot = found->second->Find(landing.at.index);
    if (slot == nullptr || slot->term != landing.at.term || slot->place != landing.copied_from) return;
    slot->place = place;
    slot->copied = true;
    Release({.generation = landing.copied_from.generation, .entries = 1, .bytes = landing.bytes});
  }
  ++use.entries;
  use.bytes += landing.bytes;
}

// A lost entry is back, unless something has been asked for since that overwrites it: memory is that far
// already, and on disk that lies behind it.
void DurableLog::LandMended(const Landing& landing) {
  const auto found = groups_.find(landing.group);
  const EntryPlace place{active_.generation, static_cast<uint32_t>(landing.offset)};
  const bool stands = found != groups_.end() && !drops_.contains(landing.group) &&
                      found->second->overwritten() == landing.overwritten;
  if (!stands || !found->second->Mend(*landing.mends, place)) return;
  SegmentUse& use = segments_[active_.generation];
  ++use.entries;
  use.bytes += landing.bytes;
  Written& written = written_[landing.group];
  written.last = found->second->MendedLast();
  if (!written.beyond || *written.beyond <= written.last) written.beyond.reset();
  written.Heal();
}

void DurableLog::Release(const Freed& freed) {
  const auto found = segments_.find(freed.generation);
  SLUICE_CHECK(found != segments_.end() && found->second.entries >= freed.entries)
      << "segment " << freed.generation << " has fewer than " << freed.entries << " entries";
  found->second.entries -= freed.entries;
  found->second.bytes -= freed.bytes;
}

// An idle group must not pin old segments, and many short lives of the program must not leave a segment each: least of
// all on a full disk, where the next life would have none to begin in.
bool DurableLog::WorthCopying(const SegmentUse& oldest) const {
  const auto counted = [](const SegmentUse& use) { return use.bytes + use.entries * kRecordHeaderBytes; };
  // As Admit counts: twice.
  const bool fits = 2 * (queued_bytes_ + counted(oldest)) <= active_blocks_left_ * options_.block_bytes;
  if (no_space_ && ready_.empty() && fits) return true;
  if (segments_.size() >= 3 && counted(oldest) <= options_.segment_bytes / 8) return true;
  uint64_t all = 0;
  for (const auto& [generation, use] : segments_) all += counted(use);
  return segments_.size() >= 5 && all <= (segments_.size() - 1) * options_.segment_bytes / 4;
}

// Gives emptied segments back, the oldest first; empties the oldest if that is worth it.
void DurableLog::Settle() {
  while (!segments_.empty() && segments_.begin()->first < active_generation_) {
    const auto oldest = segments_.begin();
    if (oldest->second.entries > 0) {
      if (!WorthCopying(oldest->second) || copying_ > 0 || not_copied_ == oldest->first) return;
      copying_ = 1;
      PostIo([this, generation = oldest->first] { CopyForward(generation); });
      return;
    }
    PostIo([this, generation = oldest->first, segment = std::move(oldest->second)] {
      RecycleNow(generation, segment);
    });
    segments_.erase(oldest);
    WantSegments();
  }
}

void DurableLog::FailAll(const absl::Status& status) {
  std::vector<Op> all = std::exchange(finished_, {});
  for (Op& op : std::exchange(waiting_, {})) all.push_back(std::move(op));
  for (Op& op : work_) all.push_back(std::move(op));
  work_.clear();
  {
    std::lock_guard lock(mutex_);
    if (stats_.failed.ok()) LogError("log {} failed: {}", dir_, Message(status));
    stats_.failed.Update(status);
    for (Op& op : queue_) all.push_back(std::move(op));
    queue_.clear();
    for (Op& op : hard_state_queue_) all.push_back(std::move(op));
    hard_state_queue_.clear();
    queued_bytes_ = 0;
    writer_posted_ = false;
  }
  ReplyAll(std::move(all), status);
}

// One post for each executor.
void DurableLog::ReplyAll(std::vector<Op> ops, const absl::Status& status) {
  std::vector<std::pair<env::Executor*, std::vector<Done>>> replies;
  for (Op& op : ops) {
    if (op.reply_on == nullptr || !op.done) continue;
    auto found =
        std::find_if(replies.begin(), replies.end(), [&](auto& r) { return r.first == op.reply_on; });
    if (found == replies.end()) found = replies.insert(replies.end(), {op.reply_on, std::vector<Done>()});
    found->second.push_back(std::move(op.done));
  }
  for (auto& [executor, dones] : replies) {
    executor->Post([all = std::move(dones), status]() mutable {
      for (Done& done : all) done(status);
    });
  }
}

// The last task: everything that was asked for is written, or answered.
void DurableLog::Drain() {
  for (;;) {
    WriteBatch();
    bool has_segment = true;
    {
      std::lock_guard lock(mutex_);
      if (work_.empty() && queue_.empty() && hard_state_queue_.empty()) break;
      has_segment = !ready_.empty() || begun_;
    }
    if (has_segment) continue;
    absl::StatusOr<bool> prepared = false;  // the I/O executor is gone, its pool is ours
    while (prepared.ok() && !*prepared) prepared = pool_.PrepareStep();
    if (!prepared.ok()) {
      FailAll(prepared.status());
      return;
    }
    std::lock_guard lock(mutex_);
    ready_.push_back(pool_.TakePrepared());
  }
  ReplyAll(std::exchange(waiting_, {}), absl::ResourceExhaustedError("no room for a hard state"));
}

}  // namespace sluice::log
