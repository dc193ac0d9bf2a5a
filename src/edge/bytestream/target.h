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

#include "node/transports.h"

namespace sluice::edge::bytestream {

absl::StatusOr<GroupId> GroupOf(const grpc::CallbackServerContext& context);
// The name of a resource that this service serves.
absl::Status CheckResource(const std::string& name);
absl::StatusOr<node::BlobHeader> HeaderFor(const std::string& name,
                                           const grpc::CallbackServerContext& context);
// The upload that a question is about.
node::WriteKey WriteOf(const std::string& name, const grpc::CallbackServerContext& context);

// The method by which servers fetch of each other.
inline constexpr char kReadPath[] = "/google.bytestream.ByteStream/Read";
std::string EncodeFetchTarget(const node::FetchWanted& target);
absl::StatusOr<node::FetchWanted> DecodeFetchTarget(const std::string& raw);
// nullopt: an ordinary read.
absl::StatusOr<std::optional<node::FetchWanted>> FetchTargetOf(const grpc::CallbackServerContext& context);
// The content that a read goes on with; nullopt: whatever the name has.
absl::StatusOr<std::optional<UploadId>> ContentOf(const grpc::CallbackServerContext& context);

}  // namespace sluice::edge::bytestream
