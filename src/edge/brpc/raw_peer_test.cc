// A foreign peer made by hand against a real RpcServer: what it answers, what it refuses, what it survives.
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
using wire::brpc::RstFrom;

// --- Section 4 of the facts: the answer to an opening ---

struct OpeningCase {
  std::string text;
  int code;
  bool has_settings;
  bool has_source;
};

TEST(StreamPeer, EveryWayToAnswerAnOpening) {
  EchoServer server;
  for (const OpeningCase& each : {OpeningCase{"echo", 0, true, true},
                                  {"noaccept", 0, false, false},
                                  {"fail", 1, false, false},
                                  {"minusone", 2001, false, false},
                                  {"acceptfail", 1, true, true},
                                  {"acceptclose", 0, false, true}}) {
    RawPeer peer = RawPeer::Connect(server.port());
    const Parsed answer = Open(peer, each.text);
    ASSERT_TRUE(answer.call) << each.text;
    EXPECT_EQ(CodeOf(answer), each.code) << each.text;
    EXPECT_EQ(answer.call->meta.has_stream_settings(), each.has_settings) << each.text;
    EXPECT_EQ(answer.stream.from, each.has_source ? 0 : kNoStream) << each.text;
    if (each.code != 0) {
      EXPECT_TRUE(answer.call->body.empty());
      EXPECT_THAT(answer.call->meta.response().error_text(),
                  testing::StartsWith(fmt::format("[{}][E{}]", server.address(), each.code)));
    }
  }
}

TEST(StreamPeer, StreamsWhoseFirstIsClosedBeforeTheAnswerAllEndAndSayNothing) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  const Parsed answer = Open(peer, "acceptclose", {.id = 3, .extra_ids = {4, 5}});
  ASSERT_TRUE(answer.call);
  EXPECT_FALSE(answer.call->meta.has_stream_settings());
  server.echo.AwaitEnds(3);
  EXPECT_THAT(server.echo.Codes(), testing::UnorderedElementsAre(0, 1003, 1003));
  peer.SetPatience(200);
  EXPECT_EQ(peer.Word(), "SILENCE") << "the client knows none of them";
  peer.SetPatience(10'000);
  ExpectAlive(peer);
}

TEST(StreamPeer, AServerThatClosesAtOnceLetsTheAnswerArriveFirst) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "writeclose");
  EXPECT_EQ(peer.Word(), "DATA 3<0 all of it");
  server.echo.AwaitEnds(1);
  ASSERT_TRUE(peer.Send(Feedback(0, 3, 9)));
  EXPECT_EQ(peer.Word(), "CLOSE 3<0");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.Word(), "RST 3");
  OpenOk(peer, "writeclose", {.id = 4});
  EXPECT_EQ(peer.Word(), "DATA 4<1 all of it");
  EXPECT_EQ(peer.Word(), "CLOSE 4<1") << "in the end without a word of the client";
}

TEST(StreamPeer, RefusalsOfTheServerItselfAreWrappedToo) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  const auto refused = [&](const std::string& service, const std::string& method, Bytes body) {
    wire::brpc::RpcMeta meta;
    meta.mutable_request()->set_service_name(service);
    meta.mutable_request()->set_method_name(method);
    meta.set_correlation_id(1);
    Fill({}, &meta);
    EXPECT_TRUE(peer.Send(wire::brpc::EncodeCall(meta, body, {}).ToString()));
    const Parsed answer = Parse(peer.TakeFrame());
    EXPECT_TRUE(answer.is_stream);
    EXPECT_EQ(answer.stream.from, kNoStream);
    EXPECT_TRUE(answer.call && !answer.call->meta.has_stream_settings());
    return CodeOf(answer);
  };
  EXPECT_EQ(refused("NoService", "Echo", {}), 1001);
  EXPECT_EQ(refused("no.Service", "Echo", {}), 1002);
  EXPECT_EQ(refused("example.EchoService", "No", {}), 1002);
  // A body that is not what it says: an attachment beyond it.
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("EchoService");
  meta.mutable_request()->set_method_name("Echo");
  Fill({}, &meta);
  const std::string good =
      wire::brpc::EncodeCall(meta, Bytes::Copy("body"), Bytes::Copy("attached")).ToString();
  std::string bad = good;
  const size_t size_field = bad.find("\x28\x08");  // attachment_size = 8
  ASSERT_NE(size_field, std::string::npos);
  bad[size_field + 1] = 100;
  ASSERT_TRUE(peer.Send(bad));
  EXPECT_EQ(CodeOf(Parse(peer.TakeFrame())), 1003);
  server.rpc().Drain();
  EXPECT_EQ(refused("example.EchoService", "Echo", {}), 2003);
}

