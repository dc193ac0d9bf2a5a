// What a user of sluice implements: the part of a replicated service that is his own.
//
//   class Counter : public sluice::StateMachine {
//     absl::StatusOr<sluice::Bytes> Apply(const sluice::Command& command, sluice::State& state) override {
//       int n = std::stoi(state.Get("n").value_or("0")) + 1;
//       state.Put("n", std::to_string(n));
//       return sluice::Bytes::Copy(std::to_string(n));
//     }
//     absl::StatusOr<sluice::Bytes> Query(const sluice::Bytes&, const sluice::State& state) override {
//       return sluice::Bytes::Copy(state.Get("n").value_or("0"));
//     }
//   };
//
// The machine keeps its state in `State`, an ordered map of small values that the server makes durable
// together with the applied index, and carries to other servers in snapshots: no code for either is needed. A
// machine must be deterministic: what Apply does may depend on the command and the state only, never on
// clocks, randomness or ids. Threading: Apply and Query of one group never run at the same time; they run on
// a thread that may block on disk. Admit runs on another thread, also beside a running Apply. Errors: a
// status from Apply is an answer, seen by the client as StateMachineException; it does not undo the changes
// that Apply made, so check first and change then. An exception from Apply stops the group on this server, which then
// lets another one lead; it is not called again for the command. Replies are remembered for retries (exactly once while the
// session lives). From: Apache Ratis' StateMachine, split as LevelDB would.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice {

// The machine's durable map. Keys are ordered by unsigned bytes; keys and values together should stay below 1
// MiB.
class State {
 public:
  virtual ~State() = default;
  // nullopt if the key is absent. Sees the changes of the running Apply.
  virtual std::optional<std::string> Get(std::string_view key) const = 0;
  // Visits keys that start with `prefix` and are >= `from`, in order, until `visit` answers false. Sees the
  // changes of the running Apply.
  virtual void Scan(std::string_view prefix, std::string_view from,
                    const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
  virtual void Put(std::string_view key, std::string_view value) = 0;
  virtual void Delete(std::string_view key) = 0;
};

// One committed command.
struct Command {
  TermIndex at;
  bool data_stream = false;  // entered by a finished stream (Ratis DATASTREAM), else by a write
  ClientId client;
  CallId call;
  Bytes data;  // the message as the client sent it; for a stream, the content of its header message
};

class StateMachine {
 public:
  virtual ~StateMachine() = default;
  // Executes a committed command; the answer goes to the client. Called once per entry and server, in log
  // order; again after a crash for entries whose state was not yet durable.
  virtual absl::StatusOr<Bytes> Apply(const Command& command, State& state) = 0;
  // Answers a read from the state. Must not change anything: changes are dropped.
  virtual absl::StatusOr<Bytes> Query(const Bytes& request, const State& state) = 0;
  // At the leader, before a write enters the log: a status refuses it (Ratis' startTransaction). Called on
  // the thread that serves the group, which must not wait, and at the same time as Apply or Query: look at
  // the message only, or at what is safe to read beside them. Whether the state allows it is for Apply to
  // say.
  virtual absl::Status Admit(const Bytes& /*message*/) { return absl::OkStatus(); }
  // Whether a key and its value are such that Apply can have put them; a status says what is wrong. Asked of
  // every record of a snapshot before that replaces the state, on another thread, beside anything: look at
  // the two only.
  virtual absl::Status CheckRecord(std::string_view /*key*/, std::string_view /*value*/) const {
    return absl::OkStatus();
  }
};

}  // namespace sluice
