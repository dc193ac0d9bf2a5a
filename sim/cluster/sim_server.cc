#include "sim/cluster/sim_server.h"

#include <deque>
#include <utility>

#include "edge/bytestream/read_pump.h"
#include "edge/bytestream/target.h"
#include "edge/ratis/snapshot_chunks.h"
#include "edge/status.h"
#include "sluice/bytestream/bytestream.pb.h"

namespace sluice::sim {
namespace {

namespace ratis = edge::ratis;

// As it arrives at the other end of gRPC.
absl::Status Carried(const absl::Status& status) { return edge::FromGrpc(edge::ToGrpc(status)); }
absl::Status Carried(const std::optional<ratis::CallFailure>& failure) {
  return failure ? edge::FromGrpc(ratis::StatusOf(*failure)) : absl::OkStatus();
}

Frame EndOf(absl::Status status) {
  Frame frame;
  frame.end = true;
  frame.status = std::move(status);
  return frame;
}

Frame Carrying(const edge::ProtoMessage& message) {
  Frame frame;
  frame.message = message.SerializeAsString();
  return frame;
}

absl::Status Malformed() { return absl::InternalError("Failed to parse request"); }

}  // namespace

class SimServer::Call {
 public:
  explicit Call(Answer answer) : answer_(std::move(answer)) {}
  virtual ~Call() = default;
  // The message is shared with the frame that it came in.
  using MessagePtr = std::shared_ptr<const std::string>;
  virtual void OnMessage(const MessagePtr& message) = 0;
  virtual void OnHalfClosed() = 0;
  // The caller is gone, or has had the end.
  virtual void OnGone() {}
  // Nothing is answered any more; it may still be held.
  void Drop() { answer_ = nullptr; }
  bool ended() const { return ended_; }

  void Send(Frame frame) {
    if (ended_ || !answer_) return;
    ended_ = frame.end;
    answer_(std::move(frame));
  }

 private:
  Answer answer_;
  bool ended_ = false;
};

namespace {

template <typename Handlers, typename Request, typename Reply>
class Unary final : public SimServer::Call,
                    public std::enable_shared_from_this<Unary<Handlers, Request, Reply>> {
 public:
  using Handler = void (Handlers::*)(const edge::CallerSays&, const Request&, Reply*,
                                     typename Handlers::Finish);
  Unary(Handlers* handlers, Handler handler, edge::CallerSays says, SimServer::Answer answer)
      : Call(std::move(answer)), handlers_(handlers), handler_(handler), says_(std::move(says)) {}

  void OnMessage(const MessagePtr& message) override {
    if (!request_.ParseFromString(*message)) return Send(EndOf(Malformed()));
    (handlers_->*handler_)(says_, request_, &reply_, [self = this->shared_from_this()](const auto& outcome) {
      const absl::Status status = Carried(outcome);
      Frame frame = status.ok() ? Carrying(self->reply_) : Frame{};
      frame.end = true;
      frame.status = status;
      self->Send(std::move(frame));
    });
  }
  void OnHalfClosed() override {}

 private:
  Handlers* const handlers_;
  const Handler handler_;
  const edge::CallerSays says_;
  Request request_;
  Reply reply_;
};

// A call whose messages wait until they are asked for.
class QueuedCall : public SimServer::Call {
 public:
  using Call::Call;
  void OnMessage(const MessagePtr& message) final {
    waiting_.push_back(message);
    Pump();
  }
  void OnHalfClosed() final {
    half_closed_ = true;
    Pump();
  }

 protected:
  // Takes what it can.
  virtual void Pump() = 0;
  bool has_message() const { return !waiting_.empty(); }
  bool half_closed() const { return half_closed_; }
  // Parses the next one. If it cannot be parsed the call ends, and it is false.
  bool TakeMessage(edge::ProtoMessage* message) {
    const MessagePtr next = std::move(waiting_.front());
    waiting_.pop_front();
    if (message->ParseFromString(*next)) return true;
    Send(EndOf(Malformed()));
    return false;
  }

 private:
  std::deque<MessagePtr> waiting_;
  bool half_closed_ = false;
};

class SimAppendCall final : public QueuedCall, public ratis::AppendIntake {
 public:
  SimAppendCall(edge::CallerSays says, const SimServer::Parts& parts, SimServer::Answer answer)
      : QueuedCall(std::move(answer)), AppendIntake(std::move(says), parts.host, parts.replies) {}

