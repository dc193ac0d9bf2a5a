#include "sim/cluster/sim_wire.h"

#include <utility>

#include "sim/cluster/sim_transports.h"

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
constexpr env::Duration kRefusedAfter = milliseconds(1);  // the port of a dead process answers at once

std::string Serialized(const edge::ProtoMessage& message) { return message.SerializeAsString(); }

}  // namespace

// One connection to one port, opened when it is needed, and the calls on it.
class SimWire::Channel final : public std::enable_shared_from_this<SimWire::Channel> {
 public:
  struct Call {
    absl::AnyInvocable<absl::Status(const std::string& message)> on_message;
    EndedFn on_end;
    std::optional<EventId> deadline;
  };

  Channel(SimSwitch& all, PeerId self, edge::WireTo to)
      : all_(all), self_(std::move(self)), to_(std::move(to)) {}

  void Drop() {
    const auto calls = std::exchange(calls_, {});
    connection_.reset();
    for (const auto& [id, call] : calls) {
      if (call->deadline) all_.world.Cancel(*call->deadline);
    }
  }

  uint64_t Begin(Call call, std::optional<env::Duration> deadline) {
    const uint64_t id = ++last_;
    if (deadline) {
      call.deadline = all_.world.After(*deadline, [weak = weak_from_this(), id] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        self->Cancel(id, absl::DeadlineExceededError(fmt::format("{} did not answer", self->to_.id.value)));
      });
    }
    calls_.emplace(id, std::make_shared<Call>(std::move(call)));
    return id;
  }

  void Send(Frame frame) {
    if (calls_.count(frame.call) == 0) return;
    if (!Connected()) return Refused(frame.call);
    auto shared = std::make_shared<const Frame>(std::move(frame));
    connection_->Send(
        Connection::Side::kOpener, [&all = all_, to = to_.address, shared,
                                    connection = std::weak_ptr(connection_), channel = weak_from_this()] {
          SimTransports* there = all.Find(to);
          const auto here = connection.lock();
          if (there == nullptr || here == nullptr) return;
          there->server().OnFrame(here, shared, [connection, channel](Frame answer) {
            const auto open = connection.lock();
            if (open == nullptr) return;
            open->Send(Connection::Side::kAcceptor,
                       [channel, connection, back = std::make_shared<const Frame>(std::move(answer))] {
                         const auto self = channel.lock();
                         if (self != nullptr && self->connection_ == connection.lock()) self->OnFrame(*back);
                       });
          });
        });
  }

  // Ends a call from here; the other end is told.
  void Cancel(uint64_t id, const absl::Status& why) {
    if (calls_.count(id) == 0) return;
    if (connection_ != nullptr) {
      Frame frame;
      frame.call = id;
      frame.cancel = true;
      Send(std::move(frame));
    }
    End(id, why);
  }

 private:
  bool Connected() {
    if (connection_ != nullptr) return true;
    SimTransports* there = all_.Find(to_.address);
    if (there == nullptr) return false;
    connection_ = all_.network.Connect(self_, there->self());
    connection_->OnBreak(Connection::Side::kOpener,
                         [weak = weak_from_this(), connection = std::weak_ptr(connection_)] {
                           const auto self = weak.lock();
                           if (self != nullptr && self->connection_ == connection.lock()) self->OnBroken();
                         });
    return true;
  }

  void Refused(uint64_t id) {
    all_.world.After(kRefusedAfter, [weak = weak_from_this(), id] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->End(id, absl::UnavailableError(fmt::format("{} refuses connections", self->to_.address)));
    });
  }

  void OnBroken() {
    connection_.reset();
    std::vector<uint64_t> all;
    for (const auto& [id, call] : calls_) all.push_back(id);
    for (const uint64_t id : all) {
      End(id, absl::UnavailableError(fmt::format("the connection to {} broke", to_.address)));
    }
  }

  void OnFrame(const Frame& frame) {
    const auto at = calls_.find(frame.call);
    if (at == calls_.end()) return;  // cancelled
    const std::shared_ptr<Call> call = at->second;
    absl::Status good;
    if (frame.message) good = call->on_message(*frame.message);
    if (!good.ok()) return Cancel(frame.call, good);
    if (frame.end) End(frame.call, frame.status);
  }

  void End(uint64_t id, absl::Status status) {
    const auto at = calls_.find(id);
    if (at == calls_.end()) return;
    const std::shared_ptr<Call> call = std::move(at->second);
    calls_.erase(at);
    if (call->deadline) all_.world.Cancel(*call->deadline);
    call->on_end(std::move(status));
  }

  SimSwitch& all_;
  const PeerId self_;
  const edge::WireTo to_;
  std::shared_ptr<Connection> connection_;           // shared with the network's users
  std::map<uint64_t, std::shared_ptr<Call>> calls_;  // shared with the frame that is being taken
  uint64_t last_ = 0;
};

