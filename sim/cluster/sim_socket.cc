#include "sim/cluster/sim_socket.h"

#include <algorithm>
#include <optional>
#include <utility>  // before asio

#include <asio/error.hpp>

namespace sluice::sim {
namespace {

using edge::datastream::ByteSocket;
using edge::datastream::HostPort;

constexpr env::Duration kRefusedAfter = std::chrono::milliseconds(1);
constexpr double kShortWriteChance = 0.1;

// One end, shared with what is on its way to it.
class End final : public OwnedByLife, public std::enable_shared_from_this<End> {
 public:
  End(std::shared_ptr<SocketNet> net, SocketPort* port)
      : net_(std::move(net)), port_(port), lane_(port->lane()) {}

  void Connect(const std::string& address, ByteSocket::Connected done) {
    connected_ = std::move(done);
    SocketPort* there = net_->find(address);
    if (there == nullptr) {
      net_->world.After(kRefusedAfter, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Break(asio::error::connection_refused);
      });
      return;
    }
    Take(net_->network.Connect(port_->self(), there->self()), Connection::Side::kOpener);
    connection_->Send(side_, [self = shared_from_this(), address] { self->Arrive(address); });
  }

  void Read(asio::mutable_buffer into, ByteSocket::Done done) {
    into_ = into;
    read_ = std::move(done);
    Fill();
  }
  void Write(const ByteSocket::Range& from, ByteSocket::Done done) {
    std::string data;
    for (const asio::const_buffer& part : from)
      data.append(static_cast<const char*>(part.data()), part.size());
    // Sockets take what they have room for.
    if (data.size() > 1 && net_->world.random().Chance(kShortWriteChance)) {
      data.resize(net_->world.random().Between(1, data.size()));
    }
    const size_t size = data.size();
    Send([data = Bytes::Take(std::move(data))](End& peer) { peer.OnBytes(data); });
    Answer(std::move(done), error_, error_ ? 0 : size);
  }
  void EndSending() {
    Send([](End& peer) { peer.Break(asio::error::eof); });
  }
  void Close() {
    EndSending();
    Drop();
  }
  void Drop() override {
    // What they hold may come back here when it goes.
    const auto connected = std::exchange(connected_, nullptr);
    const auto read = std::exchange(read_, nullptr);
    lane_ = nullptr;
    connection_.reset();
  }

 private:
  void Take(std::shared_ptr<Connection> connection, Connection::Side side) {
    connection_ = std::move(connection);
    side_ = side;
    connection_->OnBreak(side, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->Break(asio::error::connection_reset);
    });
  }

  // At the other end, where nobody may be.
  void Arrive(const std::string& address) {
    SocketPort* there = net_->find(address);
    if (there == nullptr || connection_ == nullptr) return;
    auto accepted = std::make_shared<End>(net_, there);
    accepted->Take(connection_, Connection::Side::kAcceptor);
    accepted->peer_ = weak_from_this();
    peer_ = accepted;
    there->Own(accepted);
    accepted->Send([](End& opener) { opener.OnConnected(); });
    there->Accept(Wrap(std::move(accepted)));
  }

  void OnConnected() {
    if (lane_ == nullptr || !connected_) return;
    lane_->Post([done = std::exchange(connected_, nullptr)]() mutable { done({}); });
  }
  void OnBytes(const Bytes& data) {
    received_.Append(data);
    Fill();
  }
  void Break(const std::error_code& error) {
    if (!error_) error_ = error;
    if (lane_ == nullptr) return;
    if (connected_) {
      lane_->Post([done = std::exchange(connected_, nullptr), why = error_]() mutable { done(why); });
    }
    Fill();
  }
  void Fill() {
    if (!read_ || lane_ == nullptr || (received_.empty() && !error_)) return;
    const size_t size = std::min(received_.size(), into_.size());
    received_.Slice(0, size).CopyTo(static_cast<char*>(into_.data()));
    received_ = received_.Slice(size, received_.size() - size);
    Answer(std::exchange(read_, nullptr), size > 0 ? std::error_code() : error_, size);
  }
  void Answer(ByteSocket::Done done, const std::error_code& error, size_t n) {
    if (lane_ == nullptr) return;
    lane_->Post([done = std::move(done), error, n]() mutable { done(error, n); });
  }
  template <typename Deliver>
  void Send(Deliver deliver) {
    if (connection_ == nullptr) return;
    // Who the other end is shows when it is there: the opener is first.
    connection_->Send(side_, [self = shared_from_this(), deliver = std::move(deliver)] {
      if (const auto peer = self->peer_.lock()) deliver(*peer);
    });
  }
  static std::unique_ptr<ByteSocket> Wrap(std::shared_ptr<End> end);

  const std::shared_ptr<SocketNet> net_;
  SocketPort* const port_;
  env::Executor* lane_;                     // null: closed, or its life is over
  std::shared_ptr<Connection> connection_;  // shared by both ends
  Connection::Side side_ = Connection::Side::kOpener;
  std::weak_ptr<End> peer_;
  Bytes received_;
  std::error_code error_;
  ByteSocket::Connected connected_;
  asio::mutable_buffer into_;
  ByteSocket::Done read_;
};

class SimSocket final : public ByteSocket {
 public:
  explicit SimSocket(std::shared_ptr<End> end) : end_(std::move(end)) {}
  ~SimSocket() override { end_->Close(); }
  void Connect(const HostPort& where, Connected done) override {
    end_->Connect(fmt::format("{}:{}", where.host, where.port), std::move(done));
  }
  void Read(asio::mutable_buffer into, Done done) override { end_->Read(into, std::move(done)); }
  void Write(const Range& from, Done done) override { end_->Write(from, std::move(done)); }
  void EndSending() override { end_->EndSending(); }
  void Close() override { end_->Close(); }

 private:
  const std::shared_ptr<End> end_;  // shared with the network
};

std::unique_ptr<ByteSocket> End::Wrap(std::shared_ptr<End> end) {
  return std::make_unique<SimSocket>(std::move(end));
}

}  // namespace

std::unique_ptr<ByteSocket> NewSimSocket(std::shared_ptr<SocketNet> net, SocketPort* port) {
  auto end = std::make_shared<End>(std::move(net), port);
  port->Own(end);
  return std::make_unique<SimSocket>(std::move(end));
}

}  // namespace sluice::sim
