// The durable map of one group's machine: the index under the group's prefix, with the changes of the batch
// that is being applied on top.
//
//   MachineState state(index, prefix);
//   machine.Apply(command, state);          // several commands
//   state.MoveChangesTo(batch);             // becomes part of one atomic write
//
// Threading: lives on the apply executor. Failure: a read that fails keeps the first error; the batch must
// then not be written (status()).
#pragma once

#include <map>
#include <optional>
#include <string>

#include "blob/index.h"
#include "sluice/state_machine.h"

namespace sluice::node {

class MachineState : public State {
 public:
  MachineState(blob::Index* index, std::string prefix) : index_(index), prefix_(std::move(prefix)) {}

  std::optional<std::string> Get(std::string_view key) const override;
  void Scan(std::string_view prefix, std::string_view from,
            const std::function<bool(std::string_view key, std::string_view value)>& visit) const override;
  void Put(std::string_view key, std::string_view value) override { changes_[std::string(key)] = value; }
  void Delete(std::string_view key) override { changes_[std::string(key)] = std::nullopt; }

  void MoveChangesTo(blob::IndexBatch& batch);
  void DropChanges() { changes_.clear(); }
  const absl::Status& status() const { return status_; }

 private:
  blob::Index* const index_;
  const std::string prefix_;
  std::map<std::string, std::optional<std::string>> changes_;
  mutable absl::Status status_;
};

}  // namespace sluice::node
