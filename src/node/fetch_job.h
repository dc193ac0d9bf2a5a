// Brings a sealed upload from those who hold it into a stage of this server, and seals it there.
//
//   FetchUpload(std::move(parts), [](absl::StatusOr<blob::Sealed> held) { ... });
//
// Threading: call it on parts.home, where `done` runs, once, never inside the call. Ownership: keeps itself
// alive until `done`; home, files, store and bytes outlive it. Promises: ok means that this server holds
// exactly wanted.sealed (length and checksum) sealed and durable. Sources are tried in their order, round
// after round while they bring anything; bytes whose checksum differs are thrown away and asked from another
// source. A stage that is being sealed here is waited for: what it comes to may be what is wanted. Failure:
// UNAVAILABLE when no source has them; the stage is then dropped. ALREADY_EXISTS when other bytes are sealed
// or entered under the id. Whoever calls sees to it that there is one job for an upload at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "blob/store.h"
#include "node/transports.h"

namespace sluice::node {

struct FetchParts {
  env::Executor* home = nullptr;
  env::Executor* files = nullptr;  // for blocking file operations
  blob::Store* store = nullptr;
  ByteTransport* bytes = nullptr;
  GroupId group;
  SealedUpload wanted;
  std::vector<raft::Peer> sources;
  uint64_t piece_bytes = 1u << 20;
  uint32_t pieces_in_flight = 4;
  uint32_t rounds = 3;  // through all sources without a single piece
  env::Duration retry_delay = std::chrono::milliseconds(200);
  // The log has entered it: another content of its id gives way. Otherwise the log's content stays (P4).
  bool entered = false;
  // Fetch although the store says that it holds the upload: its copy is damaged (F-24).
  bool replace_held = false;
};

void FetchUpload(FetchParts parts, absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done);

}  // namespace sluice::node
