// The `counter` state machine of Ratis' examples: write INCREMENT answers the new value, read GET the value,
// each as an int32 in big endian.
//
// Mode `ratis`: Java's CounterClient and Java members work with it.
// Also the smallest sample of a StateMachine.
#pragma once

#include "sluice/state_machine.h"

namespace sluice::node {

class CounterMachine : public StateMachine {
 public:
  absl::StatusOr<Bytes> Apply(const ::sluice::Command& command, State& state) override;
  absl::StatusOr<Bytes> Query(const Bytes& request, const State& state) override;
  absl::Status Admit(const Bytes& message) override;
  absl::Status CheckRecord(std::string_view key, std::string_view value) const override;
};

}  // namespace sluice::node
