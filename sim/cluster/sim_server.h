// The gRPC port of one simulated server: what others call of it, answered by the edge's handlers.
//
//   SimServer served({.host = host, ...});
//   served.OnFrame(connection, frame, answer);   // from the network; `answer` sends frames back
//
// Threading: the world's thread. Ownership: it ends with Drop(), when the process is dead: no handler calls back
// into it after that.
#pragma once

#include "edge/peer/peer_handlers.h"
#include "edge/ratis/server_handlers.h"
#include "env/files.h"
#include "sim/cluster/sim_wire.h"

namespace sluice::sim {

class SimServer {
 public:
  struct Parts {
    node::Host* host;
    edge::ratis::ReplyTable* replies;
    env::Executor* lane;
    env::Executor* disk;  // snapshots
    env::Files* files;
    World* world;
  };
  using Answer = std::function<void(Frame)>;
  class Call;  // one under way

  explicit SimServer(Parts parts);
  ~SimServer() { Drop(); }
  void Drop();
  void OnFrame(const std::shared_ptr<Connection>& connection, const FramePtr& frame, Answer answer);

 private:
  using CallPtr = std::shared_ptr<Call>;  // shared with what owes it an answer
  using Begin = std::function<CallPtr(const Frame& first, Answer answer)>;

  template <typename Handlers>
  void Register(Handlers* handlers);
  void OnBroken(Connection* connection);
  void Forget(Connection* connection, uint64_t id);

  const Parts parts_;
  edge::peer::PeerHandlers peer_handlers_;
  edge::ratis::ServerHandlers raft_handlers_;
  std::map<std::string, Begin> methods_;
  std::map<Connection*, std::map<uint64_t, CallPtr>> calls_;
  uint64_t snapshots_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // until Drop
};

}  // namespace sluice::sim
