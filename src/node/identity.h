// Whose folder this is: server id, cluster, format, and how often it was opened (F-19, F-20).
//
//   ASSIGN_OR_RETURN(Identity identity, OpenIdentity(files, dir, "n0", bootstrap, random));
//
// Written whole and durably before anything else in the folder; format: docs/formats/identity.md.
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>

#include "base/cluster_id.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/files.h"
#include "env/random.h"

namespace sluice::node {

struct Identity {
  PeerId server;
  ClientId lane;             // the client id of uploads that this server opens itself
  uint64_t incarnation = 0;  // raised at every start
  bool may_vote = false;     // the folder was made by a bootstrap, or has voted since
  ClusterId cluster;         // zero: not learned yet
};

// Reads the identity of `dir`, or makes one in an empty folder; raises the incarnation. FAILED_PRECONDITION
// if the folder belongs to another server or is of another format.
absl::StatusOr<Identity> OpenIdentity(env::Files& files, const std::string& dir, const PeerId& server,
                                      bool bootstrap, env::Random& random);
// Replaces it, durably: a server has learned its cluster.
absl::Status SaveIdentity(env::Files& files, const std::string& dir, const Identity& identity);

}  // namespace sluice::node
