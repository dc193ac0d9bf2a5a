#include "edge/told_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace sluice::edge {
namespace {

constexpr int kPortMax = 65535 - 3;  // of gRPC: the other ports follow it

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

}  // namespace sluice::edge
