#include "sim/cluster/sim_transports.h"

#include <deque>
#include <utility>

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
constexpr env::Duration kLongDeadline = milliseconds(5000);  // bytes move, or a log entry is awaited
constexpr env::Duration kRefusedAfter = milliseconds(1);     // the port of a dead process answers at once
constexpr size_t kOwnedPruneAt = 256;

// One call under way at its caller.
template <typename Reply>
struct PendingCall final : OwnedByLife {
  env::Executor* reply_on = nullptr;
  absl::AnyInvocable<void(absl::StatusOr<Reply>)> done;
  void Drop() override {
    reply_on = nullptr;
    done = nullptr;
  }
  void Finish(absl::StatusOr<Reply> reply) {
    if (!done) return;
    std::exchange(reply_on, nullptr)
        ->Post([done = std::exchange(done, nullptr), reply = std::move(reply)]() mutable {
          done(std::move(reply));
        });
  }
};

// The opener's end of an upload's stream.
struct SinkState final : OwnedByLife, std::enable_shared_from_this<SinkState> {
  env::Executor* home = nullptr;
  std::shared_ptr<Connection> connection;
  node::ByteSink::Opened opened;
  using Answered = absl::AnyInvocable<void(absl::Status, const blob::Sealed&)>;
  std::deque<Answered> unanswered;
  absl::Status failed;

  void Drop() override {
    home = nullptr;
    opened = nullptr;
    unanswered.clear();
    connection.reset();
  }
  void Opened(absl::StatusOr<uint64_t> length) {
    if (home == nullptr || !opened) return;
    home->Post([done = std::exchange(opened, nullptr), length]() mutable { done(length); });
  }
  void Answer(absl::Status status, const blob::Sealed& sealed = {}) {
    if (home == nullptr || unanswered.empty()) return;
    home->Post([done = std::move(unanswered.front()), status = std::move(status), sealed]() mutable {
      done(std::move(status), sealed);
    });
    unanswered.pop_front();
  }
  void Fail(absl::Status status) {
    if (failed.ok()) failed = std::move(status);
    Opened(failed);
    while (home != nullptr && !unanswered.empty()) Answer(failed);
  }
  // False: answered with the failure already.
  bool Expect(Answered done) {
    if (home == nullptr) return false;
    unanswered.push_back(std::move(done));
    if (failed.ok()) return true;
    Answer(failed);
    return false;
  }
};

// The acceptor's end: feeds a relay. Everything but the constructor runs on the lane.
struct StreamReceiver final : OwnedByLife, std::enable_shared_from_this<StreamReceiver> {
  SimTransports* there = nullptr;
  std::shared_ptr<Connection> connection;
  std::shared_ptr<SinkState> sender;  // touched by what arrives there only
  std::shared_ptr<node::Relay> relay;

  void Drop() override {
    there = nullptr;
    relay.reset();
    connection.reset();
  }
  void OnLane(std::function<void()> task) {
    if (there == nullptr) return;
    there->parts().lane->Post([self = shared_from_this(), task = std::move(task)] {
      if (self->there != nullptr) task();
    });
  }
  void Open(const node::StreamHeader& header) {
    OnLane([this, header] {
      relay = there->parts().host->OpenRelay(
          header, there->parts().lane, [self = shared_from_this()](absl::Status opened) {
            if (!opened.ok()) return self->Send([sender = self->sender, opened] { sender->Fail(opened); });
            if (self->relay == nullptr) return;
            self->Send([sender = self->sender, length = self->relay->length()] { sender->Opened(length); });
          });
    });
  }
  void Append(uint64_t offset, const Bytes& piece) {
    OnLane([this, offset, piece] {
      if (relay == nullptr) return Reply(absl::FailedPreconditionError("no such stream"));
      relay->Append(offset, piece,
                    [self = shared_from_this()](absl::Status status) { self->Reply(std::move(status)); });
    });
  }
  void Close(uint64_t offset) {
    OnLane([this, offset] {
      if (relay == nullptr) return Reply(absl::FailedPreconditionError("no such stream"));
      if (relay->length() != offset) return Reply(absl::InvalidArgumentError("close at another offset"));
      relay->Close([self = shared_from_this()](absl::StatusOr<blob::Sealed> sealed) {
        self->Reply(sealed.status(), sealed.ok() ? *sealed : blob::Sealed{});
      });
    });
  }
  void Broken() {
    OnLane([this] { relay.reset(); });
  }

