// sluice::Channel: one connection to one server, made when a call needs it.
#include <errno.h>
#include <fmt/format.h>
#include <algorithm>

#include <condition_variable>
#include <mutex>

#include <asio/connect.hpp>
#include <asio/ip/tcp.hpp>

#include "base/strings.h"
#include "edge/brpc/client_call.h"
#include "edge/brpc/connection.h"
#include "edge/brpc/crews.h"
#include "sluice/stream.h"

namespace sluice::edge::brpc {

void Conclude(ClientCall& call, int code, const std::string& text) {
  Controller::Inner& controller = call.controller->inner();
  controller.latency_us =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - call.since)
          .count();
  if (code != 0) call.controller->SetFailed(code, text);
}

void ReleaseStreams(ClientCall& call) {
  if (call.streams.empty()) return;
  const auto connection = call.streams.front()->connection();
  if (connection != nullptr) return connection->Release(call.streams);
  for (const auto& end : call.streams) end->EndUnattached(call.end_code, call.end_text);
}

namespace {

using Tcp = asio::ip::tcp;
using std::chrono::milliseconds;

constexpr size_t kWaitingCallsMax = 100'000;  // for a connection that is being made

// What outlives the Channel object: operations of the loop refer to it.
class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(datastream::HostPort where, std::string name, ChannelOptions options)
      : where_(std::move(where)), name_(std::move(name)), options_(options), crew_(ClientCrew()) {}

  void Start(const std::shared_ptr<ClientCall>& call) {
    if (call->timeout_ms >= 0) {
      call->timer = crew_->PostAfter(milliseconds(call->timeout_ms), [self = weak_from_this(), call] {
        if (const auto link = self.lock()) link->OnTimeout(call);
      });
    }
    std::shared_ptr<Connection> connection;
    bool connect = false;
    {
      std::lock_guard lock(mutex_);
      if (connection_ != nullptr && connection_->lost()) connection_.reset();
      connection = connection_;
      if (connection == nullptr) {
        if (waiting_.size() >= kWaitingCallsMax || stopped_) {
          connect = false;
        } else {
          waiting_.push_back(call);
          connect = !std::exchange(connecting_, true);
          if (!connect) return;
        }
      }
    }
    if (connection != nullptr) return StartOn(connection, call);
    if (!connect) return Fail(call, EAGAIN, fmt::format("{}: too many calls wait for the connection", name_));
    asio::post(crew_->context(), [self = shared_from_this()] { self->Resolve(); });
  }