  void OnGone() override { AppendIntake::OnGone(); }

 private:
  void ReadNext() override {
    reading_ = true;
    Pump();
  }
  void Reply(ratis::pb::AppendEntriesReplyProto reply) override { Send(Carrying(reply)); }
  void EndWith(std::optional<ratis::CallFailure> failure) override { Send(EndOf(Carried(failure))); }

  void Pump() override {
    if (std::exchange(pumping_, true)) return;
    while (reading_ && has_message() && !ended()) {
      reading_ = false;
      if (TakeMessage(&request_)) OnRequest(request_);
    }
    pumping_ = false;
    if (reading_ && half_closed() && !ended()) {
      reading_ = false;
      AppendIntake::OnHalfClosed();
    }
  }

  ratis::pb::AppendEntriesRequestProto request_;
  bool reading_ = true;
  bool pumping_ = false;
};

class SimReadCall final : public SimServer::Call, public std::enable_shared_from_this<SimReadCall> {
 public:
  SimReadCall(const Frame& first, const SimServer::Parts& parts, SimServer::Answer answer)
      : Call(std::move(answer)),
        host_(parts.host),
        lane_(parts.lane),
        says_(first.says),
        target_(first.metadata) {}

  void OnMessage(const MessagePtr& message) override {
    sluice::bytestream::ReadRequest request;
    if (!request.ParseFromString(*message)) return Send(EndOf(Malformed()));
    pump_ = std::make_shared<Pump>(weak_from_this(), lane_, request.read_offset(), request.read_limit());
    const auto wanted = edge::bytestream::DecodeFetchTarget(target_);
    absl::Status good = wanted.status();
    if (good.ok()) good = edge::bytestream::OpenFetch(says_, *wanted, *host_, pump_);
    if (!good.ok()) pump_->OnSource(good);
  }
  void OnHalfClosed() override {}
  void OnGone() override {
    if (pump_ == nullptr) return;
    lane_->Post([pump = pump_] { pump->Cancel(); });
  }

 private:
  class Pump final : public edge::bytestream::ReadPump {
   public:
    Pump(std::weak_ptr<SimReadCall> call, env::Executor* lane, int64_t offset, int64_t limit)
        : ReadPump(lane, offset, limit), call_(std::move(call)) {}
    void Cancel() { End(absl::CancelledError("cancelled by the client")); }

   private:
    void Send(Bytes message) override {
      if (const auto call = call_.lock()) {
        Frame frame;
        frame.message = message.ToString();
        call->Send(std::move(frame));
      }
      lane()->Post([self = std::static_pointer_cast<Pump>(shared_from_this())] { self->OnSent(); });
    }
    void Finish(const absl::Status& status) override {
      if (const auto call = call_.lock()) call->Send(EndOf(Carried(status)));
    }
    const std::weak_ptr<SimReadCall> call_;
  };

  node::Host* const host_;
  env::Executor* const lane_;
  const edge::CallerSays says_;
  const std::string target_;
  std::shared_ptr<Pump> pump_;  // shared with reads that are due
};

class SimSnapshotCall final : public QueuedCall, public std::enable_shared_from_this<SimSnapshotCall> {
 public:
  SimSnapshotCall(edge::CallerSays says, const SimServer::Parts& parts, const std::string& path,
                  SimServer::Answer answer)
      : QueuedCall(std::move(answer)),
        disk_(parts.disk),
        sink_(std::make_shared<ratis::SnapshotSink>(parts.host, disk_, parts.files, path, std::move(says))) {}

  void OnGone() override {
    disk_->Post([sink = sink_] { sink->Drop(); });
  }

 private:
  void Pump() override {
    if (answering_ || ended()) return;
    if (!has_message()) {
      if (half_closed()) Send(EndOf(absl::OkStatus()));
      return;
    }
    ratis::pb::InstallSnapshotRequestProto chunk;
    if (!TakeMessage(&chunk)) return;
    answering_ = true;
    disk_->Post([self = shared_from_this(), chunk = std::move(chunk)] {
      self->sink_->OnChunk(chunk, [self](const absl::StatusOr<ratis::pb::InstallSnapshotReplyProto>& reply,
                                         bool last) { self->OnAnswer(reply, last); });
    });
  }
  void OnAnswer(const absl::StatusOr<ratis::pb::InstallSnapshotReplyProto>& reply, bool last) {
    answering_ = false;
    if (!reply.ok()) return Send(EndOf(Carried(sink_->FailureOf(reply.status()))));
    Send(Carrying(*reply));
    if (last) return Send(EndOf(absl::OkStatus()));
    Pump();
  }

