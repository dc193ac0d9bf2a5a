#include "node/counter_machine.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/log.h"

namespace sluice::node {
namespace {

constexpr char kKey[] = "n";

uint32_t Value(const State& state) {
  uint32_t value = 0;
  const auto text = state.Get(kKey);
  if (text && !absl::SimpleAtoi(*text, &value)) return 0;
  return value;
}

Bytes BigEndian(uint32_t value) {
  const char raw[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                       static_cast<char>(value >> 8), static_cast<char>(value)};
  return Bytes::Copy({raw, 4});
}

}  // namespace

absl::Status CounterMachine::Admit(const Bytes& message) {
  if (message == "INCREMENT") return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("Invalid Command: {}", Printable(message.Slice(0, 256).ToString())));
}

absl::StatusOr<Bytes> CounterMachine::Apply(const ::sluice::Command& command, State& state) {
  RETURN_IF_ERROR(Admit(command.data));
  const uint32_t value = Value(state) + 1;
  state.Put(kKey, std::to_string(value));
  return BigEndian(value);
}

absl::Status CounterMachine::CheckRecord(std::string_view key, std::string_view value) const {
  uint32_t ignored = 0;
  if (key == kKey && absl::SimpleAtoi(std::string(value), &ignored)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} = {}", Printable(key), Printable(value.substr(0, 32))));
}

absl::StatusOr<Bytes> CounterMachine::Query(const Bytes& request, const State& state) {
  if (!absl::EqualsIgnoreCase(request.Slice(0, 16).ToString(), "GET")) {
    return absl::InvalidArgumentError(
        fmt::format("Invalid Command: {}", Printable(request.Slice(0, 256).ToString())));
  }
  return BigEndian(Value(state));
}

}  // namespace sluice::node