  void Stop() {
    std::shared_ptr<Connection> connection;
    std::vector<std::shared_ptr<ClientCall>> waiting;
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
      connection.swap(connection_);
      waiting.swap(waiting_);
    }
    for (const auto& call : waiting) Fail(call, ECANCELED, "the channel was destroyed");
    if (connection != nullptr) connection->LoseAndWait(ECANCELED, "the channel was destroyed");
    if (env::Crew::IsMember()) return;
    std::unique_lock lock(mutex_);
    told_.wait(lock, [this] { return callbacks_ == 0; });
  }

  // A `done` that the channel must not go before.
  Done Counted(Done done) {
    std::lock_guard lock(mutex_);
    ++callbacks_;
    return [self = shared_from_this(), done = std::move(done)] {
      done();
      std::lock_guard relock(self->mutex_);
      if (--self->callbacks_ == 0) self->told_.notify_all();
    };
  }

  env::Crew* crew() const { return crew_; }
  const std::string& name() const { return name_; }
  const ChannelOptions& options() const { return options_; }

 private:
  void StartOn(const std::shared_ptr<Connection>& connection, const std::shared_ptr<ClientCall>& call) {
    if (connection->StartCall(call)) return;
    Fail(call, wire::brpc::kFailedSocket, fmt::format("the connection to {} broke", name_));
  }

  // Ends a call that no connection has.
  void Fail(const std::shared_ptr<ClientCall>& call, int code, const std::string& text) {
    call->end_code = code;
    call->end_text = text;
    Conclude(*call, code, text);
    crew_->Cancel(call->timer);
    if (!call->done) return call->over.Notify();
    crew_->PostForeign([call] {
      std::exchange(call->done, nullptr)();
      ReleaseStreams(*call);
    });
  }

  void OnTimeout(const std::shared_ptr<ClientCall>& call) {
    const std::string text = fmt::format("no answer from {} within {} ms", name_, call->timeout_ms);
    bool waited = false;
    std::shared_ptr<Connection> connection;
    {
      std::lock_guard lock(mutex_);
      waited = std::erase(waiting_, call) > 0;
      connection = connection_;
    }
    if (waited) return Fail(call, wire::brpc::kTimedOut, text);
    call->timed_out = true;  // for the connection that is about to take it
    if (connection != nullptr) connection->FailCall(call, wire::brpc::kTimedOut, text);
  }

  // --- Connecting, on the loop ---

  void Resolve() {
    deadline_ = crew_->PostAfter(milliseconds(options_.connect_timeout_ms),
                                 [self = shared_from_this()] { self->OnConnected(asio::error::timed_out); });
    resolver_.emplace(crew_->context());
    socket_.emplace(crew_->context());
    resolver_->async_resolve(
        where_.host, where_.port,
        [self = shared_from_this()](const std::error_code& error, const Tcp::resolver::results_type& found) {
          if (!self->socket_) return;  // timed out
          if (error) return self->OnConnected(error);
          asio::async_connect(
              *self->socket_, found,
              [self](const std::error_code& failed, const Tcp::endpoint&) { self->OnConnected(failed); });
        });
  }

  void OnConnected(const std::error_code& error) {
    if (!socket_) return;  // decided already
    crew_->Cancel(deadline_);
    std::shared_ptr<Connection> connection;
    if (!error) {
      ConnectionOptions options;
      options.body_bytes_max = options_.body_bytes_max;
      // Beside the body there is what says how to read it.
      options.frames.frame_bytes_max = static_cast<uint32_t>(
          std::clamp<uint64_t>(options_.body_bytes_max, options.frames.frame_bytes_max, 1u << 30));
      connection = std::make_shared<Connection>(crew_, *std::move(socket_), options, nullptr);
      connection->Start();
    }
    socket_.reset();
    resolver_->cancel();
    std::vector<std::shared_ptr<ClientCall>> waiting;
    bool stopped = false;
    {
      std::lock_guard lock(mutex_);
      connecting_ = false;
      waiting.swap(waiting_);
      stopped = stopped_;
      if (!stopped) connection_ = connection;
    }
    if (stopped && connection != nullptr) connection->Lose(ECANCELED, "the channel was destroyed");
    for (const auto& call : waiting) {
      if (connection != nullptr) {
        StartOn(connection, call);
      } else {
        Fail(call, error.value(), fmt::format("cannot connect to {}: {}", name_, error.message()));
      }
    }
  }

  const datastream::HostPort where_;
  const std::string name_;
  const ChannelOptions options_;
  env::Crew* const crew_;

  // On the loop, while connecting.
  std::optional<Tcp::resolver> resolver_;
  std::optional<Tcp::socket> socket_;
  env::TimerId deadline_ = env::TimerId::kNone;

  std::mutex mutex_;  // guards the rest
  std::shared_ptr<Connection> connection_;
  std::vector<std::shared_ptr<ClientCall>> waiting_;
  std::condition_variable told_;
  size_t callbacks_ = 0;  // calls with a `done` that has not returned
  bool connecting_ = false;
  bool stopped_ = false;
};

class RealChannel final : public Channel {
 public:
  explicit RealChannel(std::shared_ptr<Link> link) : link_(std::move(link)) {}
  ~RealChannel() override { link_->Stop(); }

  void Call(const std::string& service, const std::string& method, Controller& controller,
            const Bytes& request, Bytes* response, Done done) override {
    Controller::Inner& inner = controller.inner();
    inner.error_code = 0;
    inner.error_text.clear();
    inner.remote_side = link_->name();
    const auto call = std::make_shared<ClientCall>();
    call->controller = &controller;
    call->response = response;
    if (done) call->done = link_->Counted(std::move(done));
    call->service = service;
    call->method = method;
    call->request = request;
    call->streams.swap(inner.streams);
    call->timeout_ms = inner.timeout_ms != 0 ? inner.timeout_ms : link_->options().timeout_ms;
    const bool waits = !call->done;
    link_->Start(call);
    if (!waits) return;
    const env::Crew::Wait waiting;
    call->over.WaitForNotification();
    ReleaseStreams(*call);
  }

 private:
  const std::shared_ptr<Link> link_;  // shared with operations under way
};

}  // namespace
}  // namespace sluice::edge::brpc

namespace sluice {

absl::StatusOr<std::unique_ptr<Channel>> Channel::Create(const std::string& server, ChannelOptions options) {
  ASSIGN_OR_RETURN(edge::datastream::HostPort where, edge::datastream::ParseHostPort(server));
  return std::make_unique<edge::brpc::RealChannel>(
      std::make_shared<edge::brpc::Link>(std::move(where), server, options));
}

}  // namespace sluice
