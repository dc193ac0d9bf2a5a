// The names on a simulated disk: folders, what is in them,
// and every change of a folder that a power loss may undo.
//
//   ASSIGN_OR_RETURN(SimTree::Place place, tree.Locate("a/b"));
//   tree.Change(*place.folder, {{{place.name, place.node, new_node}}});
//   tree.Crash(random, policy);
//
// No locks: sim::SimFiles guards it. Nodes are shared with open files, which outlive their names.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "sim/volatile_content.h"

namespace sluice::sim {

struct Node;
using NodePtr = std::shared_ptr<Node>;

// One atomic change of a folder.
struct FolderChange {
  struct Entry {
    std::string name;
    NodePtr before;  // null: there was none
    NodePtr after;   // null: there is none
  };
  std::vector<Entry> entries;
  // Not 0: one half of this rename between folders.
  uint64_t rename = 0;
  bool takes_name_away = false;
};

// A file or a folder.
struct Node {
  explicit Node(bool folder) : is_folder(folder) {}
  const bool is_folder;
  VolatileContent content;                 // of a file
  std::map<std::string, NodePtr> entries;  // of a folder
  std::vector<FolderChange> changes;       // since its last sync, in order
  size_t kept_changes = 0;                 // scratch of Crash
  uint64_t visited_by = 0;                 // scratch of walks
  uint64_t locked_in_epoch = 0;            // see SimFiles::LockFile
};

class SimTree {
 public:
  // Where a path leads: its folder and last name, and the node if there is one.
  // `folder` is null for the root.
  struct Place {
    NodePtr folder;
    std::string name;
    NodePtr node;
  };

  SimTree() : root_(std::make_shared<Node>(true)) {}

  // NOT_FOUND when the folder is absent, INTERNAL when a part of it is a file or the path has "..".
  absl::StatusOr<Place> Locate(const std::string& path) const;
  // Applies an unsynced change.
  static void Change(Node& folder, FolderChange change);
  uint64_t NextRename() { return ++last_rename_; }
  static bool IsWithin(const NodePtr& node, const NodePtr& folder);
  uint64_t BytesUsed();

  // The tree after power loss: of each folder's unsynced changes a prefix remains.
  void Crash(SeededRandom& random, const CrashPolicy& policy);
  // A deep copy that shares nothing.
  std::unique_ptr<SimTree> Clone() const;

 private:
  // Every node that a name or an undoable change can reach, in an order that depends on the names alone.
  std::vector<Node*> AllNodes();
  std::vector<Node*> NodesWithNames();

  NodePtr root_;
  uint64_t last_rename_ = 0;
  uint64_t last_walk_ = 0;
};

}  // namespace sluice::sim
