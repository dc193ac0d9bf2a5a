#include "edge/bytestream/fetch.h"

#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/bytestream/target.h"
#include "edge/status.h"
#include "sluice/bytestream/bytestream.pb.h"
#include "wire/bytestream.h"

namespace sluice::edge::bytestream {
namespace {

using Done = node::ByteTransport::Done<Bytes>;

void Post(env::Executor* executor, Done done, absl::StatusOr<Bytes> result) {
  executor->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

// One fetch; deletes itself when gRPC is done with it.
class FetchCall final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  FetchCall(InFlight* in_flight, std::shared_ptr<grpc::ClientContext> context,
            std::shared_ptr<grpc::Channel> channel, uint64_t count, env::Executor* reply_on, Done done)
      : in_flight_(in_flight),
        context_(std::move(context)),
        stub_(std::move(channel)),
        count_(count),
        reply_on_(reply_on),
        done_(std::move(done)) {}

  void Start(const ::sluice::bytestream::ReadRequest& request) {
    request_ = ToBuffer(Bytes::Take(request.SerializeAsString()));
    stub_.PrepareBidiStreamingCall(context_.get(), "/google.bytestream.ByteStream/Read", grpc::StubOptions(),
                                   this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    absl::StatusOr<Bytes> data = wire::ParseReadResponse(ToBytes(message_));
    message_.Clear();
    if (data.ok()) data_.Append(*data);
    failure_ = data.status();
    if (data_.size() > count_) failure_ = absl::DataLossError("the server sends more than it was asked for");
    if (!failure_.ok()) return context_->TryCancel();
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    if (failure_.ok()) failure_ = FromGrpc(status);
    if (failure_.ok() && data_.size() != count_)
      failure_ = absl::DataLossError(fmt::format("fetched {} bytes of {}", data_.size(), count_));
    Post(reply_on_, std::move(done_), failure_.ok() ? absl::StatusOr<Bytes>(std::move(data_)) : failure_);
    InFlight* const in_flight = in_flight_;
    const std::shared_ptr<grpc::ClientContext> context = context_;
    delete this;
    in_flight->End(context.get());
  }

 private:
  InFlight* const in_flight_;
  const std::shared_ptr<grpc::ClientContext> context_;  // shared with the table that cancels
  grpc::GenericStub stub_;
  const uint64_t count_;
  env::Executor* const reply_on_;
  Done done_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer message_;
  Bytes data_;
  absl::Status failure_;
};

}  // namespace

void ByteStreamFetcher::Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset,
                              uint64_t count, env::Executor* reply_on, Done done) {
  if (count > kFetchBytesMax || offset > uint64_t{INT64_MAX} - kFetchBytesMax)
    return Post(reply_on, std::move(done),
                absl::InvalidArgumentError(fmt::format("fetch of {} bytes", count)));
  if (count == 0) return Post(reply_on, std::move(done), Bytes());
  auto context = in_flight_.Begin(to.id);
  if (context == nullptr)
    return Post(reply_on, std::move(done), absl::UnavailableError("too many fetches, or stopping"));
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kDeadlineMs));
  context->AddMetadata(wire::kFetchKey, EncodeFetchTarget(wanted));
  ::sluice::bytestream::ReadRequest request;
  request.set_read_offset(static_cast<int64_t>(offset));
  request.set_read_limit(static_cast<int64_t>(count));
  auto* call = new FetchCall(&in_flight_, std::move(context), links_->Get(to.address, PeerLinks::kRequests),
                             count, reply_on, std::move(done));  // deletes itself, as reactors do
  call->Start(request);
}

}  // namespace sluice::edge::bytestream
