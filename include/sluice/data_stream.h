// Bulk data beside the log: a header, bytes in order, and one entry when they are all there.
//
//   ASSIGN_OR_RETURN(auto stream, client->DataStream().Stream(header_message));
//   RETURN_IF_ERROR(stream->Write(bytes));
//   ASSIGN_OR_RETURN(sluice::DataStreamResult result, stream->Close());
//
// The bytes go once to the nearest server, which passes them on while they arrive, along `route`. Close
// enters the stream into the group's log: only then does it exist. Threading: one thread at a time for a
// stream; different streams on different threads. Ownership: a stream that is destroyed before Close leaves
// nothing that anybody can read. Errors: the first one is final for the stream and returned by every later
// call; the caller may begin again with a new stream (blob.h does that by itself). From: Apache Ratis'
// DataStreamApi and DataStreamOutput.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice {

// How servers pass the bytes on.
struct RoutingTable {
  enum class Shape : uint8_t {
    kChain,  // one after another, in the group's order
    kStar,   // all from the first
  };
  Shape shape = Shape::kChain;
};

struct DataStreamResult {
  Bytes message;  // what the state machine answered; of a blob group a serialised sluice.BlobReply
  Index log_index = kNoIndex;
  uint64_t length = 0;  // bytes of the stream
};

// One stream.
class DataStreamOutput {
 public:
  virtual ~DataStreamOutput() = default;
  // Sends the bytes behind those before. Waits while more than the window (8 MiB) is unanswered.
  virtual absl::Status Write(const Bytes& data) = 0;
  // Sends `count` bytes of a file from `offset`; the kernel copies them. DATA_LOSS if the file is shorter.
  virtual absl::Status WriteFile(int fd, uint64_t offset, uint64_t count) = 0;
  // Waits until all is on the disks of the route, then enters the stream into the log. Once.
  virtual absl::StatusOr<DataStreamResult> Close() = 0;
  // Bytes that the first server has taken so far.
  virtual uint64_t taken_bytes() const = 0;
};

class DataStreamApi {
 public:
  virtual ~DataStreamApi() = default;
  // Opens a stream. `header_message` is for the state machine: for a blob group a serialised
  // sluice.BlobHeader (proto/sluice/blob.proto). UNAVAILABLE if no server answers.
  virtual absl::StatusOr<std::unique_ptr<DataStreamOutput>> Stream(std::string header_message,
                                                                   RoutingTable route = {}) = 0;
};

}  // namespace sluice