// Its first message begins the call.
class SimWire::Stream final : public edge::OutgoingStream {
 public:
  Stream(const std::shared_ptr<Channel>& channel, uint64_t id, std::string path, edge::CallerSays says)
      : channel_(channel), id_(id), path_(std::move(path)), says_(std::move(says)) {}

  bool Push(std::unique_ptr<edge::ProtoMessage> request) override {
    Frame frame = Next();
    frame.message = Serialized(*request);
    Send(std::move(frame));
    return true;
  }
  void PushedAll() override {
    Frame frame = Next();
    frame.end = true;
    Send(std::move(frame));
  }
  void Cancel() override {
    if (const auto channel = channel_.lock()) channel->Cancel(id_, absl::CancelledError("cancelled here"));
  }

 private:
  Frame Next() {
    Frame frame;
    frame.call = id_;
    frame.path = std::exchange(path_, {});
    frame.says = says_;
    return frame;
  }
  void Send(Frame frame) {
    if (const auto channel = channel_.lock()) channel->Send(std::move(frame));
  }

  const std::weak_ptr<Channel> channel_;
  const uint64_t id_;
  std::string path_;
  const edge::CallerSays says_;
};

SimWire::SimWire(SimSwitch& all, PeerId self, const node::Cluster* cluster)
    : all_(all), self_(std::move(self)), cluster_(cluster) {}

void SimWire::Drop() {
  const auto channels = std::exchange(channels_, {});
  for (const auto& [to, channel] : channels) channel->Drop();
}

uint64_t SimWire::calls(const std::string& path) const {
  const auto found = begun_.find(path);
  return found == begun_.end() ? 0 : found->second;
}

std::shared_ptr<SimWire::Channel> SimWire::ChannelTo(const edge::WireTo& to) {
  auto& channel = channels_[{to.address, to.heartbeats}];
  if (channel == nullptr) channel = std::make_shared<Channel>(all_, self_, to);
  return channel;
}

void SimWire::StartCall(const edge::WireTo& to, const char* path, int deadline_ms,
                        const edge::ProtoMessage& request, edge::ProtoMessage* reply, EndedFn done) {
  ++begun_[path];
  const auto channel = ChannelTo(to);
  Channel::Call call;
  call.on_message = [reply](const std::string& message) {
    return reply->ParseFromString(message) ? absl::OkStatus() : absl::InternalError("a reply that is none");
  };
  call.on_end = std::move(done);
  Frame frame;
  frame.call = channel->Begin(std::move(call), milliseconds(deadline_ms));
  frame.path = path;
  frame.says = edge::SayTo(*cluster_, to.id);
  frame.message = Serialized(request);
  frame.end = true;
  channel->Send(std::move(frame));
}

void SimWire::Read(const edge::WireTo& to, Reading reading,
                   absl::AnyInvocable<absl::Status(const Bytes& message)> on_message, EndedFn on_end) {
  ++begun_[reading.path];
  const auto channel = ChannelTo(to);
  Channel::Call call;
  call.on_message = [on_message = std::move(on_message)](const std::string& message) mutable {
    return on_message(Bytes::Copy(message));
  };
  call.on_end = std::move(on_end);
  Frame frame;
  frame.call = channel->Begin(std::move(call), milliseconds(reading.deadline_ms));
  frame.path = reading.path;
  frame.says = edge::SayTo(*cluster_, to.id);
  frame.metadata = std::move(reading.metadata.second);
  frame.message = reading.request.ToString();
  frame.end = true;
  channel->Send(std::move(frame));
}

std::shared_ptr<edge::OutgoingStream> SimWire::StartStream(const edge::WireTo& to, const char* path, uint64_t,
                                                           Replies replies) {
  ++begun_[path];
  const auto channel = ChannelTo(to);
  Channel::Call call;
  call.on_message = [memory = std::move(replies.memory),
                     on_reply = std::move(replies.on_reply)](const std::string& message) mutable {
    if (!memory->ParseFromString(message)) return absl::InternalError("a reply that is none");
    on_reply(*memory);
    return absl::OkStatus();
  };
  call.on_end = std::move(replies.on_end);
  const uint64_t id = channel->Begin(std::move(call), std::nullopt);
  return std::make_shared<Stream>(channel, id, path, edge::SayTo(*cluster_, to.id));
}

}  // namespace sluice::sim
