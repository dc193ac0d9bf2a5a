#include "edge/datastream/sink.h"

#include <chrono>
#include <deque>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>  // before asio

#include <asio/post.hpp>

#include "absl/hash/hash.h"
#include "edge/datastream/header.h"
#include "edge/datastream/socket.h"
#include "edge/status.h"
#include "sluice/ratis/raft.pb.h"
#include "wire/datastream.h"

namespace sluice::edge::datastream {
namespace {

using Done = node::ByteSink::Done;

constexpr size_t kLinksMax = 4;
// Sealing waits for disks, here and further down: that is no silence yet.
constexpr int kCloseFactor = 10;
constexpr env::Duration kIdleMax = std::chrono::seconds(60);

// Why the other end refused, as far as it said.
absl::Status FailureOf(const wire::DataStreamReply& reply, const std::string& peer) {
  ::sluice::ratis::common::RaftClientReplyProto proto;
  std::string why = "it gave no reason";
  if (!reply.body.empty() && proto.ParseFromString(reply.body.ToString()))
    why = proto.data_stream_exception().error_message();
  return absl::UnavailableError(fmt::format("server {} refuses the stream: {}", peer, why));
}

}  // namespace

// One stream as its connection sees it. On the lane.
struct OutStream {
  struct Waiting {
    wire::PacketHeader header;
    Done done;  // none for a header, unless it takes over
  };
  UploadId id;
  std::string peer;
  std::deque<Waiting> waiting;
  absl::Status failure;
  env::Instant quiet_since{};
  uint64_t held = 0;    // what the answer to a header that takes over says is there
  blob::Sealed sealed;  // what the answer to CLOSE says
  bool take_over = false;
  bool closing = false;
  bool finished = false;

  void Fail(const absl::Status& why) {
    if (failure.ok()) failure = why;
    auto all = std::exchange(waiting, {});
    for (Waiting& packet : all) {
      if (packet.done) packet.done(failure);
    }
  }
};

// One outgoing connection. On the lane.
class Link : public std::enable_shared_from_this<Link> {
 public:
  Link(const SinkPool::Lane& lane, std::shared_ptr<SlabPool> slabs, std::string address,
       env::Duration silence, const env::Clock* clock)
      : lane_(lane.executor),
        address_(std::move(address)),
        silence_(silence),
        clock_(clock),
        socket_(lane.new_socket()),
        in_(std::move(slabs)) {}

  size_t streams() const { return streams_.size(); }
  bool usable() const { return !closed_ && !retired_; }
  bool closed() const { return closed_; }

  void Connect() {
    const auto where = ParseHostPort(address_);
    if (!where.ok()) return Close(where.status());
    Watch();
    socket_->Connect(*where, [self = shared_from_this()](const std::error_code& error) {
      if (error || self->closed_) return self->Broken(error);
      self->OnConnected();
    });
  }

  bool Add(const std::shared_ptr<OutStream>& stream) {
    idle_since_ = Now();
    return streams_.emplace(stream->id, stream).second;
  }
  void Send(OutStream& stream, wire::PacketHeader header, const Bytes& data, Done done) {
    if (closed_ && stream.failure.ok()) stream.failure = absl::UnavailableError("the connection is closed");
    if (!stream.failure.ok()) {
      if (!done) return;
      // Never from inside the call that asked.
      return lane_->Post([done = std::move(done), why = stream.failure]() mutable { done(why); });
    }
    if (stream.waiting.empty()) stream.quiet_since = Now();
    header.data_length = data.size();
    stream.closing = header.close;
    stream.waiting.push_back({header, std::move(done)});
    out_.Add(wire::EncodeRequest(header, data));
    Write();
  }
  // The stream is over, or given up. A link without streams whose last one was cut is closed, so that the
  // other end lets go of it; one that carries others serves these and is not used again.
  void Remove(const UploadId& id, bool finished) {
    streams_.erase(id);
    if (finished) return;
    retired_ = true;
    if (streams_.empty()) Close(absl::CancelledError("stream given up"));
  }
  void Close(const absl::Status& why) {
    if (std::exchange(closed_, true)) return;
    const auto self = shared_from_this();
    lane_->Cancel(watch_);
    socket_->Close();
    const auto streams = std::exchange(streams_, {});
    for (const auto& [id, stream] : streams) stream->Fail(why);
  }

