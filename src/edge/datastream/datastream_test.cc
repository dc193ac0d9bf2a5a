#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <utility>  // before asio

#include <asio/connect.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include "edge/datastream/header.h"
#include "edge/datastream/server.h"
#include "edge/datastream/sink.h"
#include "edge/datastream/stream_host_for_test.h"
#include "node/command.h"

namespace sluice::edge::datastream {
namespace {

using testing::HasSubstr;

const ClientId kClient = *ClientId::Parse("11111111-2222-3333-4444-555555555555");

node::StreamHeader Header(uint64_t call) {
  node::StreamHeader header;
  header.group = kDefaultGroup;
  header.upload = {kClient, CallId{call}};
  header.route.primary = {"n0"};
  header.blob.name = "a file";
  return header;
}

std::string Packet(uint64_t call, wire::PacketType type, uint64_t offset, const std::string& data,
                   bool close = false) {
  wire::PacketHeader header;
  header.client = kClient;
  header.type = type;
  header.stream = CallId{call};
  header.offset = offset;
  header.close = close;
  return wire::EncodeRequest(header, Bytes::Copy(data)).ToString();
}
std::string Open(uint64_t call) {
  return Packet(call, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(Header(call)).ToString());
}
std::string Data(uint64_t call, uint64_t offset, const std::string& data, bool close = false) {
  return Packet(call, wire::PacketType::kStreamData, offset, data, close);
}

// A blocking client.
class Client {
 public:
  explicit Client(int port, int receive_buffer = 0) : socket_(context_) {
    std::error_code error;
    socket_.open(asio::ip::tcp::v4(), error);
    if (receive_buffer > 0)
      setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    socket_.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(port)}, error);
    EXPECT_FALSE(error) << error.message();
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  void Send(const std::string& bytes) { (void)Sent(bytes); }
  // False: the connection ended.
  bool Sent(const std::string& bytes) {
    std::error_code error;
    asio::write(socket_, asio::buffer(bytes), error);
    return !error;
  }
  // nullopt: the connection ended.
  std::optional<wire::DataStreamReply> Next() {
    wire::DataStreamReply reply;
    while (true) {
      auto more = decoder_.Next(&reply);
      EXPECT_TRUE(more.ok()) << more.status();
      if (!more.ok()) return std::nullopt;
      if (*more) return reply;
      char buffer[4096];
      const ssize_t n = recv(socket_.native_handle(), buffer, sizeof buffer, 0);
      if (n < 0) ADD_FAILURE() << "no reply in time";
      if (n <= 0) return std::nullopt;
      decoder_.Feed(Bytes::Copy({buffer, static_cast<size_t>(n)}));
    }
  }
  bool NextSucceeds() {
    const auto reply = Next();
    return reply.has_value() && reply->success;
  }
  // The text of a failure, empty for anything else.
  std::string NextFailure() {
    const auto reply = Next();
    if (!reply || reply->success) return "";
    return reply->body.ToString();
  }
  bool Ends() { return !Next().has_value(); }

