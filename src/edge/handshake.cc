#include "edge/handshake.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/log.h"
#include "wire/handshake.h"

namespace sluice::edge {
namespace {

std::optional<std::string> Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto at = context.client_metadata().find(key);
  if (at == context.client_metadata().end()) return std::nullopt;
  return std::string(at->second.data(), at->second.size());
}

absl::Status CheckTarget(const std::string& target, const node::Host& host) {
  const std::string& self = host.options().self.id.value;
  if (target == self) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "this is server {}, not {}, which was meant: is its address wrong?", self, Printable(target)));
}

absl::Status CheckCluster(std::string_view who, const std::string& said, const node::Host& host) {
  const auto cluster = ClusterId::FromBytes(said);
  if (!cluster) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes of metadata {}: 16 expected", said.size(), wire::kClusterKey));
  }
  return host.cluster().Check(who, *cluster);
}

bool JavaMayCall(const node::Host& host, const GroupId& group) {
  const auto& groups = host.options().groups;
  return std::any_of(groups.begin(), groups.end(), [&](const node::GroupSpec& spec) {
    return spec.id == group && spec.mode == node::GroupMode::kRatis;
  });
}

}  // namespace

CallerSays SayTo(const node::Cluster& cluster, const PeerId& to) {
  CallerSays says{.cluster = {}, .target = to.value};
  const ClusterId said = cluster.said();
  if (!said.IsZero()) says.cluster = std::string(said.AsBytes());
  return says;
}

void Say(const CallerSays& says, grpc::ClientContext* context) {
  if (says.cluster) context->AddMetadata(wire::kClusterKey, *says.cluster);
  if (says.target) context->AddMetadata(wire::kTargetKey, *says.target);
}

CallerSays SaidIn(const grpc::CallbackServerContext& context) {
  return {Metadata(context, wire::kClusterKey), Metadata(context, wire::kTargetKey)};
}

absl::Status CheckServer(const CallerSays& says, const node::Host& host, const ServerCall& call) {
  if (!says.cluster && JavaMayCall(host, call.group)) return absl::OkStatus();
  const std::string who =
      call.from.empty() ? "a server" : fmt::format("server {}", Printable(call.from.value));
  if (says.cluster) {
    RETURN_IF_ERROR(CheckCluster(who, *says.cluster, host));
  } else {
    RETURN_IF_ERROR(host.cluster().Check(who, ClusterId{}));
  }
  if (says.target) return CheckTarget(*says.target, host);
  return call.target.empty() ? absl::OkStatus() : CheckTarget(call.target.value, host);
}

absl::Status CheckClient(const grpc::CallbackServerContext& context, const node::Host& host) {
  if (const auto cluster = Metadata(context, wire::kClusterKey)) {
    RETURN_IF_ERROR(CheckCluster("a client", *cluster, host));
  }
  const auto target = Metadata(context, wire::kTargetKey);
  return target ? CheckTarget(*target, host) : absl::OkStatus();
}

absl::Status CheckStream(const node::StreamHeader& header, const node::Host& host) {
  // A client sends to the first server of the route; whoever is another one gets it from a server.
  const bool of_server = header.route.primary != host.options().self.id;
  if (!header.cluster.IsZero() || (of_server && !JavaMayCall(host, header.group))) {
    RETURN_IF_ERROR(host.cluster().Check(of_server ? fmt::format("a server that passes on a stream of {}",
                                                                 Printable(header.route.primary.value))
                                                   : "the sender of a stream",
                                         header.cluster));
  }
  return header.target.empty() ? absl::OkStatus() : CheckTarget(header.target.value, host);
}

}  // namespace sluice::edge
