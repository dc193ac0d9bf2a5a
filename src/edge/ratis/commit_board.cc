#include "edge/ratis/commit_board.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace sluice::edge::ratis {
namespace {
constexpr env::Duration kMaxAge = std::chrono::milliseconds(100);
}  // namespace

std::vector<pb::CommitInfoProto> CommitInfos(const PeerId& self,
                                             const std::vector<node::CommitInfo>& commits) {
  std::vector<pb::CommitInfoProto> out;
  for (const node::CommitInfo& commit : commits) {
    pb::CommitInfoProto info;
    ToProto(commit.peer, false, info.mutable_server());
    info.set_commit_index(ToWire(commit.commit));
    const auto at = commit.peer.id == self ? out.begin() : out.end();
    out.insert(at, std::move(info));
  }
  return out;
}

CommitBoard::CommitBoard(node::Host* host, env::Executor* executor)
    : host_(host), executor_(executor), state_(std::make_shared<State>()) {}

std::shared_ptr<const CommitBoard::Infos> CommitBoard::Latest() {
  const env::Instant now = env::RealClock().MonotonicNow();
  {
    std::lock_guard lock(state_->mutex);
    const bool fresh = state_->infos != nullptr && now - state_->asked < kMaxAge;
    if (fresh || state_->asking) return state_->infos;
    state_->asking = true;
    state_->asked = now;
  }
  host_->Status(executor_, [state = state_, self = host_->options().self.id](node::HostStatus status) {
    auto infos = std::make_shared<Infos>();
    for (const node::GroupStatus& group : status.groups)
      (*infos)[group.id] = CommitInfos(self, group.commits);
    std::lock_guard lock(state->mutex);
    state->infos = std::move(infos);
    state->asking = false;
  });
  std::lock_guard lock(state_->mutex);
  return state_->infos;
}

void CommitBoard::Fill(const GroupId& group, Index own_commit, pb::RaftClientReplyProto* out) {
  const std::shared_ptr<const Infos> infos = Latest();
  if (infos == nullptr) return;
  const auto it = infos->find(group);
  if (it == infos->end()) return;
  for (const pb::CommitInfoProto& info : it->second) *out->add_commit_infos() = info;
  if (out->commit_infos_size() == 0 || !own_commit.valid()) return;
  pb::CommitInfoProto* own = out->mutable_commit_infos(0);
  const auto known = static_cast<int64_t>(own->commit_index());
  own->set_commit_index(static_cast<uint64_t>(std::max(known, own_commit.value)));
}

}  // namespace sluice::edge::ratis
