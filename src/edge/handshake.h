// Who may talk to this server: calls of another cluster, and calls that mean another server, are refused before
// anything of them is believed (F-19, F-56).
//
//   Say(SayTo(host.cluster(), peer), context);                                 // in every call to another server
//   RETURN_IF_ERROR(CheckServer(SaidIn(*context), *host, {.group = g, .from = id}));   // of a server's call
//   RETURN_IF_ERROR(CheckClient(*context, *host));                             // of a client's
//
// Thread-safe. Failure: FAILED_PRECONDITION that names both sides.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <optional>
#include <string>

#include "node/host.h"
#include "node/transports.h"

namespace sluice::edge {

// What a caller says beside its message, in metadata.
struct CallerSays {
  std::optional<std::string> cluster;  // as it came: sixteen bytes, if it is right
  std::optional<std::string> target;   // the id of the server that it means
};
CallerSays SayTo(const node::Cluster& cluster, const PeerId& to);
void Say(const CallerSays& says, grpc::ClientContext* context);
CallerSays SaidIn(const grpc::CallbackServerContext& context);

struct ServerCall {
  GroupId group;
  PeerId from;
  PeerId target;  // whom the message itself names; empty: it names nobody
};
// A server that says no cluster is taken only where Java servers may be members, which know of none: there the
// group's id and the member's own stand for it.
absl::Status CheckServer(const CallerSays& says, const node::Host& host, const ServerCall& call);
// What a client says of cluster and server must be right; it need not say anything.
absl::Status CheckClient(const grpc::CallbackServerContext& context, const node::Host& host);
// The same for the header of a stream: as a server's where this server is not the first of the route, else as a
// client's.
absl::Status CheckStream(const node::StreamHeader& header, const node::Host& host);

}  // namespace sluice::edge
