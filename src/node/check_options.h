// What a host could not run with, for who reads options of a user: app knows node, and not what lies under it.
//
//   RETURN_IF_ERROR(node::CheckOptions(options));
//
// Pure; any thread. INVALID_ARGUMENT names the option, its value and what it may be.
#pragma once

#include "base/status.h"
#include "node/host.h"

namespace sluice::node {

absl::Status CheckOptions(const HostOptions& options);

}  // namespace sluice::node
