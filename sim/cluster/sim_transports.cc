#include "sim/cluster/sim_transports.h"

#include <deque>
#include <utility>

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
constexpr env::Duration kShortDeadline = milliseconds(1000);
constexpr env::Duration kLongDeadline = milliseconds(5000);  // bytes move, or a log entry is awaited
constexpr env::Duration kRefusedAfter = milliseconds(1);     // the port of a dead process answers at once
constexpr size_t kOwnedPruneAt = 256;

node::ClientReply Failed(const absl::Status& status) {
  node::ClientReply reply;
  reply.code = node::ReplyCode::kUnavailable;
  reply.error = status;
  return reply;
}

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

SimTransports::SimTransports(SimSwitch& all, Parts parts) : all_(all), parts_(std::move(parts)) {
  all_.living[parts_.self] = this;
}

void SimTransports::Drop() {
  if (std::exchange(dropped_, true)) return;
  all_.living.erase(parts_.self);
  const auto owned = std::exchange(owned_, {});
  for (const auto& weak : owned) {
    if (const auto held = weak.lock()) held->Drop();
  }
}

void SimTransports::Own(std::weak_ptr<OwnedByLife> owned) {
  if (owned_.size() >= kOwnedPruneAt) std::erase_if(owned_, [](const auto& weak) { return weak.expired(); });
  owned_.push_back(std::move(owned));
}

// --- Order lane --------------------------------------------------------------------------------------------

void SimTransports::Send(const GroupId& group, const raft::Peer& to, raft::Message message) {
  if (all_.Find(to.id) == nullptr) {
    all_.world.After(kRefusedAfter, [&all = all_, self = parts_.self, life = this, group, to = to.id] {
      if (all.Find(self) == life) life->parts_.host->Unreachable(group, to);
    });
    return;
  }
  // `call` stays the sender's own number: an answer names its request by (receiver, call).
  all_.network.Send(parts_.self, to.id,
                    [&all = all_, from = parts_.self, to = to.id, group, message = std::move(message)] {
                      if (SimTransports* there = all.Find(to))
                        (void)there->parts_.host->Step(group, from, message);
                    });
}

void SimTransports::SendSnapshot(const node::SnapshotOffer& offer, const raft::Peer& to,
                                 env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  constexpr size_t kSnapshotBytesMax = 64u << 20;
  auto content = env::ReadWholeFile(*parts_.files, offer.path, kSnapshotBytesMax);
  if (!content.ok()) {
    return reply_on->Post([done = std::move(done), status = content.status()]() mutable { done(status); });
  }
  Call<bool>(
      to.id, kLongDeadline, reply_on,
      [offer, content = std::move(*content)](SimTransports& there, Answer<bool> answer) {
        there.ReceiveSnapshot(offer, content, std::move(answer));
      },
      [done = std::move(done)](absl::StatusOr<bool> installed) mutable { done(installed.status()); });
}

void SimTransports::ReceiveSnapshot(const node::SnapshotOffer& offer, const std::string& content,
                                    Answer<bool> answer) {
  const std::string path = fmt::format("{}/received-{}", parts_.host->snapshot_dir(), ++snapshots_);
  auto file = parts_.files->Open(path, {.create = true});
  absl::Status status = file.status();
  if (status.ok()) status = (*file)->WriteAt(0, Bytes::Copy(content));
  if (status.ok()) status = (*file)->Sync();
  if (status.ok()) status = parts_.files->SyncDir(parts_.host->snapshot_dir());
  if (!status.ok()) return answer(status);
  parts_.host->InstallSnapshot(offer.group, path, parts_.lane,
                               [files = parts_.files, path, answer](absl::Status installed) {
                                 const auto left = files->Exists(path);
                                 if (left.ok() && *left) (void)files->Remove(path);
                                 if (!installed.ok()) return answer(installed);
                                 answer(true);
                               });
}

// --- Byte lane: calls --------------------------------------------------------------------------------------

template <typename Reply>
void SimTransports::Call(const PeerId& to, env::Duration deadline, env::Executor* reply_on,
                         std::function<void(SimTransports&, Answer<Reply>)> ask, Done<Reply> done) {
  auto pending = std::make_shared<PendingCall<Reply>>();
  pending->reply_on = reply_on;
  pending->done = std::move(done);
  Own(pending);
  if (all_.Find(to) == nullptr) {
    all_.world.After(kRefusedAfter, [pending, to] {
      pending->Finish(absl::UnavailableError(fmt::format("server {} refuses connections", to.value)));
    });
    return;
  }
  all_.world.After(deadline, [pending, to] {
    pending->Finish(absl::DeadlineExceededError(fmt::format("server {} did not answer", to.value)));
  });
  all_.network.Send(parts_.self, to, [&all = all_, self = parts_.self, to, ask = std::move(ask), pending] {
    SimTransports* there = all.Find(to);
    if (there == nullptr) return;
    ask(*there, [&all, self, to, pending](absl::StatusOr<Reply> reply) {
      all.network.Send(to, self, [pending, reply = std::move(reply)] { pending->Finish(reply); });
    });
  });
}

