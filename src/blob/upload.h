// Staged bytes of one upload on this server: they may vanish until they are sealed.
//
//   upload->Append(0, bytes, &executor, [](absl::StatusOr<uint64_t> appended) { ... });
//   upload->Seal({.length = 4096}, &executor, [](absl::StatusOr<Sealed> sealed) { ... });
//
// Every call is carried out by the upload's blob thread in call order; `done` is posted to the executor that
// the caller names. Calls may be made from any thread; whoever makes them defines the order. The object may
// be dropped at any time: the stage stays until it is linked, aborted or reclaimed. Payload is copied only
// from page to disk. Errors: INVALID_ARGUMENT for an offset that is not the current length (nothing is
// written), FAILED_PRECONDITION once sealed, aborted, taken over or failed, RESOURCE_EXHAUSTED for a full
// disk, DATA_LOSS for a disk error. After a disk error the upload is failed for good.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/executor.h"

namespace sluice::blob {

// Checksummed unit of every blob: CRC32C of each 64 KiB, the last one shorter (D-09).
inline constexpr uint64_t kChunkBytes = 64u << 10;

// What a stage is created with; kept in its side file, so that it outlives a restart.
struct UploadSpec {
  UploadId id = {};
  GroupId group = {};
  uint64_t epoch = 0;
  bool compute_digest = false;  // SHA-256 on a thread of its own, by the server that receives the upload
  std::string context = {};     // opaque to blob, at most 64 KiB: the header that opened the upload
};

// Where a stage stands: one state at a time. kOpen to kSealing (from the call of Seal on) to kSealed to kLinked;
// a seal that found no room goes back to kOpen. Every state but kLinked may end in kDropped, whose id is free,
// and the first two in kFailed.
enum class StageState : uint8_t { kOpen, kSealing, kSealed, kLinked, kDropped, kFailed };

// A stage that will not change any more: footer written, data synced, folder synced since creation.
struct Sealed {
  uint64_t length = 0;
  uint32_t checksum = 0;  // CRC32C of the list of chunk checksums (each 4 bytes little endian)
  std::optional<Sha256> digest;
  auto operator<=>(const Sealed&) const = default;
};

// Whether `held` can be what the log calls `wanted`, both of one upload id.
inline bool Matches(const Sealed& held, const Sealed& wanted) {
  return held.length == wanted.length && held.checksum == wanted.checksum &&
         (!held.digest || !wanted.digest || *held.digest == *wanted.digest);
}

// What the bytes must be; INVALID_ARGUMENT and the stage is dropped if they are not.
struct SealExpectation {
  std::optional<uint64_t> length = std::nullopt;
  std::optional<Sha256> digest = std::nullopt;  // compared only if the stage computes one
  std::optional<uint32_t> checksum = std::nullopt;
};

class Upload {
 public:
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  virtual ~Upload() = default;
  virtual const UploadSpec& spec() const = 0;
  // Appends `data` at `offset`, which must be the current length; gives the new length.
  virtual void Append(uint64_t offset, Bytes data, env::Executor* reply_on, Done<uint64_t> done) = 0;
  // Makes everything appended so far durable, with its checksums;
  // gives the durable length, which never decreases.
  virtual void Flush(env::Executor* reply_on, Done<uint64_t> done) = 0;
  // Up to `count` bytes at `offset` of what was appended before this call, verified; also once sealed. Fewer
  // only at the end, OUT_OF_RANGE beyond it.
  virtual void Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done<Bytes> done) = 0;
  // Makes the stage durable and final. Sealing a sealed stage gives the same answer again; a stage that was
  // aborted meanwhile is never said to be durable.
  virtual void Seal(SealExpectation expected, env::Executor* reply_on, Done<Sealed> done) = 0;
  // Nobody feeds it for now: makes what has come durable and gives back memory and descriptors, which the
  // next call takes again. A stage that rests does not count as an upload under way.
  virtual void Rest() = 0;
  // Gives the upload up: drops the stage, unless it is sealed already. That is the log's (D-10).
  virtual void Abort() = 0;
  // Drops the stage, sealed or not. For the log, whose word on the upload makes the stage useless, and for a fetch
  // of bytes other than it has.
  virtual void Drop() = 0;
  // Any thread: bytes accepted so far, bytes known durable, and when it last made progress.
  virtual uint64_t length() const = 0;
  virtual uint64_t durable_length() const = 0;
  virtual env::Instant last_progress() const = 0;
  virtual StageState state() const = 0;
  bool sealed() const {
    const StageState now = state();
    return now == StageState::kSealed || now == StageState::kLinked;
  }
  // What was sealed; only when sealed().
  virtual Sealed sealed_state() const = 0;
};

}  // namespace sluice::blob
