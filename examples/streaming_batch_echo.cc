// sluice/stream.h: three streams with one call; what is written to them comes back. On the wire and by name
// the example of brpc that is called so: either side talks to either side of that one.
#include <errno.h>
#include <string.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "echo_message.h"
#include "sluice/stream.h"

namespace sluice::examples {
namespace {

constexpr int kStreams = 3;
constexpr const char* kTexts[kStreams] = {"abcdefghijklmnopqrstuvwxyz", "0123456789", "hello world"};

// The server's: writes the first message of each delivery back, as the original does.
// Goes with its last stream.
class Echo : public StreamInputHandler {
 public:
  std::atomic<size_t> left{0};

  int on_received_messages(StreamId id, Bytes* const messages[], size_t) override {
    (void)StreamWrite(id, *messages[0]);
    return 0;
  }
  void on_closed(StreamId) override {
    if (left.fetch_sub(1) == 1) delete this;
  }
};

void Serve(RpcServer& server) {
  server.AddMethod<EchoMessage, EchoMessage>(
      kService, kMethod, [](Controller& controller, const EchoMessage&, EchoMessage* response, Done done) {
        auto echo = std::make_unique<Echo>();
        StreamOptions options;
        options.handler = echo.get();
        StreamIds ids;
        if (StreamAccept(ids, controller, &options) == 0) {
          echo.release()->left = ids.size();  // no stream is told anything before `done`
          response->set_message(kAccepted);
        } else {
          controller.SetFailed(EINVAL, "the call brings no streams");
        }
        done();
      });
}

// The client's: prints and counts what returns.
class Returned : public StreamInputHandler {
 public:
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    for (size_t i = 0; i < size; ++i) {
      printf("stream %llu: %s\n", (unsigned long long)id, messages[i]->ToString().c_str());
    }
    Count(size, 0);
    return 0;
  }
  void on_closed(StreamId) override { Count(0, 1); }
  void Await(size_t messages, int closed) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ >= kStreams || (messages_ >= messages && closed_ >= closed); });
  }

 private:
  void Count(size_t messages, int closed) {
    std::lock_guard lock(mutex_);
    messages_ += messages;
    closed_ += closed;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t messages_ = 0;
  int closed_ = 0;
};

int Talk(const std::string& address, int rounds, int pause_ms) {
  Returned returned;  // outlives the streams
  auto channel = Channel::Create(address, {.timeout_ms = 100});
  if (!channel.ok()) return fprintf(stderr, "%s\n", channel.status().ToString().c_str()), 2;
  Controller controller;
  StreamOptions options;
  options.handler = &returned;
  StreamIds ids;
  if (StreamCreate(ids, kStreams, controller, &options) != 0) return 1;
  EchoMessage request;
  EchoMessage response;
  request.set_message(kOpening);
  (*channel)->Call(kService, kMethod, controller, request, &response);
  int result = 0;
  if (controller.Failed()) {
    fprintf(stderr, "no streams: %s\n", controller.ErrorText().c_str());
    result = 1;
  } else {
    printf("%s\n", response.message().c_str());
  }
  for (int round = 0; result == 0 && round != rounds; ++round) {
    for (size_t i = 0; i < kStreams && result == 0; ++i) {
      result = StreamWrite(ids[i], Bytes::Copy(kTexts[i]));
      if (result != 0) fprintf(stderr, "writing: %s\n", strerror(result));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    if (result == 0) returned.Await(kStreams * static_cast<size_t>(round + 1), 0);
  }
  for (const StreamId id : ids) StreamClose(id);
  returned.Await(0, kStreams);
  return result == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sluice::examples

int main(int argc, char** argv) {
  return sluice::examples::Main(argc, argv, sluice::examples::Serve, sluice::examples::Talk);
}
