// Bulk data beside the log: a header, bytes in order, and one entry when they are all there.
//
//   const sluice::Bytes header = sluice::EncodeBlobHeader("a/b", bytes.size());
//   ASSIGN_OR_RETURN(auto stream, client->DataStream().Stream(header));
//   stream->WriteAsync(bytes);                       // as often as there is data
//   stream->CloseAsync();
//   ASSIGN_OR_RETURN(sluice::RaftReply reply, stream->RaftClientReplyFuture().Get());
//
// The bytes go once to the first server of the route, which passes them on while they arrive. CloseAsync
// makes them durable on the route and enters the stream into the group's log: only then does it exist.
// Threading: one thread at a time for a stream, different streams on different threads; callbacks of futures
// run on the stream's own thread or on one of the client's (sluice/future.h). Ownership: a stream must be
// destroyed before its RaftClient; destroyed before its close it leaves nothing that anybody can read.
// Errors: the first one is final for the stream and is the result of all its later calls; the caller may
// begin again with a new stream (sluice/blob.h does that by itself). Codes are the server's; UNAVAILABLE and
// ABORTED mean that a new stream may succeed. From: Apache Ratis' DataStreamApi and DataStreamOutput, over
// its DataStream protocol.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "sluice/future.h"

namespace sluice {

// What a group answered to a request that went through its log, or to a read.
struct RaftReply {
  Bytes message;               // of the state machine
  Index log_index = kNoIndex;  // of the entry; kNoIndex for reads
};

// How servers pass the bytes on. The default is a chain from the first server that answers.
struct RoutingTable {
  enum class Shape : uint8_t {
    kChain,  // one after another, in the group's order
    kStar,   // all from the first
  };
  Shape shape = Shape::kChain;
  PeerId primary;  // the server that gets the bytes from the client; empty: the first that answers
  // Who passes on to whom. Not empty: taken as it is instead of `shape`. Ids that are not in the group are
  // refused by the server with INVALID_ARGUMENT.
  std::map<PeerId, std::vector<PeerId>> successors;
};

struct WriteOptions {
  bool sync = false;  // answered only when the bytes are on disks; slows the stream down (Ratis' SYNC)
};

// Bytes of an open file: `count` of them from `offset`.
struct FileRegion {
  int fd = -1;
  uint64_t offset = 0;
  uint64_t count = 0;
};

// The answer of the first server of the route, which stands for the others.
struct DataStreamReply {
  uint64_t bytes_written = 0;  // of this write
};

// What Close gives.
struct DataStreamResult {
  Bytes message;  // what the state machine answered; for a blob group see DecodeBlobReply in sluice/blob.h
  Index log_index = kNoIndex;
  uint64_t length = 0;  // bytes of the stream
};

// The same stream for those who write and wait: no futures. Ratis' WritableByteChannel.
class DataStreamChannel {
 public:
  virtual ~DataStreamChannel() = default;
  // Sends the bytes behind those before. Waits while more than the window (8 MiB) is unanswered; the bytes
  // may be still on their way when it returns.
  virtual absl::Status Write(const Bytes& data) = 0;
  // Waits for CLOSE and for the entry. Once.
  virtual absl::StatusOr<DataStreamResult> Close() = 0;
};

// One stream.
class DataStreamOutput {
 public:
  virtual ~DataStreamOutput() = default;
  // Sends the bytes behind those before; the future is answered when the route has taken them. The call
  // itself waits while more than the window (8 MiB) is unanswered: that is the back-pressure. `data` is
  // shared, not copied.
  virtual Future<DataStreamReply> WriteAsync(Bytes data, WriteOptions options = {}) = 0;
  // Sends a part of a file; the kernel copies it. The descriptor must stay open until the call returns.
  // DATA_LOSS, and the end of the stream, if the file is shorter.
  virtual Future<DataStreamReply> WriteAsync(FileRegion region, WriteOptions options = {}) = 0;
  // Ends the stream; answered when all its bytes are on the disks of the route. The entry is then proposed by
  // itself: see RaftClientReplyFuture. FAILED_PRECONDITION for a second close and for writes after it.
  virtual Future<DataStreamReply> CloseAsync() = 0;
  // Answered when the entry of the stream was executed; after CloseAsync only. The stream may be destroyed as
  // soon as CloseAsync was answered.
  virtual Future<RaftReply> RaftClientReplyFuture() = 0;
  // Answered when the servers of the route have opened the stream. Writes need not wait for it.
  virtual Future<DataStreamReply> HeaderFuture() = 0;
  // Lives as long as the stream, and shares its rules.
  virtual DataStreamChannel& WritableChannel() = 0;
  // Bytes that the first server has taken so far. Any thread.
  virtual uint64_t taken_bytes() const = 0;
};

class DataStreamApi {
 public:
  virtual ~DataStreamApi() = default;
  // Opens a stream; waits for the server's address and the connection, not for the header's answer.
  // `header_message` is for the state machine: for a blob group what EncodeBlobHeader of sluice/blob.h gives.
  // UNAVAILABLE if no server answers, NOT_FOUND if the server does not run the group or the route's primary
  // is not in it.
  virtual absl::StatusOr<std::unique_ptr<DataStreamOutput>> Stream(std::string header_message,
                                                                   RoutingTable route = {}) = 0;
};

}  // namespace sluice
