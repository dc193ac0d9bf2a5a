#include "edge/bytestream/service.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "base/metrics.h"
#include "edge/bytestream/buffers.h"
#include "edge/bytestream/read_call.h"
#include "edge/bytestream/target.h"
#include "edge/bytestream/write_call.h"
#include "edge/handshake.h"
#include "edge/status.h"
#include "sluice/bytestream/bytestream.grpc.pb.h"
#include "wire/bytestream.h"

namespace sluice::edge::bytestream {
namespace {

namespace pb = ::sluice::bytestream;
constexpr size_t kRequestBytesMax = 16 << 10;  // of the messages that carry no payload

// Raw methods: payload is parsed where it lies, and a name that is no UTF-8 gets the right code.
using Base = pb::ByteStream::WithRawCallbackMethod_Read<pb::ByteStream::WithRawCallbackMethod_Write<
    pb::ByteStream::WithRawCallbackMethod_QueryWriteStatus<pb::ByteStream::Service>>>;

template <typename Message>
absl::StatusOr<Message> Parse(const grpc::ByteBuffer& buffer) {
  Message message;
  if (buffer.Length() > kRequestBytesMax || !message.ParseFromString(ToBytes(buffer).ToString()))
    return absl::InvalidArgumentError("the request is malformed, too large, or its name is no UTF-8");
  return message;
}

// How many calls are under way.
class Calls : public std::enable_shared_from_this<Calls> {
 public:
  explicit Calls(uint32_t most) : most_(most) {}
  // A place that is free again when its last copy is dropped.
  absl::StatusOr<CallPlace> Enter() {
    if (under_way_.fetch_add(1) >= most_) {
      --under_way_;
      refused_.Increment();
      return absl::ResourceExhaustedError(fmt::format("{} ByteStream calls are under way, the limit", most_));
    }
    gauge_.Increment();
    return CallPlace(nullptr, [self = shared_from_this()](void*) {
      --self->under_way_;
      self->gauge_.Decrement();
    });
  }

 private:
  const uint32_t most_;
  std::atomic<uint32_t> under_way_{0};
  Gauge& gauge_ = NewGauge("sluice_bytestream_calls", "ByteStream calls under way");
  Counter& refused_ =
      NewCounter("sluice_bytestream_calls_refused_total", "ByteStream calls beyond the limit of calls");
};

absl::Status CheckRead(const pb::ReadRequest& request) {
  if (request.read_limit() < 0)
    return absl::InvalidArgumentError(fmt::format("read_limit {}", request.read_limit()));
  if (request.read_offset() < 0)
    return absl::OutOfRangeError(fmt::format("read_offset {}", request.read_offset()));
  return absl::OkStatus();
}

}  // namespace

class ByteStreamPart::Service final : public Base {
 public:
  Service(node::Host* host, std::vector<env::Loop*> lanes, ByteStreamOptions options)
      : host_(host), lanes_(std::move(lanes)), calls_(std::make_shared<Calls>(options.calls_max)) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Read(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* raw) override {
    const auto request = Parse<pb::ReadRequest>(*raw);
    const bool parsed = request.ok();
    absl::StatusOr<CallPlace> place = calls_->Enter();
    absl::Status status = !place.ok() ? place.status() : request.status();
    auto call = std::make_shared<ReadCall>(
        context, NextLane(), std::chrono::milliseconds(host_->options().upload_idle_ttl_ms),
        parsed ? request->read_offset() : 0, parsed ? request->read_limit() : 0);
    call->Hold(std::move(place).value_or(nullptr));
    if (status.ok()) status = OpenSource(*context, *request, call);
    if (!status.ok()) call->OnSource(status);
    return call.get();
  }

  grpc::ServerReadReactor<grpc::ByteBuffer>* Write(grpc::CallbackServerContext* context,
                                                   grpc::ByteBuffer* response) override {
    auto call = std::make_shared<WriteCall>(host_, NextLane(), context, response);
    call->Begin(calls_->Enter());
    return call.get();
  }

  grpc::ServerUnaryReactor* QueryWriteStatus(grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer* raw,
                                             grpc::ByteBuffer* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const auto request = Parse<pb::QueryWriteStatusRequest>(*raw);
    const auto group = GroupOf(*context);
    const absl::StatusOr<CallPlace> place = calls_->Enter();
    absl::Status status = place.status();
    if (status.ok()) status = CheckClient(*context, *host_);
    if (status.ok()) status = !request.ok() ? request.status() : group.status();
    if (status.ok()) status = CheckResource(request->resource_name());
    if (!status.ok()) {
      reactor->Finish(ToGrpc(status));
      return reactor;
    }
    host_->QueryWrite(*group, WriteOf(request->resource_name(), *context), true, NextLane(),
                      [reactor, response, place](absl::StatusOr<node::WriteStatus> known) {
                        if (known.ok()) {
                          pb::QueryWriteStatusResponse message;
                          message.set_committed_size(static_cast<int64_t>(known->committed));
                          message.set_complete(known->complete);
                          *response = ToBuffer(Bytes::Take(message.SerializeAsString()));
                        }
                        reactor->Finish(ToGrpc(known.status()));
                      });
    return reactor;
  }

 private:
  env::Loop* NextLane() { return lanes_[next_lane_++ % lanes_.size()]; }

  absl::Status OpenSource(grpc::CallbackServerContext& context, const pb::ReadRequest& request,
                          const std::shared_ptr<ReadCall>& call) {
    RETURN_IF_ERROR(CheckRead(request));
    ASSIGN_OR_RETURN(const auto fetch, FetchTargetOf(context));
    if (fetch) return OpenFetch(SaidIn(context), *fetch, *host_, call);
    RETURN_IF_ERROR(CheckClient(context, *host_));
    ASSIGN_OR_RETURN(const GroupId group, GroupOf(context));
    ASSIGN_OR_RETURN(const auto content, ContentOf(context));
    RETURN_IF_ERROR(CheckResource(request.resource_name()));
    host_->OpenRead(group, request.resource_name(), content, call->lane(),
                    [call](absl::StatusOr<node::Reading> reading) {
                      if (!reading.ok()) return call->OnSource(reading.status());
                      call->Tell(wire::kContentKey, reading->info.content.ToHex());
                      call->OnSource(std::move(reading->source));
                    });
    return absl::OkStatus();
  }

  node::Host* const host_;
  const std::vector<env::Loop*> lanes_;
  std::atomic<size_t> next_lane_{0};
  const std::shared_ptr<Calls> calls_;  // shared with places that outlive the service
};

ByteStreamPart::ByteStreamPart(node::Host* host, std::vector<env::Loop*> lanes, ByteStreamOptions options)
    : service_(std::make_unique<Service>(host, std::move(lanes), options)) {}
ByteStreamPart::~ByteStreamPart() = default;

std::vector<grpc::Service*> ByteStreamPart::services() { return {service_.get()}; }

}  // namespace sluice::edge::bytestream
