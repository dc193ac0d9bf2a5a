#include "client/connection.h"

#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "edge/grpc_threads.h"
#include "wire/handshake.h"

namespace sluice::client {
namespace {

constexpr size_t kServersMax = 256;
constexpr Duration kFirstPause = std::chrono::milliseconds(50);
constexpr Duration kLongestPause = std::chrono::seconds(1);

// gRPC says "failed to connect to all addresses; last error: UNKNOWN: ipv4:…: Failed to connect to remote
// host: Connection refused": the user needs the last words.
std::string LastWords(const absl::Status& status) {
  std::string_view text = Message(status);
  if (text.find("onnect") == std::string_view::npos) return std::string(text);
  const size_t colon = text.rfind(": ");
  if (colon != std::string_view::npos) text.remove_prefix(colon + 2);
  return absl::AsciiStrToLower(ToAbsl(text));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view text) {
  std::vector<std::string> servers;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view one = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t colon = one.rfind(':');
    int port = 0;
    if (colon == std::string_view::npos || colon == 0 ||
        !absl::SimpleAtoi(ToAbsl(one.substr(colon + 1)), &port) || port < 1 || port > 65535) {
      return absl::InvalidArgumentError(fmt::format("\"{}\" is no HOST:PORT", one));
    }
    servers.emplace_back(one);
  }
  if (servers.empty() || servers.size() > kServersMax) {
    return absl::InvalidArgumentError(fmt::format(
        "{} servers given: one to {} of them, as HOST:PORT,HOST:PORT", servers.size(), kServersMax));
  }
  return servers;
}

bool IsWorthAnotherServer(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status) ||
         absl::IsAborted(status);
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

void SetDeadline(grpc::ClientContext* context, Duration timeout) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::duration_cast<std::chrono::system_clock::duration>(timeout));
}

absl::Status NoServerAnswered(const std::map<std::string, absl::Status>& said, bool there) {
  std::string list;
  for (const auto& [address, status] : said) {
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", address, LastWords(status));
  }
  if (there) return absl::UnavailableError(fmt::format("no server can serve: {}; see `sluice status`", list));
  return absl::UnavailableError(
      fmt::format("no server answered: {}: is it running? try `sluice serve`", list));
}

Connection::Connection(std::vector<std::string> servers) : servers_(std::move(servers)) {
  edge::KeepGrpcThreads();
}

std::vector<std::string> Connection::servers() const {
  std::lock_guard lock(mutex_);
  return servers_;
}

void Connection::AddServer(const std::string& address, const std::string& id) {
  std::lock_guard lock(mutex_);
  if (address.empty() || address.front() == ':' || servers_.size() >= kServersMax) return;
  if (std::find(servers_.begin(), servers_.end(), address) != servers_.end()) return;
  servers_.push_back(address);
  if (!id.empty()) ids_[address] = id;
}

absl::Status Connection::LearnCluster(const std::string& address, const ClusterId& cluster) {
  std::lock_guard lock(mutex_);
  if (cluster.IsZero() || cluster == cluster_) return absl::OkStatus();
  if (!cluster_.IsZero()) {
    return absl::FailedPreconditionError(
        fmt::format("{} is of cluster {}, {} of cluster {}: name servers of one cluster", address,
                    cluster.ToString(), cluster_at_, cluster_.ToString()));
  }
  cluster_ = cluster;
  cluster_at_ = address;
  return absl::OkStatus();
}

ClusterId Connection::cluster() const {
  std::lock_guard lock(mutex_);
  return cluster_;
}

void Connection::Prepare(const std::string& address, grpc::ClientContext* context) const {
  std::lock_guard lock(mutex_);
  if (!cluster_.IsZero()) context->AddMetadata(wire::kClusterKey, std::string(cluster_.AsBytes()));
  if (const auto id = ids_.find(address); id != ids_.end())
    context->AddMetadata(wire::kTargetKey, id->second);
}

void Connection::Prepare(const std::string& address, grpc::ClientContext* context, Duration timeout) const {
  Prepare(address, context);
  SetDeadline(context, timeout);
}

std::shared_ptr<grpc::Channel> Connection::Channel(const std::string& address) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);  // also the limit of one attempt to connect
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 65 << 20);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  return channel;
}

std::vector<std::string> Connection::Order() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> order(servers_);
  std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(first_), order.end());
  return order;
}

void Connection::Avoid(const std::string& address) {
  std::lock_guard lock(mutex_);
  if (servers_[first_] == address) first_ = (first_ + 1) % servers_.size();
}

bool Connection::Reached(const std::string& address) {
  std::lock_guard lock(mutex_);
  const auto it = channels_.find(address);
  if (it == channels_.end()) return false;
  if (it->second->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) return true;
  channels_.erase(it);
  return false;
}

absl::Status Connection::AtAny(
    absl::FunctionRef<absl::Status(const std::string& address, Duration timeout)> attempt,
    Patience patience) {
  const Clock::time_point start = Clock::now();
  Clock::time_point reached = start;
  std::map<std::string, absl::Status> said;
  Duration timeout = kAttemptTimeout;
  for (Duration pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    const std::vector<std::string> order = Order();
    size_t full = 0;
    absl::Status refused;
    for (const std::string& address : order) {
      absl::Status status = attempt(address, order.size() == 1 ? kAttemptTimeoutMax : timeout);
      const bool is_full = absl::IsResourceExhausted(status);
      if (status.ok() || !(is_full || IsWorthAnotherServer(status))) {
        std::lock_guard lock(mutex_);
        first_ = static_cast<size_t>(std::find(servers_.begin(), servers_.end(), address) - servers_.begin());
        return status;
      }
      if (is_full) {
        ++full;
        refused = status;
      }
      // The first words of a server that refuses are the clearest: later ones tell of retries.
      if (Reached(address)) {
        reached = Clock::now();
        said.insert_or_assign(address, std::move(status));
      } else {
        said.try_emplace(address, std::move(status));
      }
    }
    if (full == order.size()) return refused;
    timeout = std::min(timeout * 2, kAttemptTimeoutMax);
    const Clock::time_point end = std::min(reached + patience.contact, start + patience.answer);
    const Clock::time_point now = Clock::now();
    if (now >= end) return NoServerAnswered(said, reached > start);
    std::this_thread::sleep_for(std::min(pause, Duration(end - now)));  // the last round is at the end
  }
}

}  // namespace sluice::client