TEST(StreamPeer, ACallWithoutAStreamIsAnsweredBare) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  ExpectAlive(peer);
  ASSERT_TRUE(peer.Send(Request(8, "fail")));
  const Parsed failed = Parse(peer.TakeFrame());
  EXPECT_FALSE(failed.is_stream);
  EXPECT_EQ(CodeOf(failed), 1);
}

TEST(StreamPeer, TheSmallestRequestIsEnough) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  // Fields 1, 4 and 8 of the meta; the flags of the settings are absent: false.
  std::string meta(
      "\x0a\x13\x0a\x0b"
      "EchoService\x12\x04"
      "Echo\x20\x09\x42\x02\x08\x05",
      27);
  std::string frame = std::string("PRPC\0\0\0", 7) + static_cast<char>(meta.size()) + std::string(3, '\0') +
                      static_cast<char>(meta.size()) + meta;
  ASSERT_TRUE(peer.Send(frame));
  const Parsed answer = Parse(peer.TakeFrame());
  ASSERT_TRUE(answer.call);
  EXPECT_EQ(CodeOf(answer), 0);
  EXPECT_EQ(answer.stream.to, 5);
  EXPECT_EQ(answer.call->meta.correlation_id(), 9);
}

// --- Batches ---

TEST(StreamPeer, ABatchIsAnsweredWithAsManyIds) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  const Settings settings = {.id = 40, .extra_ids = {50, -7, INT64_MAX}};
  const Parsed answer = Open(peer, "echo", settings);
  ASSERT_EQ(CodeOf(answer), 0);
  const auto& got = answer.call->meta.stream_settings();
  EXPECT_EQ(got.stream_id(), 0);
  EXPECT_THAT(got.extra_stream_ids(), testing::ElementsAre(1, 2, 3));
  const int64_t mine[] = {40, 50, -7, INT64_MAX};
  for (int64_t i = 3; i >= 0; --i) {
    ASSERT_TRUE(peer.Send(Data(i, mine[i], "m")));
    EXPECT_EQ(peer.WordButFeedback(), fmt::format("DATA {}<{} m", mine[i], i));
  }
  for (int64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(peer.Send(Close(i, mine[i])));
    EXPECT_EQ(peer.WordButFeedback(), fmt::format("CLOSE {}<{}", mine[i], i));
    ASSERT_TRUE(peer.Send(Rst(i)));
  }
  ExpectAlive(peer);
  server.echo.AwaitEnds(4);
}

