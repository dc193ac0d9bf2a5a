// Streams as a crowd: several servers and channels, many streams, random sizes and windows, readers that
// block, closes from either side, connections and servers that go away in the middle. Whatever happens:
// messages come whole, in order and once, and every stream has one end on each side.
#include <errno.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <random>
#include <thread>

#include "absl/synchronization/notification.h"
#include "edge/brpc/echo_server_for_test.h"

namespace sluice::edge::brpc {
namespace {

using std::chrono::steady_clock;

// Number of the message, then bytes, one at least, that follow from it and the length.
Bytes Made(uint64_t number, size_t more) {
  const size_t size = more + 1;
  std::string text(sizeof(number) + size, static_cast<char>(number * 31 + size));
  std::memcpy(text.data(), &number, sizeof(number));
  return Bytes::Take(std::move(text));
}
uint64_t NumberOf(const std::string& text) {
  uint64_t number = 0;
  std::memcpy(&number, text.data(), std::min(text.size(), sizeof(number)));
  return number;
}

// Reads one direction of one stream; checks each message and who is told what.
class Reader : public StreamInputHandler {
 public:
  explicit Reader(uint32_t seed) : random_(seed) {}
  ~Reader() override { EXPECT_TRUE(closed_); }

  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    Inside inside(this);
    for (size_t i = 0; i < size; ++i) {
      const std::string text = messages[i]->ToString();
      EXPECT_EQ(NumberOf(text), next_) << "in order, each once";
      EXPECT_EQ(text.find_first_not_of(text.back(), sizeof(uint64_t)), std::string::npos) << "whole";
      EXPECT_EQ(text.back(), static_cast<char>(next_ * 31 + text.size() - sizeof(uint64_t)));
      ++next_;
      // A handler that blocks, so that the loop goes to another thread: nothing waits for this to be over.
      if (random_() % 400 == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(3));  // tidy-allow: it blocks
      if (closes_at_ != 0 && next_ == closes_at_) StreamClose(id);
      if (echoes_) (void)WriteAll(id, *messages[i]);
    }
    return 0;
  }
  void on_failed(StreamId, int code, const std::string&) override {
    Inside inside(this);
    EXPECT_NE(code, 0);
    EXPECT_FALSE(std::exchange(failed_, true));
  }
  void on_closed(StreamId) override {
    Inside inside(this);
    EXPECT_FALSE(closed_.exchange(true));
    if (ends_ == nullptr) return;
    ends_->fetch_add(1);
    ends_->notify_all();
  }

  bool echoes_ = false;
  uint64_t closes_at_ = 0;
  std::atomic<int>* ends_ = nullptr;
  std::atomic<bool> closed_{false};

