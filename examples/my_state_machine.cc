// sluice/state_machine.h: a service of one's own. Seats are reserved once, whoever asks, and stay reserved.
#include "sluice/state_machine.h"

#include "sandbox.h"
#include "sluice/client.h"

namespace sluice::examples {
namespace {

// Write "SEAT PERSON" reserves a seat; read "SEAT" answers who has it.
class Seats : public StateMachine {
 public:
  absl::StatusOr<Bytes> Apply(const Command& command, State& state) override {
    const std::string text = command.data.ToString();
    const size_t space = text.find(' ');
    const std::string seat = text.substr(0, space), person = text.substr(space + 1);
    if (const auto holder = state.Get(seat); holder && *holder != person) {
      return absl::AlreadyExistsError(seat + " is " + *holder + "'s");
    }
    state.Put(seat, person);
    return Bytes::Copy("reserved");
  }
  absl::StatusOr<Bytes> Query(const Bytes& seat, const State& state) override {
    return Bytes::Copy(state.Get(seat.ToString()).value_or("free"));
  }
  // What cannot be executed need not enter the log.
  absl::Status Admit(const Bytes& message) override {
    if (message.ToString().find(' ') != std::string::npos) return absl::OkStatus();
    return absl::InvalidArgumentError("write it like: 12A Ada");
  }
};

absl::Status Example() {
  const GroupId group = *GroupId::Parse("00000000-0000-0000-0000-0000000005ea");
  ASSIGN_OR_RETURN(const auto sandbox, Sandbox::Start({{.id = group, .machine = "seats", .factory = [] {
                                                          return std::make_unique<Seats>();
                                                        }}}));
  ASSIGN_OR_RETURN(const auto client, RaftClient::Create({.servers = {sandbox->address()}, .group = group}));
  BlockingApi& seats = client->Blocking();

  RETURN_IF_ERROR(seats.Send(Bytes::Copy("12A Ada")).status());
  RETURN_IF_ERROR(seats.Send(Bytes::Copy("12B Bob")).status());
  const absl::Status taken = seats.Send(Bytes::Copy("12A Bob")).status();
  printf("12A Bob: %s\n", taken.ToString().c_str());
  RETURN_IF_ERROR(Expect(!taken.ok() && taken.message() == "12A is Ada's", "a refusal with its reason"));
  const absl::Status nonsense = seats.Send(Bytes::Copy("12A")).status();
  RETURN_IF_ERROR(Expect(absl::IsInvalidArgument(nonsense), "INVALID_ARGUMENT from Admit"));

  ASSIGN_OR_RETURN(const RaftReply first, seats.SendReadOnly(Bytes::Copy("12A")));
  ASSIGN_OR_RETURN(const RaftReply other, seats.SendReadOnly(Bytes::Copy("14C")));
  return Expect(first.message == "Ada" && other.message == "free", "12A is Ada's, 14C is free");
}

}  // namespace
}  // namespace sluice::examples

int main() { return sluice::examples::Report(sluice::examples::Example()); }
