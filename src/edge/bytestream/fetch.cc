#include "edge/bytestream/fetch.h"

#include <memory>
#include <utility>

#include "edge/bytestream/target.h"
#include "sluice/bytestream/bytestream.pb.h"
#include "wire/bytestream.h"

namespace sluice::edge::bytestream {
namespace {

using Done = node::ByteTransport::Done<Bytes>;

void Post(env::Executor* executor, Done done, absl::StatusOr<Bytes> result) {
  executor->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

// What has come of one fetch.
struct Fetched {
  uint64_t count;
  env::Executor* reply_on;
  Done done;
  Bytes data = {};

  absl::Status OnMessage(const Bytes& message) {
    ASSIGN_OR_RETURN(const Bytes more, wire::ParseReadResponse(message));
    data.Append(more);
    if (data.size() <= count) return absl::OkStatus();
    return absl::DataLossError("the server sends more than it was asked for");
  }
  void OnEnd(absl::Status status) {
    if (status.ok() && data.size() != count) {
      status = absl::DataLossError(fmt::format("fetched {} bytes of {}", data.size(), count));
    }
    Post(reply_on, std::move(done), status.ok() ? absl::StatusOr<Bytes>(std::move(data)) : status);
  }
};

}  // namespace

void ByteStreamFetcher::Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset,
                              uint64_t count, env::Executor* reply_on, Done done) {
  if (count > kFetchBytesMax || offset > uint64_t{INT64_MAX} - kFetchBytesMax)
    return Post(reply_on, std::move(done),
                absl::InvalidArgumentError(fmt::format("fetch of {} bytes", count)));
  if (count == 0) return Post(reply_on, std::move(done), Bytes());
  ::sluice::bytestream::ReadRequest request;
  request.set_read_offset(static_cast<int64_t>(offset));
  request.set_read_limit(static_cast<int64_t>(count));
  auto fetched = std::shared_ptr<Fetched>(new Fetched{count, reply_on, std::move(done)});
  wire_->Read(
      {to.id, to.address},
      {.path = kReadPath,
       .deadline_ms = kDeadlineMs,
       .metadata = {wire::kFetchKey, EncodeFetchTarget(wanted)},
       .request = Bytes::Take(request.SerializeAsString())},
      [fetched](const Bytes& message) { return fetched->OnMessage(message); },
      [fetched](absl::Status status) { fetched->OnEnd(std::move(status)); });
}

}  // namespace sluice::edge::bytestream
