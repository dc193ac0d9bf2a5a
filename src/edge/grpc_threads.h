// gRPC's threads for callbacks, kept for as long as the process lives.
//
//   KeepGrpcThreads();   // before the first channel or server
//
// gRPC ends these threads when the last channel or server goes, and waits for them. If it goes on one of
// them, as the last thing that a call held, the thread waits for itself, which fails at once, and the queue
// that it works on is freed under it (seen in gRPC 1.51: "prior > 0"). So one channel never goes: it leads
// nowhere, and one call on it has failed.
//
// Threading: any thread. Ownership: what is kept is never freed. Failure: none.
// Header only, because client does not link edge.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/slice.h>

#include <string>

namespace sluice::edge {

inline void KeepGrpcThreads() {
  struct Kept {
    // Without credentials: it has no transport, and calls end at once.
    grpc::GenericStub stub{grpc::CreateCustomChannel("nowhere", nullptr, grpc::ChannelArguments())};
    grpc::ClientContext context;
    const grpc::Slice nothing;
    grpc::ByteBuffer request{&nothing, 1};
    grpc::ByteBuffer response;
  };
  [[maybe_unused]] static Kept* const kept = [] {
    auto* const made = new Kept;
    made->stub.UnaryCall(&made->context, "/none/none", grpc::StubOptions(), &made->request, &made->response,
                         [](const grpc::Status&) {});
    return made;
  }();
}

}  // namespace sluice::edge