 private:
  void Broken(const std::error_code& error) {
    Close(absl::UnavailableError(
        fmt::format("connection to {} is lost: {}", address_, error ? error.message() : "closed")));
  }
  void OnConnected() {
    connected_ = true;
    Write();
    Read();
  }
  void Write() {
    if (!connected_ || writing_ || closed_ || out_.empty()) return;
    writing_ = true;
    socket_->Write(out_.Buffers(), [self = shared_from_this()](const std::error_code& error, size_t n) {
      self->writing_ = false;
      if (error || self->closed_) return self->Broken(error);
      self->out_.Sent(n);
      self->Write();
    });
  }
  void Read() {
    socket_->Read(in_.Space(), [self = shared_from_this()](const std::error_code& error, size_t n) {
      if (error || self->closed_) return self->Broken(error);
      self->decoder_.Feed(self->in_.Take(n));
      self->OnReplies();
      if (!self->closed_) self->Read();
    });
  }
  void OnReplies() {
    wire::DataStreamReply reply;
    while (!closed_) {
      const absl::StatusOr<bool> more = decoder_.Next(&reply);
      if (!more.ok()) return Close(more.status());
      if (!*more) return;
      const auto at = streams_.find(reply.header.upload());
      if (at == streams_.end()) continue;  // given up
      const std::shared_ptr<OutStream> stream = at->second;
      OnReply(*stream, reply);
    }
  }
  void OnReply(OutStream& stream, const wire::DataStreamReply& reply) {
    if (!stream.failure.ok()) return;
    if (!reply.success) return stream.Fail(FailureOf(reply, stream.peer));
    if (stream.waiting.empty()) return stream.Fail(absl::InternalError("a reply that nobody asked for"));
    auto& first = stream.waiting.front();
    const uint64_t size = first.header.type == wire::PacketType::kStreamData ? first.header.data_length : 0;
    const bool says_length = stream.take_over && first.header.type == wire::PacketType::kStreamHeader;
    if (says_length) stream.held = reply.bytes_written;
    if (reply.header.type != first.header.type || reply.header.offset != first.header.offset ||
        (reply.bytes_written != size && !says_length)) {  // F-72
      return stream.Fail(absl::InternalError(
          fmt::format("server {} answers {} bytes at {}, {} at {} were sent", stream.peer,
                      reply.bytes_written, reply.header.offset, size, first.header.offset)));
    }
    if (first.header.close) {
      const auto held = DecodeHeld(reply.body);
      if (!held.ok()) return stream.Fail(held.status());
      stream.sealed = *held;
    }
    stream.quiet_since = Now();
    stream.finished = first.header.close;
    Done done = std::move(first.done);
    stream.waiting.pop_front();
    if (done) done(absl::OkStatus());
  }
  void Watch() {
    watch_ = lane_->PostAfter(silence_ / 4, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self == nullptr || self->closed_) return;
      const env::Instant now = self->Now();
      std::vector<std::shared_ptr<OutStream>> silent;
      for (const auto& [id, stream] : self->streams_) {
        const env::Duration patience = stream->closing ? self->silence_ * kCloseFactor : self->silence_;
        if (!stream->waiting.empty() && now - stream->quiet_since > patience) silent.push_back(stream);
      }
      if (!self->streams_.empty()) self->idle_since_ = now;
      // Long before the other end does, so that no stream is sent into a connection that is being closed.
      if (now - self->idle_since_ > kIdleMax) return self->Close(absl::CancelledError("idle"));
      for (const auto& stream : silent) {
        self->retired_ = true;
        stream->Fail(absl::DeadlineExceededError(fmt::format("server {} is silent", stream->peer)));
      }
      if (!self->closed_) self->Watch();
    });
  }

  env::Instant Now() const { return clock_->MonotonicNow(); }

  env::Executor* const lane_;
  const std::string address_;
  const env::Duration silence_;
  const env::Clock* const clock_;
  const std::unique_ptr<ByteSocket> socket_;
  SlabReader in_;
  wire::ReplyDecoder decoder_;
  Outbox out_;
  std::unordered_map<UploadId, std::shared_ptr<OutStream>, absl::Hash<UploadId>> streams_;
  env::TimerId watch_ = env::TimerId::kNone;
  env::Instant idle_since_ = Now();  // while there is no stream
  bool connected_ = false;
  bool writing_ = false;
  bool retired_ = false;
  bool closed_ = false;
};

