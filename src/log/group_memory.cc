#include "log/group_memory.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace sluice::log {
namespace {

constexpr uint64_t kSlotCost = 128;  // bookkeeping that an entry takes beside its bytes

void Free(const Slot& slot, Frees& frees) {
  if (slot.place.generation == 0) return;
  if (frees.empty() || frees.back().generation != slot.place.generation) {
    frees.push_back({.generation = slot.place.generation});
  }
  ++frees.back().entries;
  frees.back().bytes += slot.bytes;
}

}  // namespace

Slot* GroupMemory::Find(Index index) {
  if (index <= compacted_.index || index >= next()) return nullptr;
  return &slots_[static_cast<size_t>(index - compacted_.index - 1)];
}

Term GroupMemory::TermOf(Index index) {
  if (index == compacted_.index) return compacted_.term;
  const Slot* slot = Find(index);
  return slot == nullptr ? Term{0} : slot->term;
}

absl::Status GroupMemory::Check(const std::vector<raft::Entry>& entries) const {
  Index expected = entries.front().at.index;
  if (expected <= compacted_.index || expected > next()) {
    return absl::InvalidArgumentError(fmt::format("append at {}: the log has [{}, {})", expected.value,
                                                  compacted_.index.value + 1, next().value));
  }
  for (const raft::Entry& entry : entries) {
    if (entry.at.index != expected) {
      return absl::InvalidArgumentError(
          fmt::format("append: entry {} where {} is due", entry.at.index.value, expected.value));
    }
    expected = expected.Next();
  }
  return absl::OkStatus();
}

const Slot* GroupMemory::FindBeyond(Index index) const {
  if (index < next() || index - next() >= static_cast<int64_t>(beyond_.size())) return nullptr;
  const Slot& slot = beyond_[static_cast<size_t>(index - next())];
  return slot.place.generation == 0 ? nullptr : &slot;
}

bool GroupMemory::Mend(const raft::Entry& entry, EntryPlace place) {
  if (entry.at.index < next() || FindBeyond(entry.at.index) != nullptr) return false;
  const auto at = static_cast<size_t>(entry.at.index - next());
  if (at > beyond_.size()) return false;
  if (at == beyond_.size()) beyond_.emplace_back();
  beyond_[at] = {.term = entry.at.term,
                 .place = place,
                 .bytes = static_cast<uint32_t>(entry.payload.size()),
                 .kind = entry.kind,
                 .cached = false,
                 .copied = true,
                 .payload = entry.kind == raft::EntryKind::kConfiguration ? entry.payload : Bytes()};
  return true;
}

TermIndex GroupMemory::MendedLast() const {
  TermIndex last{slots_.empty() ? compacted_.term : slots_.back().term, next().Prev()};
  for (const Slot& slot : beyond_) {
    if (slot.place.generation == 0) break;
    last = {slot.term, last.index.Next()};
  }
  return last;
}

std::vector<Slot> GroupMemory::TakeMended() {
  std::vector<Slot> taken;
  while (!beyond_.empty() && beyond_.front().place.generation != 0) {
    taken.push_back(beyond_.front());
    beyond_.front().payload = Bytes();
    slots_.push_back(std::move(beyond_.front()));
    beyond_.pop_front();
  }
  return taken;
}

void GroupMemory::DropBeyond(Frees& frees) {
  ++overwritten_;
  for (const Slot& slot : beyond_) Free(slot, frees);
  beyond_.clear();
}

void GroupMemory::Append(const std::vector<raft::Entry>& entries, Frees& frees) {
  DropBeyond(frees);
  const Index first = entries.front().at.index;
  while (next() > first) {
    Free(slots_.back(), frees);
    slots_.pop_back();
  }
  for (const raft::Entry& entry : entries) {
    slots_.push_back({.term = entry.at.term,
                      .place = {},
                      .bytes = static_cast<uint32_t>(entry.payload.size()),
                      .kind = entry.kind,
                      .cached = true,
                      .copied = false,
                      .payload = entry.payload});
  }
}

bool GroupMemory::Land(TermIndex at, EntryPlace place) {
  Slot* slot = Find(at.index);
  if (slot == nullptr || slot->term != at.term || slot->place.generation != 0) return false;
  slot->place = place;
  return true;
}

void GroupMemory::Compact(TermIndex upto, Frees& frees) {
  while (!slots_.empty() && compacted_.index < upto.index) {
    Free(slots_.front(), frees);
    slots_.pop_front();
    compacted_.index = compacted_.index.Next();
  }
  compacted_ = upto;
}

void GroupMemory::Restart(TermIndex at, Frees& frees) {
  for (const Slot& slot : slots_) Free(slot, frees);
  slots_.clear();
  DropBeyond(frees);
  compacted_ = at;
}

std::vector<raft::Entry> GroupMemory::Cached(Index from, Index end, uint64_t bytes_max) {
  std::vector<raft::Entry> entries;
  uint64_t bytes = 0;
  for (Index index = from; index < end; index = index.Next()) {
    const Slot* slot = Find(index);
    if (slot == nullptr || !slot->cached) break;
    bytes += slot->bytes;
    if (!entries.empty() && bytes > bytes_max) break;
    entries.push_back({.at = {slot->term, index}, .kind = slot->kind, .payload = slot->payload});
  }
  return entries;
}

void GroupMemory::CollectIn(uint64_t generation, uint64_t bytes_max, std::vector<TermIndex>& out) {
  uint64_t bytes = 0;
  Index index = compacted_.index;
  for (const Slot& slot : slots_) {
    index = index.Next();
    // Segments grow with the index, but for the copied ones in front.
    const bool beyond = slot.place.generation == 0 || (slot.place.generation > generation && !slot.copied);
    if (beyond || bytes > bytes_max) return;
    if (slot.place.generation != generation) continue;
    bytes += slot.bytes;
    out.push_back({slot.term, index});
  }
}

void EntryCache::Add(const GroupId& group, TermIndex at, uint64_t bytes, Groups& groups) {
  held_.push_back({group, at, bytes + kSlotCost});
  bytes_ += bytes + kSlotCost;
  while (bytes_ > bytes_max_ && !held_.empty()) {
    const Held& oldest = held_.front();
    bytes_ -= oldest.cost;
    const auto found = groups.find(oldest.group);
    Slot* slot = found == groups.end() ? nullptr : found->second->Find(oldest.at.index);
    if (slot != nullptr && slot->term == oldest.at.term && slot->place.generation != 0) {
      slot->cached = false;
      slot->payload = Bytes();
    }
    held_.pop_front();
  }
}

}  // namespace sluice::log
