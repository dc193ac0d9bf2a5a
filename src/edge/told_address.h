// The address that a server tells others: never one that means "every address of this machine".
//
//   ASSIGN_OR_RETURN(std::string told, ToldAddress("0.0.0.0:7400", /*advertise=*/""));    // ":7400"
//
// Pure functions; any thread. INVALID_ARGUMENT names what is no address that can be told.
#pragma once

#include <string>

#include "base/status.h"

namespace sluice::edge {

// Whether `host` stands for all addresses: 0.0.0.0, ::, or nothing.
bool IsUnspecified(std::string_view host);
// HOST:PORT with a host that can be told, and room for the ports that follow.
absl::Status CheckTold(std::string_view address);
// Of a server without peers: `advertise` if it is given, else `listen`; where that is unspecified, ":PORT". A client
// then takes the host by which it reached the server.
absl::StatusOr<std::string> ToldAddress(const std::string& listen, const std::string& advertise);

}  // namespace sluice::edge