 private:
  void Reply(absl::Status status, blob::Sealed sealed = {}) {
    Send([sender = sender, status = std::move(status), sealed] { sender->Answer(status, sealed); });
  }
  void Send(std::function<void()> deliver) {
    if (connection != nullptr) connection->Send(Connection::Side::kAcceptor, std::move(deliver));
  }
};

class SimSink final : public node::ByteSink {
 public:
  using Receiver = std::shared_ptr<std::shared_ptr<StreamReceiver>>;  // filled by the header's arrival
  SimSink(std::shared_ptr<SinkState> state, Receiver receiver)
      : state_(std::move(state)), receiver_(std::move(receiver)) {}
  ~SimSink() override {
    if (state_->connection != nullptr) state_->connection->BreakNow();
    state_->Drop();
  }
  void Append(uint64_t offset, Bytes piece, Done done) override {
    if (!state_->Expect([done = std::move(done)](absl::Status status, const blob::Sealed&) mutable {
          done(std::move(status));
        })) {
      return;
    }
    state_->connection->Send(Connection::Side::kOpener,
                             [receiver = receiver_, offset, piece = std::move(piece)] {
                               if (*receiver) (*receiver)->Append(offset, piece);
                             });
  }
  void Close(uint64_t offset, Closed done) override {
    if (!state_->Expect([done = std::move(done)](absl::Status status, const blob::Sealed& sealed) mutable {
          if (!status.ok()) return done(std::move(status));
          done(sealed);
        })) {
      return;
    }
    state_->connection->Send(Connection::Side::kOpener, [receiver = receiver_, offset] {
      if (*receiver) (*receiver)->Close(offset);
    });
  }

 private:
  const std::shared_ptr<SinkState> state_;
  const Receiver receiver_;
};

// Reads [offset, offset + count) of a source, piece by piece.
struct SourceReader final : OwnedByLife, std::enable_shared_from_this<SourceReader> {
  std::shared_ptr<blob::Source> source;
  env::Executor* lane = nullptr;
  uint64_t offset = 0;
  uint64_t left = 0;
  Bytes read;
  SimTransports::Answer<Bytes> answer;

  void Drop() override { source.reset(); }
  void Next() {
    if (left == 0) return answer(std::move(read));
    source->Read(offset, std::min(left, blob::kReadBytesMax), lane,
                 [self = shared_from_this()](absl::StatusOr<Bytes> piece) {
                   if (!piece.ok()) return self->answer(piece.status());
                   if (piece->empty()) return self->answer(absl::OutOfRangeError("the upload ends before"));
                   self->offset += piece->size();
                   self->left -= std::min<uint64_t>(self->left, piece->size());
                   self->read.Append(*piece);
                   self->Next();
                 });
  }
};

}  // namespace

SimTransports::SimTransports(SimSwitch& all, Parts parts)
    : all_(all),
      parts_(std::move(parts)),
      wire_(all_, parts_.self.id, &parts_.host->cluster()),
      replies_(edge::ratis::kWaitingRepliesMax, edge::ratis::kReplyLifetime, all_.world),
      calls_(&wire_),
      peers_(parts_.host, {.calls = &wire_,
                           .streams = &wire_,
                           .peer_calls = &calls_,
                           .replies = &replies_,
                           .disk = parts_.disk,
                           .files = parts_.files,
                           .time = {&all_.world, parts_.random}}),
      bytes_(&calls_, parts_.self.id),
      server_({.host = parts_.host,
               .replies = &replies_,
               .lane = parts_.lane,
               .disk = parts_.disk,
               .files = parts_.files,
               .world = &all_.world}) {
  bytes_.Plug(this, this);
  all_.living[parts_.self.address] = this;
}

void SimTransports::Drop() {
  if (std::exchange(dropped_, true)) return;
  all_.living.erase(parts_.self.address);
  wire_.Drop();
  server_.Drop();
  const auto owned = std::exchange(owned_, {});
  for (const auto& weak : owned) {
    if (const auto held = weak.lock()) held->Drop();
  }
}

