// Brings one snapshot file to a follower in chunks: at most kUnansweredChunks unanswered,
// MD5 with the last one.
//
//   StartSnapshotSender(plan, std::move(stub), &in_flight, &disk, &files, [](absl::Status done) { ... });
//
// Threading: files are read on `disk`, which may block. The object owns itself and dies after `done`, which
// is called exactly once: ok when the follower has installed the snapshot or has it already. Failure: any
// wrong answer, a changed file or kSilence without progress ends it; the next one starts anew.
#pragma once

#include <memory>

#include "edge/in_flight.h"
#include "edge/ratis/convert.h"
#include "env/executor.h"
#include "env/files.h"
#include "node/transports.h"
#include "sluice/ratis/grpc.grpc.pb.h"

namespace sluice::edge::ratis {

inline constexpr size_t kChunkBytes = 1u << 20;
inline constexpr uint32_t kUnansweredChunks = 8;

struct SnapshotPlan {
  PeerId self;
  PeerId to;
  node::SnapshotOffer offer;
};

void StartSnapshotSender(SnapshotPlan plan,
                         std::unique_ptr<::sluice::ratis::grpc::RaftServerProtocolService::Stub> stub,
                         InFlight* in_flight, env::Executor* disk, env::Files* files,
                         absl::AnyInvocable<void(absl::Status)> done);

}  // namespace sluice::edge::ratis
