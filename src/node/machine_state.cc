#include "node/machine_state.h"

namespace sluice::node {

std::optional<std::string> MachineState::Get(std::string_view key) const {
  if (!changes_.empty()) {
    if (const auto it = changes_.find(std::string(key)); it != changes_.end()) return it->second;
  }
  auto value = index_->Get(prefix_ + std::string(key));
  if (!value.ok()) {
    if (status_.ok()) status_ = value.status();
    return std::nullopt;
  }
  return std::move(*value);
}

void MachineState::Scan(
    std::string_view prefix, std::string_view from,
    const std::function<bool(std::string_view key, std::string_view value)>& visit) const {
  // Two ordered sequences merged: what is stored, and the changes on top of it, which win.
  auto change = changes_.lower_bound(std::string(std::max(prefix, from)));
  bool go_on = true;
  const auto visit_changes_before = [&](std::string_view key) {
    while (go_on && change != changes_.end() && change->first < key) {
      if (!std::string_view(change->first).starts_with(prefix)) break;
      if (change->second) go_on = visit(change->first, *change->second);
      ++change;
    }
  };
  const auto status = index_->Scan(prefix_ + std::string(prefix), prefix_ + std::string(from),
                                   [&](std::string_view stored, std::string_view value) {
                                     const std::string_view key = stored.substr(prefix_.size());
                                     visit_changes_before(key);
                                     if (!go_on) return false;
                                     if (change != changes_.end() && change->first == key) {
                                       if (change->second) go_on = visit(key, *change->second);
                                       ++change;
                                     } else {
                                       go_on = visit(key, value);
                                     }
                                     return go_on;
                                   });
  if (!status.ok() && status_.ok()) status_ = status;
  while (go_on && change != changes_.end() && std::string_view(change->first).starts_with(prefix)) {
    if (change->second) go_on = visit(change->first, *change->second);
    ++change;
  }
}

void MachineState::MoveChangesTo(blob::IndexBatch& batch) {
  for (auto& [key, value] : changes_) {
    if (value) {
      batch.Put(prefix_ + key, std::move(*value));
    } else {
      batch.Delete(prefix_ + key);
    }
  }
  changes_.clear();
}

}  // namespace sluice::node
