// sluice::RpcServer: listens, and gives requests to methods by name.
#include "sluice/rpc.h"

#include <errno.h>
#include <fmt/format.h>

#include <asio/ip/tcp.hpp>
#include <future>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "edge/brpc/server_call.h"
#include "env/descriptors.h"

namespace sluice {
namespace {

using edge::brpc::Connection;
using edge::brpc::ServerCall;
using Tcp = asio::ip::tcp;

constexpr env::Duration kAcceptRetry = std::chrono::milliseconds(100);

Gauge& OpenConnections() {
  static Gauge& gauge = NewGauge("sluice_rpc_connections", "Connections of Streaming RPC servers");
  return gauge;
}
Counter& Calls() {
  static Counter& counter = NewCounter("sluice_rpc_calls_total", "Calls answered by Streaming RPC servers");
  return counter;
}
Counter& Refused() {
  static Counter& counter = NewCounter("sluice_rpc_refused_connections_total",
                                       "Connections above connections_max or half_open_max");
  return counter;
}

edge::brpc::ConnectionOptions OptionsOf(const RpcServerOptions& options) {
  edge::brpc::ConnectionOptions of;
  of.frames.frame_bytes_max = static_cast<uint32_t>(std::min<uint64_t>(options.frame_bytes_max, 1u << 30));
  of.body_bytes_max = options.frame_bytes_max;
  of.stall_timeout_ms = std::max<int64_t>(options.stall_timeout_ms, 1);
  of.streams.streams_max = options.streams_per_connection_max;
  of.streams.message_bytes_max = options.message_bytes_max;
  of.streams.received_bytes_max = options.received_bytes_max;
  of.streams.unsent_bytes_max = options.unsent_bytes_max;
  return of;
}

}  // namespace

struct RpcServer::Inner final : edge::brpc::RequestHandler {
  explicit Inner(RpcServerOptions given) : options(given) {}

  // --- edge::brpc::RequestHandler ---
  void OnRequest(const std::shared_ptr<Connection>& connection, wire::brpc::CallFrame frame) override;
  void OnGone(const std::shared_ptr<Connection>& connection) override {
    std::lock_guard lock(mutex);
    connections.erase(connection);
    NoLongerSilent(*connection);
    OpenConnections().Decrement();
    gone.notify_all();
  }
  void OnFirstFrame(const Connection& connection) override {
    std::lock_guard lock(mutex);
    NoLongerSilent(connection);
  }
  // With the mutex.
  void NoLongerSilent(const Connection& connection) {
    const auto found = silent.find(&connection);
    if (found == silent.end()) return;
    const auto address = half_open.find(found->second);
    if (--address->second == 0) half_open.erase(address);
    silent.erase(found);
  }
  std::string Hint(std::string_view first_bytes) override {
    for (const std::string_view method : {"GET ", "POST", "HEAD", "PUT ", "OPTI", "DELE", "PRI "}) {
      if (first_bytes.substr(0, 4) == method) return http_hint;
    }
    return "";
  }

  // A request that a handler has.
  class UnderWay {
   public:
    UnderWay(Inner* server, std::shared_ptr<ServerCall> call) : server_(server), call_(std::move(call)) {}
    ~UnderWay() {
      if (over_.load()) return;
      call_->controller.SetFailed(wire::brpc::kInternal, "the handler has dropped the call");
      Over();
    }
    void Over() {
      if (over_.exchange(true)) return;
      server_->Answer(*call_);
      std::lock_guard lock(server_->mutex);  // Stop may go on, and the server go, as soon as it is released
      if (server_->calls.fetch_sub(1) == 1) server_->gone.notify_all();
    }

   private:
    Inner* const server_;
    const std::shared_ptr<ServerCall> call_;
    std::atomic<bool> over_{false};
  };

  const Method* Find(const std::string& service, const std::string& method, int* error) const;
  void Answer(ServerCall& call);
  void Accept();
  void Admit(env::Crew* crew, Tcp::socket socket);

  const RpcServerOptions options;
  std::map<std::string, std::map<std::string, Method>> services;
  std::string http_hint;
  std::vector<std::unique_ptr<env::Crew>> crews;
  std::optional<Tcp::acceptor> acceptor;  // on the first crew's loop
  int port = 0;
  size_t next_crew = 0;  // ditto
  std::atomic<uint32_t> calls{0};
  std::atomic<bool> draining{false};
  bool stopped = false;

