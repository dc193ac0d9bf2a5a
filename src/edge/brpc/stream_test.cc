#include "sluice/stream.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace sluice {
namespace {

constexpr char kService[] = "example.EchoService";
constexpr char kMethod[] = "Echo";

// Keeps what comes; can wait for it.
class Recorder : public StreamInputHandler {
 public:
  int on_received_messages(StreamId, Bytes* const messages[], size_t size) override {
    absl::MutexLock lock(&mutex_);
    for (size_t i = 0; i < size; ++i) {
      bytes_ += messages[i]->size();
      messages_.push_back(messages[i]->ToString());
    }
    return 0;
  }
  void on_failed(StreamId, int error_code, const std::string& error_text) override {
    absl::MutexLock lock(&mutex_);
    failure_ = error_code;
    text_ = error_text;
  }
  void on_closed(StreamId) override {
    absl::MutexLock lock(&mutex_);
    ++closed_;
  }
  void on_idle_timeout(StreamId) override {
    absl::MutexLock lock(&mutex_);
    ++idle_;
  }

  std::vector<std::string> AwaitMessages(size_t count) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](std::pair<Recorder*, size_t>* want) {
          return want->first->messages_.size() >= want->second || want->first->closed_ > 0;
        },
        std::make_unique<std::pair<Recorder*, size_t>>(this, count).get()));
    return messages_;
  }
  // A handler must live until its streams are closed.
  int AwaitClosed(int times = 1) {
    absl::MutexLock lock(&mutex_);
    std::pair<int*, int> want(&closed_, times);
    mutex_.Await(absl::Condition(
        +[](std::pair<int*, int>* w) { return *w->first >= w->second; }, &want));
    EXPECT_EQ(closed_, times);
    return failure_;
  }
  void AwaitIdle(int times) {
    absl::MutexLock lock(&mutex_);
    std::pair<int*, int> want(&idle_, times);
    mutex_.Await(absl::Condition(
        +[](std::pair<int*, int>* w) { return *w->first >= w->second; }, &want));
  }
  std::string text() {
    absl::MutexLock lock(&mutex_);
    return text_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> messages_;
  uint64_t bytes_ = 0;
  int failure_ = 0;
  std::string text_;
  int closed_ = 0;
  int idle_ = 0;
};

// Writes every message back.
class Echoer : public StreamInputHandler {
 public:
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    for (size_t i = 0; i < size; ++i) {
      int result;
      while ((result = StreamWrite(id, *messages[i])) == EAGAIN) {
        if (StreamWait(id, nullptr) != 0) break;
      }
    }
    return 0;
  }
  void on_closed(StreamId id) override {
    StreamClose(id);
    absl::MutexLock lock(&mutex_);
    ++closed_;
  }
  void AwaitClosed(int times) {
    absl::MutexLock lock(&mutex_);
    std::pair<int*, int> want(&closed_, times);
    mutex_.Await(absl::Condition(
        +[](std::pair<int*, int>* w) { return *w->first >= w->second; }, &want));
  }

 private:
  absl::Mutex mutex_;
  int closed_ = 0;
};

