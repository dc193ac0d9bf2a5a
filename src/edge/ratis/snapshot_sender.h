// Brings one snapshot file to a follower: a call of installSnapshot that carries what a SnapshotSource says.
//
//   StartSnapshotSender(plan, {.wire = &wire, ...}, [](absl::Status done) { ... });
//
// Threading: files are read, and everything is decided, on `disk`, which may block. The object owns itself and
// dies after `done`, which is called exactly once, on `disk` or in the call: ok when the follower has installed
// the snapshot or has all of it already. Failure: UNAVAILABLE where the network, the peer's absence or
// kSnapshotSilence without an answer ended it, or the peer could not take it now; anything else says that this
// file is not taken. The next one starts anew.
#pragma once

#include <memory>

#include "edge/peer_wire.h"
#include "edge/ratis/snapshot_chunks.h"

namespace sluice::edge::ratis {

struct SnapshotWay {
  PeerWire* wire;
  WireTo to;
  env::Executor* disk;
  env::Files* files;
  const env::Clock* clock;
};

void StartSnapshotSender(SnapshotPlan plan, SnapshotWay way, absl::AnyInvocable<void(absl::Status)> done);

}  // namespace sluice::edge::ratis
