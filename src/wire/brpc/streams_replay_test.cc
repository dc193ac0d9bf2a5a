// Conversations of real brpc peers, with Streams in the place of either of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "wire/brpc/meta.h"
#include "wire/brpc/stream_words.h"
#include "wire/brpc/streams.h"
#include "wire/brpc/test_captures.h"

namespace sluice::wire::brpc {
namespace {

using Written = Streams::Written;

FrameEvent Whole(std::string_view frame) {
  FrameReader reader;
  reader.Feed(Bytes::Copy(frame));
  FrameEvent event;
  EXPECT_TRUE(reader.Next(&event).value_or(false));
  return event;
}

RpcMeta MetaOf(const FrameEvent& call) {
  absl::StatusOr<CallFrame> frame = DecodeCall(call.meta, call.body);
  EXPECT_TRUE(frame.ok()) << frame.status();
  return frame.ok() ? frame->meta : RpcMeta();
}

// Plays one side: does what that side's application did, and feeds what the other side sent.
class Replay {
 public:
  Replay(const std::string& name, bool client, uint32_t copy_bytes_max)
      : name_(name), client_(client), frames_(LoadCapture(name)) {
    StreamsOptions options;
    options.segment_bytes = name == "segmented" ? 8 : 64 << 10;
    options.copy_bytes_max = copy_bytes_max;
    options.feedback_bytes = 1;  // brpc reports each drain of its queue, full or not
    options.first_id = FirstId();
    streams_.emplace(options, &budget_);
  }

  // The peer's bytes are cut at `cut`, or everywhere.
  void Run(size_t cut, bool everywhere) {
    size_t fed = 0;
    for (const CapturedFrame& frame : frames_) {
      if (frame.from_client == client_) {
        Do(Whole(frame.bytes), frame.bytes);
        continue;
      }
      const size_t size = frame.bytes.size();
      if (everywhere) {
        for (size_t i = 0; i < size; ++i) Feed(frame.bytes.substr(i, 1));
      } else if (cut > fed && cut < fed + size) {
        Feed(frame.bytes.substr(0, cut - fed));
        Feed(frame.bytes.substr(cut - fed));
      } else {
        Feed(frame.bytes);
      }
      fed += size;
    }
    Collect();
    Compare();
    streams_->ConnectionLost(1014, "end of stream");
    for (auto& [id, stream] : mine_) streams_->Forget(stream.get());
    EXPECT_EQ(streams_->received_bytes() + streams_->unsent_bytes() + streams_->size(), 0u);
  }

  static size_t PeerBytes(const std::string& name, bool client) {
    size_t bytes = 0;
    for (const CapturedFrame& frame : LoadCapture(name))
      bytes += frame.from_client == client ? 0 : frame.bytes.size();
    return bytes;
  }

 private:
  // The settings that this side sent, in its request or its wrapped answer.
  RpcMeta OwnMeta() const {
    for (const CapturedFrame& frame : frames_) {
      if (frame.from_client != client_) continue;
      FrameEvent event = Whole(frame.bytes);
      return MetaOf(event.kind == FrameEvent::Kind::kCall ? event : Whole(event.body.ToString()));
    }
    return {};
  }
  int64_t FirstId() const {
    const RpcMeta meta = OwnMeta();
    return meta.has_stream_settings() ? meta.stream_settings().stream_id() : 0;
  }

  void AddStreams(bool opens_here) {
    const RpcMeta meta = OwnMeta();
    if (!meta.has_stream_settings()) return;
    const auto& settings = meta.stream_settings();
    for (int i = 0; i <= settings.extra_stream_ids_size(); ++i) {
      auto stream = std::make_unique<StreamState>();
      stream->window_bytes = !settings.need_feedback() ? 0 : name_ == "window" && client_ ? 10 : 2 << 20;
      stream->readable = settings.writable();
      stream->opens_here = opens_here && i == 0;
      ASSERT_TRUE(streams_->Add(stream.get()));
      EXPECT_EQ(stream->local_id, i == 0 ? settings.stream_id() : settings.extra_stream_ids(i - 1));
      const int64_t id = stream->local_id;
      mine_[id] = std::move(stream);
    }
    if (name_ != "early-data") return;
    for (const char* early : {"EEEEE", "FFFFFF"}) {
      if (client_) EarlyWrite(early);
    }
    if (!client_) EarlyWrite("early-1");
  }
  void EarlyWrite(const std::string& text) {
    EXPECT_EQ(streams_->Write(mine_.begin()->second.get(), Bytes::Copy(text)), Written::kWritten);
    early_ += text;
  }

