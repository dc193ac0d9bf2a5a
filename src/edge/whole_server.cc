#include "edge/whole_server.h"

#include <utility>

#include "edge/bytestream/fetch.h"
#include "edge/bytestream/service.h"
#include "edge/datastream/server.h"
#include "edge/datastream/sink.h"
#include "edge/files/service.h"
#include "edge/grpc_wire.h"
#include "edge/http/metrics_port.h"
#include "env/clock.h"
#include "env/executor.h"
#include "env/files.h"
#include "env/random.h"

namespace sluice::edge {
namespace {

constexpr std::chrono::milliseconds kGrace = std::chrono::seconds(2);

}  // namespace

absl::StatusOr<std::unique_ptr<WholeServer>> WholeServer::Start(WholeServerOptions options) {
  std::unique_ptr<WholeServer> whole(new WholeServer);
  ASSIGN_OR_RETURN(whole->host_,
                   node::Host::Open(std::move(options.host), {.files = &env::RealFiles(),
                                                              .executors = &env::RealExecutors(),
                                                              .clock = &env::RealClock(),
                                                              .random = &env::RealRandom()}));
  node::Host* const host = whole->host_.get();
  ServerOptions server_options;
  server_options.listen = options.listen;
  server_options.data_stream_listen = options.data_stream_listen;
  server_options.lane_loops = options.lane_loops;
  ASSIGN_OR_RETURN(whole->server_, Server::Create(host, std::move(server_options)));
  whole->AddParts(options);
  host->Start(&whole->server_->peers(), &whole->server_->bytes());
  RETURN_IF_ERROR(whole->server_->Listen());
  return whole;
}

void WholeServer::AddParts(const WholeServerOptions& options) {
  Server& server = *server_;
  auto sinks = std::make_unique<datastream::DataStreamSinks>(
      datastream::LanesOf(server), &host_->cluster(),
      datastream::kSinkPatience * host_->options().successor_silence_ms);
  auto fetcher = std::make_unique<bytestream::ByteStreamFetcher>(
      std::make_unique<GrpcWire>(&server.links(), bytestream::ByteStreamFetcher::kFetchesMax));
  server.bytes().Plug(sinks.get(), fetcher.get());
  server.Add(std::move(sinks));
  server.Add(std::move(fetcher));
  server.Add(std::make_unique<bytestream::ByteStreamPart>(
      host_.get(), datastream::LanesOf(server),
      bytestream::ByteStreamOptions{.calls_max = options.limits.bytestream_calls_max}));
  if (!options.data_stream_listen.empty()) {
    datastream::DataStreamOptions stream_options;
    stream_options.listen = options.data_stream_listen;
    stream_options.connections_max = options.limits.data_stream_connections_max;
    stream_options.half_open_per_address_max = options.limits.data_stream_half_open_max;
    server.Add(std::make_unique<datastream::DataStreamServer>(host_.get(), datastream::LanesOf(server),
                                                              stream_options));
  }
  if (!options.stream_listen.empty()) {
    files::FilesOptions stream_options;
    stream_options.listen = options.stream_listen;
    stream_options.http_listen = options.http_listen;
    stream_options.limits = options.limits.stream;
    auto part = std::make_unique<files::FilesPart>(host_.get(), datastream::LanesOf(server),
                                                   std::move(stream_options));
    files_ = part.get();
    server.Add(std::move(part));
  }
  if (!options.http_listen.empty()) {
    server.Add(std::make_unique<http::MetricsPort>(
        options.http_listen, [&server] { return server.Serving(); }, &host_->cluster()));
  }
}

WholeServer::~WholeServer() { Stop(); }

int WholeServer::stream_port() const { return files_ == nullptr ? 0 : files_->port(); }

void WholeServer::Drain() {
  if (server_ != nullptr) server_->Drain();
}

void WholeServer::Stop() {
  if (std::exchange(stopped_, true)) return;
  Drain();
  if (host_ != nullptr) host_->Stop();
  if (server_ != nullptr) {
    server_->Stop(kGrace);
    server_->EndThreads();
  }
  if (host_ != nullptr) host_->EndThreads();
}

}  // namespace sluice::edge
