// Calls of baidu_std: RpcMeta, compressed bodies, checksums. Without I/O.
//
//   Bytes out = EncodeCall(meta, request, attachment, CompressType::kGzip, ChecksumType::kCrc32c);
//   absl::StatusOr<CallFrame> in = DecodeCall(event.meta, event.body);      // of a FrameEvent::kCall
//   absl::StatusOr<CallBody> opened = OpenBody(*in, 64 << 20);
//
// Failure of DecodeCall: INVALID_ARGUMENT for a meta that is no RpcMeta or lacks a required field (the
// connection must be closed). Failure of OpenBody, for a call that can be answered: INVALID_ARGUMENT for an
// attachment beyond the body, an unknown compression, a body that does not unpack, a wrong checksum;
// RESOURCE_EXHAUSTED for one that unpacks to more than `body_bytes_max`. All are brpc's EREQUEST (1003).
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "sluice/brpc/rpc_meta.pb.h"

namespace sluice::wire::brpc {

using RpcMeta = ::sluice::brpc::RpcMeta;

enum class CompressType : uint8_t { kNone = 0, kSnappy = 1, kGzip = 2, kZlib = 3 };
enum class ChecksumType : uint8_t { kNone = 0, kCrc32c = 1 };

// Error numbers of brpc that are no errno.
enum RpcError : int {
  kNoService = 1001,
  kNoMethod = 1002,
  kBadRequest = 1003,
  kAuth = 1004,
  kTimedOut = 1008,
  kFailedSocket = 1009,
  kOvercrowded = 1011,
  kEof = 1014,
  kInternal = 2001,
  kBadResponse = 2002,
  kLogOff = 2003,
  kLimit = 2004,
};

// A PRPC frame taken apart: meta, the rest as it came.
struct CallFrame {
  RpcMeta meta;
  Bytes body;  // packed message and attachment
};
absl::StatusOr<CallFrame> DecodeCall(std::string_view meta, Bytes body);

// The message and the attachment of a decoded call: checksum verified, message unpacked. Both are empty in a
// response with an error code, whatever it brings.
struct CallBody {
  Bytes message;
  Bytes attachment;
};
absl::StatusOr<CallBody> OpenBody(const CallFrame& frame, size_t body_bytes_max);

// A whole PRPC frame. Fills attachment_size, compress_type, checksum_type and checksum_value of `meta`
// itself, and writes the fields that a brpc writer always writes (compress_type, correlation_id,
// content_type, checksum_type, checksum_value; error_code of responses; both flags of stream settings), so
// that it is byte for byte brpc's frame. Without a checksum the checksum_value of `meta` stays (a brpc server
// echoes that of the request). The caller sees to it that required fields are set and that message and
// attachment are less than 2 GiB.
Bytes EncodeCall(RpcMeta meta, const Bytes& message, const Bytes& attachment,
                 CompressType compress = CompressType::kNone, ChecksumType checksum = ChecksumType::kNone);

// `raw` packed, and unpacked to at most `bytes_max`. Failure: as of OpenBody;
// nothing is allocated for a promise.
Bytes Compress(CompressType type, const Bytes& raw);
absl::StatusOr<Bytes> Decompress(CompressType type, const Bytes& packed, size_t bytes_max);
// brpc's masked CRC32C of what is on the wire: 4 bytes, big-endian.
std::string ChecksumOf(const Bytes& body);

}  // namespace sluice::wire::brpc
