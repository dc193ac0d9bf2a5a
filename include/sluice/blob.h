// Put and get of named, immutable byte streams, resumable, at any of several servers.
//
//   sluice::BlobClientOptions options = {.servers = {"127.0.0.1:7400", "127.0.0.1:7410"}};
//   ASSIGN_OR_RETURN(auto blobs, sluice::BlobClient::Create(options));
//   ASSIGN_OR_RETURN(sluice::BlobFacts put, blobs->PutFile("tools/git", "/usr/bin/git"));
//   ASSIGN_OR_RETURN(sluice::BlobFacts got, blobs->GetFile("tools/git", "git.copy"));
//
// A name is 1 to 1,024 bytes of UTF-8 without NUL; `/` and `..` mean nothing. "sha256:HEX" names a blob by
// its digest. What Put has returned is on durable media on a majority of the group, and every server finds
// it. Writing a name again is ALREADY_EXISTS unless the bytes are the same. Threading: thread-safe; calls
// block; callbacks run on the calling thread. Ownership: nothing is kept beyond a call. Errors: NOT_FOUND,
// ALREADY_EXISTS, INVALID_ARGUMENT (name, digest), DATA_LOSS (bytes differ from the digest; the file changed
// while it was read), UNAVAILABLE (no server answered, or none made progress for silence_ms). From:
// google.bytestream.ByteStream and Ratis DataStream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice {

// What is known of a stored blob.
struct BlobFacts {
  std::string name;
  uint64_t length = 0;
  std::optional<Sha256> digest;      // absent: nobody computed it (no_digest)
  int64_t created_ms = 0;            // wall clock of the leader, milliseconds since 1970
  std::vector<std::string> holders;  // servers that held the bytes when the name was entered
};

// Bytes to put: a length that is known and reads at any offset, because a put may have to start again.
// Thread-safety is not needed: one put reads it on one thread.
class BlobContent {
 public:
  virtual ~BlobContent() = default;
  virtual uint64_t length() const = 0;
  // Bytes [offset, offset + count), all of them; an error ends the put.
  virtual absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t count) = 0;
  // Asked when all bytes are read and the blob is not there yet: an error ends the put, as when more follows.
  virtual absl::Status CheckEnd() { return absl::OkStatus(); }
  // A file descriptor whose bytes from 0 are the content, or -1: lets the kernel send without a copy.
  virtual int fd() const { return -1; }
};

// The door through which a put goes.
enum class BlobVia { kDataStream, kByteStream };
// How servers pass the bytes on: one after another (nearest first), or all from the first.
enum class BlobRoute { kChain, kStar };

struct PutOptions {
  BlobVia via = BlobVia::kDataStream;
  BlobRoute route = BlobRoute::kChain;
  bool digest = true;                     // false: servers need not compute SHA-256
  std::optional<Sha256> expected_digest;  // other bytes are refused
  // Bytes that the receiving server has taken so far; goes back to 0 when a put starts again.
  std::function<void(uint64_t taken_bytes)> on_progress;
  std::function<void(const absl::Status& why)> on_retry;  // the put goes on at another server
};

struct GetOptions {
  bool verify = true;  // compare SHA-256 at the end, if the digest is known
  std::function<void(uint64_t taken_bytes, uint64_t length)> on_progress;
  std::function<void(const absl::Status& why)> on_retry;
};

struct BlobClientOptions {
  std::vector<std::string> servers;  // "host:port", gRPC; the first that answers is used
  GroupId group = kDefaultGroup;
  int64_t silence_ms = 30'000;       // a transfer without any progress for so long fails
  uint64_t window_bytes = 8u << 20;  // sent and not yet answered
};

class BlobClient {
 public:
  // INVALID_ARGUMENT for options that cannot be; does not connect yet.
  static absl::StatusOr<std::unique_ptr<BlobClient>> Create(BlobClientOptions options);
  virtual ~BlobClient() = default;

  virtual absl::StatusOr<BlobFacts> Put(const std::string& name, BlobContent& content,
                                        const PutOptions& options = {}) = 0;
  virtual absl::StatusOr<BlobFacts> PutBytes(const std::string& name, const Bytes& data,
                                             const PutOptions& options = {}) = 0;
  // A regular file; one that is longer than the size that it has at the beginning, or gets longer or shorter meanwhile,
  // is DATA_LOSS, and nothing is stored.
  virtual absl::StatusOr<BlobFacts> PutFile(const std::string& name, const std::string& path,
                                            const PutOptions& options = {}) = 0;

  // Gives the bytes in order to `take`, whose error ends the get. They are verified against the servers'
  // checksums as they come and against the digest at the end: after an error, what `take` was given is not
  // the blob.
  virtual absl::StatusOr<BlobFacts> Get(const std::string& name,
                                        const std::function<absl::Status(const Bytes&)>& take,
                                        const GetOptions& options = {}) = 0;
  // Whole, in memory; RESOURCE_EXHAUSTED if it is longer than bytes_max.
  virtual absl::StatusOr<Bytes> GetBytes(const std::string& name, uint64_t bytes_max = 64u << 20) = 0;
  // To a file, which appears under its name only when it is complete and verified.
  virtual absl::StatusOr<BlobFacts> GetFile(const std::string& name, const std::string& path,
                                            const GetOptions& options = {}) = 0;

  virtual absl::StatusOr<BlobFacts> Stat(const std::string& name) = 0;
  // Names with `prefix` greater than `after`, in order, at most `limit` (0: as many as the server gives,
  // 1,000s).
  virtual absl::StatusOr<std::vector<BlobFacts>> List(const std::string& prefix,
                                                      const std::string& after = "", uint32_t limit = 0) = 0;
  // The name becomes free; the bytes go with their last name and reader.
  virtual absl::Status Remove(const std::string& name) = 0;
};

// A blob by hand, as one stream of sluice/data_stream.h: the message of its header, and what the answer to it
// says. `length` is what the stream will have: another length at its close is refused. Pure; any thread.
std::string EncodeBlobHeader(const std::string& name, uint64_t length);
// Name, length and digest. INTERNAL if the message is none of a blob group.
absl::StatusOr<BlobFacts> DecodeBlobReply(const Bytes& message);

}  // namespace sluice
