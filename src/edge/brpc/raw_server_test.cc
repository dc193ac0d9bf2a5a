// A foreign server made by hand against a real Channel: what the client takes for an answer,
// what it refuses, what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "edge/brpc/echo_server_for_test.h"

namespace sluice::edge::brpc {
namespace {

using wire::brpc::Close;
using wire::brpc::Data;
using wire::brpc::Feedback;
using wire::brpc::kNoStream;
using wire::brpc::Rst;

// One call with streams under way; the raw server has read its request.
class StreamClient : public ::testing::Test {
 protected:
  void Start(int streams = 1, int64_t timeout_ms = 10'000, StreamOptions options = {}) {
    Begin(streams, timeout_ms, options);
    TakeRequest(Parse(peer_->TakeFrame()), streams);
  }
  // As Start, and then the call's time is over. A slow machine may find it over before the request was sent; a
  // second call, which the peer would read behind it, shows whether it was.
  void StartLate(int streams = 1) {
    for (int64_t timeout_ms = 20; timeout_ms < 10'000; timeout_ms *= 2) {
      Begin(streams, timeout_ms);
      EXPECT_EQ(AwaitCall(), 1008);
      bool sent = false;
      Alive([&](const Parsed& request) {
        sent = request.call.has_value() && request.call->meta.has_stream_settings();
        if (sent) TakeRequest(request, streams);
        return sent;
      });
      if (sent) return;
    }
    FAIL() << "ten seconds were too short for a request";
  }
  std::string Wrapped(int64_t from, const std::string& call) { return Data(mine_, from, call); }
  std::string Accepted(const Settings& settings = {.id = 50}) {
    return Wrapped(settings.id, Response(correlation_, 0, settings));
  }
  int AwaitCall() {
    EXPECT_EQ(called_.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
    return controller_.ErrorCode();
  }
  // The connection is of use: another call is sent on it, answered, and nothing comes before.
  void ExpectAlive() {
    Alive([](const Parsed&) { return false; });
  }

  RawListener listener_;
  Watcher watcher_;
  Controller controller_;
  Bytes response_;
  StreamIds ids_;
  std::promise<void> called_;
  std::unique_ptr<Channel> channel_;  // goes first: its callbacks use the others
  std::optional<RawPeer> peer_;
  int64_t correlation_ = 0;
  int64_t mine_ = 0;

 private:
  void Begin(int streams, int64_t timeout_ms, StreamOptions options = {}) {
    if (channel_ == nullptr) channel_ = *Channel::Create(listener_.address(), {.connect_timeout_ms = 5'000});
    options.handler = &watcher_;
    controller_.Reset();
    controller_.set_timeout_ms(timeout_ms);
    ASSERT_EQ(StreamCreate(ids_, streams, controller_, &options), 0);
    called_ = std::promise<void>();
    channel_->Call("example.EchoService", "Echo", controller_, Bytes::Copy(EchoMessage("open")), &response_,
                   [this] { called_.set_value(); });
    if (!peer_) peer_.emplace(listener_.Accept());
  }
  void TakeRequest(const Parsed& request, int streams) {
    ASSERT_TRUE(request.call.has_value());
    correlation_ = request.call->meta.correlation_id();
    mine_ = request.call->meta.stream_settings().stream_id();
    EXPECT_EQ(request.call->meta.stream_settings().extra_stream_ids_size(), streams - 1);
  }
  // `comes_before`: takes a first frame that is of something else.
  template <typename ComesBefore>
  void Alive(ComesBefore comes_before) {
    Controller controller;
    controller.set_timeout_ms(10'000);
    Bytes response;
    std::promise<void> over;
    channel_->Call("example.EchoService", "Echo", controller, Bytes::Copy(EchoMessage("plain")), &response,
                   [&] { over.set_value(); });
    Parsed request = Parse(peer_->TakeFrame());
    if (comes_before(request)) request = Parse(peer_->TakeFrame());
    EXPECT_TRUE(request.call.has_value()) << "something else came before";
    if (request.call.has_value()) {
      EXPECT_TRUE(peer_->Send(Response(request.call->meta.correlation_id(), 0)));
    }
    over.get_future().wait();
    EXPECT_FALSE(controller.Failed()) << controller.ErrorText();
    EXPECT_EQ(EchoText(response), "ok");
  }
};

TEST_F(StreamClient, EveryAnswerThatOpensNoStream) {
  struct Case {
    std::string what;
    std::string answer;
    int code;
    std::string word;  // what the client says to it
  };
  Start();
  for (int round = 0; round < 6; ++round) {
    const Case each = std::vector<Case>{
        {"not accepted", Wrapped(kNoStream, Response(correlation_, 0)), 1003, ""},
        {"failed", Wrapped(kNoStream, Response(correlation_, 1)), 1, ""},
        {"accepted, then failed", Wrapped(50, Response(correlation_, 1, Settings{.id = 50})), 1, "RST 50"},
        {"authentication refused, bare", Response(correlation_, 1004), 1004, ""},
        {"accepted, but bare", Response(correlation_, 0, Settings{.id = 51}), 1003, "RST 51"},
        {"another correlation", Wrapped(52, Response(correlation_ + 1000, 0, Settings{.id = 52})), EPROTO,
         "RST 52"}}[static_cast<size_t>(round)];
    ASSERT_TRUE(peer_->Send(each.answer)) << each.what;
    EXPECT_EQ(AwaitCall(), each.code) << each.what;
    EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), each.code) << each.what;
    EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("x")), EINVAL);
    if (!each.word.empty()) {
      EXPECT_EQ(peer_->Word(), each.word) << each.what;
    }
    if (round < 5) Start();
  }
  ExpectAlive();
}

TEST_F(StreamClient, AnAnswerInSegmentsWithoutASourceIsOne) {
  Start();
  const std::string call = Response(correlation_, 0, Settings{.id = INT64_MAX});
  // No source, and the last piece without has_continuation.
  std::string last("STRM\0\0\0\0\0\0\0\4\x08", 13);
  last += static_cast<char>(mine_) + std::string("\x18\x03") + call.substr(10);
  last[7] = static_cast<char>(last.size() - 12);
  ASSERT_TRUE(peer_->Send(Data(mine_, std::nullopt, call.substr(0, 10), true) +
                          Data(mine_, std::nullopt, "", true) + last));
  EXPECT_EQ(AwaitCall(), 0) << controller_.ErrorText();
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("hello")), 0);
  EXPECT_EQ(peer_->Word(), fmt::format("DATA {}<{} hello", INT64_MAX, mine_));
}

