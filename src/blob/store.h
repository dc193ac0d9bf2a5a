// The bytes of one server: stages (may vanish), sealed stages and linked contents (may not).
//
//   ASSIGN_OR_RETURN(auto store, Store::Open(files, executors, clock, dir, options));
//   ASSIGN_OR_RETURN(auto upload, store->Create(spec));      // blobs/xx/ID.stage
//   ... upload->Append, upload->Seal ...
//   RETURN_IF_ERROR(store->Link(group, id));                 // the log says that it exists: blobs/xx/ID
//   ASSIGN_OR_RETURN(auto source, store->OpenSource(group, id));
//
// Contents are known by the id of the upload that brought them, and are of one group: what another group has under
// the same id is not there for it, and the id is in use; names and digests are the index's matter, who
// refers to a content is the caller's. Opening lists the stage folder only, never the contents. Threading:
// thread-safe; Create, Link, Remove, OpenSource, SealedState, SyncLinks and stats do file operations and
// block: never on a shard thread. Uploads and sources may outlive the store but must not be called then;
// calls under way when the store is destroyed may stay unanswered. A sync of folders that failed is final:
// SyncLinks, Flush and Seal then fail (F-10). Format: docs/formats/blob.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blob/index.h"
#include "blob/source.h"
#include "blob/upload.h"
#include "env/clock.h"

namespace sluice::blob {

struct StoreOptions {
  uint32_t threads = 8;  // blob threads; an upload stays on one, and they mostly wait for syncs
  uint64_t writeback_bytes = 8u << 20;  // how often early write-back is asked for
  uint32_t uploads_max = 4096;  // stages that are being written; Create answers RESOURCE_EXHAUSTED beyond
  // With those that rest. Beyond, the one that has rested longest gives way, if it is not sealed.
  uint32_t stages_max = 16'384;
  uint64_t reserve_bytes = 256u << 20;  // free space that uploads leave to log, index, removals (F-28)
  uint64_t queue_bytes = 16u << 20;  // queued and not yet answered, of one upload; RESOURCE_EXHAUSTED beyond
  uint32_t read_threads = 4;         // sources read beside uploads, not behind their syncs
  uint32_t hash_threads = 1;         // SHA-256; an upload stays on one
  // Uploads are written past the page cache in runs of this size, a multiple of 4096; 0: through the cache.
  uint32_t direct_run_bytes = 1u << 20;
  // Blobs of this size and more are read past the page cache, which they would only empty; 0: never.
  uint64_t direct_read_bytes = 64u << 20;
};

class Store {
 public:
  static absl::StatusOr<std::unique_ptr<Store>> Open(env::Files& files, env::Executors& executors,
                                                     const env::Clock& clock, const std::string& dir,
                                                     StoreOptions options);
  virtual ~Store() = default;

  // Makes a new empty stage. ALREADY_EXISTS if the id has a stage, or is that of a content, whose bytes are
  // never others (P4): only a copy that is damaged is replaced, by the same bytes.
  virtual absl::StatusOr<std::shared_ptr<Upload>> Create(UploadSpec spec, bool replace_content = false) = 0;
  // The stage with this id, open or sealed, also one from before a restart; nullptr if there is none.
  virtual std::shared_ptr<Upload> Find(const GroupId& group, const UploadId& id) = 0;
  // All stages.
  virtual std::vector<std::shared_ptr<Upload>> Stages() = 0;

  // Turns the sealed stage into content. Fine if it is content already. NOT_FOUND if there is neither;
  // FAILED_PRECONDITION if the stage is not sealed, or what is here does not match `wanted`. Durable after
  // SyncLinks.
  virtual absl::Status Link(const GroupId& group, const UploadId& id,
                            const std::optional<Sealed>& wanted = std::nullopt) = 0;
  // Makes all links and removals so far durable. Call it before the index entry
  // that relies on them is flushed.
  virtual absl::Status SyncLinks() = 0;
  // The index knows all links of this group so far, durably. Until then each of them is remembered through
  // restarts: the entry that made it may never be applied again, because a snapshot stands for it (K14).
  virtual void LinksEntered(const GroupId& group) = 0;
  // The contents of this group that the index may not know.
  virtual std::vector<UploadId> LinksNotEntered(const GroupId& group) = 0;
  // The state of the content, without one or beside a damaged one of the sealed stage; nullopt if there is neither.
  virtual absl::StatusOr<std::optional<Sealed>> SealedState(const GroupId& group, const UploadId& id) = 0;
  // Opens the content, without one, or beside one whose footer is damaged, the sealed stage. NOT_FOUND if there is
  // neither, DATA_LOSS if its footer is damaged or does not match `wanted`.
  virtual absl::StatusOr<std::shared_ptr<Source>> OpenSource(
      const GroupId& group, const UploadId& id, const std::optional<Sealed>& wanted = std::nullopt) = 0;
  // Frees content (not a stage), which the caller knows to be its group's; the last source that reads it keeps it until then. Fine if there is none.
  virtual absl::Status Remove(const UploadId& id) = 0;

  // What inspect and status show.
  struct Stats {
    uint64_t stages = 0;
    uint64_t staged_bytes = 0;
    uint64_t damaged_chunks = 0;
    uint64_t free_bytes = 0;
  };
  virtual Stats stats() = 0;

  // Contents found damaged by reads since the last call, at most kDamagedMax of them:
  // the caller has them replaced.
  static constexpr size_t kDamagedMax = 1024;
  virtual std::vector<UploadId> TakeDamaged() = 0;
};

}  // namespace sluice::blob
