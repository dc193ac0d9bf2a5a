#include "edge/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <future>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "edge/admin/admin_service.h"
#include "edge/grpc_threads.h"
#include "edge/peer/peer_service.h"
#include "edge/ratis/admin_service.h"
#include "edge/ratis/client_service.h"
#include "edge/ratis/server_service.h"

namespace sluice::edge {
namespace {

// Process-wide and only effective before the first server is built.
void TurnOnPluginsOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

struct Server::Services {
  Services(node::Host* host, env::Executor* lane, ratis::ReplyTable* replies, env::Executor* disk,
           env::Files* files)
      : client(host, lane),
        server(host, replies, disk, files),
        ratis_admin(host, lane),
        peer(host, lane),
        admin(host, lane) {}

  ratis::ClientService client;
  ratis::ServerService server;
  ratis::AdminService ratis_admin;
  peer::PeerService peer;
  admin::AdminService admin;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Create(node::Host* host, ServerOptions options) {
  if (options.lane_loops == 0 || options.message_bytes_max < (5 << 20)) {
    return absl::InvalidArgumentError("a server needs one lane and messages of 5 MiB at least");
  }
  TurnOnPluginsOnce();
  KeepGrpcThreads();
  return std::unique_ptr<Server>(new Server(host, std::move(options)));
}

Server::Server(node::Host* host, ServerOptions options)
    : host_(host),
      options_(std::move(options)),
      disk_(env::RealExecutors().NewExecutor("snapshots")),
      links_(options_.message_bytes_max, &host->cluster()),
      replies_(ratis::kWaitingRepliesMax, ratis::kReplyLifetime, env::RealClock()),
      peer_wire_(&links_, peer::kCallsMax),
      raft_calls_(&links_, ratis::kCallsMax),
      raft_streams_(&links_, ratis::kSendersMax),
      peer_calls_(&peer_wire_),
      peers_(host, {.calls = &raft_calls_,
                    .streams = &raft_streams_,
                    .peer_calls = &peer_calls_,
                    .replies = &replies_,
                    .disk = disk_.get(),
                    .files = options_.files,
                    .time = {&env::RealClock(), &env::RealRandom()}}),
      byte_lane_(&peer_calls_, host->options().self.id) {
  for (uint32_t i = 0; i < options_.lane_loops; ++i)
    lanes_.push_back(env::NewLoop(fmt::format("lane-{}", i)));
  services_ = std::make_unique<Services>(host, lanes_[0].get(), &replies_, disk_.get(), options_.files);
  health_ = std::make_shared<Health>(host, lanes_[0].get(), [this](bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(serving);
  });
}

Server::~Server() {
  Stop(std::chrono::milliseconds(100));
  EndThreads();
  while (!parts_.empty()) parts_.pop_back();
}

void Server::EndThreads() {
  for (const auto& lane : lanes_) lane->Stop();
  disk_->Stop();
}

node::PeerTransport& Server::peers() { return peers_; }

void Server::Add(std::unique_ptr<Part> part) { parts_.push_back(std::move(part)); }

absl::Status Server::Listen() {
  grpc::ServerBuilder builder;
  ASSIGN_OR_RETURN(listener_, GrpcListener::Bind(*lanes_[0], options_.listen));
  listener_->Attach(builder);
  builder.SetMaxReceiveMessageSize(options_.message_bytes_max);
  builder.SetMaxSendMessageSize(options_.message_bytes_max);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  builder.RegisterService(&services_->client);
  builder.RegisterService(&services_->server);
  builder.RegisterService(&services_->ratis_admin);
  builder.RegisterService(&services_->peer);
  builder.RegisterService(&services_->admin);
  for (const std::unique_ptr<Part>& part : parts_) {
    for (grpc::Service* service : part->services()) builder.RegisterService(service);
  }
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return absl::UnavailableError("gRPC does not start");
  port_ = listener_->port();
  server_->GetHealthCheckService()->SetServingStatus(false);  // until it is known
  health_->Start();
  listener_->Start();
  for (const std::unique_ptr<Part>& part : parts_) {
    RETURN_IF_ERROR(part->Start());
  }
  LogInfo("server {} listens on {}", host_->options().self.id.value, options_.listen);
  return absl::OkStatus();
}

void Server::Drain() {
  if (std::exchange(drained_, true)) return;
  health_->Stop();
  if (server_ == nullptr) return;
  server_->GetHealthCheckService()->SetServingStatus(false);
  services_->client.Stop();
  for (const std::unique_ptr<Part>& part : parts_) part->Drain();
}

void Server::Stop(std::chrono::milliseconds grace) {
  Drain();
  if (std::exchange(stopped_, true)) return;
  services_->server.Stop();
  // While the lanes run, those too whose turn to start did not come.
  for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) (*part)->Stop();
  peers_.Stop();
  peer_calls_.Stop();
  // Answers to calls that have ended may still be on `disk`, and use what is stopped here.
  std::promise<void> drained;
  disk_->Post([&drained] { drained.set_value(); });
  drained.get_future().wait();
  replies_.Stop();
  listener_.reset();
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
}

}  // namespace sluice::edge
