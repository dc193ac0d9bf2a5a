#include "node/group_facts.h"

namespace sluice::node {
namespace {

// Servers number their own commands from 1.
constexpr CallId kFactsCall{0};
constexpr uint32_t kEntryModeTag = 1;
constexpr uint32_t kEntryMachineTag = 2;
constexpr uint32_t kEntryClusterTag = 3;

const char* NameOf(GroupMode mode) { return mode == GroupMode::kRatis ? "ratis" : "sluice"; }

}  // namespace

Bytes EncodeFactsEntry(const GroupFacts& facts) {
  FieldWriter out;
  out.PutVarint(kEntryModeTag, static_cast<uint64_t>(facts.mode));
  out.PutText(kEntryMachineTag, facts.machine);
  if (!facts.cluster.IsZero()) out.PutText(kEntryClusterTag, facts.cluster.AsBytes());
  return EncodeCommand({CommandType::kWrite, kSystemClient, kFactsCall, Bytes::Take(out.Take())});
}

absl::StatusOr<std::optional<GroupFacts>> FactsOf(const Command& command) {
  if (command.type != CommandType::kWrite || command.client != kSystemClient || command.call != kFactsCall) {
    return std::optional<GroupFacts>();
  }
  GroupFacts facts;
  uint64_t mode = 0;
  const std::string record = command.data.ToString();
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == kEntryModeTag) mode = in.varint();
    if (in.tag() == kEntryMachineTag) facts.machine = std::string(in.text());
    if (in.tag() == kEntryClusterTag) facts.cluster = ClusterId::FromBytes(in.text()).value_or(ClusterId{});
  }
  if (!in.ok() || mode < 1 || mode > 2 || facts.machine.empty()) {
    return absl::DataLossError("the entry that says what the group is is malformed");
  }
  facts.mode = static_cast<GroupMode>(mode);
  return std::optional(std::move(facts));
}

void ReadFacts(const FieldReader& in, std::optional<GroupFacts>& facts) {
  if (in.tag() != kModeTag && in.tag() != kMachineTag && in.tag() != kClockTag && in.tag() != kClusterTag)
    return;
  if (!facts) facts.emplace();
  if (in.tag() == kModeTag) facts->mode = in.varint() == 2 ? GroupMode::kRatis : GroupMode::kSluice;
  if (in.tag() == kMachineTag) facts->machine = std::string(in.text());
  if (in.tag() == kClockTag) facts->clock_ms = static_cast<int64_t>(in.varint());
  if (in.tag() == kClusterTag) facts->cluster = ClusterId::FromBytes(in.text()).value_or(ClusterId{});
}

absl::Status CheckFacts(const GroupSpec& spec, const ClusterId& cluster, const GroupFacts& logged) {
  if (!cluster.IsZero() && !logged.cluster.IsZero() && cluster != logged.cluster) {
    return absl::FailedPreconditionError(
        fmt::format("group {}: its log is of cluster {}, the identity of this server of cluster {}: one of "
                    "them is another's; restore both from one copy (F-19)",
                    spec.id.ToString(), logged.cluster.ToString(), cluster.ToString()));
  }
  if (logged.mode == spec.mode && logged.machine == spec.machine) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("group {} runs the machine {} in {} mode, as its log says; this server is set up for {} in "
                  "{} mode: give "
                  "it the group's own settings (D-01)",
                  spec.id.ToString(), logged.machine, NameOf(logged.mode), spec.machine, NameOf(spec.mode)));
}

}  // namespace sluice::node