class Links {
 public:
  Links(SinkPool::Lane lane, env::Duration silence, const env::Clock* clock)
      : lane_(std::move(lane)), silence_(silence), clock_(clock) {}

  env::Executor* lane() const { return lane_.executor; }
  // Null, and the stream failed, if it cannot be sent. A link that does not carry this upload yet: the least
  // busy one, or a new one while all are busy.
  std::shared_ptr<Link> Add(const std::string& address, const std::shared_ptr<OutStream>& stream) {
    if (stopped_) {
      stream->Fail(absl::UnavailableError("this server is stopping"));
      return nullptr;
    }
    auto& links = links_[address];
    std::erase_if(links, [](const auto& link) { return !link->usable(); });
    std::shared_ptr<Link> best;
    for (const auto& link : links) {
      if (best == nullptr || link->streams() < best->streams()) best = link;
    }
    if (best == nullptr || (best->streams() > 0 && links.size() < kLinksMax)) {
      best = std::make_shared<Link>(lane_, slabs_, address, silence_, clock_);
      links.push_back(best);
      all_.insert(best);
      std::erase_if(all_, [](const auto& weak) {
        const auto link = weak.lock();
        return link == nullptr || link->closed();
      });
      all_.insert(best);
      best->Connect();
    }
    if (best->Add(stream)) return best;
    stream->Fail(absl::AlreadyExistsError("this upload is being sent already"));
    return nullptr;
  }
  void Stop() {
    stopped_ = true;
    for (const auto& weak : all_) {
      if (const auto link = weak.lock()) link->Close(absl::UnavailableError("this server is stopping"));
    }
    all_.clear();
    links_.clear();
  }

 private:
  const SinkPool::Lane lane_;
  const env::Duration silence_;
  const env::Clock* const clock_;
  const std::shared_ptr<SlabPool> slabs_ = std::make_shared<SlabPool>();
  std::map<std::string, std::vector<std::shared_ptr<Link>>> links_;
  std::set<std::weak_ptr<Link>, std::owner_less<>> all_;  // retired ones, too
  bool stopped_ = false;
};

namespace {

class Sink final : public node::ByteSink {
 public:
  Sink(env::Executor* home, env::Executor* lane, std::shared_ptr<Links> links, const raft::Peer& to,
       const node::StreamHeader& header, Opened opened)
      : home_(home),
        lane_(lane),
        inline_(home == lane && lane->RunsHere()),
        state_(std::make_shared<State>()) {
    state_->links = std::move(links);
    state_->stream->id = header.upload;
    state_->stream->peer = to.id.value;
    state_->stream->take_over = header.take_over.has_value();
    Done answered = nullptr;
    if (opened) {
      answered =
          Back([stream = state_->stream, opened = std::move(opened)](const absl::Status& status) mutable {
            if (!status.ok()) return opened(status);
            opened(stream->held);
          });
    }
    Run([state = state_, address = to.data_stream_address, raw = EncodeStreamHeader(header),
         answered = std::move(answered)]() mutable {
      state->link = state->links->Add(address, state->stream);
      state->Send(wire::PacketType::kStreamHeader, 0, raw, false, std::move(answered));
    });
  }
  ~Sink() override {
    Run([state = state_] { state->Drop(); });
  }