 private:
  asio::io_context context_;
  asio::ip::tcp::socket socket_;
  wire::ReplyDecoder decoder_;
};

class DataStream : public testing::Test {
 protected:
  DataStream() {
    for (auto* lane : {&lane0_, &lane1_}) lanes_.push_back(lane->get());
    Restart({.listen = "127.0.0.1:0"});
  }
  ~DataStream() override {
    host_.held.clear();
    server_->Stop();
  }
  void Restart(DataStreamOptions options) {
    server_ = std::make_unique<DataStreamServer>(&host_, lanes_, std::move(options));
    const absl::Status started = server_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  std::string Content(uint64_t call) {
    std::lock_guard lock(host_.mutex);
    return host_.content[{kClient, CallId{call}}].bytes;
  }

  std::unique_ptr<env::Loop> lane0_ = env::NewLoop("lane-0");
  std::unique_ptr<env::Loop> lane1_ = env::NewLoop("lane-1");
  std::vector<env::Loop*> lanes_;
  StreamHost host_{"n0"};
  std::unique_ptr<DataStreamServer> server_;
};

TEST_F(DataStream, F62_OneSegmentAndByteByByteGiveTheSame) {
  const std::string script = Open(1) + Data(1, 0, "hello ") + Data(1, 6, "world") + Data(1, 11, "", true);
  for (size_t cut : {script.size(), size_t{1}}) {
    Client client(server_->port());
    for (size_t i = 0; i < script.size(); i += cut) client.Send(script.substr(i, cut));
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(client.NextSucceeds()) << i;
    EXPECT_EQ(Content(1), "hello world");
  }
}

TEST_F(DataStream, D07_ALargePacketIsCutAndAnsweredOnce) {
  Client client(server_->port());
  const std::string data(3'000'017, 'x');
  client.Send(Open(1) + Data(1, 0, data, true));
  EXPECT_TRUE(client.NextSucceeds());
  const auto reply = client.Next();
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->success);
  EXPECT_EQ(reply->bytes_written, data.size());
  EXPECT_EQ(Content(1), data);
}

TEST_F(DataStream, F69_WrongUnknownTwiceAndLateAreAnsweredAndTheConnectionLives) {
  Client client(server_->port());
  client.Send(Data(7, 0, "x"));
  EXPECT_THAT(client.NextFailure(), HasSubstr("no stream 7"));
  client.Send(Open(1) + Open(1));
  EXPECT_TRUE(client.NextSucceeds() != client.NextSucceeds());  // the refusal may overtake the first answer
  client.Send(Data(1, 0, "abc") + Data(1, 2, "overlap"));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_THAT(client.NextFailure(), HasSubstr("offset 2: expected 3"));
  client.Send(Data(1, 3, "d"));
  EXPECT_THAT(client.NextFailure(), HasSubstr("no stream 1"));
  EXPECT_EQ(Content(1), "abc");
  client.Send(Open(2) + Data(2, 0, "fine", true) + Data(2, 4, "late"));
  int failures = 0;
  for (int i = 0; i < 3; ++i) failures += client.NextSucceeds() ? 0 : 1;
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(Content(2), "fine");
}

TEST_F(DataStream, F69_AnEmptyPacketHasItsPlaceToo) {
  Client client(server_->port());
  client.Send(Open(1) + Data(1, 0, "abc") + Data(1, 3, ""));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(client.NextSucceeds()) << i;
  client.Send(Data(1, 7, ""));
  EXPECT_THAT(client.NextFailure(), HasSubstr("empty packet at offset 7: expected 3"));
}

TEST_F(DataStream, F64_StreamsOfAConnectionAreLimited) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .streams_max = 2});
  Client client(server_->port());
  for (const uint64_t call : {uint64_t{1}, uint64_t{2}}) {
    client.Send(Open(call));
    EXPECT_TRUE(client.NextSucceeds());
  }
  client.Send(Open(3));
  EXPECT_THAT(client.NextFailure(), HasSubstr("2 streams on one connection"));
  client.Send(Data(1, 0, "abc", true));
  EXPECT_TRUE(client.NextSucceeds());
  client.Send(Open(3));
  EXPECT_TRUE(client.NextSucceeds()) << "one has ended";
}