TEST_F(StreamClient, DataInTheSameWriteComesAfterTheCall) {
  Start();
  ASSERT_TRUE(peer_->Send(Accepted() + Data(mine_, 50, "right behind") + Close(mine_, 50)));
  EXPECT_EQ(AwaitCall(), 0);
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), 0);
  EXPECT_THAT(watcher_.AllMessages(), testing::ElementsAre("right behind"));
  EXPECT_EQ(peer_->WordButFeedback(), fmt::format("CLOSE 50<{}", mine_));
}

TEST_F(StreamClient, AFirstMessageThatIsNoAnswerFailsTheCallAtOnce) {
  Start();
  ASSERT_TRUE(peer_->Send(Data(mine_, 50, "no answer")));
  EXPECT_EQ(AwaitCall(), EPROTO);
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), EPROTO);
  EXPECT_EQ(peer_->Word(), "RST 50");
  ExpectAlive();
}

TEST_F(StreamClient, ALateAnswerIsReset) {
  StartLate(1);
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), 1008);
  ASSERT_TRUE(peer_->Send(Accepted()));
  EXPECT_EQ(peer_->Word(), "RST 50");
  ExpectAlive();
}

// brpc resets the first one only, and the others stay open at the server.
TEST_F(StreamClient, OfALateBatchEveryStreamIsReset) {
  for (const bool cut : {false, true}) {
    StartLate(3);
    const std::string answer = Response(correlation_, 0, Settings{.id = 50, .extra_ids = {51, 52}});
    const std::string half = answer.substr(0, 20);
    ASSERT_TRUE(peer_->Send(cut ? Data(mine_, 50, half, true) + Data(mine_, 50, answer.substr(20))
                                : Wrapped(50, answer)));
    for (const char* word : {"RST 50", "RST 51", "RST 52"}) EXPECT_EQ(peer_->Word(), word);
    ASSERT_TRUE(peer_->Send(Data(mine_, 50, "more")));
    EXPECT_EQ(peer_->Word(), "RST 50");
    ExpectAlive();
  }
  StartLate(2);
  ASSERT_TRUE(peer_->Send(Wrapped(50, "this is no answer")));
  EXPECT_EQ(peer_->Word(), "RST 50");
  StartLate(2);
  ASSERT_TRUE(peer_->Send(Wrapped(50, std::string(70'000, 'x'))));
  EXPECT_EQ(peer_->Word(), "RST 50") << "too long to be looked at";
  ASSERT_TRUE(peer_->Send(Wrapped(kNoStream, Response(correlation_, 1))));
  ExpectAlive();
}

TEST_F(StreamClient, AnEndBeforeTheAnswerFailsTheCallAndIsNotAnswered) {
  for (const bool rst : {false, true}) {
    Start();
    ASSERT_TRUE(peer_->Send(rst ? Rst(mine_) : Close(mine_, 50)));
    EXPECT_EQ(AwaitCall(), 1003);
    EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), 1003);
    ExpectAlive();
  }
}

TEST_F(StreamClient, ABatchNeedsExactlyAsManyIds) {
  for (const std::vector<int64_t>& extra : {std::vector<int64_t>{}, {51, 52}, {51, 52, 53, 54}}) {
    Start(4);
    ASSERT_TRUE(peer_->Send(Accepted({.id = 50, .extra_ids = extra})));
    EXPECT_EQ(AwaitCall(), 1003);
    for (const StreamId id : ids_) EXPECT_EQ(watcher_.AwaitEnd(id), 1003);
    EXPECT_EQ(peer_->Word(), "RST 50");
    for (const int64_t id : extra) EXPECT_EQ(peer_->Word(), fmt::format("RST {}", id));
  }
  Start(3);
  // Data for an extra id may be there before the answer.
  ASSERT_TRUE(peer_->Send(Data(mine_ + 2, 52, "early") + Accepted({.id = 50, .extra_ids = {51, 52}})));
  EXPECT_EQ(AwaitCall(), 0);
  EXPECT_THAT(watcher_.AwaitMessages(ids_[2], 1), testing::ElementsAre("early"));
  EXPECT_EQ(peer_->Word(), fmt::format("FEEDBACK 52<{} =5", mine_ + 2));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(StreamWrite(ids_[i], Bytes::Copy("m")), 0);
    EXPECT_EQ(peer_->Word(), fmt::format("DATA {}<{} m", 50 + i, mine_ + static_cast<int64_t>(i)));
  }
}

TEST_F(StreamClient, TheServersSettingsAreHeeded) {
  Start();
  ASSERT_TRUE(peer_->Send(Accepted({.id = 50, .need_feedback = false, .writable = false})));
  EXPECT_EQ(AwaitCall(), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("nobody reads")), EBADF);
  ASSERT_TRUE(peer_->Send(Data(mine_, 50, "no word about it")));
  watcher_.AwaitMessages(ids_[0], 1);
  ExpectAlive();
  StreamClose(ids_[0]);
  EXPECT_EQ(peer_->Word(), fmt::format("CLOSE 50<{}", mine_));
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), 0);
  ASSERT_TRUE(peer_->Send(Close(mine_, 50)));
  EXPECT_EQ(peer_->Word(), "RST 50");
}

