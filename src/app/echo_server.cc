#include "app/echo_server.h"

#include <errno.h>
#include <fmt/format.h>

#include <atomic>

#include "absl/container/flat_hash_map.h"
#include "app/bench_report.h"
#include "app/echo_message.h"
#include "app/units.h"
#include "sluice/stream.h"

namespace sluice::app {
namespace {

constexpr std::string_view kSink = "sink:";
// What is measured shall be limited by the client's window, not by what this server can hold.
constexpr uint64_t kBudgetBytes = 512 << 20;
constexpr int64_t kWindowBytes = 64 << 20;

// Writes although there is no room for the moment; an ended stream takes nothing more.
void WriteAnyway(StreamId id, const Bytes& message) {
  while (StreamWrite(id, message) == EAGAIN) {
    if (StreamWait(id, nullptr) != 0) return;
  }
}

// Writes every message back. One for all streams: it keeps nothing.
class Echoer final : public StreamInputHandler {
 public:
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    for (size_t i = 0; i < size; ++i) WriteAnyway(id, *messages[i]);
    return 0;
  }
  void on_closed(StreamId) override {}
};

// Counts what the streams of one call bring. Ends itself with the last of them.
class Sink final : public StreamInputHandler {
 public:
  explicit Sink(uint64_t expected) : expected_(expected) {}

  // Between StreamAccept and the call's end, when no message can have come.
  void Start(const StreamIds& ids) {
    for (const StreamId id : ids) counts_[id] = 0;
    if (expected_ == 0) {
      for (const StreamId id : ids) WriteAnyway(id, Bytes::Copy("D"));
    }
    users_ += ids.size();
    Release(kCall);
  }
  int on_received_messages(StreamId id, Bytes* const messages[], size_t size) override {
    uint64_t& count = counts_.find(id)->second;
    const bool told = count >= expected_;
    for (size_t i = 0; i < size; ++i) count += messages[i]->size();
    if (!told && count >= expected_) WriteAnyway(id, Bytes::Copy("D"));
    return 0;
  }
  void on_closed(StreamId) override { Release(1); }

 private:
  // The call holds the sink with more than all its streams may give back before it has counted them.
  static constexpr size_t kCall = size_t{1} << 32;
  void Release(size_t users) {
    if (users_.fetch_sub(users) == users) delete this;
  }

  const uint64_t expected_;
  absl::flat_hash_map<StreamId, uint64_t> counts_;  // keys fixed by Start; each value is its stream's own
  std::atomic<size_t> users_{kCall};
};

StreamOptions OptionsWith(StreamInputHandler* handler) {
  StreamOptions options;
  options.max_buf_size = kWindowBytes;
  options.handler = handler;
  return options;
}

void AcceptSink(Controller& controller, std::string_view count) {
  const absl::StatusOr<uint64_t> expected = ParseCount(count);
  if (!expected.ok()) return controller.SetFailed(EINVAL, fmt::format("sink:{}: write sink:<bytes>", count));
  auto sink = std::make_unique<Sink>(*expected);
  const StreamOptions options = OptionsWith(sink.get());
  StreamIds ids;
  if (StreamAccept(ids, controller, &options) != 0) return controller.SetFailed(EINVAL, "no stream came");
  sink.release()->Start(ids);
}

void AcceptEcho(Controller& controller) {
  static Echoer echoer;
  const StreamOptions options = OptionsWith(&echoer);
  StreamIds ids;
  if (StreamAccept(ids, controller, &options) != 0) controller.SetFailed(EINVAL, "no stream came");
}

void Echo(Controller& controller, const Bytes& request, Bytes* response) {
  std::optional<std::string> text = UnpackEcho(request);
  if (!text) return controller.SetFailed(1003, "the request is no example.EchoRequest");
  if (controller.has_remote_stream()) {
    if (text->starts_with(kSink)) {
      AcceptSink(controller, std::string_view(*text).substr(kSink.size()));
    } else if (*text == "echo") {
      AcceptEcho(controller);
    } else {
      return controller.SetFailed(EINVAL, "a stream needs the text sink:<bytes> or echo");
    }
  } else if (*text == "stat") {
    text = fmt::format("{:.6f} {}", OwnCpuSeconds(), ResidentBytesOf(0));
  }
  *response = PackEcho(*text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<EchoServer>> EchoServer::Start(const std::string& address) {
  RpcServerOptions options;
  options.received_bytes_max = kBudgetBytes;
  options.unsent_bytes_max = kBudgetBytes;
  options.message_bytes_max = kBudgetBytes;
  std::unique_ptr<EchoServer> server(new EchoServer(options));
  server->server_.AddMethod(kEchoService, kEchoMethod,
                            [](Controller& controller, const Bytes& request, Bytes* response, Done done) {
                              Echo(controller, request, response);
                              done();
                            });
  RETURN_IF_ERROR(server->server_.Start(address));
  return server;
}

}  // namespace sluice::app
