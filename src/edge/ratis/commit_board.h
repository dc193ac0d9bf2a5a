// What every reply tells in passing: how far each server has committed, as far as this one knows.
//
//   board.Fill(group, reply.log_index, &proto);
//
// The facts are at most a tenth of a second old while replies flow: they are asked of the host in the
// background, never per reply. Threading: any thread. They inform, nothing depends on them.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "edge/ratis/convert.h"
#include "node/host.h"

namespace sluice::edge::ratis {

class CommitBoard {
 public:
  // Both must outlive the host's last callback; `executor` receives them.
  CommitBoard(node::Host* host, env::Executor* executor);

  // Adds this server's own entry first, with at least `own_commit`.
  void Fill(const GroupId& group, Index own_commit, pb::RaftClientReplyProto* out);

 private:
  using Infos = absl::flat_hash_map<GroupId, std::vector<pb::CommitInfoProto>>;
  struct State {
    std::mutex mutex;
    std::shared_ptr<const Infos> infos;  // shared: replaced while replies copy from it
    env::Instant asked{};
    bool asking = false;
  };
  std::shared_ptr<const Infos> Latest();

  node::Host* const host_;
  env::Executor* const executor_;
  const std::shared_ptr<State> state_;  // shared with an answer that is on its way
};

// Own server first.
std::vector<pb::CommitInfoProto> CommitInfos(const PeerId& self,
                                             const std::vector<node::CommitInfo>& commits);

}  // namespace sluice::edge::ratis
