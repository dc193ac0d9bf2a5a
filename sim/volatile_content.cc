#include "sim/volatile_content.h"

#include <algorithm>
#include <utility>

namespace sluice::sim {

void VolatileContent::Put(uint64_t offset, std::string_view data) {
  if (bytes_.size() < offset) bytes_.resize(offset);
  const std::string_view over = data.substr(0, bytes_.size() - offset);
  std::copy(over.begin(), over.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  bytes_.append(data.substr(over.size()));
}

void VolatileContent::Write(uint64_t offset, std::string_view data, Persistence persistence) {
  if (data.empty()) return;
  // A durable write after unsynced ones is remembered too: undoing those must not undo it.
  if (persistence != Persistence::kDurable || !changes_.empty()) {
    Change change{.offset = offset,
                  .old_bytes = {},
                  .old_size = bytes_.size(),
                  .is_resize = false,
                  .new_bytes = std::string(data),
                  .new_size = 0,
                  .persistence = persistence};
    if (offset < bytes_.size()) change.old_bytes = bytes_.substr(offset, data.size());
    changes_.push_back(std::move(change));
  }
  Put(offset, data);
}

void VolatileContent::Resize(uint64_t size) {
  Change change{.offset = size,
                .old_bytes = {},
                .old_size = bytes_.size(),
                .is_resize = true,
                .new_bytes = {},
                .new_size = size,
                .persistence = Persistence::kUnsynced};
  if (size < bytes_.size()) change.old_bytes = bytes_.substr(size);
  changes_.push_back(std::move(change));
  bytes_.resize(size);
}

void VolatileContent::Settle(Persistence persistence) {
  bool any_lost = false;
  for (Change& change : changes_) {
    if (change.persistence == Persistence::kUnsynced) change.persistence = persistence;
    any_lost |= change.persistence != Persistence::kDurable;
  }
  if (!any_lost) changes_.clear();
}

void VolatileContent::Undo() {
  for (auto change = changes_.rbegin(); change != changes_.rend(); ++change) {
    bytes_.resize(change->old_size);
    Put(change->offset, change->old_bytes);
    bytes_.resize(change->old_size);  // Put of nothing at an offset beyond the end
  }
}

void VolatileContent::DropLost() {
  Undo();
  for (Change& change : std::exchange(changes_, {})) {
    if (change.persistence == Persistence::kLost) continue;
    if (change.is_resize) {
      Resize(change.new_size);
      changes_.back().persistence = change.persistence;
    } else {
      Write(change.offset, change.new_bytes, change.persistence);
    }
  }
}

void VolatileContent::Crash(SeededRandom& random, const CrashPolicy& policy) {
  Undo();
  for (const Change& change : changes_) {
    if (change.persistence == Persistence::kLost) continue;
    if (change.persistence == Persistence::kUnsynced) {
      RedoPartly(change, random, policy);
    } else if (change.is_resize) {
      bytes_.resize(change.new_size);
    } else {
      Put(change.offset, change.new_bytes);
    }
  }
  changes_.clear();
}

void VolatileContent::RedoPartly(const Change& change, SeededRandom& random, const CrashPolicy& policy) {
  uint64_t dice = random.Below(std::max(policy.keep + policy.cut + policy.scatter + policy.drop, 1u));
  const auto falls_in = [&dice](uint32_t weight) {
    if (dice < weight) return true;
    dice -= weight;
    return false;
  };
  const bool keep = falls_in(policy.keep);
  const bool cut = !keep && falls_in(policy.cut);
  const bool scatter = !keep && !cut && falls_in(policy.scatter);
  if (change.is_resize) {
    if (keep || ((cut || scatter) && random.Chance(0.5))) bytes_.resize(change.new_size);
    return;
  }
  if (keep) return Put(change.offset, change.new_bytes);
  if (!cut && !scatter) return;

  // Sectors are counted from the start of the file, as on the device.
  const std::string_view data = change.new_bytes;
  const uint64_t first = change.offset / policy.sector_bytes;
  const uint64_t last = (change.offset + data.size() - 1) / policy.sector_bytes;
  const uint64_t cut_at = first + random.Below(last - first + 1);
  for (uint64_t sector = first; sector <= last; ++sector) {
    if (cut ? sector >= cut_at : random.Chance(0.5)) continue;
    const uint64_t begin = std::max(sector * policy.sector_bytes, change.offset);
    const uint64_t end = std::min((sector + 1) * policy.sector_bytes, change.offset + data.size());
    Put(begin, data.substr(begin - change.offset, end - begin));
  }
  // The new size may have reached the device without all of the data: zeros are read there.
  if (scatter && random.Chance(0.5)) bytes_.resize(std::max(bytes_.size(), change.offset + data.size()));
}

}  // namespace sluice::sim