// One that takes over is of another connection; on the same one the stream that is open goes on.
TEST_F(DataStream, F69_AStreamIsNotTakenOverByItsOwnConnection) {
  Client client(server_->port());
  client.Send(Open(1) + Data(1, 0, "abc"));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_TRUE(client.NextSucceeds());
  node::StreamHeader header = Header(1);
  header.take_over = 3;
  client.Send(Packet(1, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_THAT(client.NextFailure(), HasSubstr("stream 1 is open already"));
  client.Send(Data(1, 3, "d", true));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_EQ(Content(1), "abcd");
}

TEST_F(DataStream, F70_AnotherConnectionCannotTouchAStream) {
  Client owner(server_->port());
  owner.Send(Open(1) + Data(1, 0, "mine"));
  EXPECT_TRUE(owner.NextSucceeds());
  EXPECT_TRUE(owner.NextSucceeds());
  Client other(server_->port());
  other.Send(Data(1, 4, "foreign") + Open(1));
  EXPECT_THAT(other.NextFailure(), HasSubstr("no stream 1"));
  EXPECT_THAT(other.NextFailure(), HasSubstr("another connection"));
  owner.Send(Data(1, 4, "!", true));
  EXPECT_TRUE(owner.NextSucceeds());
  EXPECT_EQ(Content(1), "mine!");
}

TEST_F(DataStream, F58_AnOversizedPacketIsToldAndCutOff) {
  Client client(server_->port());
  client.Send(Open(1));
  EXPECT_TRUE(client.NextSucceeds());
  wire::PacketHeader header;
  header.client = kClient;
  header.type = wire::PacketType::kStreamData;
  header.stream = CallId{1};
  header.data_length = 65u << 20;
  client.Send(wire::EncodeRequestFront(header));
  EXPECT_THAT(client.NextFailure(), HasSubstr("at most"));
  EXPECT_TRUE(client.Ends());
}

TEST_F(DataStream, F60_OtherProtocolsAreCutOff) {
  for (const char* garbage : {"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}) {
    Client client(server_->port());
    client.Send(garbage);
    EXPECT_TRUE(client.Ends());
  }
}

TEST_F(DataStream, F63_ASilentConnectionIsClosed) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .first_packet_ms = 20});
  Client client(server_->port());
  EXPECT_TRUE(client.Ends());
}

TEST_F(DataStream, K16_AnIdleConnectionIsClosedAndOneWithAStreamIsNot) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .idle_ms = 50});
  Client idle(server_->port()), writing(server_->port());
  writing.Send(Open(2) + Data(2, 0, "abc"));
  EXPECT_TRUE(writing.NextSucceeds());
  EXPECT_TRUE(writing.NextSucceeds());
  idle.Send(Open(1) + Data(1, 0, "abc", true));
  EXPECT_TRUE(idle.NextSucceeds());
  EXPECT_TRUE(idle.NextSucceeds());
  EXPECT_TRUE(idle.Ends());
  writing.Send(Data(2, 3, "def", true));
  EXPECT_TRUE(writing.NextSucceeds());
  EXPECT_EQ(Content(2), "abcdef");
}

// Real time would be a minute: what the kernel is told stands for it.
TEST(DataStreamSocket, K16_AMachineThatIsGoneIsNoticed) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context, asio::ip::tcp::v4());
  Configure(socket);
  asio::socket_base::keep_alive alive;
  socket.get_option(alive);
  EXPECT_TRUE(alive.value());
  const auto option = [&](int name) {
    int value = 0;
    socklen_t size = sizeof(value);
    EXPECT_EQ(getsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, &size), 0);
    return value;
  };
  EXPECT_LE(option(TCP_KEEPIDLE) + option(TCP_KEEPINTVL) * option(TCP_KEEPCNT), kDeadAfterMs / 1000);
  EXPECT_GT(option(TCP_KEEPIDLE), 0);
  EXPECT_EQ(option(TCP_USER_TIMEOUT), kDeadAfterMs);
}

TEST_F(DataStream, F63_HalfAPacketAndSilenceIsClosed) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .stall_ms = 20});
  Client mute(server_->port());
  mute.Send(Open(1) + Data(1, 0, "abc").substr(0, 30));
  EXPECT_TRUE(mute.NextSucceeds());
  EXPECT_TRUE(mute.Ends());
  EXPECT_EQ(Content(1), "");
}

TEST_F(DataStream, F63_AReaderThatNeverReadsIsClosedAndOthersGoOn) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .replies_bytes_max = 4096, .stall_ms = 50});
  Client deaf(server_->port(), 4096);
  // Each packet costs an answer that nobody takes: reading stops, sending with it, and the connection ends.
  std::string packets;
  for (int i = 0; i < 1000; ++i) packets += Data(9, 0, "x");
  auto rounds = std::async(std::launch::async, [&] {
    int round = 0;
    while (round < 1000 && deaf.Sent(packets)) ++round;
    return round;
  });
  // The kernel would end it, too, after kDeadAfterMs.
  EXPECT_EQ(rounds.wait_for(std::chrono::milliseconds(kDeadAfterMs / 2)), std::future_status::ready);
  EXPECT_LT(rounds.get(), 1000);
  Client other(server_->port());
  other.Send(Open(1) + Data(1, 0, "abc"));
  EXPECT_TRUE(other.NextSucceeds());
  EXPECT_TRUE(other.NextSucceeds());
}