  void Append(uint64_t offset, Bytes piece, Done done) override {
    Run([state = state_, offset, piece = std::move(piece), done = Back(std::move(done))]() mutable {
      state->Send(wire::PacketType::kStreamData, offset, piece, false, std::move(done));
    });
  }
  void Close(uint64_t offset, Closed closed) override {
    Done done = [stream = state_->stream, closed = std::move(closed)](const absl::Status& status) mutable {
      if (!status.ok()) return closed(status);
      closed(stream->sealed);
    };
    Run([state = state_, offset, done = Back(std::move(done))]() mutable {
      state->Send(wire::PacketType::kStreamData, offset, Bytes(), true, std::move(done));
    });
  }

 private:
  struct State {
    std::shared_ptr<Links> links;
    std::shared_ptr<OutStream> stream = std::make_shared<OutStream>();
    std::shared_ptr<Link> link;

    void Send(wire::PacketType type, uint64_t offset, const Bytes& data, bool close, Done done) {
      wire::PacketHeader header;
      header.client = stream->id.client;
      header.stream = stream->id.call;
      header.type = type;
      header.offset = offset;
      header.close = close;
      if (link != nullptr) return link->Send(*stream, header, data, std::move(done));
      if (!done) return;
      links->lane()->Post([done = std::move(done), why = stream->failure]() mutable { done(why); });
    }
    void Drop() {
      stream->waiting.clear();  // nobody waits any more
      if (link != nullptr) link->Remove(stream->id, stream->finished);
      link.reset();
    }
  };

  void Run(env::Task task) {
    if (inline_) return task();
    lane_->Post(std::move(task));
  }
  Done Back(Done done) {
    if (inline_) return done;
    return [home = home_, done = std::move(done)](absl::Status status) mutable {
      home->Post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    };
  }

  env::Executor* const home_;
  env::Executor* const lane_;
  const bool inline_;
  const std::shared_ptr<State> state_;  // shared with tasks on the lane
};

}  // namespace

SinkPool::SinkPool(std::vector<Lane> lanes, const node::Cluster* cluster, env::Duration silence,
                   const env::Clock* clock)
    : lanes_(std::move(lanes)), cluster_(cluster) {
  for (const Lane& lane : lanes_) links_.push_back(std::make_shared<Links>(lane, silence, clock));
}

SinkPool::~SinkPool() = default;

std::unique_ptr<node::ByteSink> SinkPool::Open(env::Executor* home, const raft::Peer& to,
                                               const node::StreamHeader& header,
                                               node::ByteSink::Opened opened) {
  size_t lane = 0;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (lanes_[i].executor == home) lane = i;
  }
  node::StreamHeader said = header;
  said.cluster = cluster_->said();
  said.target = to.id;
  return std::make_unique<Sink>(home, lanes_[lane].executor, links_[lane], to, said, std::move(opened));
}

void SinkPool::Close(size_t lane) { links_[lane]->Stop(); }

namespace {

std::vector<SinkPool::Lane> OverTcp(const std::vector<env::Loop*>& loops) {
  std::vector<SinkPool::Lane> lanes;
  for (env::Loop* loop : loops) lanes.push_back({loop, [loop] { return NewTcpSocket(*loop); }});
  return lanes;
}

}  // namespace

DataStreamSinks::DataStreamSinks(std::vector<env::Loop*> lanes, const node::Cluster* cluster,
                                 uint32_t silence_ms)
    : lanes_(std::move(lanes)),
      pool_(OverTcp(lanes_), cluster, std::chrono::milliseconds(silence_ms), &env::RealClock()) {}

DataStreamSinks::~DataStreamSinks() { Stop(); }

void DataStreamSinks::Stop() {
  if (std::exchange(stopped_, true)) return;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    std::promise<void> done;
    lanes_[i]->Post([&] {
      pool_.Close(i);
      asio::post(lanes_[i]->context(), [&] { done.set_value(); });  // behind the last handlers
    });
    done.get_future().wait();
  }
}

}  // namespace sluice::edge::datastream