  void ConnectStreams(const RpcMeta& peer) {
    const auto& settings = peer.stream_settings();
    int i = 0;
    for (auto& [id, stream] : mine_) {
      streams_->Connect(stream.get(),
                        {.remote_id = i == 0 ? settings.stream_id() : settings.extra_stream_ids(i - 1),
                         .readable = settings.writable(),
                         .wants_feedback = settings.need_feedback()});
      streams_->Release(stream.get());
      ++i;
    }
  }

  // One frame of this side: what the application did that it left.
  void Do(const FrameEvent& event, const std::string& raw) {
    if (event.kind == FrameEvent::Kind::kCall) {
      if (client_) AddStreams(/*opens_here=*/true);
      streams_->SendFrame(Bytes::Copy(raw));
      return Collect();
    }
    const StreamMeta& meta = event.stream;
    const auto found = mine_.find(meta.from.value_or(kNoStream));
    StreamState* stream = found == mine_.end() ? nullptr : found->second.get();
    if (meta.type == FrameType::kData && !client_ && !std::exchange(answered_, true)) {
      streams_->SendAnswer(meta.to, *meta.from, event.body);
      if (request_.has_stream_settings()) ConnectStreams(request_);
    } else if (meta.type == FrameType::kData) {
      WriteAs(stream, event);
    } else if (meta.type == FrameType::kFeedback && stream->phase == StreamState::Phase::kOpen) {
      feedback_.push_back(raw);
      Consume(stream, static_cast<uint64_t>(*meta.consumed));
    } else if (meta.type == FrameType::kClose) {
      streams_->Close(stream);  // no effect if it was the answer to a CLOSE
    }
    Collect();
  }

  void WriteAs(StreamState* stream, const FrameEvent& event) {
    const std::string text = event.body.ToString();
    if (early_.starts_with(text)) {
      early_.erase(0, std::max<size_t>(1, text.size()));
      if (!text.empty()) return;
    }
    Bytes& message = writing_[stream];
    message.Append(event.body);
    if (event.stream.has_continuation) return;
    EXPECT_EQ(streams_->Write(stream, message), Written::kWritten);
    message = Bytes();
    if (name_ == "window" && stream->produced_bytes == 106) {
      EXPECT_EQ(streams_->Write(stream, Bytes::Copy("d")), Written::kFull);
    }
  }

  void Consume(StreamState* stream, uint64_t total) {
    for (size_t i = 0; i < 100 && stream->consumed_bytes < total; ++i) {
      StreamState* ready = streams_->NextReady();
      ASSERT_NE(ready, nullptr);
      std::vector<Bytes> messages;
      if (ready == stream) streams_->TakeMessages(stream, 1, &messages);
      for (const Bytes& message : messages) streams_->Consumed(stream, message.size());
      streams_->Delivered(ready);
    }
    EXPECT_EQ(stream->consumed_bytes, total);
  }

  void Feed(const std::string& bytes) {
    auto slab = std::make_shared<std::string>(bytes);
    reader_.Feed(*slab, slab);
    FrameEvent event;
    while (true) {
      const absl::StatusOr<bool> more = reader_.Next(&event);
      ASSERT_TRUE(more.ok()) << more.status();
      if (!*more) break;
      ASSERT_NE(event.kind, FrameEvent::Kind::kBadStream);
      if (event.kind == FrameEvent::Kind::kCall) {
        if (client_) continue;  // the bare answer of a call without streams
        request_ = MetaOf(event);
        AddStreams(/*opens_here=*/false);
        continue;
      }
      const std::optional<OpeningAnswer> answer = streams_->Receive(event);
      if (answer) Answered(*answer);
    }
    Collect();
  }