TEST_F(StreamClient, AServerThatGoesFailsCallsAndStreams) {
  Start();
  ASSERT_TRUE(peer_->Send(Accepted()));
  EXPECT_EQ(AwaitCall(), 0);
  const StreamId open = ids_[0];
  Start();
  peer_->End();
  peer_.reset();
  EXPECT_EQ(AwaitCall(), 1014);
  EXPECT_EQ(watcher_.AwaitEnd(open), 1014);
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), 1014);
  Start();  // on a new connection
  ASSERT_TRUE(peer_->Send(Accepted()));
  EXPECT_EQ(AwaitCall(), 0);
}

TEST_F(StreamClient, F60_AServerOfAnotherProtocolFailsTheCall) {
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), Request(1, "a request to a client")}) {
    Start();
    ASSERT_TRUE(peer_->Send(bytes));
    EXPECT_EQ(AwaitCall(), EINVAL);
    EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), EINVAL);
    EXPECT_EQ(peer_->Word(), "END");
    peer_.reset();
  }
}

TEST_F(StreamClient, F62_AnAnswerByteByByteAndF73_ImpossibleCredit) {
  Start(2);
  peer_->SendByteByByte(Accepted({.id = 50, .extra_ids = {51}}));
  EXPECT_EQ(AwaitCall(), 0);
  peer_->SendByteByByte(Data(mine_, 50, "slow"));
  EXPECT_THAT(watcher_.AwaitMessages(ids_[0], 1), testing::ElementsAre("slow"));
  EXPECT_EQ(peer_->Word(), fmt::format("FEEDBACK 50<{} =4", mine_));
  ASSERT_TRUE(peer_->Send(Feedback(mine_, 50, 1)));
  EXPECT_EQ(peer_->Word(), "RST 50");
  EXPECT_EQ(watcher_.AwaitEnd(ids_[0]), EPROTO);
  EXPECT_EQ(StreamWrite(ids_[1], Bytes::Copy("lives")), 0);
  EXPECT_EQ(peer_->Word(), fmt::format("DATA 51<{} lives", mine_ + 1));
}