TEST(StreamPeer, BatchesThatAreRefusedAreRefusedWhole) {
  EchoServer server({.streams_per_call_max = 3, .streams_per_connection_max = 4});
  RawPeer peer = RawPeer::Connect(server.port());
  const auto code_of = [&](const std::string& text, const Settings& settings) {
    const Parsed answer = Open(peer, text, settings);
    EXPECT_EQ(answer.stream.from, kNoStream);
    EXPECT_TRUE(answer.call && !answer.call->meta.has_stream_settings());
    return CodeOf(answer);
  };
  EXPECT_EQ(code_of("single", {.id = 1, .extra_ids = {2}}), 2001)
      << "taken one by one, as by brpc's own call";
  EXPECT_EQ(code_of("echo", {.id = 1, .extra_ids = {2, 3, 4}}), 1003) << "too many in one call";
  OpenOk(peer, "echo", {.id = 1, .extra_ids = {2, 3}});
  EXPECT_EQ(code_of("echo", {.id = 4, .extra_ids = {5}}), 1003) << "too many on the connection";
  OpenOk(peer, "echo", {.id = 4});
  EXPECT_EQ(code_of("echo", {.id = 5}), 1003);
  ASSERT_TRUE(peer.Send(Close(0, 1)));
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 1<0");
  server.echo.AwaitEnds(1);
  ASSERT_TRUE(peer.Send(Rst(0)));
  ExpectAlive(peer);
  OpenOk(peer, "echo", {.id = 6});  // there is room again
}

// --- Data, flow control ---

TEST(StreamPeer, SegmentsOfSeveralStreamsAreJoinedPerStream) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo", {.id = 3, .extra_ids = {4}});
  ASSERT_TRUE(peer.Send(Data(0, 3, "on", true) + Data(1, 4, "tw", true) + Data(0, std::nullopt, "", true) +
                        Request(50, "plain") + Data(1, 4, "o", false) + Feedback(0, 3, 0) +
                        Data(0, 3, "e", false)));
  std::vector<std::string> words;
  while (words.size() < 3) {
    if (std::string word = peer.WordButFeedback(); !word.starts_with("CALL")) {
      words.push_back(word);
    } else {
      words.push_back("CALL");
    }
  }
  EXPECT_THAT(words, testing::UnorderedElementsAre("DATA 3<0 one", "DATA 4<1 two", "CALL"));
}

