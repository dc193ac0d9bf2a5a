#include "log/repair.h"

#include <algorithm>
#include <future>
#include <memory>

#include "log/hard_state.h"
#include "log/recovery.h"

namespace sluice::log {
namespace {

// Beyond any term that the servers left behind may reach by themselves.
constexpr uint64_t kTermsAhead = 1'000'000;

absl::Status NoGroup(const std::string& dir, const GroupId& group) {
  return absl::NotFoundError(fmt::format("{} holds no group {}", dir, group.ToString()));
}

// Appends, and waits until that and all before it is durable.
absl::Status Written(env::Executors& executors, Log& log, AppendBatch batch) {
  std::promise<absl::Status> written;
  const auto reply = executors.NewExecutor("repair");
  log.Append(std::move(batch), reply.get(),
             [&written](absl::Status status) { written.set_value(std::move(status)); });
  return written.get_future().get();
}

}  // namespace

absl::Status BecomeLearner(env::Files& files, const std::string& dir, const GroupId& group) {
  ASSIGN_OR_RETURN(const Recovered recovered, Recover(files, dir, {}));
  const auto found = recovered.groups.find(group);
  if (found == recovered.groups.end()) return NoGroup(dir, group);
  const LoadedHardState& hard = found->second.hard_state;
  const Term term = std::max(hard.newest ? hard.newest->state.term : Term{0}, found->second.log.last().term);
  HardStateFile file(files, dir + "/" + HardStateName(group), group, hard.newest ? hard.newest->sequence : 0);
  return file.Store({term, PeerId(), raft::kEveryTerm}, recovered.next_sequence);
}

absl::Status DropDamaged(env::Files& files, env::Executors& executors, const std::string& dir,
                         const GroupId& group) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Log> log, Log::Open(files, executors, dir, {}));
  const std::vector<GroupId> groups = log->RecoveredGroups();
  if (std::find(groups.begin(), groups.end(), group) == groups.end()) return NoGroup(dir, group);
  log->GiveUp(group);
  return Written(executors, *log, {group, std::nullopt, {}});
}

absl::Status ForceMember(env::Files& files, env::Executors& executors, const std::string& dir,
                         const GroupId& group, const raft::Peer& self) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Log> log, Log::Open(files, executors, dir, {}));
  const std::vector<GroupId> groups = log->RecoveredGroups();
  if (std::find(groups.begin(), groups.end(), group) == groups.end()) return NoGroup(dir, group);
  const GroupState state = log->TakeRecovered(group);
  const Index last = state.compacted.index + static_cast<int64_t>(state.entries.size());
  Term term = state.entries.empty() ? state.compacted.term : state.entries.back().term;
  if (state.hard_state) term = std::max(term, state.hard_state->term);
  term.value += kTermsAhead;
  raft::Configuration alone;
  alone.voters.push_back(self);
  const raft::Entry entry{
      {term, last.Next()}, raft::EntryKind::kConfiguration, raft::EncodeConfiguration(alone)};
  log->GiveUp(group);
  return Written(executors, *log, {group, raft::HardState{term, self.id}, {entry}});
}

}  // namespace sluice::log