void SimTransports::Own(std::weak_ptr<OwnedByLife> owned) {
  if (owned_.size() >= kOwnedPruneAt) std::erase_if(owned_, [](const auto& weak) { return weak.expired(); });
  owned_.push_back(std::move(owned));
}

// --- Byte lane: calls --------------------------------------------------------------------------------------

template <typename Reply>
void SimTransports::Call(const raft::Peer& to, env::Duration deadline, env::Executor* reply_on,
                         std::function<void(SimTransports&, Answer<Reply>)> ask, Done<Reply> done) {
  auto pending = std::make_shared<PendingCall<Reply>>();
  pending->reply_on = reply_on;
  pending->done = std::move(done);
  Own(pending);
  if (all_.Find(to.address) == nullptr) {
    all_.world.After(kRefusedAfter, [pending, to = to.id] {
      pending->Finish(absl::UnavailableError(fmt::format("server {} refuses connections", to.value)));
    });
    return;
  }
  all_.world.After(deadline, [pending, to = to.id] {
    pending->Finish(absl::DeadlineExceededError(fmt::format("server {} did not answer", to.value)));
  });
  all_.network.Send(
      parts_.self.id, to.id, [&all = all_, self = parts_.self.id, to, ask = std::move(ask), pending] {
        SimTransports* there = all.Find(to.address);
        if (there == nullptr) return;
        ask(*there, [&all, self, to = to.id, pending](absl::StatusOr<Reply> reply) {
          all.network.Send(to, self, [pending, reply = std::move(reply)] { pending->Finish(reply); });
        });
      });
}

void SimTransports::Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset,
                          uint64_t count, env::Executor* reply_on, Done<Bytes> done) {
  ++fetches_;
  Call<Bytes>(
      to, kLongDeadline, reply_on,
      [wanted, offset, count](SimTransports& there, Answer<Bytes> answer) {
        env::Executor* lane = there.parts_.lane;
        const auto reader = std::make_shared<SourceReader>();
        reader->lane = lane;
        reader->offset = offset;
        reader->left = count;
        reader->answer = std::move(answer);
        there.Own(reader);
        there.parts_.host->OpenUploadRead(wanted, lane,
                                          [reader](absl::StatusOr<std::shared_ptr<blob::Source>> source) {
                                            if (!source.ok()) return reader->answer(source.status());
                                            reader->source = std::move(*source);
                                            reader->Next();
                                          });
      },
      std::move(done));
}

// --- Byte lane: streams ------------------------------------------------------------------------------------

std::unique_ptr<node::ByteSink> SimTransports::Open(env::Executor* home, const raft::Peer& to,
                                                    const node::StreamHeader& header,
                                                    node::ByteSink::Opened opened) {
  auto state = std::make_shared<SinkState>();
  state->opened = std::move(opened);
  state->home = home;
  state->connection = all_.network.Connect(parts_.self.id, to.id);
  Own(state);
  const auto lost = [state, to = to.id] {
    state->Fail(absl::UnavailableError(fmt::format("the connection to server {} broke", to.value)));
  };
  state->connection->OnBreak(Connection::Side::kOpener, lost);
  if (all_.Find(to.address) == nullptr) all_.world.After(kRefusedAfter, lost);
  auto receiver = std::make_shared<std::shared_ptr<StreamReceiver>>();
  // Both ends and the connection keep each other until it breaks, or one of the two lives ends.
  state->connection->Send(Connection::Side::kOpener, [&all = all_, to = to.address, header, state, receiver] {
    SimTransports* there = all.Find(to);
    if (there == nullptr || state->connection == nullptr) return;
    auto accepted = std::make_shared<StreamReceiver>();
    accepted->there = there;
    accepted->connection = state->connection;
    accepted->sender = state;
    there->Own(accepted);
    state->connection->OnBreak(Connection::Side::kAcceptor, [accepted] { accepted->Broken(); });
    *receiver = accepted;
    accepted->Open(header);
  });
  return std::make_unique<SimSink>(std::move(state), std::move(receiver));
}

}  // namespace sluice::sim
