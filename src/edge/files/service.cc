#include "edge/files/service.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/log.h"
#include "base/metrics.h"
#include "edge/files/errors.h"
#include "edge/files/get_call.h"
#include "edge/files/put_call.h"

namespace sluice::edge::files {
namespace {

RpcServerOptions RpcOptionsOf(const StreamLimits& limits) {
  RpcServerOptions options;
  options.loops = limits.loops;
  options.threads_max = std::max<uint32_t>(limits.threads_max, 1);
  options.connections_max = limits.connections_max;
  options.half_open_max = limits.half_open_max;
  options.streams_per_connection_max = limits.streams_per_connection_max;
  options.message_bytes_max = limits.message_bytes_max;
  options.received_bytes_max = limits.received_bytes_max;
  options.unsent_bytes_max = limits.unsent_bytes_max;
  options.stall_timeout_ms = limits.stall_timeout_ms;
  return options;
}

}  // namespace

// How many are under way.
class FilesPart::Calls : public std::enable_shared_from_this<FilesPart::Calls> {
 public:
  explicit Calls(uint32_t most) : most_(most) {}
  // A place that is free again when its last copy is dropped; null beyond the limit.
  CallPlace Enter() {
    if (under_way_.fetch_add(1) >= most_) {
      --under_way_;
      refused_.Increment();
      return nullptr;
    }
    gauge_.Increment();
    return CallPlace(this, [self = shared_from_this()](void*) {
      --self->under_way_;
      self->gauge_.Decrement();
    });
  }

 private:
  const uint32_t most_;
  std::atomic<uint32_t> under_way_{0};
  Gauge& gauge_ = NewGauge("sluice_files_calls", "Puts and Gets over Streaming RPC under way");
  Counter& refused_ =
      NewCounter("sluice_files_calls_refused_total", "Puts and Gets over Streaming RPC beyond the limit");
};

template <typename Request, typename Response, typename MakeCall>
void FilesPart::AddCall(const std::string& method, MakeCall make) {
  server_.AddMethod<Request, Response>(
      "sluice.FileService", method,
      [this, make](Controller& controller, const Request& request, Response*, const Done& done) {
        if (CallPlace place = calls_->Enter()) {
          if (!make(controller, request, std::move(place)))
            controller.SetFailed(kNoStreamCame,
                                 fmt::format("open one stream with this call; a connection has {} at most",
                                             options_.limits.streams_per_connection_max));
        } else {
          controller.SetFailed(kTooManyCalls, fmt::format("{} Puts and Gets are under way, the limit",
                                                          options_.limits.files_max));
        }
        done();
      });
}

FilesPart::FilesPart(node::Host* host, std::vector<env::Loop*> lanes, FilesOptions options)
    : host_(host),
      lanes_(std::move(lanes)),
      options_(std::move(options)),
      calls_(std::make_shared<Calls>(options_.limits.files_max)),
      server_(RpcOptionsOf(options_.limits)) {
  AddCall<FilePutRequest, FilePutResponse>(
      "Put", [this](Controller& controller, const FilePutRequest& request, CallPlace place) {
        return std::make_shared<PutCall>(host_, GroupNamed(request.group()), NextLane(), std::move(place))
            ->Accept(controller);
      });
  AddCall<FileGetRequest, FileGetResponse>(
      "Get", [this](Controller& controller, const FileGetRequest& request, CallPlace place) {
        const auto call = std::make_shared<GetCall>(host_, NextLane(), request, std::move(place));
        if (!call->Accept(controller)) return false;
        call->Begin();
        return true;
      });
  const std::string where =
      options_.http_listen.empty() ? "" : fmt::format("; HTTP is at http://{}/metrics", options_.http_listen);
  server_.SetHttpHint(fmt::format("this port speaks Streaming RPC (baidu_std){}\n", where));
}

FilesPart::~FilesPart() = default;

absl::Status FilesPart::Start() {
  RETURN_IF_ERROR(server_.Start(options_.listen));
  LogInfo("server {} listens for Streaming RPC on {}", host_->options().self.id.value, options_.listen);
  return absl::OkStatus();
}

}  // namespace sluice::edge::files