  void Answered(const OpeningAnswer& answer) {
    EXPECT_EQ(answer.stream, mine_.begin()->second.get());
    const RpcMeta meta = MetaOf(Whole(answer.frame.ToString()));
    if (meta.has_stream_settings()) {
      EXPECT_EQ(answer.from, meta.stream_settings().stream_id());
      ConnectStreams(meta);
    } else {
      EXPECT_EQ(answer.from, kNoStream);
    }
    if (meta.has_stream_settings() && meta.response().error_code() == 0) return;
    for (auto& [id, stream] : mine_) streams_->Fail(stream.get(), 1003, "refused");
  }

  void Collect() { sent_ += brpc::SentBy(*streams_); }

  // Byte for byte, in order for each stream; between streams the order seen is the application's threads'.
  void Compare() {
    std::map<int64_t, std::vector<std::string>> expected;
    for (const CapturedFrame& frame : frames_) {
      const FrameEvent event = Whole(frame.bytes);
      if (frame.from_client != client_ || event.stream.type == FrameType::kFeedback) continue;
      expected[event.stream.to].push_back(frame.bytes);
    }
    std::map<int64_t, std::vector<std::string>> others;
    std::vector<std::string> feedback;
    for (std::string rest = sent_; !rest.empty();) {
      ASSERT_GE(rest.size(), kFrameFrontBytes);
      const size_t body = static_cast<unsigned char>(rest[6]) * 256u + static_cast<unsigned char>(rest[7]);
      const std::string frame = rest.substr(0, kFrameFrontBytes + body);
      rest.erase(0, frame.size());
      const StreamMeta meta = Whole(frame).stream;
      if (meta.type == FrameType::kFeedback) {
        feedback.push_back(frame);
        continue;
      }
      // There the connection ended before the last words were due.
      const bool after_all = others[meta.to].size() == expected[meta.to].size();
      if (name_ == "example-batch-echo" && meta.type != FrameType::kData && after_all) continue;
      others[meta.to].push_back(frame);
    }
    EXPECT_EQ(others, expected);
    EXPECT_EQ(feedback, feedback_);
  }

  const std::string name_;
  const bool client_;
  const std::vector<CapturedFrame> frames_;
  StreamBudget budget_;
  std::optional<Streams> streams_;
  FrameReader reader_;
  std::map<int64_t, std::unique_ptr<StreamState>> mine_;
  std::map<StreamState*, Bytes> writing_;
  RpcMeta request_;
  bool answered_ = false;
  std::string early_;                  // written before the opening was over
  std::string sent_;                   // all that left
  std::vector<std::string> feedback_;  // FEEDBACK that this side must have sent
};

class StreamsReplay : public ::testing::TestWithParam<const char*> {};

void RunAll(const std::string& name, bool client) {
  ASSERT_FALSE(LoadCapture(name).empty()) << name;
  for (const uint32_t copy_bytes_max : {0u, 4096u}) {
    Replay(name, client, copy_bytes_max).Run(0, /*everywhere=*/true);
    for (size_t cut = 0; cut < Replay::PeerBytes(name, client); ++cut) {
      Replay(name, client, copy_bytes_max).Run(cut, /*everywhere=*/false);
      if (::testing::Test::HasFailure()) FAIL() << name << " cut at " << cut;
    }
  }
}

TEST_P(StreamsReplay, F62_AsClient) { RunAll(GetParam(), true); }
TEST_P(StreamsReplay, F62_AsServer) { RunAll(GetParam(), false); }

INSTANTIATE_TEST_SUITE_P(Captures, StreamsReplay, ::testing::ValuesIn(kCaptures), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace sluice::wire::brpc
