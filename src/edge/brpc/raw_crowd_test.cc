// A foreign peer made by hand against a real RpcServer:
// silence, crowds, and frames that ask for what they must not get.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "absl/synchronization/notification.h"
#include "edge/brpc/echo_server_for_test.h"

namespace sluice::edge::brpc {
namespace {

using wire::brpc::Close;
using wire::brpc::Data;
using wire::brpc::Feedback;
using wire::brpc::kNoStream;
using wire::brpc::Rst;

// --- F63: those who do nothing ---

TEST(StreamPeer, F63_SilentAndHalfFrameConnectionsAreDropped) {
  EchoServer server({.stall_timeout_ms = 60});
  RawPeer silent = RawPeer::Connect(server.port());
  RawPeer half = RawPeer::Connect(server.port());
  RawPeer inside = RawPeer::Connect(server.port());
  RawPeer idle = RawPeer::Connect(server.port());
  OpenOk(inside, "keep");
  OpenOk(idle, "echo");
  ASSERT_TRUE(half.Send("PRPC"));
  ASSERT_TRUE(inside.Send(Data(0, 3, "never comes whole").substr(0, 25)));
  EXPECT_EQ(silent.Word(), "END");
  EXPECT_EQ(half.Word(), "END");
  EXPECT_EQ(inside.Word(), "END");
  server.keeps.AwaitEnds(1);
  EXPECT_THAT(server.keeps.Codes(), testing::ElementsAre(ETIMEDOUT));
  // Between frames a connection may be silent as long as it likes.
  ASSERT_TRUE(idle.Send(Data(0, 3, "awake")));
  EXPECT_EQ(idle.WordButFeedback(), "DATA 3<0 awake");
}

TEST(StreamPeer, F63_AReaderThatNeverReadsIsDroppedAndCostsNoMoreThanItsLimit) {
  EchoServer server({.unsent_bytes_max = 1 << 20, .stall_timeout_ms = 300});
  server.options.max_buf_size = 0;  // no window: only the connection's limit holds
  uint64_t written = 0;
  absl::Notification full;
  server.echo.on_message = [&](StreamId id, const Bytes&) {
    const Bytes message = Bytes::Copy(std::string(64 << 10, 'u'));
    while (StreamWrite(id, message) == 0) written += message.size();
    full.Notify();
  };
  RawPeer peer = RawPeer::Connect(server.port());
  RawPeer other = RawPeer::Connect(server.port());
  OpenOk(other, "keep");
  OpenOk(peer, "echo");
  ASSERT_TRUE(peer.Send(Data(0, 3, "flood me")));
  full.WaitForNotification();
  // Its limit, and what the kernel has of it.
  EXPECT_LT(written, 32u << 20);
  ASSERT_TRUE(other.Send(Data(0, 3, "others go on")));
  EXPECT_EQ(other.Word(), "FEEDBACK 3<0 =12");
  server.echo.AwaitEnds(1);
  EXPECT_THAT(server.echo.Codes(), testing::ElementsAre(ETIMEDOUT));
}

TEST(StreamPeer, F63_AnswersThatNobodyReadsAreBounded) {
  EchoServer server({.unsent_bytes_max = 1 << 20, .stall_timeout_ms = 500});
  RawPeer peer = RawPeer::Connect(server.port());
  peer.SetPatience(200);
  // Requests whose answers are as large; never read. The server stops reading before it holds them all.
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("EchoService");
  meta.mutable_request()->set_method_name("Echo");
  const std::string frame = wire::brpc::EncodeCall(meta, Bytes::Copy(EchoMessage("attach")),
                                                   Bytes::Copy(std::string(256 << 10, 'z')))
                                .ToString();
  uint64_t taken = 0;
  while (taken < 256u << 20 && peer.Send(frame)) taken += frame.size();
  EXPECT_LT(taken, 64u << 20);
  RawPeer other = RawPeer::Connect(server.port());
  ExpectAlive(other);
}

TEST(StreamPeer, F63_RequestsThatBlockHoldUpNoneBehindThem) {
  EchoServer server;
  absl::Notification go;
  server.keeps.on_message = [&](StreamId, const Bytes&) { go.WaitForNotification(); };
  RpcServer blocking;
  absl::Notification release;
  blocking.AddMethod("a.B", "C", [&](Controller&, const Bytes& request, Bytes* response, Done done) {
    if (request == "wait") release.WaitForNotification();
    if (request == "release") release.Notify();
    *response = request;
    done();
  });
  ASSERT_TRUE(blocking.Start("127.0.0.1:0").ok());
  RawPeer peer = RawPeer::Connect(blocking.port());
  const auto request = [](int64_t correlation, const std::string& text) {
    wire::brpc::RpcMeta meta;
    meta.mutable_request()->set_service_name("a.B");
    meta.mutable_request()->set_method_name("C");
    meta.set_correlation_id(correlation);
    return wire::brpc::EncodeCall(meta, Bytes::Copy(text), {}).ToString();
  };
  // In one segment: the first is over only when the second was served.
  ASSERT_TRUE(peer.Send(request(1, "wait") + request(2, "release")));
  std::vector<int64_t> answered;
  for (int i = 0; i < 2; ++i) {
    const Parsed answer = Parse(peer.TakeFrame());
    ASSERT_TRUE(answer.call) << "the second waits for the first";
    answered.push_back(answer.call->meta.correlation_id());
  }
  EXPECT_THAT(answered, testing::UnorderedElementsAre(1, 2));
  go.Notify();
}

// --- K25: handlers that wait for room ---

constexpr int64_t kWaiters = 70;

// One connection with so many streams; each handler has filled its window and waits with the second message.
void FillWithWaiters(EchoServer& server, RawPeer& peer) {
  for (int64_t id = 0; id < kWaiters; ++id) OpenOk(peer, "echo", {.id = id});
  for (int64_t id = 0; id < kWaiters; ++id) {
    ASSERT_TRUE(peer.Send(Data(id, id, "fills window") + Data(id, id, "waits for it")));
  }
  std::vector<std::string> words;
  std::vector<std::string> expected;
  for (int64_t id = 0; id < kWaiters; ++id) {
    words.push_back(peer.WordButFeedback());
    expected.push_back(fmt::format("DATA {}<{} fills window", id, id));
  }
  EXPECT_THAT(words, testing::UnorderedElementsAreArray(expected));
  RawPeer other = RawPeer::Connect(server.port());  // on the same loop
  ExpectAlive(other);
}

TEST(StreamPeer, K25_HandlersThatWaitStopNobodyElseAndGoOn) {
  EchoServer server({.loops = 1, .threads_max = 2});
  server.options.max_buf_size = 10;
  RawPeer peer = RawPeer::Connect(server.port());
  FillWithWaiters(server, peer);
  for (int64_t id = 0; id < kWaiters; ++id) ASSERT_TRUE(peer.Send(Feedback(id, id, 12)));
  std::vector<std::string> words;
  std::vector<std::string> expected;
  for (int64_t id = 0; id < kWaiters; ++id) {
    words.push_back(peer.WordButFeedback());
    expected.push_back(fmt::format("DATA {}<{} waits for it", id, id));
  }
  EXPECT_THAT(words, testing::UnorderedElementsAreArray(expected));
}

TEST(StreamPeer, K25_AServerWhoseHandlersWaitIsStopped) {
  EchoServer server({.loops = 1, .threads_max = 2});
  server.options.max_buf_size = 10;
  RawPeer peer = RawPeer::Connect(server.port());
  FillWithWaiters(server, peer);
  server.Stop();
  server.echo.AwaitEnds(kWaiters);
}

TEST(StreamPeer, F63_SilentConnectionsOfOneAddressAreLimited) {
  EchoServer server({.half_open_max = 2});
  RawPeer speaks = RawPeer::Connect(server.port());
  ExpectAlive(speaks);  // it has said something: it does not count
  RawPeer silent = RawPeer::Connect(server.port());
  RawPeer other = RawPeer::Connect(server.port());
  RawPeer refused = RawPeer::Connect(server.port());
  EXPECT_EQ(refused.Word(), "END");
  ExpectAlive(other);
  RawPeer next = RawPeer::Connect(server.port());
  ExpectAlive(next);
  ExpectAlive(speaks);
}

// --- F64: many ---

TEST(StreamPeer, F64_ConnectionsBeyondTheLimitAreClosed) {
  EchoServer server({.connections_max = 3});
  std::vector<RawPeer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(RawPeer::Connect(server.port()));
    ExpectAlive(peers.back());
  }
  RawPeer refused = RawPeer::Connect(server.port());
  EXPECT_EQ(refused.Word(), "END");
  for (RawPeer& peer : peers) ExpectAlive(peer);
  peers.pop_back();
  // There is room as soon as the server has seen it go.
  std::string word;
  for (int i = 0; i < 1000 && !word.starts_with("CALL"); ++i) {
    RawPeer again = RawPeer::Connect(server.port());
    (void)again.Send(Request(1, "plain"));
    word = again.Word();
  }
  EXPECT_THAT(word, testing::StartsWith("CALL"));
}

TEST(StreamPeer, F64_TenThousandStreamsOnOneConnectionAndAnEchoOnAnother) {
  EchoServer server;
  RawPeer crowd = RawPeer::Connect(server.port());
  RawPeer echo = RawPeer::Connect(server.port());
  OpenOk(echo, "echo");
  std::atomic<bool> over{false};
  int echoes = 0;
  std::thread other([&] {
    while (!over) {
      if (!echo.Send(Data(0, 3, "ping"))) break;
      const std::string word = echo.WordButFeedback();
      EXPECT_EQ(word, "DATA 3<0 ping");
      if (word == "SILENCE" || word == "END") break;
      ++echoes;
    }
  });
  for (int64_t first = 0; first < 10'000; first += 1000) {
    Settings settings = {.id = first};
    for (int64_t id = first + 1; id < first + 1000; ++id) settings.extra_ids.push_back(id);
    OpenOk(crowd, "keep", settings);
  }
  std::string words;
  for (int64_t id = 0; id < 10'000; ++id) words += Data(id, id, "x");
  std::thread sender([&] { EXPECT_TRUE(crowd.Send(words)); });
  int told = 0;
  while (told < 10'000 && crowd.Word().ends_with(" =1")) ++told;
  EXPECT_EQ(told, 10'000);
  sender.join();
  over = true;
  other.join();
  EXPECT_GT(echoes, 0);
  crowd.End();
  server.keeps.AwaitEnds(10'000);
  EXPECT_EQ(server.keeps.AllMessages().size(), 10'000u);
}

// --- F73: frames that must not do what they ask for ---

TEST(StreamPeer, F73_AFrameOnAnotherConnectionReachesNoStream) {
  EchoServer server;
  RawPeer owner = RawPeer::Connect(server.port());
  RawPeer stranger = RawPeer::Connect(server.port());
  OpenOk(owner, "keep");
  ASSERT_TRUE(stranger.Send(Data(0, 3, "forged")));
  EXPECT_EQ(stranger.Word(), "RST 3");
  ASSERT_TRUE(stranger.Send(Close(0, 3)));
  EXPECT_EQ(stranger.Word(), "RST 3");
  ASSERT_TRUE(stranger.Send(Rst(0) + Feedback(0, 3, 1)));
  ExpectAlive(stranger);
  ASSERT_TRUE(owner.Send(Data(0, 3, "true")));
  EXPECT_EQ(owner.Word(), "FEEDBACK 3<0 =4");
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("true"));
}

TEST(StreamPeer, F73_ImpossibleCreditClosesItsStreamOnly) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo", {.id = 3, .extra_ids = {4, 5}});
  ASSERT_TRUE(peer.Send(Feedback(0, 3, INT64_MAX)));
  EXPECT_EQ(peer.Word(), "RST 3");
  ASSERT_TRUE(peer.Send(Feedback(1, 4, -1)));
  EXPECT_EQ(peer.Word(), "RST 4");
  server.echo.AwaitEnds(2);
  EXPECT_THAT(server.echo.Codes(), testing::ElementsAre(EPROTO, EPROTO));
  ASSERT_TRUE(peer.Send(Data(2, 5, "lives")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 5<2 lives");
}

TEST(StreamPeer, F73_CreditThatGoesBackIsIgnored) {
  EchoServer server;
  server.options.max_buf_size = 10;
  std::vector<int> results;
  server.echo.on_message = [&](StreamId id, const Bytes& message) {
    results.push_back(StreamWrite(id, message));
  };
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo");
  ASSERT_TRUE(peer.Send(Data(0, 3, "1234567890")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 1234567890");
  ASSERT_TRUE(peer.Send(Feedback(0, 3, 10) + Feedback(0, 3, 3) + Feedback(0, 3, 0) + Data(0, 3, "next")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 next");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 3<0");
  server.echo.AwaitEnds(1);
  EXPECT_THAT(results, testing::ElementsAre(0, 0));
}

TEST(StreamPeer, F73_DataBeforeTheAnswerWaitsForTheHandlersDone) {
  RpcServer server;
  Watcher watcher;
  Done held;
  absl::Notification accepted;
  server.AddMethod("a.B", "C", [&](Controller& controller, const Bytes&, Bytes*, Done done) {
    StreamId id;
    StreamOptions options;
    options.handler = &watcher;
    EXPECT_EQ(StreamAccept(&id, controller, &options), 0);
    EXPECT_EQ(StreamWrite(id, Bytes::Copy("held back")), 0);
    held = std::move(done);
    accepted.Notify();
  });
  ASSERT_TRUE(server.Start("127.0.0.1:0").ok());
  RawPeer peer = RawPeer::Connect(server.port());
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("a.B");
  meta.mutable_request()->set_method_name("C");
  Fill({}, &meta);
  ASSERT_TRUE(peer.Send(wire::brpc::EncodeCall(meta, {}, {}).ToString()));
  accepted.WaitForNotification();
  ASSERT_TRUE(peer.Send(Data(0, 3, "too early") + Feedback(0, 3, 1)));
  // It was read: the connection answers what came behind it.
  ASSERT_TRUE(peer.Send(Data(77, 3, "x")));
  EXPECT_EQ(peer.Word(), "RST 3");
  EXPECT_TRUE(watcher.AllMessages().empty()) << "not before done";
  held();
  EXPECT_TRUE(Parse(peer.TakeFrame()).call);
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 held back");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 3<0");
  watcher.AwaitEnds(1);
  EXPECT_THAT(watcher.AllMessages(), testing::ElementsAre("too early"));
  held = nullptr;
}

TEST(StreamPeer, F73_FramesWithAnotherSourceAreDropped) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep");
  ASSERT_TRUE(peer.Send(Data(0, 8, "forged") + Close(0, 8) + Data(0, 3, "true")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 3<0 =4");
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("true"));
}

TEST(StreamPeer, F73_IdsOfOursAreNotUsedTwiceAndTheirsMayBe) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  for (int64_t i = 0; i < 3; ++i) {
    const Parsed answer = Open(peer, "echo", {.id = 3});  // theirs: the same each time
    ASSERT_EQ(CodeOf(answer), 0);
    EXPECT_EQ(answer.call->meta.stream_settings().stream_id(), i);
    ASSERT_TRUE(peer.Send(Data(i, 3, "x")));
    EXPECT_EQ(peer.WordButFeedback(), fmt::format("DATA 3<{} x", i));
    ASSERT_TRUE(peer.Send(Close(i, 3)));
    EXPECT_EQ(peer.WordButFeedback(), fmt::format("CLOSE 3<{}", i));
    ASSERT_TRUE(peer.Send(Rst(i)));
  }
  ASSERT_TRUE(peer.Send(Data(0, 3, "of the first")));
  EXPECT_EQ(peer.WordButFeedback(), "RST 3");
  server.echo.AwaitEnds(3);
}

TEST(StreamPeer, F73_TwoSettingsAreOneAndSettingsOfNoStreamOpenNone) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  // Two fields 8: protobuf makes one of them, the last id counts.
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("EchoService");
  meta.mutable_request()->set_method_name("Echo");
  Fill({.id = 3}, &meta);
  const std::string raw = meta.SerializeAsString() + std::string("\x42\x02\x08\x09", 4);
  std::string frame("PRPC\0\0\0\0\0\0\0\0", 12);
  frame[7] = frame[11] = static_cast<char>(raw.size());
  ASSERT_TRUE(peer.Send(frame + raw));
  const Parsed answer = Parse(peer.TakeFrame());
  ASSERT_TRUE(answer.call);
  EXPECT_EQ(answer.stream.to, 9);
  EXPECT_EQ(CodeOf(answer), 0);
  ASSERT_TRUE(peer.Send(Request(8, "echo", Settings{.id = kNoStream})));
  EXPECT_EQ(CodeOf(Parse(peer.TakeFrame())), 1003);
  ExpectAlive(peer);
}

}  // namespace
}  // namespace sluice::edge::brpc
