// The address that a server tells others: never one that means "every address of this machine".
//
//   ASSIGN_OR_RETURN(std::string told, ToldAddress("0.0.0.0:7400", /*advertise=*/""));    // ":7400"
//
// Pure functions; any thread. INVALID_ARGUMENT names what is no address that can be told, and what to do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "raft/types.h"

namespace sluice::edge {

// Whether `host` stands for all addresses: 0.0.0.0, ::, or nothing.
bool IsUnspecified(std::string_view host);
// HOST:PORT with a host that can be told, and room for the ports that follow.
absl::Status CheckTold(std::string_view address);
// Of a server without peers: `advertise` if it is given, else `listen`; where that is unspecified, ":PORT". A client
// then takes the host by which it reached the server.
absl::StatusOr<std::string> ToldAddress(const std::string& listen, const std::string& advertise);

// A server among others, as its user has written it.
struct Membership {
  std::string id;
  std::string listen;
  std::string advertise;          // empty: that of `peers`
  std::vector<raft::Peer> peers;  // with itself
  int ports = 2;                  // of each server, from that of its address on
};
// Mistakes that would make a group in which nobody can be reached, or none at all: an id twice, servers that would
// need the same port, and a server that listens where nobody looks for it. What `listen` and `peers` say may differ
// where names or `advertise` tell that one leads to the other.
absl::Status CheckMembership(const Membership& all);

}  // namespace sluice::edge
