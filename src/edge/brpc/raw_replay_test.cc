// Conversations of real brpc peers over a real socket, with an RpcServer and with a Channel in the place of
// one of them. Ids, correlation and the moment of FEEDBACK are each side's own;
// the rest is compared byte for byte.
#include <gtest/gtest.h>

#include <future>
#include <map>

#include "edge/brpc/echo_server_for_test.h"
#include "wire/brpc/test_captures.h"

namespace sluice::edge::brpc {
namespace {

using wire::brpc::CapturedFrame;
using wire::brpc::FrameType;
using wire::brpc::kCaptures;
using wire::brpc::kNoStream;
using wire::brpc::LoadCapture;
using wire::brpc::RpcMeta;

using Ids = std::map<int64_t, int64_t>;

std::vector<int64_t> IdsOf(const RpcMeta& meta) {
  if (!meta.has_stream_settings()) return {};
  std::vector<int64_t> ids = {meta.stream_settings().stream_id()};
  for (const int64_t id : meta.stream_settings().extra_stream_ids()) ids.push_back(id);
  return ids;
}

int64_t Mapped(const Ids& ids, int64_t id) {
  const auto found = ids.find(id);
  return found == ids.end() ? id : found->second;
}

// The frame of a call with other ids; nothing else of it changes.
std::string Renamed(const wire::brpc::CallFrame& call, const Ids& ids, int64_t correlation) {
  RpcMeta meta = call.meta;
  meta.set_correlation_id(correlation);
  if (meta.has_stream_settings()) {
    auto* settings = meta.mutable_stream_settings();
    settings->set_stream_id(Mapped(ids, settings->stream_id()));
    for (auto& id : *settings->mutable_extra_stream_ids()) id = Mapped(ids, id);
  }
  const std::string raw = meta.SerializeAsString();
  std::string frame = "PRPC";
  for (const size_t size : {raw.size() + call.body.size(), raw.size()}) {
    for (int shift = 24; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(size >> shift));
  }
  return frame + raw + call.body.ToString();
}

// A frame of one side with the ids of this run; `mine` are those of the side that sent it.
std::string Renamed(const std::string& frame, const Ids& mine, const Ids& other, int64_t correlation) {
  const Parsed parsed = Parse(frame);
  if (!parsed.is_stream) return Renamed(*parsed.call, mine, correlation);
  wire::brpc::StreamMeta meta = parsed.stream;
  meta.to = Mapped(other, meta.to);
  if (meta.from) meta.from = Mapped(mine, *meta.from);
  return wire::brpc::Frame(meta, parsed.call ? Renamed(*parsed.call, mine, correlation) : parsed.payload);
}

class RawReplay : public ::testing::TestWithParam<const char*> {
 protected:
  RawReplay() : name_(GetParam()), frames_(LoadCapture(name_)) {
    for (const CapturedFrame& frame : frames_) {
      const Parsed parsed = Parse(frame.bytes);
      if (!parsed.call) continue;
      (frame.from_client ? request_ : answer_) = *parsed.call;
      wrapped_ = wrapped_ || parsed.is_stream;
    }
  }

  // Takes the next frame of the real side, puts FEEDBACK aside.
  std::string Next(RawPeer& peer) {
    while (true) {
      std::string frame = peer.TakeFrame();
      const Parsed parsed = Parse(frame);
      if (frame.empty() || !parsed.is_stream || parsed.stream.type != FrameType::kFeedback) return frame;
      int64_t& last = reported_[parsed.stream.to];
      EXPECT_GT(*parsed.stream.consumed, last) << "totals grow";
      last = *parsed.stream.consumed;
    }
  }
  // What that side reported in the capture, and may report here:
  // as much by the end, if it is open long enough.
  void CheckFeedback(bool client, const Ids& to_ids) {
    std::map<int64_t, int64_t> most;
    for (const CapturedFrame& frame : frames_) {
      const Parsed parsed = Parse(frame.bytes);
      if (!parsed.is_stream || frame.from_client == client || parsed.call) continue;
      if (parsed.stream.type == FrameType::kData) {
        most[Mapped(to_ids, parsed.stream.from.value_or(kNoStream))] +=
            static_cast<int64_t>(parsed.payload.size());
      }
    }
    const auto& settings = (client ? answer_ : request_).meta.stream_settings();
    for (const auto& [id, total] : reported_) {
      EXPECT_TRUE(settings.need_feedback()) << "nobody asked for FEEDBACK";
      EXPECT_LE(total, most[id]) << id;
    }
  }
  // The frames that one side must send, by the stream they are for.
  using ByStream = std::map<int64_t, std::vector<std::string>>;
  static int64_t StreamOf(const std::string& frame) {
    const Parsed parsed = Parse(frame);
    return parsed.is_stream ? parsed.stream.to : kNoStream;
  }
  void Compare(const ByStream& came, const ByStream& expected) {
    for (const auto& [id, frames] : expected) {
      std::vector<std::string> got = came.contains(id) ? came.at(id) : std::vector<std::string>();
      // There the connection ended before the last words were due.
      if (name_ == "example-batch-echo" && got.size() > frames.size()) got.resize(frames.size());
      EXPECT_EQ(got.size(), frames.size());
      for (size_t i = 0; i < std::min(got.size(), frames.size()); ++i) {
        EXPECT_EQ(ToHex(got[i]), ToHex(frames[i])) << "stream " << id << ", frame " << i;
      }
    }
    for (const auto& [id, frames] : came) {
      EXPECT_TRUE(expected.contains(id) || name_ == "example-batch-echo") << id;
    }
  }
  // The raw side's part of it is over; ours may still have a last word.
  static bool IsFeedback(const std::string& frame) {
    const Parsed parsed = Parse(frame);
    return parsed.is_stream && parsed.stream.type == FrameType::kFeedback;
  }

