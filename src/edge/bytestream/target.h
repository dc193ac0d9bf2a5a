// What a call asks for: the group and the resource, from metadata and name.
//
//   ASSIGN_OR_RETURN(GroupId group, GroupOf(*context));
//   ASSIGN_OR_RETURN(auto header, HeaderFor(name, *context));
//
// Pure functions; any thread. INVALID_ARGUMENT for illegal names and metadata,
// UNIMPLEMENTED for names of the remote cache.
#pragma once

#include <grpcpp/server_context.h>

#include <optional>
#include <string>

#include "node/request.h"

namespace sluice::edge::bytestream {

absl::StatusOr<GroupId> GroupOf(const grpc::CallbackServerContext& context);
// The name of a resource that this service serves.
absl::Status CheckResource(const std::string& name);
absl::StatusOr<node::BlobHeader> HeaderFor(const std::string& name,
                                           const grpc::CallbackServerContext& context);

struct FetchTarget {
  GroupId group;
  UploadId upload;
};
std::string EncodeFetchTarget(const FetchTarget& target);
// nullopt: an ordinary read.
absl::StatusOr<std::optional<FetchTarget>> FetchTargetOf(const grpc::CallbackServerContext& context);

}  // namespace sluice::edge::bytestream
