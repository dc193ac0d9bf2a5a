// sluice/stream.h: a client that writes to a stream, a server that reads it. On the wire and by name the
// example of brpc that is called so: either side talks to either side of that one.
#include "sluice/stream.h"

#include <errno.h>
#include <string.h>

#include <memory>

#include "echo_message.h"

namespace sluice::examples {
namespace {

// Prints what comes. Lives as long as its stream.
class Printer : public StreamInputHandler {
 public:
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    for (size_t i = 0; i < size; ++i) {
      printf("stream %llu: %s\n", (unsigned long long)id, messages[i]->ToString().c_str());
    }
    return 0;
  }
  void on_idle_timeout(StreamId id) override { printf("stream %llu is idle\n", (unsigned long long)id); }
  void on_closed(StreamId id) override {
    printf("stream %llu is closed\n", (unsigned long long)id);
    delete this;
  }
};

void Serve(RpcServer& server) {
  server.AddMethod<EchoMessage, EchoMessage>(
      kService, kMethod, [](Controller& controller, const EchoMessage&, EchoMessage* response, Done done) {
        auto printer = std::make_unique<Printer>();
        StreamOptions options;
        options.handler = printer.get();
        StreamId id;
        if (StreamAccept(&id, controller, &options) == 0) {
          (void)printer.release();  // until on_closed
          response->set_message(kAccepted);
        } else {
          controller.SetFailed(EINVAL, "the call brings no stream");
        }
        done();
      });
}

int Talk(const std::string& address, int rounds, int pause_ms) {
  auto channel = Channel::Create(address, {.timeout_ms = 100});
  if (!channel.ok()) return fprintf(stderr, "%s\n", channel.status().ToString().c_str()), 2;
  Controller controller;
  StreamId id;
  if (StreamCreate(&id, controller, nullptr) != 0) return 1;  // no handler: nobody may write to us
  EchoMessage request;
  EchoMessage response;
  request.set_message(kOpening);
  (*channel)->Call(kService, kMethod, controller, request, &response);
  if (controller.Failed()) return fprintf(stderr, "no stream: %s\n", controller.ErrorText().c_str()), 1;
  printf("%s\n", response.message().c_str());
  for (int round = 0; round != rounds; ++round) {
    for (const char* text : {"abcdefghijklmnopqrstuvwxyz", "0123456789"}) {
      if (const int error = StreamWrite(id, Bytes::Copy(text)); error != 0) {
        return fprintf(stderr, "writing: %s\n", strerror(error)), 1;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
  }
  StreamClose(id);
  return 0;
}

}  // namespace
}  // namespace sluice::examples

int main(int argc, char** argv) {
  return sluice::examples::Main(argc, argv, sluice::examples::Serve, sluice::examples::Talk);
}
