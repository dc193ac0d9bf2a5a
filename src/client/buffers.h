// Bytes and gRPC's byte buffers, in both directions without copying.
//
//   grpc::ByteBuffer message = ToBuffer(wire::EncodeWriteRequest(request));
//   ASSIGN_OR_RETURN(Bytes data, wire::ParseReadResponse(FromBuffer(reply)));
//
// Pure functions; any thread. What comes out keeps the memory alive.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <memory>
#include <vector>

#include "base/bytes.h"

namespace sluice::client {

inline grpc::ByteBuffer ToBuffer(const Bytes& bytes) {
  std::vector<grpc::Slice> slices;
  bytes.ForEachChunk([&](std::string_view chunk) {
    // Each slice keeps the whole alive: copying Bytes shares memory.
    Bytes* owner = std::make_unique<Bytes>(bytes).release();
    slices.emplace_back(
        const_cast<char*>(chunk.data()), chunk.size(),
        [](void* held) { std::unique_ptr<Bytes> last(static_cast<Bytes*>(held)); }, owner);
  });
  return grpc::ByteBuffer(slices.data(), slices.size());
}

inline Bytes FromBuffer(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  Bytes bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (grpc::Slice& slice : slices) {
    auto held = std::make_shared<grpc::Slice>(std::move(slice));
    const auto* data = reinterpret_cast<const char*>(held->begin());
    bytes.Append(Bytes::Wrap(data, held->size(), [held] {}));
  }
  return bytes;
}

}  // namespace sluice::client
