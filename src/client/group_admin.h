// Ratis' admin questions of sluice/client.h: which groups a server runs, and how one of them stands.
//
//   GroupAdmin admin(connection, client_id);   admin.GroupList("127.0.0.1:7400");
//
// Threading: any thread; calls block. Failure: those of Connection::AtAny, else what the server answered.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/connection.h"
#include "sluice/client.h"
#include "sluice/ratis/raft.pb.h"

namespace sluice::client {

class GroupAdmin final : public AdminApi {
 public:
  GroupAdmin(std::shared_ptr<Connection> connection, const ClientId& client)
      : connection_(std::move(connection)), client_(client) {}
  absl::StatusOr<std::vector<GroupId>> GroupList(const std::string& server) override;
  absl::StatusOr<RaftGroupInfo> GroupInfo(const GroupId& group, const std::string& server) override;

 private:
  const std::shared_ptr<Connection> connection_;
  const ClientId client_;
};

absl::StatusOr<RaftGroupInfo> FromWire(const ::sluice::ratis::common::GroupInfoReplyProto& reply);

}  // namespace sluice::client