class StreamTest : public testing::Test {
 protected:
  void Serve(RpcServer::Method method, RpcServerOptions options = {}) {
    server_ = std::make_unique<RpcServer>(options);
    server_->AddMethod(kService, kMethod, std::move(method));
    ASSERT_TRUE(server_->Start("127.0.0.1:0").ok());
    channel_ = *Channel::Create("127.0.0.1:" + std::to_string(server_->port()), {.timeout_ms = 10'000});
  }
  // Accepts every stream with `handler`.
  void ServeStreams(StreamInputHandler* handler, StreamOptions options = {}) {
    options.handler = handler;
    Serve([options](Controller& controller, const Bytes& request, Bytes* response, Done done) {
      StreamIds ids;
      if (StreamAccept(ids, controller, &options) != 0) controller.SetFailed(EINVAL, "no stream came");
      *response = request;
      done();
    });
  }
  StreamId Open(StreamInputHandler* handler, StreamOptions options = {}) {
    options.handler = handler;
    Controller controller;
    StreamId id = kInvalidStreamId;
    EXPECT_EQ(StreamCreate(&id, controller, &options), 0);
    Bytes response;
    channel_->Call(kService, kMethod, controller, Bytes::Copy("open"), &response);
    EXPECT_FALSE(controller.Failed()) << controller.ErrorText();
    EXPECT_EQ(response, "open");
    return id;
  }
  // The code of a call that opens a stream, which it names.
  int CodeOfOpening(StreamInputHandler* handler, StreamId* id, const Bytes& request = {},
                    int64_t timeout_ms = 10'000) {
    StreamOptions options;
    options.handler = handler;
    Controller controller;
    controller.set_timeout_ms(timeout_ms);
    EXPECT_EQ(StreamCreate(id, controller, &options), 0);
    Bytes response;
    channel_->Call(kService, kMethod, controller, request, &response);
    return controller.ErrorCode();
  }

  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(StreamTest, ACallCarriesMessageAttachmentAndFields) {
  Serve([](Controller& controller, const Bytes& request, Bytes* response, Done done) {
    EXPECT_FALSE(controller.has_remote_stream());
    EXPECT_EQ(controller.log_id(), 17);
    controller.response_user_fields()["back"] = controller.request_user_fields()["there"];
    controller.response_attachment() = controller.request_attachment();
    controller.set_response_compress_type(CompressType::kZlib);
    controller.set_response_checksum(true);
    *response = request;
    done();
  });
  for (const CompressType type :
       {CompressType::kNone, CompressType::kSnappy, CompressType::kGzip, CompressType::kZlib}) {
    Controller controller;
    controller.set_log_id(17);
    controller.set_request_compress_type(type);
    controller.set_request_checksum(true);
    controller.request_user_fields()["there"] = "and back";
    controller.request_attachment() = Bytes::Copy("attached");
    Bytes response;
    const std::string text(100'000, 'x');
    channel_->Call(kService, kMethod, controller, Bytes::Copy(text), &response);
    ASSERT_FALSE(controller.Failed()) << controller.ErrorText();
    EXPECT_EQ(response, text);
    EXPECT_EQ(controller.response_attachment(), "attached");
    EXPECT_EQ(controller.response_user_fields()["back"], "and back");
    EXPECT_GT(controller.latency_us(), 0);
  }
}

TEST_F(StreamTest, EveryMessageComesBackInOrder) {
  Echoer echoer;
  ServeStreams(&echoer);
  Recorder recorder;
  const StreamId id = Open(&recorder);
  std::vector<std::string> sent;
  for (int i = 0; i < 1000; ++i) {
    sent.push_back(std::string(static_cast<size_t>(i * 37 % 5000), static_cast<char>('a' + i % 26)));
    while (StreamWrite(id, Bytes::Copy(sent.back())) == EAGAIN) ASSERT_EQ(StreamWait(id, nullptr), 0);
  }
  EXPECT_EQ(recorder.AwaitMessages(1000), sent);
  EXPECT_EQ(StreamClose(id), 0);
  EXPECT_EQ(StreamClose(id), 0);
  EXPECT_EQ(recorder.AwaitClosed(), 0);
  EXPECT_EQ(StreamWrite(id, Bytes::Copy("late")), EINVAL);
  echoer.AwaitClosed(1);
}

TEST_F(StreamTest, LargeMessagesArriveWhole) {
  Echoer echoer;
  ServeStreams(&echoer);
  Recorder recorder;
  const StreamId id = Open(&recorder);
  std::string large;
  large.resize(20'000'000, 'l');
  for (size_t i = 0; i < large.size(); i += 1000) large[i] = static_cast<char>(i / 1000);
  ASSERT_EQ(StreamWrite(id, Bytes::Copy(large)), 0);
  const auto back = recorder.AwaitMessages(1);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_TRUE(back[0] == large);
  StreamClose(id);
  EXPECT_EQ(recorder.AwaitClosed(), 0);
  echoer.AwaitClosed(1);
}

TEST_F(StreamTest, ABatchOpensWithOneCallAndPairsByPosition) {
  Echoer echoer;
  ServeStreams(&echoer);
  Recorder recorder;
  Controller controller;
  StreamIds ids;
  // One handler for all streams of a batch.
  StreamOptions options;
  options.handler = &recorder;
  ASSERT_EQ(StreamCreate(ids, 3, controller, &options), 0);
  ASSERT_EQ(StreamCreate(ids, 3, controller, &options), -1) << "the call has streams already";
  Bytes response;
  StreamIds same = ids;
  channel_->Call(kService, kMethod, controller, Bytes::Copy("open"), &response);
  ASSERT_FALSE(controller.Failed()) << controller.ErrorText();
  for (const StreamId id : same) ASSERT_EQ(StreamWrite(id, Bytes::Copy(std::to_string(id))), 0);
  EXPECT_EQ(recorder.AwaitMessages(3).size(), 3u);
  for (const StreamId id : same) StreamClose(id);
  recorder.AwaitClosed(3);
  echoer.AwaitClosed(3);
}

TEST_F(StreamTest, AServerThatAcceptsNoStreamFailsTheCall) {
  Serve([](Controller& controller, const Bytes&, Bytes*, Done done) {
    EXPECT_TRUE(controller.has_remote_stream());
    done();
  });
  Recorder recorder;
  StreamId id = kInvalidStreamId;
  EXPECT_EQ(CodeOfOpening(&recorder, &id), 1003);
  EXPECT_EQ(recorder.AwaitClosed(), 1003);
  EXPECT_EQ(StreamWrite(id, Bytes::Copy("x")), EINVAL);
}

TEST_F(StreamTest, ErrorsOfCallsHaveTheirNumbers) {
  Serve([](Controller& controller, const Bytes&, Bytes*, Done done) {
    controller.SetFailed(1, "refused by test");
    done();
  });
  const auto code_of = [&](const std::string& service, const std::string& method) {
    Controller controller;
    Bytes response;
    channel_->Call(service, method, controller, Bytes(), &response);
    return controller.ErrorCode();
  };
  EXPECT_EQ(code_of(kService, kMethod), 1);
  EXPECT_EQ(code_of("EchoService", kMethod), 1) << "a name without a package is looked up behind it";
  EXPECT_EQ(code_of("NoService", kMethod), 1001);
  EXPECT_EQ(code_of("no.Service", kMethod), 1002);
  EXPECT_EQ(code_of(kService, "NoMethod"), 1002);
  server_->Drain();
  EXPECT_EQ(code_of(kService, kMethod), 2003);
}

TEST_F(StreamTest, F58_ACallThatIsTooLargeFailsAloneAndSaysSo) {
  Recorder here;
  Recorder there;
  Serve([&there](Controller& controller, const Bytes& request, Bytes* response, Done done) {
    StreamIds ids;
    StreamOptions options;
    options.handler = &there;
    StreamAccept(ids, controller, &options);
    *response = request == "large" ? Bytes::Take(std::string(65 << 20, 'a')) : request;
    done();
  });
  const StreamId other = Open(&here);
  const auto failure_of = [&](const Bytes& request, CompressType compress = CompressType::kNone) {
    Controller controller;
    controller.set_request_compress_type(compress);
    Bytes response;
    channel_->Call(kService, kMethod, controller, request, &response);
    return std::pair(controller.ErrorCode(), controller.ErrorText());
  };
  const Bytes large = Bytes::Take(std::string(65 << 20, 'r'));
  EXPECT_THAT(failure_of(large), testing::Pair(1003, testing::HasSubstr("a request of 681")));
  EXPECT_THAT(failure_of(Bytes::Copy("large")), testing::Pair(2002, testing::HasSubstr("an answer of 681")));
  EXPECT_THAT(failure_of(large, CompressType::kSnappy), testing::Pair(1003, testing::_))
      << "the server will not unpack it";
  StreamId id = kInvalidStreamId;
  EXPECT_EQ(CodeOfOpening(&here, &id, large), 1003);
  here.AwaitClosed(1);  // its stream, and not the other one
  EXPECT_EQ(StreamWrite(other, Bytes::Copy("goes on")), 0);
  EXPECT_THAT(failure_of(Bytes::Copy("small")), testing::Pair(0, ""));
  EXPECT_THAT(there.AwaitMessages(1), testing::ElementsAre("goes on"));
  StreamClose(other);
  here.AwaitClosed(2);
  there.AwaitClosed();
}

TEST_F(StreamTest, F59_AnAddressThatCannotBeIsRefused) {
  for (const char* address :
       {"127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536", "127.0.0.1:99999999999999"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Channel::Create(address).status())) << address;
    RpcServer server;
    EXPECT_TRUE(absl::IsInvalidArgument(server.Start(address))) << address;
  }
}

TEST_F(StreamTest, AServerThatIsNotThereIsRefusedForCallAndStream) {
  // A port that was free a moment ago.
  RpcServer other;
  ASSERT_TRUE(other.Start("127.0.0.1:0").ok());
  const int port = other.port();
  other.Stop();
  channel_ = *Channel::Create("127.0.0.1:" + std::to_string(port));
  Recorder recorder;
  StreamId id = kInvalidStreamId;
  EXPECT_EQ(CodeOfOpening(&recorder, &id), ECONNREFUSED);
  EXPECT_EQ(recorder.AwaitClosed(), ECONNREFUSED);
}

TEST_F(StreamTest, ACallThatIsNotAnsweredTimesOutWithItsStream) {
  absl::Mutex mutex;
  std::vector<Done> held;
  Serve([&](Controller&, const Bytes&, Bytes*, Done done) {
    absl::MutexLock lock(&mutex);
    held.push_back(std::move(done));
  });
  Recorder recorder;
  StreamId id = kInvalidStreamId;
  EXPECT_EQ(CodeOfOpening(&recorder, &id, {}, 50), 1008);
  EXPECT_EQ(recorder.AwaitClosed(), 1008);
  absl::MutexLock lock(&mutex);
  for (Done& done : held) done();
}

TEST_F(StreamTest, TheWindowCountsWhatTheReaderHasConsumed) {
  // The server's reader holds on to its messages until it is told.
  class Slow : public Recorder {
   public:
    int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
      go.WaitForNotification();
      return Recorder::on_received_messages(id, messages, size);
    }
    absl::Notification go;
  } slow;
  ServeStreams(&slow);
  Recorder recorder;
  const StreamId id = Open(&recorder, {.max_buf_size = 10});
  EXPECT_EQ(StreamWrite(id, Bytes::Copy("sixsix")), 0);
  EXPECT_EQ(StreamWrite(id, Bytes::Copy(std::string(100, 'h'))), 0) << "the last one may overshoot";
  EXPECT_EQ(StreamWrite(id, Bytes::Copy("x")), EAGAIN);
  timespec past{};
  EXPECT_EQ(StreamWait(id, &past), ETIMEDOUT);
  slow.go.Notify();
  EXPECT_EQ(StreamWait(id, nullptr), 0);
  EXPECT_EQ(StreamWrite(id, Bytes::Copy("x")), 0);
  EXPECT_EQ(slow.AwaitMessages(3).size(), 3u);
  StreamClose(id);
  recorder.AwaitClosed();
  slow.AwaitClosed();
}

TEST_F(StreamTest, AWaiterIsWokenByTheEnd) {
  class Stuck : public Recorder {
   public:
    int on_received_messages(StreamId, Bytes* const[], size_t) override {
      go.WaitForNotification();
      return 0;
    }
    absl::Notification go;
  } stuck;
  ServeStreams(&stuck);
  Recorder recorder;
  const StreamId id = Open(&recorder, {.max_buf_size = 1});
  ASSERT_EQ(StreamWrite(id, Bytes::Copy("full")), 0);
  std::promise<int> told;
  const auto tell = [](StreamId, void* arg, int code) {
    static_cast<std::promise<int>*>(arg)->set_value(code);
  };
  StreamWait(id, nullptr, tell, &told);
  auto waits = std::async(std::launch::async, [id] { return StreamWait(id, nullptr); });
  StreamClose(id);
  const int code = waits.get();
  EXPECT_TRUE(code == ECONNRESET || code == EINVAL) << code;
  EXPECT_EQ(told.get_future().get(), ECONNRESET);
  stuck.go.Notify();
  recorder.AwaitClosed();
  stuck.AwaitClosed();
}

TEST_F(StreamTest, AStreamWithoutAReaderCannotBeWrittenTo) {
  Recorder server_side;
  absl::Notification checked;
  Serve([&](Controller& controller, const Bytes&, Bytes*, Done done) {
    StreamId id;
    StreamOptions options;
    options.handler = &server_side;
    EXPECT_EQ(StreamAccept(&id, controller, &options), 0);
    done();
    EXPECT_EQ(StreamWrite(id, Bytes::Copy("nobody reads")), EBADF);
    checked.Notify();
  });
  Controller controller;
  StreamId id;
  ASSERT_EQ(StreamCreate(&id, controller, nullptr), 0);
  Bytes response;
  channel_->Call(kService, kMethod, controller, Bytes(), &response);
  ASSERT_FALSE(controller.Failed());
  checked.WaitForNotification();
  StreamClose(id);
  EXPECT_EQ(server_side.AwaitClosed(), 0);
}

TEST_F(StreamTest, IdleStreamsSaySo) {
  Echoer echoer;
  ServeStreams(&echoer);
  Recorder recorder;
  const StreamId id = Open(&recorder, {.idle_timeout_ms = 5});
  recorder.AwaitIdle(3);
  StreamClose(id);
  EXPECT_EQ(recorder.AwaitClosed(), 0);
  echoer.AwaitClosed(1);
}

TEST_F(StreamTest, TheEndOfAServerFailsItsStreams) {
  Echoer echoer;
  ServeStreams(&echoer);
  Recorder recorder;
  const StreamId id = Open(&recorder);
  ASSERT_EQ(StreamWrite(id, Bytes::Copy("x")), 0);
  recorder.AwaitMessages(1);
  server_->Stop();
  echoer.AwaitClosed(1);
  const int code = recorder.AwaitClosed();
  EXPECT_TRUE(code == 1014 || code == ECONNRESET) << code;
}

TEST_F(StreamTest, AHandlerThatBlocksHoldsUpNoOtherStream) {
  class Blocking : public Recorder {
   public:
    int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
      if (*messages[0] == "block") go.WaitForNotification();
      return Recorder::on_received_messages(id, messages, size);
    }
    absl::Notification go;
  } blocking;
  ServeStreams(&blocking, {.messages_in_batch = 1});
  Recorder one;
  Recorder two;
  const StreamId blocked = Open(&one);
  const StreamId other = Open(&two);
  ASSERT_EQ(StreamWrite(blocked, Bytes::Copy("block")), 0);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(StreamWrite(other, Bytes::Copy("through")), 0);
  EXPECT_EQ(blocking.AwaitMessages(10).size(), 10u);
  blocking.go.Notify();
  EXPECT_EQ(blocking.AwaitMessages(11).size(), 11u);
  StreamClose(blocked);
  StreamClose(other);
  one.AwaitClosed();
  two.AwaitClosed();
  blocking.AwaitClosed(2);
}

TEST_F(StreamTest, ABlockingCallInsideAHandlerIsAnswered) {
  Serve(
      [&](Controller& controller, const Bytes& request, Bytes* response, Done done) {
        if (request == "outer") {
          Controller inner;
          channel_->Call(kService, kMethod, inner, Bytes::Copy("inner"), response);
          EXPECT_FALSE(inner.Failed()) << inner.ErrorText();
        } else {
          *response = Bytes::Copy("answer");
        }
        (void)controller;
        done();
      },
      {.loops = 1});
  Controller controller;
  Bytes response;
  channel_->Call(kService, kMethod, controller, Bytes::Copy("outer"), &response);
  EXPECT_FALSE(controller.Failed()) << controller.ErrorText();
  EXPECT_EQ(response, "answer");
}

StreamTask EchoBack(Stream stream) {
  while (std::optional<Bytes> message = co_await stream.Read()) {
    if (co_await stream.Write(*std::move(message)) != 0) break;
  }
}

StreamTask Talk(Channel* channel, int messages, std::promise<int>* result) {
  Controller controller;
  Stream stream = Stream::Create(controller, {.max_buf_size = 100});
  Bytes response;
  co_await AsyncCall(channel, kService, kMethod, controller, Bytes::Copy("hello"), &response);
  if (controller.Failed()) {
    result->set_value(-1);
    co_return;
  }
  int same = 0;
  for (int i = 0; i < messages; ++i) {
    const std::string text = "message " + std::to_string(i);
    if (co_await stream.Write(Bytes::Copy(text)) != 0) break;
    const std::optional<Bytes> back = co_await stream.Read();
    if (!back || *back != text) break;
    ++same;
  }
  stream.Close();
  (void)co_await stream.Closed();
  result->set_value(same);
}

TEST_F(StreamTest, CoroutinesTalk) {
  Serve([](Controller& controller, const Bytes&, Bytes*, Done done) {
    EchoBack(Stream::Accept(controller));
    done();
  });
  std::promise<int> result;
  Talk(channel_.get(), 1000, &result);
  EXPECT_EQ(result.get_future().get(), 1000);
}

}  // namespace
}  // namespace sluice
