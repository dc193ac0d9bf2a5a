// Whose folder this is: server id, format, and how often it was opened (F-19, F-20).
//
//   ASSIGN_OR_RETURN(Identity identity, OpenIdentity(files, dir, "n0", bootstrap, random));
//
// Written whole and durably before anything else in the folder; format: docs/formats/identity.md.
// Threading: plain values.
#pragma once

#include <cstdint>
#include <string>

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
};

// Reads the identity of `dir`, or makes one in an empty folder; raises the incarnation. FAILED_PRECONDITION
// if the folder belongs to another server or is of a newer format.
absl::StatusOr<Identity> OpenIdentity(env::Files& files, const std::string& dir, const PeerId& server,
                                      bool bootstrap, env::Random& random);

}  // namespace sluice::node
