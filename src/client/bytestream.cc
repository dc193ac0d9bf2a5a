#include "client/bytestream.h"

#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/codegen/rpc_method.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "client/buffers.h"
#include "sluice/bytestream/bytestream.grpc.pb.h"
#include "wire/bytestream.h"

namespace sluice::client {
namespace {

using ::sluice::bytestream::ByteStream;

constexpr uint64_t kMessageBytes = 256u << 10;
constexpr Duration kQuiet = std::chrono::milliseconds(500);  // before a server is asked whether it is alive

// The methods with raw buffers instead of messages, so that payload is not copied by protobuf.
const grpc::internal::RpcMethod kWrite("/google.bytestream.ByteStream/Write",
                                       grpc::internal::RpcMethod::CLIENT_STREAMING);
const grpc::internal::RpcMethod kRead("/google.bytestream.ByteStream/Read",
                                      grpc::internal::RpcMethod::SERVER_STREAMING);

// Cancels a call that makes no progress, because a blocking read or write of gRPC has no timeout of its own.
class SilenceWatch {
 public:
  SilenceWatch(grpc::ClientContext* context, SilenceLimits limits)
      : context_(context), limits_(std::move(limits)), thread_([this] { Run(); }) {}
  ~SilenceWatch() {
    {
      std::lock_guard lock(mutex_);
      over_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  void Progress() {
    std::lock_guard lock(mutex_);
    last_ = Clock::now();
  }
  bool fired() {
    std::lock_guard lock(mutex_);
    return fired_;
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (!over_ && !fired_) {
      const Duration silence = Clock::now() - last_;
      const Duration asks_after = limits_.alive ? std::min(kQuiet, limits_.silence) : limits_.silence;
      if (silence <= asks_after) {
        changed_.wait_until(lock, last_ + asks_after);
      } else if (silence <= limits_.silence && Alive(lock)) {
        changed_.wait_for(lock, kQuiet);
      } else if (!over_ && Clock::now() - last_ > asks_after) {
        fired_ = true;
        context_->TryCancel();
      }
    }
  }
  bool Alive(std::unique_lock<std::mutex>& lock) {
    if (!limits_.alive) return false;
    lock.unlock();
    const bool alive = limits_.alive();
    lock.lock();
    return alive;
  }

  grpc::ClientContext* const context_;
  const SilenceLimits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point last_ = Clock::now();
  bool over_ = false;
  bool fired_ = false;
  std::thread thread_;
};

// How sluice's servers are told what the protocol has no field for.
void AddMetadata(const Connection& connection, const ByteStreamTarget& target, grpc::ClientContext* context) {
  connection.Prepare(target.address, context);
  if (target.group != kDefaultGroup) context->AddMetadata(wire::kGroupKey, target.group.ToString());
  if (!target.digest) context->AddMetadata(wire::kNoDigestKey, "1");
  if (target.expected_digest) context->AddMetadata(wire::kDigestKey, target.expected_digest->ToHex());
  if (!target.writer.empty()) context->AddMetadata(wire::kWriterKey, target.writer);
  if (!target.content_id.empty()) context->AddMetadata(wire::kContentKey, target.content_id);
}

absl::Status Ended(const grpc::Status& status, SilenceWatch& watch, const std::string& address) {
  if (!status.ok() && watch.fired()) {
    return absl::DeadlineExceededError(fmt::format("{} made no progress", address));
  }
  return FromGrpc(status);
}

}  // namespace

absl::StatusOr<uint64_t> WriteStream(Connection& connection, const ByteStreamTarget& target,
                                     BlobContent& content, uint64_t offset, const SilenceLimits& silence,
                                     const std::function<void(uint64_t)>& on_progress) {
  const auto channel = connection.Channel(target.address);
  grpc::ClientContext context;
  AddMetadata(connection, target, &context);
  ::sluice::bytestream::WriteResponse response;
  SilenceWatch watch(&context, silence);
  const std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> call(
      grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(channel.get(), kWrite, &context,
                                                                    &response));
  const uint64_t length = content.length();
  wire::WriteRequest request{.resource_name = target.name};
  do {
    request.write_offset = static_cast<int64_t>(offset);
    absl::StatusOr<Bytes> data = content.Read(offset, std::min(kMessageBytes, length - offset));
    absl::Status status = data.status();
    if (status.ok()) {
      request.data = *std::move(data);
      offset += request.data.size();
      request.finish_write = offset == length;
      if (request.finish_write) status = content.CheckEnd();
    }
    if (!status.ok()) {
      context.TryCancel();
      call->Finish().ok();
      return status;
    }
    // A write that fails means that the server has ended the call: its status says why.
    if (!call->Write(ToBuffer(wire::EncodeWriteRequest(request)))) break;
    watch.Progress();
    if (on_progress) on_progress(offset);
    request.resource_name.clear();
  } while (!request.finish_write);
  call->WritesDone();
  RETURN_IF_ERROR(Ended(call->Finish(), watch, target.address));
  return static_cast<uint64_t>(std::max<int64_t>(response.committed_size(), 0));
}

absl::StatusOr<CommittedSize> QueryWrite(Connection& connection, const ByteStreamTarget& target) {
  const auto stub = ByteStream::NewStub(connection.Channel(target.address));
  grpc::ClientContext context;
  AddMetadata(connection, target, &context);
  SetDeadline(&context, kAttemptTimeout);
  ::sluice::bytestream::QueryWriteStatusRequest request;
  ::sluice::bytestream::QueryWriteStatusResponse response;
  request.set_resource_name(target.name);
  RETURN_IF_ERROR(FromGrpc(stub->QueryWriteStatus(&context, request, &response)));
  return CommittedSize{.bytes = static_cast<uint64_t>(std::max<int64_t>(response.committed_size(), 0)),
                       .complete = response.complete()};
}

absl::Status ReadStream(Connection& connection, const ByteStreamTarget& target, uint64_t offset,
                        const SilenceLimits& silence, const std::function<absl::Status(const Bytes&)>& take) {
  const auto channel = connection.Channel(target.address);
  grpc::ClientContext context;
  AddMetadata(connection, target, &context);
  ::sluice::bytestream::ReadRequest request;
  request.set_resource_name(target.name);
  request.set_read_offset(static_cast<int64_t>(offset));
  SilenceWatch watch(&context, silence);
  const std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> call(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(channel.get(), kRead, &context, request));
  grpc::ByteBuffer message;
  absl::Status status;
  while (status.ok() && call->Read(&message)) {
    watch.Progress();
    absl::StatusOr<Bytes> data = wire::ParseReadResponse(FromBuffer(message));
    status = data.ok() ? take(*data) : data.status();
    message.Clear();
  }
  if (!status.ok()) context.TryCancel();
  const absl::Status ended = Ended(call->Finish(), watch, target.address);
  return status.ok() ? ended : status;
}

}  // namespace sluice::client
