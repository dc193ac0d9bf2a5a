// What clients were told, and whether the servers still hold it: the judge of every simulated cluster.
//
//   sim::Oracle oracle;
//   const auto op = oracle.BeginPut("name", digest_hex);
//   ... oracle.Acknowledged(op);   // or Unknown(op) when the answer never came, Refused(op) when it was "no"
//   EXPECT_TRUE(oracle.Check({ReaderOf(n0), ReaderOf(n1), ReaderOf(n2)}).ok());
//
// A put or remove that was acknowledged must be visible to every read that begins later, unless another write
// of the same name may have come after it; one of unknown outcome may show at any time from its beginning, or
// never; and all servers say the same. Counters hold every acknowledged increment, and no more than were ever
// begun. Calls are judged one by one as well: what a machine executed, how often, with which reply, and what the
// client was told. Content is any string that stands for the bytes, such as a digest. One thread. Time is the
// order of the calls here. WriteHistory gives all of it to a linearizability checker (tests/linearizability).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"

namespace sluice::sim {

class Oracle {
 public:
  using OperationId = uint64_t;
  // nullopt: there is no such name.
  using Content = std::optional<std::string>;
  // Asks one server, after the cluster has converged; an error fails the check.
  using Reader = std::function<absl::StatusOr<Content>(const std::string& name)>;
  using CounterReader = std::function<absl::StatusOr<int64_t>(const std::string& name)>;

  // --- Writes. Each ends at most once; one that never ends is unknown ---
  OperationId BeginPut(const std::string& name, const std::string& content) { return Begin(name, content); }
  OperationId BeginRemove(const std::string& name) { return Begin(name, std::nullopt); }
  OperationId BeginIncrement(const std::string& counter, int64_t by = 1);
  // `reply` is what the client was told: the new value of a counter, or what became of a removal.
  void Acknowledged(OperationId operation, std::string reply = {});
  void Unknown(OperationId operation);
  // It did not happen and never will. `reply`: why, where the reason says something about the name.
  void Refused(OperationId operation, std::string reply = {});

  // --- Linearizable reads while the cluster runs ---
  OperationId BeginRead(const std::string& name);
  // DATA_LOSS when no order of the writes explains the value.
  absl::Status EndRead(OperationId read, const Content& seen);
  OperationId BeginCounterRead(const std::string& counter);
  void EndCounterRead(OperationId read, int64_t seen);

  // --- Calls, one by one (P3) ---
  // A server's machine executed `call` of `group` at `index` and made `reply` of it. DATA_LOSS when another call
  // stands at that index elsewhere, another reply was made of it, or the call stands at another index as well.
  absl::Status Executed(const std::string& group, int64_t index, const std::string& call,
                        const std::string& reply);
  // A client was told `reply` for `call`. DATA_LOSS unless the call was executed with it.
  absl::Status Answered(const std::string& group, const std::string& call, const std::string& reply) const;
  // The time for which retries of `call` are promised an answer is over: it may be executed once more (F-68).
  void Forget(const std::string& group, const std::string& call) { executed_.erase({group, call}); }

  // --- The end ---
  // One JSON object a line for each operation, in the order of their beginning (tests/linearizability/README.md).
  std::string History() const;
  // Every name ever written, on every server. DATA_LOSS names the first that is wrong, and how.
  absl::Status Check(const std::vector<Reader>& servers) const;
  absl::Status CheckCounters(const std::vector<CounterReader>& servers) const;

  size_t acknowledged() const { return acknowledged_; }
  size_t unknown() const { return operations_.size() - acknowledged_ - refused_ - reads_; }

 private:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  enum class Kind : uint8_t { kWrite, kIncrement, kRead, kCounterRead };
  struct Operation {
    Kind kind;
    std::string name;
    Content content;
    int64_t by = 0;
    uint64_t begun = 0;
    uint64_t acknowledged = kNever;
    bool open = true;
    bool refused = false;
    uint64_t ended = kNever;
    std::string reply = {};
  };
  struct Execution {
    int64_t index = 0;
    std::string call;
    std::string reply;
  };

  OperationId Begin(const std::string& name, Content content);
  OperationId Add(Operation operation);
  Operation& End(OperationId operation);
  // Why a read that ran in [begun, ended] could not see `seen`; OK when it could.
  absl::Status Explain(const std::string& name, const Content& seen, uint64_t begun, uint64_t ended) const;

  std::vector<Operation> operations_;                       // by id
  std::map<std::string, std::vector<OperationId>> writes_;  // by name
  std::map<std::string, std::vector<OperationId>> increments_;
  std::map<std::pair<std::string, int64_t>, Execution> executions_;           // by group and index
  std::map<std::pair<std::string, std::string>, const Execution*> executed_;  // by group and call
  uint64_t now_ = 0;
  size_t acknowledged_ = 0;
  size_t refused_ = 0;
  size_t reads_ = 0;
};

}  // namespace sluice::sim
