// Payload between gRPC's buffers and Bytes, by reference.
//
//   Bytes message = ToBytes(buffer);   reply = ToBuffer(EncodeReadResponse(data));
//
// Pure functions; any thread. Memory is shared and freed by the last holder, on its thread.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace sluice::edge::bytestream {

// One of the calls that may be under way; shared with what has yet to answer it.
using CallPlace = std::shared_ptr<void>;

// Below this a copy is cheaper than a reference (and a small slice holds its bytes inside itself).
inline constexpr size_t kCopyBelow = 512;

inline Bytes ToBytes(const grpc::ByteBuffer& buffer) {
  Bytes out;
  std::vector<grpc::Slice> slices;
  if (!buffer.Valid() || !buffer.Dump(&slices).ok()) return out;
  for (grpc::Slice& slice : slices) {
    const char* data = reinterpret_cast<const char*>(slice.begin());
    const size_t size = slice.size();
    out.Append(size < kCopyBelow ? Bytes::Copy({data, size}) : Bytes::Wrap(data, size, [slice] {}));
  }
  return out;
}

inline grpc::ByteBuffer ToBuffer(const Bytes& bytes) {
  std::vector<grpc::Slice> slices;
  bytes.ForEachChunk([&](std::string_view chunk) {
    if (chunk.size() < kCopyBelow) {
      slices.emplace_back(chunk.data(), chunk.size());
      return;
    }
    auto* hold = new Bytes(bytes);  // gRPC gives it back through a plain function
    slices.emplace_back(
        const_cast<char*>(chunk.data()), chunk.size(), [](void* held) { delete static_cast<Bytes*>(held); },
        hold);
  });
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace sluice::edge::bytestream
