// What a server tells about itself and its groups, and its names, as plain structs:
// the client side of sluice.Admin.
//
//   ASSIGN_OR_RETURN(ServerStatus status, AskStatus(connection, "127.0.0.1:7400"));
//   ASSIGN_OR_RETURN(ServerStatus any, AskAnyStatus(connection));
//   const GroupView* group = any.Find(kDefaultGroup);
//
// Functions block, any thread. Errors: those of the connection, else what the server answered; a server of
// another cluster than the connection's is FAILED_PRECONDITION.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/ids.h"
#include "client/connection.h"

namespace sluice::client {

struct Member {
  std::string id;
  std::string address;              // gRPC
  std::string data_stream_address;  // empty: none
};

struct FollowerView {
  std::string id;
  int64_t match = -1;
  int64_t lag = 0;  // entries behind the leader
  bool active = false;
  bool learner = false;
  std::string state;
  uint64_t snapshot_bytes = 0;  // that it has taken of the one that it is being sent
  uint64_t snapshot_total = 0;  // 0: none
};

struct GroupView {
  std::string id;  // UUID text
  std::string machine;
  std::string role;
  uint64_t term = 0;
  std::string leader;  // empty: unknown
  bool ready = false;
  int64_t first = -1;  // of the log; who lacks an earlier entry needs a snapshot
  int64_t last = -1;
  int64_t commit = -1;
  int64_t applied = -1;
  int64_t bytes_complete = -1;
  uint64_t missing = 0;
  int64_t snapshot = -1;
  bool voting = true;
  bool repairing = false;
  std::vector<std::string> waits_for;  // servers that may know of what was lost there
  std::string storage_error;
  std::string not_serving;  // why the server serves nobody in the group; empty: it does
  bool installing = false;  // a snapshot
  int64_t unreadable = -1;  // the highest entry that the log could not give to a follower
  std::vector<Member> voters;
  std::vector<Member> learners;
  std::vector<FollowerView> followers;  // at the leader only
};

struct ServerStatus {
  Member self;
  ClusterId cluster;  // zero: not known yet
  int64_t pid = 0;
  std::string data_dir;
  bool stopping = false;
  std::vector<GroupView> groups;
  std::vector<std::string> uploads;
  uint64_t stages = 0;
  uint64_t staged_bytes = 0;
  uint64_t damaged_chunks = 0;
  uint64_t free_bytes = 0;
  uint64_t reserve_bytes = 0;  // uploads are refused when less is free
  uint64_t log_segments = 0;
  uint64_t log_bytes = 0;
  std::string log_error;

  const GroupView* Find(const GroupId& group) const;
  // Serves, in every group that it runs.
  bool Ready() const { return WhyNotReady().empty(); }
  std::string WhyNotReady() const;
};

// One open stream of Streaming RPC at a server.
struct StreamView {
  uint64_t id = 0;
  std::string peer;  // "host:port"
  uint64_t bytes_in = 0, bytes_out = 0;
  uint64_t messages_in = 0, messages_out = 0;
  uint64_t window_bytes = 0;      // 0: no limit
  uint64_t unconsumed_bytes = 0;  // written by the server and not consumed by the peer
  uint64_t stalls = 0;
  int64_t age_ms = 0;
};
struct StreamList {
  std::vector<StreamView> streams;  // oldest first
  bool more = false;                // than are listed
};

struct BlobView {
  std::string name;
  uint64_t length = 0;
  std::optional<Sha256> digest;
  int64_t created_ms = 0;
  std::vector<std::string> holders;
  std::string content_id;  // which content the name has: what a read that goes on asks for
  bool local = false;
  bool inlined = false;
};

absl::StatusOr<ServerStatus> AskStatus(Connection& connection, const std::string& address, Duration timeout);
// Of the first server that answers.
absl::StatusOr<ServerStatus> AskAnyStatus(Connection& connection, Patience patience = {});

absl::StatusOr<StreamList> AskStreams(Connection& connection, const std::string& address, Duration timeout);
// Asks whether the server says anything at all, by another way than the transfer that waits: one whose disks are slow
// does, a frozen one does not. May be called on any thread while `connection` lives; each call blocks, 2 s at most.
std::function<bool()> AliveAt(Connection* connection, const std::string& address);

struct BlobPage {
  std::vector<BlobView> blobs;
  bool more = false;
};
absl::StatusOr<BlobPage> ListBlobs(Connection& connection, const GroupId& group, const std::string& prefix,
                                   const std::string& after, uint32_t limit);
absl::StatusOr<BlobView> StatBlob(Connection& connection, const GroupId& group, const std::string& name);
absl::Status RemoveBlob(Connection& connection, const GroupId& group, const std::string& name);

}  // namespace sluice::client
