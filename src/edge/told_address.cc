#include "edge/told_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/log.h"
#include "base/server_id.h"
#include "base/strings.h"

namespace sluice::edge {
namespace {

constexpr int kPortMax = 65535 - 3;  // of gRPC: the other ports follow it

struct HostPort {
  std::string host;  // without brackets, in lower case; an address as the system prints it
  bool is_name = false;
  int port = 0;
};

absl::StatusOr<HostPort> Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort parts;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &parts.port)) {
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no HOST:PORT", Printable(address)));
  }
  parts.host = absl::AsciiStrToLower(address.substr(0, colon));
  if (parts.host.size() >= 2 && parts.host.front() == '[' && parts.host.back() == ']')
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  char text[INET6_ADDRSTRLEN] = {};
  in_addr four{};
  in6_addr six{};
  if (inet_aton(parts.host.c_str(), &four) != 0) {
    parts.host = inet_ntop(AF_INET, &four, text, sizeof text);
  } else if (inet_pton(AF_INET6, parts.host.c_str(), &six) == 1) {
    parts.host = inet_ntop(AF_INET6, &six, text, sizeof text);
  } else {
    parts.is_name = true;
  }
  return parts;
}

absl::Status CheckWhereItListens(const Membership& all, const std::string& told) {
  if (!all.advertise.empty()) {
    if (all.advertise == told) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "{} is at {} there, and it is to advertise {}: they must agree", all.id, told, all.advertise));
  }
  ASSIGN_OR_RETURN(const HostPort there, Split(told));
  ASSIGN_OR_RETURN(const HostPort here, Split(all.listen));
  const bool any = there.is_name || here.is_name || IsUnspecified(here.host);
  if (there.port == here.port && (any || there.host == here.host)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} is at {} there, and it listens on {}: correct one of them, or advertise {} if that address "
      "leads here",
      all.id, told, all.listen, told));
}

}  // namespace

bool IsUnspecified(std::string_view host) {
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const std::string text(host);
  in_addr four{};
  if (text.empty() || text == "*") return true;
  if (inet_aton(text.c_str(), &four) != 0) return four.s_addr == htonl(INADDR_ANY);
  in6_addr six{};
  if (inet_pton(AF_INET6, text.c_str(), &six) != 1) return false;
  in6_addr mapped{};
  mapped.s6_addr[10] = mapped.s6_addr[11] = 0xff;  // ::ffff:0.0.0.0
  return IN6_IS_ADDR_UNSPECIFIED(&six) || IN6_ARE_ADDR_EQUAL(&six, &mapped);
}

absl::Status CheckTold(std::string_view address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(address.substr(colon + 1)), &port) ||
      port < 1 || port > kPortMax) {
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no HOST:PORT with a port from 1 to {}", address, kPortMax));
  }
  if (IsUnspecified(address.substr(0, colon))) {
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no address at which others could reach this server", address));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ToldAddress(const std::string& listen, const std::string& advertise) {
  if (!advertise.empty()) {
    RETURN_IF_ERROR(CheckTold(advertise));
    return advertise;
  }
  const size_t colon = listen.rfind(':');
  if (colon != std::string::npos && IsUnspecified(std::string_view(listen).substr(0, colon))) {
    return listen.substr(colon);
  }
  return listen;
}

absl::Status CheckMembership(const Membership& all) {
  const raft::Peer* self = nullptr;
  std::vector<HostPort> places;
  for (size_t i = 0; i < all.peers.size(); ++i) {
    const raft::Peer& peer = all.peers[i];
    RETURN_IF_ERROR(CheckServerId(peer.id.value));
    ASSIGN_OR_RETURN(const HostPort place, Split(peer.address));
    for (size_t k = 0; k < i; ++k) {
      const raft::Peer& other = all.peers[k];
      if (other.id == peer.id) {
        return absl::InvalidArgumentError(
            fmt::format("{} is there twice, at {} and at {}: each server has an id of its own", peer.id.value,
                        other.address, peer.address));
      }
      if (places[k].host == place.host && std::abs(places[k].port - place.port) < all.ports) {
        return absl::InvalidArgumentError(fmt::format(
            "{} at {} and {} at {} need the same port: each server has {}, from that of its address on",
            other.id.value, other.address, peer.id.value, peer.address, all.ports));
      }
    }
    places.push_back(place);
    if (peer.id.value == all.id) self = &peer;
  }
  if (self == nullptr)
    return absl::InvalidArgumentError(fmt::format("the server {} is not among them", all.id));
  return CheckWhereItListens(all, self->address);
}

}  // namespace sluice::edge