TEST(StreamPeer, FeedbackIsForThoseWhoAskedForIt) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep", {.id = 3, .need_feedback = false});
  ASSERT_TRUE(peer.Send(Data(0, 3, "no answer")));
  server.keeps.AwaitEnds(0);
  ExpectAlive(peer);
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.Word(), "CLOSE 3<0") << "and no FEEDBACK before";
  ASSERT_TRUE(peer.Send(Rst(0)));
  server.keeps.AwaitEnds(1);
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("no answer"));

  OpenOk(peer, "keep", {.id = 5});
  ASSERT_TRUE(peer.Send(Data(1, 5, "")));  // no bytes, no FEEDBACK
  ASSERT_TRUE(peer.Send(Data(1, 5, "12345")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 5<1 =5");
  ASSERT_TRUE(peer.Send(Data(1, 5, "67")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 5<1 =7");
}

TEST(StreamPeer, APeerWithoutAReaderIsNotWrittenTo) {
  EchoServer server;
  std::atomic<int> result{-1};
  server.echo.on_message = [&](StreamId id, const Bytes& message) { result = StreamWrite(id, message); };
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo", {.id = 3, .writable = false});
  ASSERT_TRUE(peer.Send(Data(0, 3, "x")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 3<0 =1");
  EXPECT_EQ(result, EBADF);
}

TEST(StreamPeer, DataForAStreamWithoutAReaderIsDroppedAndCounted) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "nohandler");
  ASSERT_TRUE(peer.Send(Data(0, 3, "dropped")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 3<0 =7");
  ExpectAlive(peer);
}

TEST(StreamPeer, TheWindowOfOursIsKept) {
  EchoServer server;
  server.options.max_buf_size = 10;
  std::vector<int> results;
  server.echo.on_message = [&](StreamId id, const Bytes&) {
    for (const size_t size : {6u, 100u, 1u})
      results.push_back(StreamWrite(id, Bytes::Copy(std::string(size, 'w'))));
    EXPECT_EQ(StreamWait(id, nullptr), 0);
    results.push_back(StreamWrite(id, Bytes::Copy("after")));
  };
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo");
  ASSERT_TRUE(peer.Send(Data(0, 3, "go")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 wwwwww");
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 " + std::string(100, 'w'));
  ASSERT_TRUE(peer.Send(Feedback(0, 3, 6)));  // 100 are under way: still full
  ASSERT_TRUE(peer.Send(Feedback(0, 3, 106)));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 after");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 3<0");
  server.echo.AwaitEnds(1);
  EXPECT_THAT(results, testing::ElementsAre(0, 0, EAGAIN, 0));
}

// --- Section 7: closing ---

TEST(StreamPeer, CloseIsAnsweredAtOnceAndWhatCameBeforeIsDelivered) {
  EchoServer server;
  absl::Notification go;
  server.keeps.on_message = [&](StreamId, const Bytes&) { go.WaitForNotification(); };
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep");
  ASSERT_TRUE(
      peer.Send(Data(0, 3, "one") + Data(0, 3, "two") + Data(0, 3, "unfinished", true) + Close(0, 3)));
  EXPECT_EQ(peer.Word(), "CLOSE 3<0") << "although the reader is busy";
  // The id is unknown from here on.
  ASSERT_TRUE(peer.Send(Data(0, 3, "late")));
  EXPECT_EQ(peer.Word(), "RST 3");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.Word(), "RST 3");
  go.Notify();
  server.keeps.AwaitEnds(1);
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("one", "two"));
  EXPECT_THAT(server.keeps.Codes(), testing::ElementsAre(0));
  ExpectAlive(peer);
}

TEST(StreamPeer, RstFailsTheStreamAndIsAnsweredWithClose) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep", {.id = 3, .extra_ids = {4}});
  ASSERT_TRUE(peer.Send(Data(0, 3, "delivered first") + Rst(0)));
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 3<0");
  ASSERT_TRUE(peer.Send(Rst(0)));  // as brpc does; and DATA behind an RST
  server.keeps.AwaitEnds(1);
  EXPECT_THAT(server.keeps.Codes(), testing::ElementsAre(ECONNRESET));
  ASSERT_TRUE(peer.Send(Data(1, 4, "lives")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 4<1 =5");
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("delivered first", "lives"));
}

TEST(StreamPeer, AServerThatClosesSaysSoBehindItsData) {
  EchoServer server;
  server.echo.on_message = [](StreamId id, const Bytes& message) {
    EXPECT_EQ(StreamWrite(id, message), 0);
    EXPECT_EQ(StreamClose(id), 0);
    EXPECT_EQ(StreamClose(id), 0);
    EXPECT_EQ(StreamWrite(id, message), EINVAL);
  };
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo");
  ASSERT_TRUE(peer.Send(Data(0, 3, "last words")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 last words");
  EXPECT_EQ(peer.WordButFeedback(), "CLOSE 3<0");
  ASSERT_TRUE(peer.Send(Close(0, 3)));
  EXPECT_EQ(peer.WordButFeedback(), "RST 3");
  ASSERT_TRUE(peer.Send(Feedback(0, 3, 10)));  // trap 3: FEEDBACK behind everything
  ExpectAlive(peer);
  server.echo.AwaitEnds(1);
}

TEST(StreamPeer, FramesForUnknownIdsAreAnsweredAsTheFactsSay) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  const std::string unknown_type = [] {
    std::string frame = wire::brpc::Frame({.to = 9, .from = 3, .type = wire::brpc::FrameType::kClose});
    frame.back() = 0;
    return frame;
  }();
  for (const std::string& frame : {Data(9, 3, "x"), Close(9, 3), unknown_type}) {
    ASSERT_TRUE(peer.Send(frame));
    EXPECT_EQ(peer.Word(), "RST 3");
  }
  ASSERT_TRUE(peer.Send(Data(9, std::nullopt, "x") + Close(9, std::nullopt) + Rst(9) + RstFrom(9, 3) +
                        Feedback(9, 3, 1) + Feedback(9, std::nullopt, 1) + Data(kNoStream, kNoStream, "x")));
  ExpectAlive(peer);
}

TEST(StreamPeer, APeerThatGoesEndsItsStreamsWith1014) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep", {.id = 3, .extra_ids = {4}});
  ASSERT_TRUE(peer.Send(Data(0, 3, "delivered before")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 3<0 =16");
  peer.End();
  server.keeps.AwaitEnds(2);
  EXPECT_THAT(server.keeps.Codes(), testing::ElementsAre(1014, 1014));
  EXPECT_THAT(server.keeps.AllMessages(), testing::ElementsAre("delivered before"));
}

// --- Section 1: the reader's rules ---

TEST(StreamPeer, AMetaThatIsNoneHarmsNobody) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo");
  for (const std::string_view meta :
       {std::string_view("\xff\xff\xff"), std::string_view("\x10\x03\x18\x03"), std::string_view("")}) {
    std::string frame("STRM\0\0\0\0\0\0\0\0", 12);
    frame[7] = static_cast<char>(meta.size() + 4);
    frame[11] = static_cast<char>(meta.size());
    ASSERT_TRUE(peer.Send(frame + std::string(meta) + "body"));
  }
  // FRAME_TYPE_UNKNOWN and a number that nobody knows, to a live stream.
  for (const char type : {'\0', '\x09'}) {
    std::string frame = wire::brpc::Frame({.to = 0, .from = 3, .type = wire::brpc::FrameType::kClose});
    frame.back() = type;
    ASSERT_TRUE(peer.Send(frame));
  }
  ASSERT_TRUE(peer.Send(Data(0, 3, "still here")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 still here");
}

TEST(StreamPeer, F61_ACallWhoseMetaIsNoneEndsTheConnection) {
  EchoServer server;
  const auto call = [](std::string_view meta) {
    std::string frame("PRPC\0\0\0\0\0\0\0\0", 12);
    frame[7] = frame[11] = static_cast<char>(meta.size());
    return frame + std::string(meta);
  };
  // Cut short, a wrong wire type, settings without an id, a request without names.
  for (const std::string_view meta :
       {std::string_view("\x0a\x7f"), std::string_view("\x0d\x01"), std::string_view("\x42\x00", 2),
        std::string_view("\x0a\x02\x0a\x00", 4)}) {
    RawPeer peer = RawPeer::Connect(server.port());
    OpenOk(peer, "keep");
    ASSERT_TRUE(peer.Send(call(meta)));
    EXPECT_EQ(peer.Word(), "END");
  }
  server.keeps.AwaitEnds(4);
  EXPECT_THAT(server.keeps.Codes(), testing::Each(EINVAL));
  // A MiB of groups that begin in one another.
  RawPeer peer = RawPeer::Connect(server.port());
  std::string deep("PRPC\x00\x10\x00\x00\x00\x10\x00\x00", 12);
  ASSERT_TRUE(peer.Send(deep.append(1 << 20, '\x7b')));
  EXPECT_EQ(peer.Word(), "END");
  // An unknown field and a text that is not UTF-8 are nobody's business.
  RawPeer odd = RawPeer::Connect(server.port());
  ASSERT_TRUE(
      odd.Send(call(std::string_view("\x0a\x0a\x0a\x02\xff\xfe\x12\x04"
                                     "Echo\x20\x05\xa0\x06\x01",
                                     17))));
  EXPECT_EQ(CodeOf(Parse(odd.TakeFrame())), 1001);
}

TEST(StreamPeer, F58_AnImpossibleFrameEndsTheConnectionByItsFront) {
  EchoServer server;
  for (const std::string_view front : {std::string_view("PRPC\xff\xff\xff\xff\x00\x00\x00\x10", 12),
                                       std::string_view("STRM\xff\xff\xff\xff\x00\x00\x00\x10", 12),
                                       std::string_view("PRPC\x04\x00\x00\x01\x00\x00\x00\x10", 12),
                                       std::string_view("STRM\x00\x00\x00\x08\x00\x00\x00\x09", 12),
                                       std::string_view("PRPC\x00\x00\x00\x08\x00\x00\x00\x09", 12),
                                       std::string_view("STRM\x80\x00\x00\x00\x7f\xff\xff\xff", 12)}) {
    RawPeer peer = RawPeer::Connect(server.port());
    OpenOk(peer, "keep");
    ASSERT_TRUE(peer.Send(front));
    EXPECT_EQ(peer.Word(), "END");
  }
  server.keeps.AwaitEnds(6);
  EXPECT_THAT(server.keeps.Codes(), testing::Each(EINVAL));
}

TEST(StreamPeer, F58_ATooLargeFrameFailsItsStreamAloneAndItsSenderLearns) {
  EchoServer server({.frame_bytes_max = 1000});
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep", {.id = 3, .extra_ids = {4}});
  ASSERT_TRUE(peer.Send(Data(0, 3, std::string(992, 'a'))));  // 8 bytes of meta: exactly the limit
  EXPECT_EQ(peer.Word(), "FEEDBACK 3<0 =992");
  const std::string large = Data(0, 3, std::string(100'000, 'b'));
  ASSERT_TRUE(peer.Send(large.substr(0, 20)));
  EXPECT_EQ(peer.Word(), "RST 3") << "told by the front, before the payload";
  server.keeps.AwaitEnds(1);
  EXPECT_THAT(server.keeps.Codes(), testing::ElementsAre(EMSGSIZE));
  ASSERT_TRUE(peer.Send(large.substr(20) + Data(1, 4, "goes on")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 4<1 =7");
  EXPECT_EQ(server.keeps.AllMessages().back(), "goes on");
}

TEST(StreamPeer, F58_ATooLongMessageOfSmallFramesFailsItsStreamAlone) {
  EchoServer server({.message_bytes_max = 1000});
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep", {.id = 3, .extra_ids = {4}});
  for (int i = 0; i < 11; ++i) ASSERT_TRUE(peer.Send(Data(0, 3, std::string(100, 'p'), true)));
  EXPECT_EQ(peer.Word(), "RST 3");
  ASSERT_TRUE(peer.Send(Data(1, 4, "goes on")));
  EXPECT_EQ(peer.Word(), "FEEDBACK 4<1 =7");
  server.keeps.AwaitEnds(1);
}

TEST(StreamPeer, F59_ImpossibleNumbersOfCallsAreRefused) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  for (const int32_t size : {-1, INT32_MIN, INT32_MAX}) {
    wire::brpc::RpcMeta meta;
    meta.mutable_request()->set_service_name("EchoService");
    meta.mutable_request()->set_method_name("Echo");
    meta.set_correlation_id(INT64_MIN);
    meta.set_attachment_size(size);
    const std::string raw = meta.SerializeAsString();
    std::string frame("PRPC\0\0\0\0\0\0\0\0", 12);
    frame[7] = static_cast<char>(raw.size() + 4);
    frame[11] = static_cast<char>(raw.size());
    ASSERT_TRUE(peer.Send(frame + raw + "body"));
    const Parsed answer = Parse(peer.TakeFrame());
    EXPECT_EQ(CodeOf(answer), 1003) << size;
    EXPECT_EQ(answer.call->meta.correlation_id(), INT64_MIN);
  }
}

TEST(StreamPeer, F60_OtherProtocolsAreCutAndHttpIsToldWhere) {
  EchoServer server;
  for (const char* request : {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "POST /x HTTP/1.1\r\n\r\n"}) {
    RawPeer peer = RawPeer::Connect(server.port());
    ASSERT_TRUE(peer.Send(request));
    const std::string answer = peer.TakeAll();
    EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 400 "));
    EXPECT_THAT(answer, testing::EndsWith("\r\n\r\nstreams live here\n"));
  }
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00", 16);
  for (const std::string& bytes : {hello, hello.substr(0, 1), std::string("PRPX"), std::string("STRX"),
                                   std::string("HULU\0\0\0\0\0\0\0\0", 12)}) {
    RawPeer peer = RawPeer::Connect(server.port());
    ASSERT_TRUE(peer.Send(bytes));
    EXPECT_EQ(peer.TakeAll(), "");
  }
  RawPeer peer = RawPeer::Connect(server.port());
  ExpectAlive(peer);
}

TEST(StreamPeer, F60_AStrangeMagicBetweenFramesEndsTheConnection) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "keep");
  ASSERT_TRUE(peer.Send("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(peer.Word(), "END") << "and no hint in the middle of a conversation";
  server.keeps.AwaitEnds(1);
}

TEST(StreamPeer, F62_OneByteAtATimeAndAHundredFramesAtOnce) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  peer.SendByteByByte(Request(7, "echo", Settings{}));
  EXPECT_EQ(CodeOf(Parse(peer.TakeFrame())), 0);
  peer.SendByteByByte(Data(0, 3, "slow") + Data(0, 3, "ly", true) + Data(0, 3, ""));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 slow");
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 ly");
  std::string many;
  for (int i = 0; i < 100; ++i) many += Data(0, 3, std::to_string(i)) + Request(i, "plain");
  ASSERT_TRUE(peer.Send(many));
  int messages = 0;
  int calls = 0;
  while (messages + calls < 200) {
    const std::string word = peer.WordButFeedback();
    if (word.starts_with("CALL")) {
      ++calls;
      continue;
    }
    ASSERT_EQ(word, fmt::format("DATA 3<0 {}", messages));
    ++messages;
  }
}

TEST(StreamPeer, OpenStreamsGoOnWhileAServerDrains) {
  EchoServer server;
  RawPeer peer = RawPeer::Connect(server.port());
  OpenOk(peer, "echo");
  server.rpc().Drain();
  EXPECT_EQ(CodeOf(Open(peer, "echo", {.id = 4})), 2003);
  ASSERT_TRUE(peer.Send(Data(0, 3, "goes on")));
  EXPECT_EQ(peer.WordButFeedback(), "DATA 3<0 goes on");
}

TEST(StreamPeer, AServerThatStopsWaitsForAnswersUnderWay) {
  auto server = std::make_unique<RpcServer>();
  Watcher watcher;
  Done held;
  absl::Notification called;
  server->AddMethod("a.B", "C", [&](Controller& controller, const Bytes&, Bytes*, Done done) {
    StreamId id;
    StreamOptions options;
    options.handler = &watcher;
    EXPECT_EQ(StreamAccept(&id, controller, &options), 0);
    held = std::move(done);
    called.Notify();
  });
  ASSERT_TRUE(server->Start("127.0.0.1:0").ok());
  RawPeer peer = RawPeer::Connect(server->port());
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("a.B");
  meta.mutable_request()->set_method_name("C");
  Fill({}, &meta);
  ASSERT_TRUE(peer.Send(wire::brpc::EncodeCall(meta, {}, {}).ToString()));
  called.WaitForNotification();
  std::thread stops([&] { server.reset(); });
  EXPECT_EQ(peer.Word(), "END");
  EXPECT_EQ(watcher.closed(), 0u) << "not before done";
  held();
  stops.join();
  EXPECT_EQ(watcher.closed(), 1u);
  EXPECT_THAT(watcher.Codes(), testing::ElementsAre(2003));
}

TEST(StreamPeer, ADoneThatIsDroppedAnswersWithAnError) {
  RpcServer server;
  server.AddMethod("a.B", "C", [](Controller&, const Bytes&, Bytes*, Done) {});
  ASSERT_TRUE(server.Start("127.0.0.1:0").ok());
  RawPeer peer = RawPeer::Connect(server.port());
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("a.B");
  meta.mutable_request()->set_method_name("C");
  ASSERT_TRUE(peer.Send(wire::brpc::EncodeCall(meta, {}, {}).ToString()));
  EXPECT_EQ(CodeOf(Parse(peer.TakeFrame())), 2001);
}

}  // namespace
}  // namespace sluice::edge::brpc