  const std::string name_;
  const std::vector<CapturedFrame> frames_;
  wire::brpc::CallFrame request_;
  wire::brpc::CallFrame answer_;
  bool wrapped_ = false;
  std::map<int64_t, int64_t> reported_;
};

std::string TextOf(const wire::brpc::CallFrame& call) {
  auto body = wire::brpc::OpenBody(call, 1 << 20);
  EXPECT_TRUE(body.ok()) << body.status();
  return body.ok() ? EchoText(body->message) : "";
}

TEST_P(RawReplay, TheServerAnswersAsTheOriginal) {
  ASSERT_FALSE(frames_.empty());
  EchoServer server;
  server.example_echoes = name_ == "example-batch-echo";
  if (name_ == "segmented") server.options.max_segment_size = 8;
  RawPeer peer = RawPeer::Connect(server.port());

  // Theirs (the capture's) to ours.
  Ids server_ids;
  const std::vector<int64_t> ids = IdsOf(answer_.meta);
  for (size_t i = 0; i < ids.size(); ++i) server_ids[ids[i]] = static_cast<int64_t>(i);
  const int64_t correlation = request_.meta.correlation_id();

  ByStream expected;
  ByStream came;
  const auto take = [&] {
    std::string frame = Next(peer);
    ASSERT_FALSE(frame.empty());
    if (const Parsed parsed = Parse(frame); parsed.call && parsed.call->meta.response().error_code() != 0) {
      // The server's address, which is another one there.
      wire::brpc::CallFrame call = *parsed.call;
      std::string text = call.meta.response().error_text();
      const std::string address = "[" + server.address() + "]";
      ASSERT_TRUE(text.starts_with(address)) << text;
      call.meta.mutable_response()->set_error_text(text.replace(0, address.size(), "[127.0.0.1:8111]"));
      frame = wire::brpc::Frame(parsed.stream, Renamed(call, {}, correlation));
    }
    came[StreamOf(frame)].push_back(frame);
  };
  for (const CapturedFrame& frame : frames_) {
    const std::string renamed = frame.from_client ? Renamed(frame.bytes, {}, server_ids, correlation)
                                                  : Renamed(frame.bytes, server_ids, {}, correlation);
    if (frame.from_client) {
      ASSERT_TRUE(peer.Send(renamed));
    } else if (!IsFeedback(frame.bytes)) {
      expected[StreamOf(renamed)].push_back(renamed);
      // Of this stream: others may be ahead or behind, and what they say next must wait for what they know.
      while (came[StreamOf(renamed)].size() < expected[StreamOf(renamed)].size()) {
        take();
        if (HasFatalFailure()) return;
      }
    }
  }
  Compare(came, expected);
  CheckFeedback(/*client=*/false, {});
  peer.End();
  server.Stop();
  size_t ended = 0;
  for (Watcher* watcher : {&server.echo, &server.closing, &server.keeps}) {
    ended += watcher->closed();
    for (const int code : watcher->Codes()) {
      EXPECT_EQ(code, name_ == "accept-then-fail" ? ECONNRESET : 0);
    }
  }
  EXPECT_EQ(ended, name_ == "no-reader" ? 0 : ids.size());
}

TEST_P(RawReplay, TheClientSpeaksAsTheOriginal) {
  ASSERT_FALSE(frames_.empty());
  RawListener listener;
  auto channel = *Channel::Create(listener.address(), {.timeout_ms = 10'000});
  Watcher watcher;
  StreamIds streams;
  const auto& settings = request_.meta.stream_settings();
  StreamOptions options;
  options.handler = settings.writable() ? &watcher : nullptr;
  if (!settings.need_feedback()) options.max_buf_size = 0;
  if (name_ == "window") options.max_buf_size = 10;
  if (name_ == "segmented") options.max_segment_size = 8;

  Controller controller;
  const bool has_streams = request_.meta.has_stream_settings();
  if (has_streams) {
    const int count = 1 + settings.extra_stream_ids_size();
    ASSERT_EQ(StreamCreate(streams, count, controller, &options), 0);
  }
  const auto body = wire::brpc::OpenBody(request_, 1 << 20);
  ASSERT_TRUE(body.ok());
  controller.set_request_compress_type(static_cast<CompressType>(request_.meta.compress_type()));
  controller.set_request_checksum(request_.meta.checksum_type() != 0);
  controller.request_attachment() = body->attachment;
  // What the application writes while the call is under way.
  std::string early;
  if (name_ == "early-data") {
    for (const char* text : {"EEEEE", "FFFFFF"}) {
      EXPECT_EQ(StreamWrite(streams.front(), Bytes::Copy(text)), 0);
      early += text;
    }
  }
  Bytes response;
  std::promise<void> called;
  channel->Call("example.EchoService", "Echo", controller, body->message, &response,
                [&] { called.set_value(); });
  auto over = called.get_future();

  RawPeer peer = listener.Accept();
  const std::string first = Next(peer);
  const Parsed request = Parse(first);
  ASSERT_TRUE(request.call);
  Ids client_ids;
  const std::vector<int64_t> theirs = IdsOf(request_.meta);
  const std::vector<int64_t> ours = IdsOf(request.call->meta);
  ASSERT_EQ(theirs.size(), ours.size());
  for (size_t i = 0; i < ours.size(); ++i) client_ids[theirs[i]] = ours[i];
  const int64_t correlation = request.call->meta.correlation_id();
  EXPECT_EQ(ToHex(first), ToHex(Renamed(frames_.front().bytes, client_ids, {}, correlation)));

  const std::vector<int64_t> servers = IdsOf(answer_.meta);
  std::map<int64_t, Bytes> writing;
  std::map<int64_t, bool> closed;
  ByStream expected;
  ByStream came;
  std::map<size_t, std::vector<std::string>> messages;
  std::map<int64_t, std::string> partial;
  bool answered = false;
  for (size_t at = 1; at < frames_.size(); ++at) {
    const CapturedFrame& frame = frames_[at];
    const Parsed parsed = Parse(frame.bytes);
    if (!frame.from_client) {
      ASSERT_TRUE(peer.Send(Renamed(frame.bytes, {}, client_ids, correlation)));
      if (parsed.is_stream && parsed.stream.type == FrameType::kClose) closed[parsed.stream.to] = true;
      if (parsed.is_stream && parsed.stream.type == FrameType::kData && !parsed.call) {
        std::string& message = partial[parsed.stream.to];
        message += parsed.payload;
        const size_t i =
            static_cast<size_t>(std::find(theirs.begin(), theirs.end(), parsed.stream.to) - theirs.begin());
        if (!parsed.stream.has_continuation) messages[i].push_back(std::exchange(message, ""));
      }
      if (parsed.call && !std::exchange(answered, true)) over.wait();
      continue;
    }
    if (IsFeedback(frame.bytes)) continue;
    const size_t i =
        static_cast<size_t>(std::find(servers.begin(), servers.end(), parsed.stream.to) - servers.begin());
    if (parsed.stream.type == FrameType::kData) {
      writing[parsed.stream.to].Append(Bytes::Copy(parsed.payload));
      if (early.starts_with(parsed.payload) && !parsed.payload.empty()) {
        early.erase(0, parsed.payload.size());
        writing.erase(parsed.stream.to);
      } else if (!parsed.stream.has_continuation) {
        EXPECT_EQ(WriteAll(streams[i], writing[parsed.stream.to]), 0);
        writing.erase(parsed.stream.to);
      }
      if (name_ == "window" && parsed.payload.size() == 100 && parsed.payload[0] == 'b') {
        EXPECT_EQ(StreamWrite(streams[i], Bytes::Copy("d")), EAGAIN);
      }
    } else if (parsed.stream.type == FrameType::kClose && !closed[parsed.stream.from.value_or(0)]) {
      if (options.handler != nullptr && messages.contains(i)) {
        watcher.AwaitMessages(streams[i], messages[i].size());
      }
      StreamClose(streams[i]);
    }
    expected[parsed.stream.to].push_back(Renamed(frame.bytes, client_ids, {}, correlation));
    if (parsed.stream.has_continuation) continue;
    while (came[parsed.stream.to].size() < expected[parsed.stream.to].size()) {
      const std::string next = Next(peer);
      ASSERT_FALSE(next.empty());
      came[StreamOf(next)].push_back(next);
    }
  }
  Compare(came, expected);
  CheckFeedback(/*client=*/true, {});
  peer.End();
  over.wait();
  const int code = answer_.meta.response().error_code();
  EXPECT_EQ(controller.ErrorCode(), name_ == "refused" ? 1003 : code) << controller.ErrorText();
  if (!controller.Failed()) {
    EXPECT_EQ(EchoText(response), TextOf(answer_));
  }
  if (options.handler == nullptr) return;
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_EQ(watcher.AwaitEnd(streams[i]), controller.ErrorCode());
    EXPECT_EQ(watcher.AwaitMessages(streams[i], messages[i].size()), messages[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Captures, RawReplay, ::testing::ValuesIn(kCaptures), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace sluice::edge::brpc