TEST_F(DataStream, F63_HalfOpenConnectionsOfOneAddressAreLimitedAndTalkersAreNot) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .half_open_per_address_max = 2});
  const auto talk = [](Client& client, uint64_t call) {
    client.Send(Open(call));
    return client.NextSucceeds();
  };
  Client first(server_->port());
  EXPECT_TRUE(talk(first, 1));  // no longer half open
  Client second(server_->port());
  EXPECT_TRUE(talk(second, 2));
  Client silent1(server_->port()), silent2(server_->port());
  Client refused(server_->port());
  EXPECT_TRUE(refused.Ends());
  // Those that talked go on, and one that starts to talk makes room.
  first.Send(Data(1, 0, "abc"));
  EXPECT_TRUE(first.NextSucceeds());
  EXPECT_TRUE(talk(silent2, 3));
  Client third(server_->port());
  EXPECT_TRUE(talk(third, 4));
}

TEST_F(DataStream, F64_ConnectionsBeyondTheLimitAreClosedAtOnce) {
  server_->Stop();
  Restart({.listen = "127.0.0.1:0", .connections_max = 2});
  Client first(server_->port()), second(server_->port());
  first.Send(Open(1));
  EXPECT_TRUE(first.NextSucceeds());
  second.Send(Open(2));
  EXPECT_TRUE(second.NextSucceeds());
  Client third(server_->port());
  EXPECT_TRUE(third.Ends());
  first.Send(Data(1, 0, "abc"));
  EXPECT_TRUE(first.NextSucceeds());
}