void SimTransports::Have(const raft::Peer& to, const GroupId& group, const UploadId& upload,
                         env::Executor* reply_on, Done<node::HaveReply> done) {
  Call<node::HaveReply>(
      to.id, kShortDeadline, reply_on,
      [group, upload](SimTransports& there, Answer<node::HaveReply> answer) {
        there.parts_.host->Have(group, upload, there.parts_.lane, std::move(answer));
      },
      std::move(done));
}

void SimTransports::TellSealed(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                               env::Executor* reply_on, absl::AnyInvocable<void(absl::Status)> done) {
  Call<bool>(
      to.id, kShortDeadline, reply_on,
      [group, upload](SimTransports& there, Answer<bool> answer) {
        there.parts_.host->OnSealed(group, upload, there.parts_.lane, [answer](absl::Status told) {
          if (!told.ok()) return answer(told);
          answer(true);
        });
      },
      [done = std::move(done)](absl::StatusOr<bool> told) mutable { done(told.status()); });
}

void SimTransports::OrderFetch(const raft::Peer& to, const GroupId& group, const node::SealedUpload& upload,
                               env::Executor* reply_on, Done<node::HaveReply> done) {
  ++ordered_fetches_;
  Call<node::HaveReply>(
      to.id, kLongDeadline, reply_on,
      [group, upload](SimTransports& there, Answer<node::HaveReply> answer) {
        there.parts_.host->FetchSealed(group, upload, there.parts_.lane, std::move(answer));
      },
      std::move(done));
}

void SimTransports::Recall(const raft::Peer& to, const GroupId& group, const raft::RecallRequest& request,
                           env::Executor* reply_on, Done<raft::RecallReply> done) {
  Call<raft::RecallReply>(
      to.id, kShortDeadline, reply_on,
      [group, request, self = parts_.self](SimTransports& there, Answer<raft::RecallReply> answer) {
        there.parts_.host->Recall(group, self, request, there.parts_.lane, std::move(answer));
      },
      std::move(done));
}

void SimTransports::QueryWrite(const raft::Peer& to, const GroupId& group, const std::string& name,
                               env::Executor* reply_on, Done<node::WriteStatus> done) {
  Call<node::WriteStatus>(
      to.id, kShortDeadline, reply_on,
      [group, name](SimTransports& there, Answer<node::WriteStatus> answer) {
        there.parts_.host->QueryWrite(group, name, false, there.parts_.lane, std::move(answer));
      },
      std::move(done));
}

void SimTransports::Publish(const raft::Peer& to, const node::PublishRequest& request,
                            env::Executor* reply_on, absl::AnyInvocable<void(node::ClientReply)> done) {
  Call<node::ClientReply>(
      to.id, kLongDeadline, reply_on,
      [request](SimTransports& there, Answer<node::ClientReply> answer) {
        there.parts_.host->Publish(request, [answer](node::ClientReply reply) { answer(std::move(reply)); });
      },
      [done = std::move(done)](absl::StatusOr<node::ClientReply> reply) mutable {
        done(reply.ok() ? *std::move(reply) : Failed(reply.status()));
      });
}

void SimTransports::Remove(const raft::Peer& to, const node::RemoveRequest& request, env::Executor* reply_on,
                           absl::AnyInvocable<void(node::ClientReply)> done) {
  Call<node::ClientReply>(
      to.id, kLongDeadline, reply_on,
      [request](SimTransports& there, Answer<node::ClientReply> answer) {
        there.parts_.host->Remove(request, [answer](node::ClientReply reply) { answer(std::move(reply)); });
      },
      [done = std::move(done)](absl::StatusOr<node::ClientReply> reply) mutable {
        done(reply.ok() ? *std::move(reply) : Failed(reply.status()));
      });
}

void SimTransports::Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset,
                          uint64_t count, env::Executor* reply_on, Done<Bytes> done) {
  ++fetches_;
  Call<Bytes>(
      to.id, kLongDeadline, reply_on,
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
  state->connection = all_.network.Connect(parts_.self, to.id);
  Own(state);
  const auto lost = [state, to = to.id] {
    state->Fail(absl::UnavailableError(fmt::format("the connection to server {} broke", to.value)));
  };
  state->connection->OnBreak(Connection::Side::kOpener, lost);
  if (all_.Find(to.id) == nullptr) all_.world.After(kRefusedAfter, lost);
  auto receiver = std::make_shared<std::shared_ptr<StreamReceiver>>();
  // Both ends and the connection keep each other until it breaks, or one of the two lives ends.
  state->connection->Send(Connection::Side::kOpener, [&all = all_, to = to.id, header, state, receiver] {
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
