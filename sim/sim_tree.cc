#include "sim/sim_tree.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/functional/function_ref.h"

namespace sluice::sim {
namespace {

void SetEntry(Node& folder, const std::string& name, const NodePtr& node) {
  if (node == nullptr) {
    folder.entries.erase(name);
  } else {
    folder.entries[name] = node;
  }
}

}  // namespace

absl::StatusOr<SimTree::Place> SimTree::Locate(const std::string& path) const {
  Place place{nullptr, "", root_};
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    std::string name = path.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty() || name == ".") continue;
    if (name == "..") return absl::InternalError(fmt::format("{}: \"..\" is not simulated", path));
    if (place.node == nullptr) return absl::NotFoundError(fmt::format("{}: no folder {}", path, place.name));
    if (!place.node->is_folder) return absl::InternalError(fmt::format("{}: {} is a file", path, place.name));
    const auto entry = place.node->entries.find(name);
    NodePtr next = entry == place.node->entries.end() ? nullptr : entry->second;
    place = Place{std::move(place.node), std::move(name), std::move(next)};
  }
  return place;
}

void SimTree::Change(Node& folder, FolderChange change) {
  for (const FolderChange::Entry& entry : change.entries) SetEntry(folder, entry.name, entry.after);
  folder.changes.push_back(std::move(change));
}

bool SimTree::IsWithin(const NodePtr& node, const NodePtr& folder) {
  if (node == folder) return true;
  return std::any_of(folder->entries.begin(), folder->entries.end(), [&](const auto& entry) {
    return entry.second->is_folder && IsWithin(node, entry.second);
  });
}

std::vector<Node*> SimTree::AllNodes() {
  const uint64_t walk = ++last_walk_;
  std::vector<Node*> nodes;
  const auto add = [&](const NodePtr& node) {
    if (node == nullptr || std::exchange(node->visited_by, walk) == walk) return;
    nodes.push_back(node.get());
  };
  add(root_);
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const auto& [name, node] : nodes[i]->entries) add(node);
    for (const FolderChange& change : nodes[i]->changes) {
      for (const FolderChange::Entry& entry : change.entries) {
        add(entry.before);
        add(entry.after);
      }
    }
  }
  return nodes;
}

std::vector<Node*> SimTree::NodesWithNames() {
  const uint64_t walk = ++last_walk_;
  std::vector<Node*> nodes{root_.get()};
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const auto& [name, node] : nodes[i]->entries) {
      if (std::exchange(node->visited_by, walk) != walk) nodes.push_back(node.get());
    }
  }
  return nodes;
}

uint64_t SimTree::BytesUsed() {
  uint64_t bytes = 0;
  for (const Node* node : NodesWithNames()) bytes += node->content.bytes().size();
  return bytes;
}

void SimTree::Crash(SeededRandom& random, const CrashPolicy& policy) {
  const std::vector<Node*> nodes = AllNodes();
  const bool drop_all = policy.keep + policy.cut + policy.scatter == 0;
  const bool keep_all = policy.drop + policy.cut + policy.scatter == 0;
  for (Node* folder : nodes) {
    const size_t count = folder->changes.size();
    folder->kept_changes = drop_all ? 0 : keep_all ? count : random.Below(count + 1);
  }
  // Taking a name away without giving the new one may cost an earlier new name in the same folder:
  // repeat until none.
  for (bool settled = !policy.renames_keep_a_name; !settled;) {
    settled = true;
    std::set<uint64_t> given;
    for (const Node* folder : nodes) {
      for (size_t i = 0; i < folder->kept_changes; ++i) {
        if (!folder->changes[i].takes_name_away) given.insert(folder->changes[i].rename);
      }
    }
    for (Node* folder : nodes) {
      for (size_t i = 0; i < folder->kept_changes; ++i) {
        const FolderChange& change = folder->changes[i];
        if (!change.takes_name_away || given.count(change.rename) > 0) continue;
        folder->kept_changes = i;
        settled = false;
      }
    }
  }
  for (Node* folder : nodes) {
    for (auto change = folder->changes.rbegin(); change != folder->changes.rend(); ++change) {
      for (auto entry = change->entries.rbegin(); entry != change->entries.rend(); ++entry) {
        SetEntry(*folder, entry->name, entry->before);
      }
    }
    for (size_t i = 0; i < folder->kept_changes; ++i) {
      for (const FolderChange::Entry& entry : folder->changes[i].entries)
        SetEntry(*folder, entry.name, entry.after);
    }
  }
  // Only now: a node may stand in the changes of several folders, and they own it.
  const std::vector<Node*> remaining = NodesWithNames();
  for (Node* node : remaining) node->content.Crash(random, policy);
  std::vector<std::vector<FolderChange>> undone;
  for (Node* node : nodes) undone.push_back(std::exchange(node->changes, {}));
}

std::unique_ptr<SimTree> SimTree::Clone() const {
  std::unordered_map<const Node*, NodePtr> copies;  // looked up, never walked
  std::vector<std::pair<const Node*, Node*>> work;
  const auto copy_of = [&](const NodePtr& node) -> NodePtr {
    if (node == nullptr) return nullptr;
    NodePtr& copy = copies[node.get()];
    if (copy == nullptr) {
      copy = std::make_shared<Node>(node->is_folder);
      copy->content = node->content;
      work.emplace_back(node.get(), copy.get());
    }
    return copy;
  };
  auto clone = std::make_unique<SimTree>();
  clone->root_ = copy_of(root_);
  clone->last_rename_ = last_rename_;
  while (!work.empty()) {
    const auto [from, to] = work.back();
    work.pop_back();
    for (const auto& [name, node] : from->entries) to->entries[name] = copy_of(node);
    to->changes = from->changes;
    for (FolderChange& change : to->changes) {
      for (FolderChange::Entry& entry : change.entries) {
        entry.before = copy_of(entry.before);
        entry.after = copy_of(entry.after);
      }
    }
  }
  return clone;
}

}  // namespace sluice::sim