  env::Executor* const disk_;
  const std::shared_ptr<ratis::SnapshotSink> sink_;  // shared with tasks on `disk`
  bool answering_ = false;
};

}  // namespace

template <typename Handlers>
void SimServer::Register(Handlers* handlers) {
  Handlers::ForEach(
      [&]<typename Request, typename Reply>(const edge::Method<Request, Reply>& method,
                                            typename Unary<Handlers, Request, Reply>::Handler handler) {
        methods_[method.path] = [handlers, handler](const Frame& first, Answer answer) -> CallPtr {
          return std::make_shared<Unary<Handlers, Request, Reply>>(handlers, handler, first.says,
                                                                   std::move(answer));
        };
      });
}

SimServer::SimServer(Parts parts)
    : parts_(parts),
      peer_handlers_(parts.host, parts.lane, parts.world),
      raft_handlers_(parts.host, parts.replies) {
  Register(&peer_handlers_);
  Register(&raft_handlers_);
  methods_[ratis::kAppendEntries.path] = [this](const Frame& first, Answer answer) -> CallPtr {
    return std::make_shared<SimAppendCall>(first.says, parts_, std::move(answer));
  };
  methods_[edge::bytestream::kReadPath] = [this](const Frame& first, Answer answer) -> CallPtr {
    return std::make_shared<SimReadCall>(first, parts_, std::move(answer));
  };
  methods_[ratis::kInstallSnapshot.path] = [this](const Frame& first, Answer answer) -> CallPtr {
    const std::string path = fmt::format("{}/incoming-{}", parts_.host->snapshot_dir(), ++snapshots_);
    return std::make_shared<SimSnapshotCall>(first.says, parts_, path, std::move(answer));
  };
}

void SimServer::Drop() {
  alive_.reset();
  const auto all = std::exchange(calls_, {});
  for (const auto& [connection, calls] : all) {
    for (const auto& [id, call] : calls) call->Drop();
  }
}

void SimServer::OnFrame(const std::shared_ptr<Connection>& connection, const FramePtr& frame, Answer answer) {
  if (calls_.count(connection.get()) == 0) {
    connection->OnBreak(Connection::Side::kAcceptor,
                        [this, key = connection.get()] { OnBroken(key); });  // not after this life
  }
  auto& calls = calls_[connection.get()];
  const uint64_t id = frame->call;
  CallPtr call;
  if (const auto known = calls.find(id); known != calls.end()) {
    call = known->second;
  } else if (const auto method = methods_.find(frame->path); method != methods_.end()) {
    call = method->second(*frame, [this, key = connection.get(), id, answer](Frame back) {
      back.call = id;
      // Behind the task that ends it.
      if (back.end) {
        parts_.world->After({}, [this, alive = std::weak_ptr(alive_), key, id] {
          if (alive.lock() != nullptr) Forget(key, id);
        });
      }
      answer(std::move(back));
    });
    calls.emplace(id, call);
  } else if (!frame->path.empty()) {
    Frame refusal = EndOf(absl::UnimplementedError(frame->path));
    refusal.call = id;
    return answer(std::move(refusal));
  } else {
    return;  // of a call that has ended
  }
  if (frame->message) call->OnMessage({frame, &*frame->message});
  if (frame->end) call->OnHalfClosed();
  if (frame->cancel) Forget(connection.get(), id);
}

void SimServer::Forget(Connection* connection, uint64_t id) {
  const auto calls = calls_.find(connection);
  if (calls == calls_.end()) return;
  const auto at = calls->second.find(id);
  if (at == calls->second.end()) return;
  const CallPtr call = std::move(at->second);
  calls->second.erase(at);
  call->Drop();
  call->OnGone();
}

void SimServer::OnBroken(Connection* connection) {
  const auto at = calls_.find(connection);
  if (at == calls_.end()) return;
  const auto calls = std::move(at->second);
  calls_.erase(at);
  for (const auto& [id, call] : calls) {
    call->Drop();
    call->OnGone();
  }
}

}  // namespace sluice::sim
