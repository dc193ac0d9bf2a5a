// DurableLog on its I/O executor: reads, and segments that come and go.
#include <algorithm>
#include <chrono>

#include "base/crc32c.h"
#include "base/log.h"
#include "log/durable_log.h"

namespace sluice::log {
namespace {

constexpr auto kSpaceRetry = std::chrono::milliseconds(200);
constexpr uint64_t kCopyBytesMax = 4u << 20;  // of one group, at a time

}  // namespace

void DurableLog::PostIo(env::Task task) {
  if (!stopping_) io_->Post(std::move(task));
}

void DurableLog::WantSegments() {
  if (preparing_ || stopping_ || ready_.size() >= std::max<size_t>(1, options_.spare_segments)) return;
  preparing_ = true;
  PostIo([this] { PrepareStep(); });
}

void DurableLog::PrepareStep() {
  const absl::StatusOr<bool> step = pool_.PrepareStep();
  std::lock_guard lock(mutex_);
  if (step.ok() && !*step) {
    PostIo([this] { PrepareStep(); });
    return;
  }
  if (step.status().code() == absl::StatusCode::kResourceExhausted) {
    if (!std::exchange(no_space_, true)) {
      LogError("log {}: no space for a segment: {}", dir_, Message(step.status()));
      Settle();  // now more is worth copying
    }
    if (!stopping_) io_->PostAfter(kSpaceRetry, [this] { PrepareStep(); });
    return;
  }
  preparing_ = false;
  if (step.ok()) {
    ready_.push_back(pool_.TakePrepared());
    if (std::exchange(no_space_, false)) LogInfo("log {}: space for segments again", dir_);
    WantSegments();
  } else {
    stats_.failed.Update(step.status());
  }
  if (!std::exchange(writer_posted_, true)) writer_->Post([this] { WriteBatch(); });
}

void DurableLog::WakeWriterLater() {
  if (stopping_ || std::exchange(wake_posted_, true)) return;
  io_->PostAfter(kSpaceRetry, [this] {
    std::lock_guard lock(mutex_);
    wake_posted_ = false;
    if (!std::exchange(writer_posted_, true)) writer_->Post([this] { WriteBatch(); });
  });
}

void DurableLog::RecycleNow(uint64_t generation, const SegmentUse& segment) {
  recycling_.emplace_back(generation, segment);
  if (recycling_.size() == 1) RecycleStep();
}

// In their order, also when one has to wait for what the system lacks.
void DurableLog::RecycleStep() {
  for (; !recycling_.empty(); recycling_.pop_front()) {
    const auto& [generation, segment] = recycling_.front();
    const absl::Status status = pool_.Recycle(segment.path, generation, segment.file_bytes, segment.clean);
    if (status.ok()) continue;
    std::lock_guard lock(mutex_);
    if (absl::IsResourceExhausted(status)) {
      LogWarn("log {}: {}; it is tried again", dir_, Message(status));
      if (!stopping_) io_->PostAfter(kSpaceRetry, [this] { RecycleStep(); });
      return;
    }
    LogError("log {} failed: {}", dir_, Message(status));
    stats_.failed.Update(status);
    return;  // none after it may go before it
  }
}

void DurableLog::Read(const GroupId& group, Index from, Index end, uint64_t bytes_max,
                      env::Executor* reply_on, ReadDone done) {
  std::lock_guard lock(mutex_);
  PostIo([this, request = ReadRequest{group, from, end, bytes_max, reply_on, std::move(done)}]() mutable {
    ReadNow(std::move(request));
  });
}

void DurableLog::ReadNow(ReadRequest request) {
  absl::StatusOr<std::vector<raft::Entry>> entries = ReadEntries(request);
  request.reply_on->Post(
      [done = std::move(request.done), entries = std::move(entries)]() mutable { done(std::move(entries)); });
}

absl::StatusOr<std::vector<raft::Entry>> DurableLog::ReadEntries(const ReadRequest& request) {
  std::vector<raft::Entry> entries;
  uint64_t bytes = 0;
  for (Index index = request.from; index < request.end; index = index.Next()) {
    Slot slot;
    SegmentUse segment;
    {
      std::lock_guard lock(mutex_);
      const auto found = groups_.find(request.group);
      if (found == groups_.end()) {
        return absl::NotFoundError(fmt::format("log {}: no group {}", dir_, request.group.ToString()));
      }
      GroupMemory& memory = *found->second;
      if (index <= memory.compacted().index) {
        return absl::OutOfRangeError(fmt::format("read of entry {}: the first that is left is {}",
                                                 index.value, memory.compacted().index.value + 1));
      }
      const Slot* known = memory.Find(index);
      if (known == nullptr) known = memory.FindBeyond(index);
      if (known == nullptr) break;
      slot = *known;
      if (!slot.cached) segment = segments_[slot.place.generation];
    }
    bytes += slot.bytes;
    if (!entries.empty() && bytes > request.bytes_max) break;
    const TermIndex at{slot.term, index};
    if (!slot.cached) {
      absl::StatusOr<Bytes> payload = ReadRecord(segment, request.group, at, slot);
      if (!payload.ok() && !entries.empty()) break;  // the entries before it are good
      if (!payload.ok()) return payload.status();
      slot.payload = *std::move(payload);
    }
    entries.push_back({.at = at, .kind = slot.kind, .payload = std::move(slot.payload)});
  }
  return entries;
}

// Segments are recycled by this executor only, so the file is still what the slot says.
absl::StatusOr<Bytes> DurableLog::ReadRecord(const SegmentUse& segment, const GroupId& group, TermIndex at,
                                             const Slot& slot) {
  const uint64_t block_bytes = segment.block_bytes;
  const uint64_t start = slot.place.offset / block_bytes * block_bytes;
  const uint64_t in_block = slot.place.offset - start;
  const uint64_t needed = kRecordHeaderBytes + slot.bytes;
  const uint64_t body_offset = BlockBodyOffset(block_bytes);
  const uint64_t body = block_bytes - body_offset;
  const uint64_t here = block_bytes - in_block;
  const uint64_t blocks = 1 + (needed <= here ? 0 : (needed - here + body - 1) / body);
  const auto damaged = [&](std::string_view what) {
    return absl::DataLossError(fmt::format("{} at {}: {} (entry {} of term {})", segment.path,
                                           slot.place.offset, what, at.index.value, at.term.value));
  };
  std::string raw(blocks * block_bytes, '\0');
  const absl::StatusOr<size_t> count = segment.file->ReadAt(start, raw.data(), raw.size());
  if (!count.ok()) return damaged(Message(count.status()));
  if (*count < raw.size()) return damaged("the file ends before it");
  std::string record;
  record.reserve(needed);
  for (uint64_t n = 0; n < blocks; ++n) {
    const std::string_view block = std::string_view(raw).substr(n * block_bytes, block_bytes);
    const std::optional<BlockHeader> header = DecodeBlockHeader(block, block_bytes);
    if (!header || header->generation != slot.place.generation ||
        !UnsealBlock(*header, raw.data() + n * block_bytes, block_bytes)) {
      return damaged("a block is damaged");
    }
    const uint64_t skip = n == 0 ? in_block : body_offset;
    record.append(block.substr(skip, needed - record.size()));
  }
  const std::optional<RecordHeader> header = DecodeRecordHeader(record);
  if (!header || header->group != group || header->at != at || header->payload_bytes != slot.bytes) {
    return damaged("another record is there");
  }
  record.erase(0, kRecordHeaderBytes);
  if (Crc32c(record) != header->payload_crc) return damaged("the payload's checksum is wrong");
  return Bytes::Take(std::move(record));
}

void DurableLog::CopyForward(uint64_t generation) {
  std::vector<std::pair<GroupId, std::vector<TermIndex>>> wanted;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [group, memory] : groups_) {
      std::vector<TermIndex> entries;
      memory->CollectIn(generation, kCopyBytesMax, entries);
      if (!entries.empty()) wanted.emplace_back(group, std::move(entries));
    }
  }
  std::sort(wanted.begin(), wanted.end());
  bool queued = false;
  for (const auto& [group, indexes] : wanted) {
    Op op;
    op.kind = RecordKind::kCopy;
    op.group = group;
    for (const TermIndex& at : indexes) {
      absl::StatusOr<std::vector<raft::Entry>> read =
          ReadEntries({group, at.index, at.index.Next(), /*bytes_max=*/0, nullptr, nullptr});
      if (!read.ok() || read->empty()) break;
      op.entries.push_back(std::move(read->front()));
    }
    queued = EnqueueCopy(generation, std::move(op)) || queued;
  }
  std::lock_guard lock(mutex_);
  --copying_;
  if (!queued) not_copied_ = generation;  // nothing in it can be read: it stays
}

// Takes the entries that still lie there. False if there are none.
bool DurableLog::EnqueueCopy(uint64_t generation, Op op) {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(op.group);
  if (found == groups_.end() || !stats_.failed.ok()) return false;
  std::vector<raft::Entry> entries = std::exchange(op.entries, {});
  for (raft::Entry& entry : entries) {
    const Slot* slot = found->second->Find(entry.at.index);
    if (slot == nullptr || slot->term != entry.at.term || slot->place.generation != generation) continue;
    op.old_places.push_back(slot->place);
    op.cost +=
        entry.payload.size() + kRecordHeaderBytes;  // what follows must not take the room that it needs
    op.entries.push_back(std::move(entry));
  }
  if (op.entries.empty()) return false;
  ++copying_;
  Enqueue(std::move(op), queue_);
  return true;
}

}  // namespace sluice::log
