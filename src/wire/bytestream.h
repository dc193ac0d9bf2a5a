// google.bytestream messages that carry payload, parsed and built without copying it, and its metadata keys.
//
//   ASSIGN_OR_RETURN(WriteRequest request, ParseWriteRequest(message));   // the slices of a gRPC buffer
//   call.Write(EncodeReadResponse(data));
//
// What comes out refers to the memory that went in. Pure functions; any thread. INVALID_ARGUMENT for bytes
// that protobuf would refuse too, and for names above kNameBytesMax; unknown fields are skipped. Offsets and
// names are otherwise for the caller to judge. The size of a message is bounded by the caller's transport.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sluice::wire {

// Metadata of a call.
inline constexpr char kGroupKey[] = "sluice-group";         // UUID text; without it, the default group
inline constexpr char kNoDigestKey[] = "sluice-no-digest";  // the client does without SHA-256
// Of a write: what SHA-256 its bytes have, 64 hex digits; others are refused.
inline constexpr char kDigestKey[] = "sluice-sha256";
// Of a write and of the question how far it is: who writes, up to 64 characters. An upload goes on only with the
// bytes of the writer that began it; two without this key cannot be told apart.
inline constexpr char kWriterKey[] = "sluice-writer";
// Between servers: group, client id, call id, length (8 bytes each number) and checksum (4), in big endian.
inline constexpr char kFetchKey[] = "sluice-fetch-bin";
// Of a read: which content it gives (initial metadata), and which one it is to give (a read that goes on
// elsewhere): 48 hex digits.
inline constexpr char kContentKey[] = "sluice-content";

struct WriteRequest {
  std::string resource_name;
  int64_t write_offset = 0;
  bool finish_write = false;
  Bytes data{};
};

absl::StatusOr<WriteRequest> ParseWriteRequest(const Bytes& message);
Bytes EncodeWriteRequest(const WriteRequest& request);

// The message is its data.
absl::StatusOr<Bytes> ParseReadResponse(const Bytes& message);
Bytes EncodeReadResponse(const Bytes& data);

}  // namespace sluice::wire