 private:
  struct Inside {
    explicit Inside(Reader* reader) : reader_(reader) {
      EXPECT_FALSE(reader->closed_) << "a callback after the end";
      EXPECT_FALSE(reader->inside_.exchange(true)) << "two callbacks at once";
    }
    ~Inside() { reader_->inside_ = false; }
    Reader* const reader_;
  };
  std::mt19937 random_;
  uint64_t next_ = 0;
  bool failed_ = false;
  std::atomic<bool> inside_{false};
};

// A server whose streams have readers of their own.
struct StressServer {
  explicit StressServer(uint32_t seed) : random(seed) {
    server.AddMethod("a.B", "C", [this](Controller& controller, const Bytes&, Bytes*, Done done) {
      auto reader = NewReader();
      const uint32_t roll = Roll();
      StreamOptions options = {.max_buf_size = roll % 3 == 0 ? 0 : static_cast<int64_t>(roll % 30'000),
                               .messages_in_batch = 1 + roll % 7,
                               .max_segment_size = 100 + roll % 5000};
      options.handler = reader.get();
      reader->echoes_ = roll % 2 == 0;
      reader->closes_at_ = roll % 5 == 0 ? 1 + roll % 50 : 0;
      StreamIds ids;
      if (roll % 29 != 0 && StreamAccept(ids, controller, &options) == 0) {
        absl::MutexLock lock(&mutex);
        readers.push_back(std::move(reader));
      } else {
        reader->closed_ = true;  // it never was one
      }
      if (roll % 31 == 0) controller.SetFailed(7, "unlucky");
      done();
    });
    EXPECT_TRUE(server.Start("127.0.0.1:0").ok());
  }
  uint32_t Roll() {
    absl::MutexLock lock(&mutex);
    return static_cast<uint32_t>(random());
  }
  std::unique_ptr<Reader> NewReader() { return std::make_unique<Reader>(Roll()); }

  absl::Mutex mutex;
  std::mt19937 random;
  std::vector<std::unique_ptr<Reader>> readers;
  RpcServer server;  // last: stops before the readers go
};

// Opens a stream and writes to it until something ends it.
void Talk(Channel* channel, std::mt19937& random, steady_clock::time_point until, Reader* reader,
          std::atomic<uint64_t>* sent) {
  StreamOptions options = {.max_buf_size = 1 + static_cast<int64_t>(random() % 50'000),
                           .idle_timeout_ms = random() % 4 == 0 ? 1 : -1,
                           .messages_in_batch = 1 + random() % 9,
                           .max_segment_size = 50 + random() % 70'000};
  options.handler = reader;
  Controller controller;
  controller.set_timeout_ms(random() % 20 == 0 ? 1 : 5'000);
  StreamId id;
  ASSERT_EQ(StreamCreate(&id, controller, &options), 0);
  uint64_t number = 0;
  for (uint32_t early = static_cast<uint32_t>(random() % 3); early > 0; --early) {
    if (StreamWrite(id, Made(number, random() % 100)) == 0) ++number;
  }
  Bytes response;
  channel->Call("a.B", "C", controller, {}, &response);
  if (!controller.Failed()) {
    const uint64_t most = 1 + random() % 300;
    while (number < most && steady_clock::now() < until) {
      const size_t size = random() % 10 == 0 ? random() % 200'000 : random() % 500;
      const int result = StreamWrite(id, Made(number, size));
      if (result == 0) {
        ++number;
      } else if (result != EAGAIN) {
        EXPECT_TRUE(result == EINVAL) << result;
        break;
      } else {
        timespec due{};
        clock_gettime(CLOCK_REALTIME, &due);
        due.tv_sec += 1;
        const int waited = StreamWait(id, &due);
        EXPECT_TRUE(waited == 0 || waited == ETIMEDOUT || waited == EINVAL || waited == ECONNRESET) << waited;
        if (waited != 0) break;
      }
    }
    sent->fetch_add(number);
  }
  StreamClose(id);
}

TEST(StreamStress, OrderBoundariesAndOneEndWhateverHappens) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  printf("seed %u\n", seed);
  const auto until = steady_clock::now() + std::chrono::milliseconds(2500);
  std::atomic<uint64_t> sent{0};
  std::atomic<int> ends{0};
  int opened = 0;
  std::vector<std::unique_ptr<Reader>> readers;  // outlive what follows
  std::mt19937 random(seed);
  while (steady_clock::now() < until) {
    StressServer server(static_cast<uint32_t>(random()));
    const std::string address = "127.0.0.1:" + std::to_string(server.server.port());
    std::vector<std::unique_ptr<Channel>> channels;
    for (int i = 0; i < 3; ++i) channels.push_back(*Channel::Create(address, {.connect_timeout_ms = 2'000}));
    const auto round = std::min(until, steady_clock::now() + std::chrono::milliseconds(200 + random() % 400));
    std::vector<std::thread> writers;
    absl::Mutex mutex;
    for (int i = 0; i < 6; ++i) {
      writers.emplace_back([&, own = std::mt19937(static_cast<uint32_t>(random())), i]() mutable {
        while (steady_clock::now() < round) {
          auto reader = std::make_unique<Reader>(static_cast<uint32_t>(own()));
          reader->ends_ = &ends;
          Reader* const raw = reader.get();
          {
            absl::MutexLock lock(&mutex);
            readers.push_back(std::move(reader));
            ++opened;
          }
          Talk(channels[static_cast<size_t>(i) % channels.size()].get(), own, round, raw, &sent);
        }
      });
    }
    const bool server_first = random() % 2 == 0;
    if (server_first) {
      std::this_thread::sleep_until(round - std::chrono::milliseconds(100));  // tidy-allow: load
      server.server.Stop();
    }
    for (std::thread& writer : writers) writer.join();
    // Streams that are still winding down end with their channel.
    channels.clear();
  }
  for (int seen = ends; seen < opened; seen = ends) ends.wait(seen);
  EXPECT_EQ(ends, opened) << "each stream has one end";
  EXPECT_GT(opened, 10);
  EXPECT_GT(sent, 100u);
  printf("%d streams, %lu messages\n", opened, sent.load());
}

// Its handler is still at work when the client has gone and the server is told to stop.
TEST(StreamStress, K18_AStopTellsTheStreamsOfAClientThatHasGone) {
  struct Slow final : StreamInputHandler {
    int on_received_messages(StreamId, Bytes* const[], size_t) override {
      entered.Notify();
      go_on.WaitForNotification();
      return 0;
    }
    void on_idle_timeout(StreamId) override {}
    void on_closed(StreamId) override { closed = true; }
    absl::Notification entered, go_on;
    std::atomic<bool> closed = false;
  } reader;
  RpcServer server;
  server.AddMethod("a.B", "C", [&reader](Controller& controller, const Bytes&, Bytes*, const Done& done) {
    StreamOptions options;
    options.handler = &reader;
    StreamIds ids;
    EXPECT_EQ(StreamAccept(ids, controller, &options), 0);
    done();
  });
  ASSERT_TRUE(server.Start("127.0.0.1:0").ok());
  auto channel = *Channel::Create("127.0.0.1:" + std::to_string(server.port()));
  Controller controller;
  StreamId id;
  ASSERT_EQ(StreamCreate(&id, controller, nullptr), 0);
  Bytes response;
  channel->Call("a.B", "C", controller, {}, &response);
  ASSERT_FALSE(controller.Failed());
  ASSERT_EQ(StreamWrite(id, Bytes::Copy("x")), 0);
  reader.entered.WaitForNotification();
  channel.reset();
  std::promise<void> never;  // time in which the server sees that
  never.get_future().wait_for(std::chrono::milliseconds(200));
  auto stop = std::async(std::launch::async, [&server] { server.Stop(); });
  EXPECT_EQ(stop.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout) << "a handler runs";
  reader.go_on.Notify();
  stop.get();
  EXPECT_TRUE(reader.closed);
}

TEST(StreamStress, ChannelsThatGoInTheMiddleEndTheirStreamsFirst) {
  std::mt19937 random(7);
  EchoServer server;
  server.echo.keeps_messages = false;
  for (int round = 0; round < 20; ++round) {
    Watcher watcher;
    auto channel = *Channel::Create(server.address(), {.timeout_ms = 5'000});
    StreamOptions options = {.max_buf_size = 10'000};
    options.handler = &watcher;
    StreamIds all;
    for (int i = 0; i < 5; ++i) {
      Controller controller;
      StreamIds ids;
      ASSERT_EQ(StreamCreate(ids, 4, controller, &options), 0);
      Bytes response;
      channel->Call("example.EchoService", "Echo", controller, Bytes::Copy(EchoMessage("echo")), &response);
      ASSERT_FALSE(controller.Failed()) << controller.ErrorText();
      all.insert(all.end(), ids.begin(), ids.end());
    }
    std::atomic<bool> over{false};
    std::vector<std::thread> writers;
    for (size_t w = 0; w < 3; ++w) {
      writers.emplace_back([&, w] {
        for (size_t i = w; !over; i = (i + 1) % all.size()) {
          if (StreamWrite(all[i], Made(0, 3000)) == EAGAIN) {
            timespec past{};
            (void)StreamWait(all[i], &past);
          }
        }
      });
    }
    // The channel goes at any moment of what the others do; whichever it is, the rest holds.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));  // tidy-allow: at any moment
    channel.reset();
    EXPECT_EQ(watcher.closed(), all.size()) << "the channel waits for the ends";
    over = true;
    for (std::thread& writer : writers) writer.join();
    for (const StreamId id : all) EXPECT_EQ(StreamWrite(id, Bytes::Copy("late")), EINVAL);
    for (const int code : watcher.Codes()) EXPECT_NE(code, 0);
  }
}

// Callbacks of calls that a channel had when it went are over before it is gone.
TEST(StreamStress, ChannelsThatGoEndTheirCallsFirst) {
  EchoServer server;
  for (int round = 0; round < 50; ++round) {
    auto channel = *Channel::Create(server.address(), {.timeout_ms = round % 3 == 0 ? 1 : 5'000});
    std::atomic<int> done{0};
    std::vector<std::unique_ptr<Controller>> controllers;
    std::vector<Bytes> responses(20);
    for (Bytes& response : responses) {
      controllers.push_back(std::make_unique<Controller>());
      channel->Call("example.EchoService", "Echo", *controllers.back(), Bytes::Copy(EchoMessage("plain")),
                    &response, [&] { ++done; });
    }
    channel.reset();
    EXPECT_EQ(done, 20);
  }
}

}  // namespace
}  // namespace sluice::edge::brpc
