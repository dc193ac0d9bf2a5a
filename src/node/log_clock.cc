#include "node/log_clock.h"

#include "base/fields.h"

namespace sluice::node {
namespace {

// Servers number their own commands from 2^32; 0 is taken by what the group is (group_facts.cc).
constexpr CallId kClockCall{1};
constexpr CallId kAskedAgainCall{2};
constexpr uint32_t kValueTag = 1;

// A command of this server's own that is one number.
Bytes EncodeNumber(CallId call, int64_t number) {
  FieldWriter out;
  out.PutVarint(kValueTag, static_cast<uint64_t>(number));
  return EncodeCommand({CommandType::kWrite, kSystemClient, call, Bytes::Take(out.Take())});
}

std::optional<int64_t> NumberOf(const Command& command, CallId call) {
  if (command.type != CommandType::kWrite || command.client != kSystemClient || command.call != call) {
    return std::nullopt;
  }
  int64_t number = 0;
  const std::string record = command.data.ToString();
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == kValueTag) number = static_cast<int64_t>(in.varint());
  }
  return number;
}

}  // namespace

Bytes EncodeClockEntry(int64_t now_ms) { return EncodeNumber(kClockCall, now_ms); }
std::optional<int64_t> ClockOf(const Command& command) { return NumberOf(command, kClockCall); }

Bytes EncodeAskedAgain(Index kept) { return EncodeNumber(kAskedAgainCall, kept.value); }
std::optional<Index> AskedAgainOf(const Command& command) {
  const auto kept = NumberOf(command, kAskedAgainCall);
  return kept ? std::optional(Index{*kept}) : std::nullopt;
}

}  // namespace sluice::node
