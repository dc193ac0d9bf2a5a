// The servers that a client may ask, and their channels: one after another until one answers.
//
//   Connection connection(*ParseServers("127.0.0.1:7400,127.0.0.1:7410"));
//   absl::Status status = connection.AtAny([&](const std::string& address, Duration timeout) {
//     grpc::ClientContext context;
//     connection.Prepare(address, &context, timeout);
//     return Ask(connection.Channel(address), &context);
//   });
//
// Threading: thread-safe; AtAny blocks. Ownership: channels live as long as the connection or their last
// user. Failure: a call that no server answered ends within the given patience with one line that names every
// server and what it said; it never hangs, because every call carries a deadline. A cluster whose servers all
// refuse the connection is stopped, which is told soon;
// one that is there and has no leader yet is waited for. One server that is frozen, full or cut off from the others
// costs kAttemptTimeout, not the patience of the whole. Servers of another cluster than the first that answered
// are refused, and those that the client learned of must be who they were said to be.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/cluster_id.h"
#include "base/status.h"

namespace grpc {
class Channel;
class ClientContext;
class Status;
}  // namespace grpc

namespace sluice::client {

using Clock = std::chrono::steady_clock;
using Duration = std::chrono::nanoseconds;

// How long all servers may refuse the connection before a client says that nobody is there.
inline constexpr Duration kContactPatience = std::chrono::seconds(3);
// How long servers that are there may go on saying that they cannot serve: elections and restarts take less.
inline constexpr Duration kAnswerPatience = std::chrono::seconds(30);
// How long one attempt may take while there is another server to ask; doubled with every round of all.
inline constexpr Duration kAttemptTimeout = std::chrono::milliseconds(2500);
// The longest attempt: beyond a server's own wait for a leader.
inline constexpr Duration kAttemptTimeoutMax = std::chrono::seconds(12);
// How long one short call may take.
inline constexpr Duration kCallTimeout = std::chrono::seconds(5);

// "HOST:PORT[,HOST:PORT]…"; INVALID_ARGUMENT names the part that is none.
absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view text);

// A refused or broken connection, or a server that cannot serve at the moment: worth trying elsewhere.
bool IsWorthAnotherServer(const absl::Status& status);

absl::Status FromGrpc(const grpc::Status& status);
void SetDeadline(grpc::ClientContext* context, Duration timeout);

struct Patience {
  Duration contact = kContactPatience;
  Duration answer = kAnswerPatience;
};

class Connection {
 public:
  explicit Connection(std::vector<std::string> servers);

  std::vector<std::string> servers() const;
  // Learned from the group: asked after those that the user named. `id`: who must be found there.
  void AddServer(const std::string& address, const std::string& id);
  // A server has told its cluster. The first one counts: FAILED_PRECONDITION names both for another.
  absl::Status LearnCluster(const std::string& address, const ClusterId& cluster);
  ClusterId cluster() const;
  // For a call to `address`: its deadline, and what the server is to check before it believes anything.
  void Prepare(const std::string& address, grpc::ClientContext* context, Duration timeout) const;
  void Prepare(const std::string& address, grpc::ClientContext* context) const;  // without a deadline
  std::shared_ptr<grpc::Channel> Channel(const std::string& address);

  // Runs `attempt` at one server after another, first at the one that answered last, round after round with a
  // pause, until it gives something else than an error that is worth another server, or the patience is over
  // (each server is tried once at least). RESOURCE_EXHAUSTED is the answer when every server gave it in a round.
  absl::Status AtAny(absl::FunctionRef<absl::Status(const std::string& address, Duration timeout)> attempt,
                     Patience patience = {});
  // After a call that failed: the server was there, whatever it answered. If not, its channel is forgotten,
  // so that the next attempt connects at once; gRPC's own would fail without trying
  // until its backoff is over.
  bool Reached(const std::string& address);
  // The order in which AtAny would ask now.
  std::vector<std::string> Order() const;
  // The server is out of order: others go first from now on.
  void Avoid(const std::string& address);

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> servers_;  // guarded by mutex_, as is all below
  size_t first_ = 0;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;
  std::map<std::string, std::string> ids_;  // of learned addresses
  ClusterId cluster_;
  std::string cluster_at_;  // who told it
};

// UNAVAILABLE: "no server answered: 127.0.0.1:7400 (connection refused): is it running? try `sluice serve`".
// With `there`: they are running, and none of them can serve.
absl::Status NoServerAnswered(const std::map<std::string, absl::Status>& said, bool there = false);

}  // namespace sluice::client
