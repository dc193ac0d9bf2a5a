#include "node/log_clock.h"

#include "base/fields.h"

namespace sluice::node {
namespace {

// Servers number their own commands from 2^32; 0 is taken by what the group is (group_facts.cc).
constexpr CallId kClockCall{1};
constexpr uint32_t kNowTag = 1;

}  // namespace

Bytes EncodeClockEntry(int64_t now_ms) {
  FieldWriter out;
  out.PutVarint(kNowTag, static_cast<uint64_t>(now_ms));
  return EncodeCommand({CommandType::kWrite, kSystemClient, kClockCall, Bytes::Take(out.Take())});
}

std::optional<int64_t> ClockOf(const Command& command) {
  if (command.type != CommandType::kWrite || command.client != kSystemClient || command.call != kClockCall) {
    return std::nullopt;
  }
  int64_t now_ms = 0;
  const std::string record = command.data.ToString();
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == kNowTag) now_ms = static_cast<int64_t>(in.varint());
  }
  return now_ms;
}

}  // namespace sluice::node