TEST_F(StreamClient, EarlyWritesAreDroppedWithAFailedOpeningAndSentInOrderElse) {
  Start();
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("dropped")), 0);
  ASSERT_TRUE(peer_->Send(Wrapped(kNoStream, Response(correlation_, 0))));
  EXPECT_EQ(AwaitCall(), 1003);
  ExpectAlive();
  Start(1, 10'000, {.max_buf_size = 10});
  for (const char* text : {"one", "two", "three"}) EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy(text)), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("four")), EAGAIN) << "11 of 10";
  auto waits = std::async(std::launch::async, [id = ids_[0]] { return StreamWait(id, nullptr); });
  ASSERT_TRUE(peer_->Send(Accepted()));
  EXPECT_EQ(AwaitCall(), 0);
  for (const char* text : {"one", "two", "three"}) {
    EXPECT_EQ(peer_->Word(), fmt::format("DATA 50<{} {}", mine_, text));
  }
  ASSERT_TRUE(peer_->Send(Feedback(mine_, 50, 3)));
  EXPECT_EQ(waits.get(), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("four")), 0);
  EXPECT_EQ(peer_->Word(), fmt::format("DATA 50<{} four", mine_));
}

// A brpc server may forget to report the first message:
// who has filled the window with it would wait for ever.
TEST_F(StreamClient, AWindowThatTheFirstMessageFillsOpensOnceWithoutFeedback) {
  Start(1, 10'000, {.max_buf_size = 2});
  ASSERT_TRUE(peer_->Send(Accepted()));
  EXPECT_EQ(AwaitCall(), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("first")), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("full")), EAGAIN);
  EXPECT_EQ(StreamWait(ids_[0], nullptr), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("second")), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("full")), EAGAIN) << "once";
  for (const char* text : {"first", "second"}) {
    EXPECT_EQ(peer_->Word(), fmt::format("DATA 50<{} {}", mine_, text));
  }
  ASSERT_TRUE(peer_->Send(Feedback(mine_, 50, 11)));  // of both
  EXPECT_EQ(StreamWait(ids_[0], nullptr), 0);
  EXPECT_EQ(StreamWrite(ids_[0], Bytes::Copy("third")), 0);
  EXPECT_EQ(peer_->Word(), fmt::format("DATA 50<{} third", mine_));
}

TEST_F(StreamClient, NothingIsSentAgain) {
  Start();
  peer_->End();
  peer_.reset();
  EXPECT_EQ(AwaitCall(), 1014);
  Start();  // the next call is the first thing on the new connection: Start has read it
  EXPECT_EQ(watcher_.closed(), 1u);
}

}  // namespace
}  // namespace sluice::edge::brpc
