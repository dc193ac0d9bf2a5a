// Whose folder this is: server id, cluster, format (F-19, F-20).
//
//   ASSIGN_OR_RETURN(Identity identity, OpenIdentity(files, dir, "n0", bootstrap));
//
// Written whole and durably before anything else in an empty folder, and when the cluster is learned. A later
// start only reads it, so that a full disk does not prevent it (K23). Format: docs/formats/identity.md.
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>

#include "base/cluster_id.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/files.h"

namespace sluice::node {

struct Identity {
  PeerId server;
  bool may_vote = false;  // the folder was made by a bootstrap
  ClusterId cluster;      // zero: not learned yet
};

// Reads the identity of `dir`, or makes one in an empty folder. FAILED_PRECONDITION if the folder belongs to
// another server, is of another format, or holds files and no identity.
absl::StatusOr<Identity> OpenIdentity(env::Files& files, const std::string& dir, const PeerId& server,
                                      bool bootstrap);
// Replaces it, durably: a server has learned its cluster.
absl::Status SaveIdentity(env::Files& files, const std::string& dir, const Identity& identity);

}  // namespace sluice::node
