// One upload passing through this server: written to its stage
// and passed on to its successors while it arrives.
//
//   auto relay = host.OpenRelay(header, &loop);
//   relay->Append(0, piece, [](absl::Status answered) { ... });     // pieces of at most 256 KiB (D-07)
//   relay->Close([](absl::StatusOr<blob::Sealed> sealed) { ... });
//
// Threading: lives on `home`, the executor of the connection that the bytes arrive on: every method is called
// there and every `done` runs there, in call order. Pieces go from there to the upload's blob thread and to
// the successors, never to the group's shard (D-08). Dropping the relay (the connection is gone) leaves the
// stage, which is reclaimed after its time-to-live or taken up again (D-10). Failure: a wrong offset fails
// the upload here and downstream, nothing of the piece is written (F-69). In `sluice` mode a successor that
// fails or stays silent is left behind: it fetches the bytes later (D-15).
#pragma once

#include <cstdint>
#include <memory>

#include "node/transports.h"

namespace sluice::node {

class Relay {
 public:
  virtual ~Relay() = default;
  virtual const StreamHeader& header() const = 0;
  // The executor that this relay lives on: not always the caller's, when an upload is taken up again.
  virtual env::Executor* home() const = 0;
  // Appends a piece at `offset`, which must be where the last one ended. `done` runs when it is written here
  // and every successor that is not left behind has answered. INVALID_ARGUMENT: wrong offset. The window
  // bounds what may be unanswered: window_bytes() of the relay;
  // a caller that goes beyond is answered RESOURCE_EXHAUSTED.
  virtual void Append(uint64_t offset, Bytes piece, absl::AnyInvocable<void(absl::Status)> done) = 0;
  // Seals here and downstream. At the primary `done` gets ok only when a majority holds the upload sealed and
  // the leader has been told (D-11); elsewhere when this server and the successors
  // that are not left behind hold it.
  virtual void Close(absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) = 0;
  // Makes what has arrived durable here (DataStream's SYNC, ByteStream's pause); gives the durable length.
  virtual void Flush(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) = 0;
  // The Close that follows fails with INVALID_ARGUMENT unless the bytes have this digest, which must be one
  // that is computed (BlobHeader::compute_digest).
  virtual void ExpectDigest(const Sha256& digest) = 0;
  // Gives the upload up: drops the stage here, tells the successors nothing (they reclaim it).
  virtual void Abort() = 0;
  // Bytes accepted so far: the only offset that the next Append may have.
  virtual uint64_t length() const = 0;
};

}  // namespace sluice::node
