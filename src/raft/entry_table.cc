#include "raft/entry_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace sluice::raft {

EntryTable::EntryTable(TermIndex base, Configuration configuration) { Reset(base, std::move(configuration)); }

void EntryTable::Reset(TermIndex base, Configuration configuration) {
  base_ = base;
  base_bytes_ = 0;
  slots_.clear();
  configurations_.clear();
  configurations_.emplace(base.index, std::move(configuration));
}

void EntryTable::Append(Term term, EntryKind kind, uint64_t bytes,
                        std::optional<Configuration> configuration) {
  const uint64_t end = EndBytes(last().index) + bytes;
  slots_.push_back({term.value, end & ((uint64_t{1} << 56) - 1), static_cast<uint8_t>(kind)});
  if (configuration.has_value()) configurations_[last().index] = *std::move(configuration);
}

void EntryTable::TruncateFrom(Index from) {
  SLUICE_CHECK(from > base_.index) << "truncate at " << from.value << " below base " << base_.index.value;
  if (from > last().index) return;
  slots_.resize(static_cast<size_t>(from - first()));
  configurations_.erase(configurations_.lower_bound(from), configurations_.end());
}

void EntryTable::CompactTo(Index upto) {
  if (upto <= base_.index) return;
  SLUICE_CHECK(upto <= last().index) << "compact to " << upto.value << " beyond " << last().index.value;
  const auto dropped = static_cast<ptrdiff_t>(upto - base_.index);
  base_bytes_ = EndBytes(upto);
  base_ = {Term{At(upto).term}, upto};
  slots_.erase(slots_.begin(), slots_.begin() + dropped);
  auto in_force = std::prev(configurations_.upper_bound(upto));
  configurations_.erase(configurations_.begin(), in_force);
}

TermIndex EntryTable::last() const {
  if (slots_.empty()) return base_;
  return {Term{slots_.back().term}, base_.index + static_cast<int64_t>(slots_.size())};
}

std::optional<Term> EntryTable::TermAt(Index index) const {
  if (index == base_.index) return base_.term;
  if (index < base_.index || index > last().index) return std::nullopt;
  return Term{At(index).term};
}

uint64_t EntryTable::BytesAt(Index index) const { return EndBytes(index) - EndBytes(index.Prev()); }

uint64_t EntryTable::BytesAfter(Index index) const {
  index = std::max(index, base_.index);
  const auto entries = static_cast<uint64_t>(last().index - index);
  return EndBytes(last().index) - EndBytes(index) + entries * kEntryOverheadBytes;
}

Index EntryTable::BatchEnd(Index from, uint64_t bytes_max, uint64_t* bytes) const {
  Index end = from;
  *bytes = 0;
  while (end <= last().index) {
    const uint64_t size = BytesAt(end) + kEntryOverheadBytes;
    if (end != from && *bytes + size > bytes_max) break;
    *bytes += size;
    end = end.Next();
  }
  return end;
}

}  // namespace sluice::raft
