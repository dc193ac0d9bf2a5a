// `sluice serve`: one server, until it is told to end.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <thread>

#include "app/commands.h"
#include "app/options.h"
#include "app/units.h"
#include "base/log.h"
#include "edge/told_address.h"
#include "edge/whole_server.h"
#include "env/descriptors.h"
#include "env/files.h"

namespace sluice::app {
namespace {

// `address` may lack a host: then it says only which ports this server has.
absl::StatusOr<raft::Peer> PeerAt(const std::string& id, const std::string& address) {
  const bool port_only = address.starts_with(':');
  ASSIGN_OR_RETURN(std::string data_stream, MovePort(port_only ? "any" + address : address, 1));
  if (port_only) data_stream = data_stream.substr(data_stream.rfind(':'));
  return raft::Peer{.id = {id},
                    .address = address,
                    .data_stream_address = data_stream,
                    .client_address = {},
                    .admin_address = {}};
}

// The members as all of them must know them. An address that cannot be told is refused: a client, or another
// server, would go to its own machine.
absl::StatusOr<std::vector<raft::Peer>> ParsePeers(const Settings& settings) {
  std::vector<raft::Peer> peers;
  for (const std::string& text : settings.peers) {
    const size_t at = text.find('@');
    if (at == std::string::npos || at == 0) {
      return WrongUsage(fmt::format("--peers: \"{}\" is no ID@HOST:PORT", text));
    }
    const std::string address = text.substr(at + 1);
    if (const absl::Status told = edge::CheckTold(address); !told.ok()) {
      return WrongUsage(fmt::format("--peers: {}", Message(told)));
    }
    ASSIGN_OR_RETURN(raft::Peer peer, PeerAt(text.substr(0, at), address));
    peers.push_back(std::move(peer));
  }
  if (!peers.empty()) {
    const absl::Status checked = edge::CheckMembership({.id = settings.id,
                                                        .listen = settings.listen,
                                                        .advertise = settings.advertise,
                                                        .peers = peers,
                                                        .ports = settings.Ports()});
    if (!checked.ok()) return WrongUsage(fmt::format("--peers: {}", Message(checked)));
    return peers;
  }
  const auto told = edge::ToldAddress(settings.listen, settings.advertise);
  if (!told.ok()) return WrongUsage(fmt::format("--advertise: {}", Message(told.status())));
  ASSIGN_OR_RETURN(raft::Peer self, PeerAt(settings.id, *told));
  peers.push_back(std::move(self));
  return peers;
}

absl::StatusOr<std::vector<node::GroupSpec>> ParseGroups(const Settings& settings,
                                                         const std::vector<raft::Peer>& peers) {
  std::vector<node::GroupSpec> groups{
      {.id = kDefaultGroup, .machine = "blob", .peers = peers, .factory = {}}};
  for (const std::string& text : settings.groups) {
    const size_t equals = text.find('=');
    const auto id = GroupId::Parse(text.substr(0, equals));
    const std::string machine = equals == std::string::npos ? "" : text.substr(equals + 1);
    if (!id || (machine != "blob" && machine != "counter")) {
      return WrongUsage(
          fmt::format("--group: \"{}\" is no UUID=MACHINE with the machine blob or counter", text));
    }
    const auto same =
        std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.id == *id; });
    if (same != groups.end()) {
      return WrongUsage(fmt::format("--group: {} is given twice", id->ToString()));
    }
    groups.push_back({.id = *id, .machine = machine, .peers = peers, .factory = {}});
  }
  return groups;
}

absl::StatusOr<edge::WholeServerOptions> ServerOptionsOf(const Settings& settings) {
  edge::WholeServerOptions options;
  options.host = settings.host;
  ASSIGN_OR_RETURN(const std::vector<raft::Peer> peers, ParsePeers(settings));
  const auto self = std::find_if(peers.begin(), peers.end(),
                                 [&](const auto& peer) { return peer.id.value == settings.id; });
  options.host.self = *self;
  options.host.data_dir = settings.data;
  options.host.bootstrap = settings.bootstrap || peers.size() == 1;
  ASSIGN_OR_RETURN(options.host.groups, ParseGroups(settings, peers));
  options.listen = settings.listen;
  options.data_stream_listen = settings.data_stream_listen;
  if (options.data_stream_listen.empty()) {
    ASSIGN_OR_RETURN(options.data_stream_listen, MovePort(settings.listen, 1));
  }
  options.stream_listen = settings.stream_listen == "none" ? "" : settings.stream_listen;
  if (settings.stream_listen.empty()) {
    ASSIGN_OR_RETURN(options.stream_listen, MovePort(settings.listen, 2));
  }
  options.http_listen = settings.http_listen == "none" ? "" : settings.http_listen;
  if (settings.http_listen.empty()) {
    ASSIGN_OR_RETURN(options.http_listen, MovePort(settings.listen, 3));
  }
  options.lane_loops = settings.lane_loops;
  options.limits = settings.limits;
  return options;
}

// What is in a folder without an identity is looked at by who makes one there.
absl::Status CheckFirstStart(const std::string& dir) {
  ASSIGN_OR_RETURN(const bool begun, env::RealFiles().Exists(dir + "/identity"));
  if (!begun) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "--bootstrap is for the very first start, and {} is not empty: a server has begun there; start "
      "without --bootstrap, or with another --data folder",
      dir));
}

// TERM and INT are read by this thread and interrupt no other.
int BlockedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return signalfd(-1, &set, SFD_CLOEXEC);
}

uint32_t WaitForSignal(int signals) {
  signalfd_siginfo info{};
  while (read(signals, &info, sizeof info) < 0 && errno == EINTR) {
  }
  return info.ssi_signo;
}

absl::Status Serve(Settings* settings) {
  RETURN_IF_ERROR(settings->resolved);
  ASSIGN_OR_RETURN(edge::WholeServerOptions options, ServerOptionsOf(*settings));
  if (settings->bootstrap) RETURN_IF_ERROR(CheckFirstStart(settings->data));
  RETURN_IF_ERROR(env::RaiseDescriptorLimit());
  const int signals = BlockedSignals();  // before any thread starts
  ASSIGN_OR_RETURN(const auto server, edge::WholeServer::Start(std::move(options)));
  WaitForSignal(signals);
  LogInfo("server {} ends; another SIGINT ends it at once", settings->id);
  // Whoever says TERM twice, as some that watch over processes do, wants the same as before (F-40).
  std::thread([signals] {
    while (WaitForSignal(signals) != SIGINT) {
    }
    _exit(1);
  }).detach();
  server->Stop();
  return absl::OkStatus();
}

}  // namespace

void AddServe(CLI::App& app, Chosen* chosen) {
  auto settings = std::make_shared<Settings>();
  CLI::App* command =
      NewCommand(app, "serve", "Runs one server: a group of one, or a member of a group",
                 "sluice serve --id n0 --listen 10.0.0.1:7400 --data /var/lib/sluice --bootstrap \\\n"
                 "    --peers n0@10.0.0.1:7400,n1@10.0.0.2:7400,n2@10.0.0.3:7400",
                 chosen, [settings] { return Serve(settings.get()); });
  AddOptionFlags(*command, settings.get());
}

}  // namespace sluice::app
