#include "edge/grpc_wire.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/status.h"
#include "edge/write_queue.h"

namespace sluice::edge {
namespace {

absl::Status TooMany() { return absl::UnavailableError("too many calls to other servers, or stopping"); }

using Stub = grpc::TemplatedGenericStub<ProtoMessage, ProtoMessage>;

// One stream; lives until OnDone, held by itself.
class GrpcStream final : public grpc::ClientBidiReactor<ProtoMessage, ProtoMessage>,
                         public OutgoingStream,
                         public std::enable_shared_from_this<GrpcStream> {
 public:
  GrpcStream(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<grpc::ClientContext> context,
             InFlight* in_flight, uint64_t bytes_max, std::unique_ptr<ProtoMessage> memory,
             absl::AnyInvocable<void(const ProtoMessage&)> on_reply, PeerWire::EndedFn on_end)
      : stub_(std::move(channel)),
        context_(std::move(context)),
        in_flight_(in_flight),
        reply_(std::move(memory)),
        on_reply_(std::move(on_reply)),
        on_end_(std::move(on_end)),
        queue_(bytes_max, [this](const Request* request, grpc::WriteOptions options) {
          StartWrite(request->message.get(), options);
        }) {}

  void Begin(const char* path) {
    self_ = shared_from_this();
    stub_.PrepareBidiStreamingCall(context_.get(), path, grpc::StubOptions(), this);
    AddHold();  // writes come from outside gRPC's callbacks; released when the queue has ended
    StartRead(reply_.get());
    StartCall();  // nothing of this is touched after it: OnDone may have come
  }

  bool Push(std::unique_ptr<ProtoMessage> request) override { return queue_.Push({std::move(request)}); }
  void PushedAll() override {
    queue_.End([this] {
      if (!broken_) StartWritesDone();
      RemoveHold();
    });
  }
  void Cancel() override { context_->TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      broken_ = true;
      return queue_.Cut([this] { RemoveHold(); });
    }
    on_reply_(*reply_);
    StartRead(reply_.get());
  }
  void OnWriteDone(bool ok) override {
    if (!ok) broken_ = true;
    queue_.OnWriteDone(ok);
  }
  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<GrpcStream> last = std::move(self_);  // others may still hold it, to push in vain
    on_end_(FromGrpc(status));
    on_reply_ = nullptr;
    on_end_ = nullptr;
    in_flight_->End(context_.get());
  }

 private:
  struct Request {
    std::unique_ptr<ProtoMessage> message;
    size_t ByteSizeLong() const { return message->ByteSizeLong(); }
  };

  Stub stub_;
  const std::shared_ptr<grpc::ClientContext> context_;  // shared with the table that cancels
  InFlight* const in_flight_;
  const std::unique_ptr<ProtoMessage> reply_;
  absl::AnyInvocable<void(const ProtoMessage&)> on_reply_;
  PeerWire::EndedFn on_end_;
  WriteQueue<Request> queue_;
  std::atomic<bool> broken_{false};
  std::shared_ptr<GrpcStream> self_;
};

// One read; deletes itself when gRPC is done with it.
class GrpcRead final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  GrpcRead(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<grpc::ClientContext> context,
           InFlight* in_flight, absl::AnyInvocable<absl::Status(const Bytes&)> on_message,
           PeerWire::EndedFn on_end)
      : stub_(std::move(channel)),
        context_(std::move(context)),
        in_flight_(in_flight),
        on_message_(std::move(on_message)),
        on_end_(std::move(on_end)) {}

  void Start(const char* path, const Bytes& request) {
    request_ = bytestream::ToBuffer(request);
    stub_.PrepareBidiStreamingCall(context_.get(), path, grpc::StubOptions(), this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    failure_ = on_message_(bytestream::ToBytes(message_));
    message_.Clear();
    if (!failure_.ok()) return context_->TryCancel();
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    on_end_(failure_.ok() ? FromGrpc(status) : failure_);
    InFlight* const in_flight = in_flight_;
    const std::shared_ptr<grpc::ClientContext> context = context_;
    delete this;
    in_flight->End(context.get());
  }

 private:
  grpc::GenericStub stub_;
  const std::shared_ptr<grpc::ClientContext> context_;  // shared with the table that cancels
  InFlight* const in_flight_;
  absl::AnyInvocable<absl::Status(const Bytes&)> on_message_;
  PeerWire::EndedFn on_end_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer message_;
  absl::Status failure_;
};

}  // namespace

void GrpcWire::Read(const WireTo& to, Reading reading,
                    absl::AnyInvocable<absl::Status(const Bytes& message)> on_message, EndedFn on_end) {
  auto context = in_flight_.Begin(to.id);
  if (context == nullptr) return on_end(TooMany());
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(reading.deadline_ms));
  context->AddMetadata(reading.metadata.first, reading.metadata.second);
  auto* call = new GrpcRead(ChannelTo(to), std::move(context), &in_flight_, std::move(on_message),
                            std::move(on_end));  // deletes itself, as reactors do
  call->Start(reading.path, reading.request);
}

std::shared_ptr<grpc::Channel> GrpcWire::ChannelTo(const WireTo& to) {
  return links_->Get(to.address, to.heartbeats ? PeerLinks::kHeartbeats : PeerLinks::kRequests);
}

void GrpcWire::StartCall(const WireTo& to, const char* path, int deadline_ms, const ProtoMessage& request,
                         ProtoMessage* reply, EndedFn done) {
  auto context = in_flight_.Begin(to.id);
  if (context == nullptr) return done(TooMany());
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(deadline_ms));
  // gRPC keeps the stub's channel as long as the call; it wants a callback that can be copied.
  auto answer = std::make_shared<EndedFn>(std::move(done));
  Stub(ChannelTo(to))
      .UnaryCall(context.get(), path, grpc::StubOptions(), &request, reply,
                 [this, context, answer](const grpc::Status& status) {
                   (*answer)(FromGrpc(status));
                   in_flight_.End(context.get());
                 });
}

std::shared_ptr<OutgoingStream> GrpcWire::StartStream(const WireTo& to, const char* path, uint64_t bytes_max,
                                                      Replies replies) {
  auto context = in_flight_.Begin(to.id);
  if (context == nullptr) return nullptr;
  auto stream = std::make_shared<GrpcStream>(ChannelTo(to), std::move(context), &in_flight_, bytes_max,
                                             std::move(replies.memory), std::move(replies.on_reply),
                                             std::move(replies.on_end));
  stream->Begin(path);
  return stream;
}

}  // namespace sluice::edge