  std::mutex mutex;                                              // guards the next
  std::condition_variable gone;                                  // a connection, or the last call
  absl::flat_hash_map<const Connection*, std::string> silent;    // have not sent a frame; their addresses
  absl::flat_hash_map<std::string, uint32_t> half_open;          // how many of each address
  absl::flat_hash_set<std::shared_ptr<Connection>> connections;  // shared with their own operations
};

RpcServer::RpcServer(RpcServerOptions options) : inner_(std::make_unique<Inner>(options)) {}
RpcServer::~RpcServer() { Stop(); }

void RpcServer::AddMethod(const std::string& service, const std::string& method, Method handler) {
  SLUICE_CHECK(inner_->crews.empty()) << "AddMethod after Start";
  inner_->services[service][method] = std::move(handler);
}

void RpcServer::SetHttpHint(std::string text) {
  inner_->http_hint = fmt::format(
      "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "
      "{}\r\n\r\n{}",
      text.size(), text);
}

absl::Status RpcServer::Start(const std::string& address) {
  Inner& inner = *inner_;
  SLUICE_CHECK(inner.crews.empty()) << "Start twice";
  ASSIGN_OR_RETURN(const edge::datastream::HostPort where, edge::datastream::ParseHostPort(address));
  if (inner.http_hint.empty()) SetHttpHint("this port speaks Streaming RPC (baidu_std), not HTTP\n");
  for (uint32_t i = 0; i < std::max<uint32_t>(inner.options.loops, 1); ++i) {
    inner.crews.push_back(env::NewCrew(fmt::format("stream-{}", i), inner.options.threads_max));
  }
  std::error_code error;
  std::promise<void> bound;
  inner.crews[0]->Post([&] {
    asio::io_context& context = inner.crews[0]->context();
    Tcp::resolver resolver(context);
    const auto found = resolver.resolve(where.host, where.port, Tcp::resolver::passive, error);
    if (!error && !found.empty()) {
      const Tcp::endpoint endpoint = found.begin()->endpoint();
      Tcp::acceptor acceptor(context);
      acceptor.open(endpoint.protocol(), error);
      if (!error) acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
      if (!error) acceptor.bind(endpoint, error);
      if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
      if (!error) inner.port = acceptor.local_endpoint(error).port();
      if (!error) {
        inner.acceptor.emplace(std::move(acceptor));
        inner.Accept();
      }
    }
    bound.set_value();
  });
  bound.get_future().wait();
  if (inner.acceptor) return absl::OkStatus();
  inner.crews.clear();
  return absl::UnavailableError(
      fmt::format("cannot listen for Streaming RPC on {}: {}", address,
                  error == asio::error::address_in_use ? "the port is in use" : error.message()));
}

int RpcServer::port() const { return inner_->port; }

void RpcServer::Drain() {
  if (inner_->crews.empty() || inner_->draining.exchange(true)) return;
  std::promise<void> closed;
  inner_->crews[0]->Post([&] {
    inner_->acceptor.reset();
    closed.set_value();
  });
  closed.get_future().wait();
}

void RpcServer::Stop() {
  Inner& inner = *inner_;
  if (std::exchange(inner.stopped, true)) return;
  Drain();
  std::vector<std::shared_ptr<Connection>> all;
  {
    std::lock_guard lock(inner.mutex);
    all.assign(inner.connections.begin(), inner.connections.end());
  }
  const auto lose_and_wait = [&] {
    for (const auto& connection : all) connection->LoseAndWait(wire::brpc::kLogOff, "the server stops");
  };
  lose_and_wait();  // from here on no handler is given a request
  {
    std::unique_lock lock(inner.mutex);
    inner.gone.wait(lock, [&] { return inner.calls == 0; });
  }
  lose_and_wait();  // streams whose openings have just ended
  all.clear();
  {
    std::unique_lock lock(inner.mutex);
    inner.gone.wait(lock, [&] { return inner.connections.empty(); });
  }
  for (const auto& crew : inner.crews) crew->Stop();  // kept: ends of streams that are still held know them
}

void RpcServer::Inner::Accept() {
  env::Crew* const crew = crews[next_crew++ % crews.size()].get();
  acceptor->async_accept(crew->context(), [this, crew](const std::error_code& error, Tcp::socket socket) {
    if (error == asio::error::operation_aborted || !acceptor) return;
    if (error) {  // out of descriptors, most likely: let some go
      crews[0]->PostAfter(kAcceptRetry, [this] {
        if (acceptor) Accept();
      });
      return;
    }
    Admit(crew, std::move(socket));
    Accept();
  });
}

void RpcServer::Inner::Admit(env::Crew* crew, Tcp::socket socket) {
  if (env::IsOfReserve(socket.native_handle())) return Refused().Increment();  // F-14
  auto connection = std::make_shared<Connection>(crew, std::move(socket), OptionsOf(options), this);
  {
    std::lock_guard lock(mutex);
    const std::string address = connection->peer().substr(0, connection->peer().rfind(':'));
    const auto waiting = half_open.find(address);
    if (connections.size() >= options.connections_max ||
        (waiting != half_open.end() && waiting->second >= options.half_open_max)) {
      Refused().Increment();
      return;
    }
    ++half_open[address];
    silent.emplace(connection.get(), address);
    connections.insert(connection);
    OpenConnections().Increment();
  }
  asio::post(crew->context(), [connection] { connection->Start(); });
}

const RpcServer::Method* RpcServer::Inner::Find(const std::string& service, const std::string& method,
                                                int* error) const {
  auto found = services.find(service);
  const bool is_short = service.find('.') == std::string::npos;
  if (found == services.end() && is_short) {  // by the name behind the package, as brpc does
    found = std::find_if(services.begin(), services.end(),
                         [&](const auto& each) { return each.first.ends_with("." + service); });
  }
  *error = found == services.end() && is_short ? wire::brpc::kNoService : wire::brpc::kNoMethod;
  if (found == services.end()) return nullptr;
  const auto handler = found->second.find(method);
  return handler == found->second.end() ? nullptr : &handler->second;
}

void RpcServer::Inner::OnRequest(const std::shared_ptr<Connection>& connection, wire::brpc::CallFrame frame) {
  auto call = std::make_shared<ServerCall>();
  call->connection = connection;
  call->answer.meta.set_correlation_id(frame.meta.correlation_id());
  if (frame.meta.has_stream_settings()) {
    const auto& settings = frame.meta.stream_settings();
    call->answer.remote_ids.push_back(settings.stream_id());
    for (const int64_t id : settings.extra_stream_ids()) call->answer.remote_ids.push_back(id);
    call->answer.peer_readable = settings.writable();
    call->answer.peer_wants_feedback = settings.need_feedback();
  }
  Controller::Inner& controller = call->controller.inner();
  controller.remote_side = connection->peer();
  controller.server_call = call.get();
  const auto refuse = [&](int code, std::string text) {
    call->controller.SetFailed(code, std::move(text));
    Answer(*call);
  };
  const std::string service(frame.meta.request().service_name());
  const std::string method(frame.meta.request().method_name());
  if (draining) return refuse(wire::brpc::kLogOff, "the server stops");
  if (std::count(call->answer.remote_ids.begin(), call->answer.remote_ids.end(), wire::brpc::kNoStream) > 0) {
    return refuse(wire::brpc::kBadRequest, "settings of no stream");
  }
  if (call->answer.remote_ids.size() > options.streams_per_call_max) {
    return refuse(wire::brpc::kBadRequest,
                  fmt::format("{} streams in one call, the limit is {}", call->answer.remote_ids.size(),
                              options.streams_per_call_max));
  }
  auto body = wire::brpc::OpenBody(frame, options.frame_bytes_max);
  if (!body.ok()) return refuse(wire::brpc::kBadRequest, std::string(Message(body.status())));
  int error = 0;
  const Method* const handler = Find(service, method, &error);
  if (handler == nullptr) return refuse(error, fmt::format("there is no {}.{} here", service, method));
  if (calls.fetch_add(1) >= options.calls_max) {
    calls.fetch_sub(1);
    return refuse(wire::brpc::kLimit, fmt::format("{} calls are under way, the limit", options.calls_max));
  }
  call->request = std::move(body->message);
  controller.request_attachment = std::move(body->attachment);
  controller.log_id = frame.meta.request().log_id();
  for (const auto& [key, value] : frame.meta.user_fields()) controller.request_user_fields[key] = value;
  if (frame.meta.checksum_type() != 0) call->answer.meta.set_checksum_value(frame.meta.checksum_value());
  // Told once, by `done` or, if nobody calls that, when the last copy of it goes.
  const auto once = std::make_shared<UnderWay>(this, call);
  (*handler)(call->controller, call->request, &call->response, [once] { once->Over(); });
}

void RpcServer::Inner::Answer(ServerCall& call) {
  edge::brpc::RequestAnswer& answer = call.answer;
  Controller::Inner& controller = call.controller.inner();
  const int code = controller.error_code == -1 ? wire::brpc::kInternal : controller.error_code;
  if (code != 0) {
    call.connection->SetError(code, controller.error_text, &answer.meta);
  } else {
    answer.meta.mutable_response()->set_error_code(0);
    answer.message = std::move(call.response);
    answer.attachment = std::move(controller.response_attachment);
    answer.compress = controller.response_compress;
    answer.checksum = controller.response_checksum;
  }
  for (const auto& [key, value] : controller.response_user_fields)
    (*answer.meta.mutable_user_fields())[key] = value;
  Calls().Increment();
  call.connection->Answer(std::move(answer));
}

}  // namespace sluice