TEST_F(DataStream, F65_AnUnknownGroupFailsTheHeader) {
  node::StreamHeader header = Header(1);
  header.group = *GroupId::Parse("02511d47-d67c-49a3-9011-abb3109a44c1");
  Client client(server_->port());
  client.Send(Packet(1, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_THAT(client.NextFailure(), HasSubstr("no such group"));
  client.Send(Open(2));
  EXPECT_TRUE(client.NextSucceeds());
}

TEST_F(DataStream, K7_K20_AStreamOfAnotherClusterOrForAnotherServerIsRefusedWithoutAByteTaken) {
  host_.cluster_id.Learn(ClusterId{{1}});
  node::StreamHeader header = Header(1);
  header.cluster = ClusterId{{2}};
  Client client(server_->port());
  client.Send(Packet(1, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_THAT(client.NextFailure(), HasSubstr(ClusterId{{1}}.ToString()));
  header = Header(2);
  header.target = {"n9"};
  client.Send(Packet(2, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_THAT(client.NextFailure(), HasSubstr("this is server n0, not n9"));
  header = Header(3);
  header.cluster = ClusterId{{1}};
  header.target = {"n0"};
  client.Send(Packet(3, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_TRUE(client.NextSucceeds());
}

TEST_F(DataStream, F19_K7_AServerThatSaysNoClusterPassesNothingOn) {
  node::StreamHeader header = Header(1);
  header.route.primary = {"n7"};
  Client client(server_->port());
  client.Send(Packet(1, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_TRUE(client.NextSucceeds()) << "nobody knows yet which cluster this is";
  host_.cluster_id.Learn(ClusterId{{1}});
  header.upload.call = CallId{2};
  client.Send(Packet(2, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_THAT(client.NextFailure(),
              testing::AllOf(HasSubstr("stream of n7"), HasSubstr(ClusterId{{1}}.ToString())));
  header.upload.call = CallId{3};
  header.cluster = ClusterId{{1}};
  client.Send(Packet(3, wire::PacketType::kStreamHeader, 0, EncodeStreamHeader(header).ToString()));
  EXPECT_TRUE(client.NextSucceeds());
  client.Send(Open(4));
  EXPECT_TRUE(client.NextSucceeds()) << "a client need not know";
}

TEST_F(DataStream, AFullWindowStopsReading) {
  host_.hold_answers = true;
  const uint64_t window = host_.options().upload_window_bytes;
  Client client(server_->port());
  auto sent = std::async(std::launch::async,
                         [&] { client.Send(Open(1) + Data(1, 0, std::string(3 * window, 'x'), true)); });
  ASSERT_TRUE(host_.Await([&] { return host_.most_held_bytes + (512u << 10) > window; }));
  std::vector<absl::AnyInvocable<void()>> held;
  {
    std::lock_guard lock(host_.mutex);
    host_.hold_answers = false;
    held.swap(host_.held);
  }
  for (auto& answer : held) answer();
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_TRUE(client.NextSucceeds());
  sent.get();
  EXPECT_LE(host_.most_held_bytes, window);
  EXPECT_EQ(Content(1).size(), 3 * window);
}

TEST_F(DataStream, APortInUseIsNamed) {
  DataStreamServer second(&host_, lanes_, {.listen = fmt::format("127.0.0.1:{}", server_->port())});
  const absl::Status status = second.Start();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(fmt::format("127.0.0.1:{}: the port is in use", server_->port())));
}

TEST(StreamHeader, F71_HeadersThatDoNotFitAreRefused) {
  node::StreamHeader header = Header(9);
  header.route.given = true;
  header.route.successors = {{{"n0"}, {{"n1"}}}, {{"n1"}, {{"n2"}}}};
  wire::PacketHeader packet;
  packet.client = kClient;
  packet.stream = CallId{9};
  const auto back = DecodeStreamHeader(packet, EncodeStreamHeader(header));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->blob.name, "a file");
  EXPECT_EQ(back->upload, header.upload);
  EXPECT_TRUE(back->route.given);
  packet.stream = CallId{8};
  EXPECT_FALSE(DecodeStreamHeader(packet, EncodeStreamHeader(header)).ok());
  packet.stream = CallId{9};
  header.route.successors.push_back({{"n2"}, {{"n0"}}});
  EXPECT_FALSE(DecodeStreamHeader(packet, EncodeStreamHeader(header)).ok());
  EXPECT_FALSE(DecodeStreamHeader(packet, Bytes::Copy("\xff\xff")).ok());
}

TEST(StreamHeader, F71_TheServersOwnClientIdIsRefused) {
  node::StreamHeader header = Header(9);
  header.upload.client = node::kSystemClient;
  wire::PacketHeader packet;
  packet.client = node::kSystemClient;
  packet.stream = CallId{9};
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeStreamHeader(packet, EncodeStreamHeader(header)).status()));
}

// n0 passes on to n1.
class Chain : public DataStream {
 protected:
  Chain() {
    EXPECT_TRUE(last_.Start().ok());
    host_.next = {.id = {"n1"}, .data_stream_address = fmt::format("127.0.0.1:{}", last_.port())};
    host_.sinks = &sinks_;
  }
  ~Chain() override {
    server_->Stop();
    sinks_.Stop();
    last_.Stop();
  }
  StreamHost last_host_{"n1"};
  DataStreamServer last_{&last_host_, {lane1_.get()}, {.listen = "127.0.0.1:0"}};
  DataStreamSinks sinks_{{lane0_.get(), lane1_.get()}, &host_.cluster(), 2'000};
};

TEST_F(Chain, D06_BytesReachTheSecondServerUnchanged) {
  std::string data(5'000'003, ' ');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 999);
  Client client(server_->port());
  for (uint64_t call : {1u, 2u, 3u})
    client.Send(Open(call) + Data(call, 0, data) + Data(call, data.size(), "", true));
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(client.NextSucceeds()) << i;
  // The answer to CLOSE says what is held, between servers (D-09, F-72).
  EXPECT_EQ(host_.held_behind.length, data.size());
  EXPECT_EQ(host_.held_behind.checksum, 0x01020304u);
  std::lock_guard lock(last_host_.mutex);
  for (uint64_t call : {1u, 2u, 3u}) {
    const auto& content = last_host_.content[{kClient, CallId{call}}];
    EXPECT_TRUE(content.bytes == data);
    EXPECT_TRUE(content.sealed);
  }
}

// Whatever the client's header said, a server says its own cluster, and whom it means.
TEST_F(Chain, K7_AServerOfAnotherClusterGetsNoBytes) {
  host_.cluster_id.Learn(ClusterId{{1}});
  last_host_.cluster_id.Learn(ClusterId{{2}});
  Client client(server_->port());
  client.Send(Open(1) + Data(1, 0, "x"));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_THAT(client.NextFailure(), HasSubstr(ClusterId{{2}}.ToString()));
}

TEST_F(Chain, D15_AStreamThatIsTakenOverGoesOnWhereTheServerBeforeStopped) {
  Client before(last_.port());
  before.Send(Open(4) + Data(4, 0, "the first, "));
  EXPECT_TRUE(before.NextSucceeds());
  EXPECT_TRUE(before.NextSucceeds());
  const auto home = env::RealExecutors().NewExecutor("elsewhere");
  for (const bool as_it_came : {false, true}) {  // by this server's own header, and by a client's
    node::StreamHeader header = Header(4);
    header.take_over = 100;
    if (as_it_came) header.raw = EncodeStreamHeader(Header(4));
    std::promise<absl::StatusOr<uint64_t>> there;
    const auto sink = sinks_.Open(home.get(), host_.next, header,
                                  [&](absl::StatusOr<uint64_t> length) { there.set_value(length); });
    const absl::StatusOr<uint64_t> length = there.get_future().get();
    ASSERT_TRUE(length.ok()) << length.status();
    EXPECT_EQ(*length, as_it_came ? 22u : 11u);
    std::promise<absl::Status> done;
    sink->Append(*length, Bytes::Copy("the second,"), [&](absl::Status status) { done.set_value(status); });
    const absl::Status appended = done.get_future().get();
    EXPECT_TRUE(appended.ok()) << appended;
    if (!as_it_came) continue;
    std::promise<absl::Status> closed;
    sink->Close(33, [&](const absl::StatusOr<blob::Sealed>& held) {
      EXPECT_EQ(held.value_or(blob::Sealed{}).length, 33u);
      closed.set_value(held.status());
    });
    EXPECT_TRUE(closed.get_future().get().ok());
  }
  std::lock_guard lock(last_host_.mutex);
  EXPECT_EQ((last_host_.content[{kClient, CallId{4}}].bytes), "the first, the second,the second,");
}

// A server whose second answer is made by the test.
class StrangeReplies : public testing::Test {
 protected:
  // What the sink makes of `answer` to a piece of three bytes at 0.
  absl::Status Outcome(std::function<void(wire::DataStreamReply&)> answer) {
    asio::io_context context;
    asio::ip::tcp::acceptor acceptor(context, {asio::ip::make_address("127.0.0.1"), 0});
    const raft::Peer peer{
        .id = {"n1"}, .data_stream_address = fmt::format("127.0.0.1:{}", acceptor.local_endpoint().port())};
    const auto home = env::RealExecutors().NewExecutor("elsewhere");
    const auto sink = sinks_.Open(home.get(), peer, Header(5), nullptr);
    std::promise<absl::Status> done;
    sink->Append(0, Bytes::Copy("abc"), [&](absl::Status status) { done.set_value(std::move(status)); });
    asio::ip::tcp::socket socket = acceptor.accept();
    wire::RequestDecoder decoder;
    for (int packets = 0; packets < 2;) {
      wire::RequestEvent event;
      const auto more = decoder.Next(&event);
      EXPECT_TRUE(more.ok()) << more.status();
      if (!*more) {
        char buffer[4096];
        const size_t n = socket.read_some(asio::buffer(buffer));
        decoder.Feed(Bytes::Copy({buffer, n}));
        continue;
      }
      if (event.kind == wire::RequestEvent::Kind::kPacket) continue;
      wire::DataStreamReply reply;
      reply.header = event.header;
      reply.bytes_written = event.data.size() * static_cast<size_t>(packets);  // of a header: 0
      reply.success = true;
      if (++packets == 2) answer(reply);
      const std::string bytes = wire::EncodeReply(reply).ToString();
      asio::write(socket, asio::buffer(bytes));
    }
    return done.get_future().get();
  }
  ~StrangeReplies() override { sinks_.Stop(); }

  std::unique_ptr<env::Loop> lane_ = env::NewLoop("lane-0");
  node::Cluster cluster_{{"n0"}, &env::RealClock()};
  DataStreamSinks sinks_{{lane_.get()}, &cluster_, 5'000};
};

TEST_F(StrangeReplies, F72_AnAnswerThatDiffersFromWhatWasSentFailsTheStream) {
  const absl::Status fine = Outcome([](wire::DataStreamReply&) {});
  EXPECT_TRUE(fine.ok()) << fine;
  EXPECT_TRUE(absl::IsInternal(Outcome([](auto& reply) { reply.bytes_written = 2; })));
  EXPECT_TRUE(absl::IsInternal(Outcome([](auto& reply) { reply.bytes_written = 4; })));
  EXPECT_TRUE(absl::IsInternal(Outcome([](auto& reply) { reply.header.offset = 3; })));
  EXPECT_TRUE(
      absl::IsInternal(Outcome([](auto& reply) { reply.header.type = wire::PacketType::kStreamHeader; })));
  EXPECT_TRUE(absl::IsUnavailable(Outcome([](auto& reply) { reply.success = false; })));
}

TEST(HeldBody, F72_WhatIsNoAnswerToCloseIsRefused) {
  const blob::Sealed held{0x0102030405060708, 0x89abcdef, {}};
  EXPECT_EQ(*DecodeHeld(EncodeHeld(held)), held);
  for (const char* wrong : {"", "0123456789", "0123456789abcd"}) {
    EXPECT_TRUE(absl::IsInternal(DecodeHeld(Bytes::Copy(wrong)).status()));
  }
}

TEST_F(Chain, ADeadServerCannotBeTakenOver) {
  last_.Stop();
  node::StreamHeader header = Header(4);
  header.take_over = 100;
  const auto home = env::RealExecutors().NewExecutor("elsewhere");
  std::promise<absl::StatusOr<uint64_t>> there;
  const auto sink = sinks_.Open(home.get(), host_.next, header,
                                [&](absl::StatusOr<uint64_t> length) { there.set_value(length); });
  EXPECT_TRUE(absl::IsUnavailable(there.get_future().get().status()));
}

TEST_F(Chain, ADeadSuccessorFailsTheStream) {
  last_.Stop();
  Client client(server_->port());
  client.Send(Open(1) + Data(1, 0, "x"));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_THAT(client.NextFailure(), HasSubstr("is lost"));
}

TEST_F(Chain, ASilentSuccessorFailsTheStream) {
  last_host_.hold_answers = true;
  DataStreamSinks hasty({lane0_.get(), lane1_.get()}, &host_.cluster(), 40);
  host_.sinks = &hasty;
  Client client(server_->port());
  client.Send(Open(1) + Data(1, 0, "x"));
  EXPECT_TRUE(client.NextSucceeds());
  EXPECT_THAT(client.NextFailure(), HasSubstr("n1 is silent"));
  server_->Stop();
}

TEST_F(Chain, TheSameUploadIsNotSentTwiceOverOneLink) {
  const auto home = env::RealExecutors().NewExecutor("elsewhere");
  std::vector<std::unique_ptr<node::ByteSink>> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(sinks_.Open(home.get(), host_.next, Header(4), nullptr));
  std::promise<absl::Status> refused;
  sinks[4]->Append(0, Bytes::Copy("x"), [&](absl::Status status) { refused.set_value(std::move(status)); });
  EXPECT_EQ(refused.get_future().get().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(Chain, AHomeThatIsNoLaneIsServedByTheFirst) {
  const auto home = env::RealExecutors().NewExecutor("elsewhere");
  const auto sink = sinks_.Open(home.get(), host_.next, Header(4), nullptr);
  std::promise<absl::Status> closed;
  sink->Append(0, Bytes::Copy("from afar"),
               [&](const absl::Status& status) { EXPECT_TRUE(status.ok() && home->RunsHere()); });
  sink->Close(9, [&](const absl::StatusOr<blob::Sealed>& held) { closed.set_value(held.status()); });
  const absl::Status status = closed.get_future().get();
  EXPECT_TRUE(status.ok()) << status;
  std::lock_guard lock(last_host_.mutex);
  EXPECT_EQ((last_host_.content[{kClient, CallId{4}}].bytes), "from afar");
}

}  // namespace
}  // namespace sluice::edge::datastream
