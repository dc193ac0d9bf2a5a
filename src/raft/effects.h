// What the world must now do for a raft::Core, in the order of the fields.
//
// 1. Start persisting `hard_state` and `append` (in one batch if both are there).
// 2. At the same time, send `send_now`.
// 3. Send each of `send_after` once what it waits for is durable.
// 4. Apply committed entries up to `commit`, answer `reads`, note `role`.
// Then tell the core: HardStatePersisted, Persisted, Applied.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "raft/types.h"

namespace sluice::raft {

enum class Role : uint8_t { kFollower, kCandidate, kLeader, kLearner };

// A message to a peer. For an AppendRequest the entries are named by range [entries_from, entries_end) and
// are put in by the sender (they may have to be read); `message.entries` is empty here. If a later
// Effects::truncated_from is below entries_end before they were read, the message must be dropped: those
// entries are no longer what this leader meant.
struct Outgoing {
  PeerId to;
  Message message;
  Index entries_from = kNoIndex;
  Index entries_end = kNoIndex;
};

// A message that must not leave before the disk is that far. It is always right to send all of
// Effects::send_after, in order, once everything that was handed out up to and with these Effects is durable.
struct OutgoingAfter {
  Outgoing outgoing;
  TermIndex entry;  // waits until Persisted() covered this entry (index kNoIndex: does not wait for one)
  uint64_t hard_state_version = 0;  // waits until HardStatePersisted() reached it (0: does not wait)
};

// A read that RequestRead() started. ok: serve it once the applied index has reached `index`.
// Not ok: there is no leader, or it could not confirm that it still leads.
struct ReadReleased {
  uint64_t token = 0;
  bool ok = false;
  Index index;
};

struct RoleChange {
  Role role = Role::kFollower;
  Term term;
  PeerId leader;  // empty: unknown
  // On a leader: false until the configuration entry of its own term is committed; true announces that.
  bool ready = false;
};

struct Effects {
  std::optional<HardState> hard_state;
  uint64_t hard_state_version = 0;
  // Entries to append. If the first one's index is not beyond the log's end,
  // the log is truncated there first.
  std::vector<Entry> append;
  std::vector<Outgoing> send_now;
  std::vector<OutgoingAfter> send_after;
  // Commit index, when it moved.
  std::optional<Index> commit;
  std::vector<ReadReleased> reads;
  // Peers whose next entry is no longer in the log: bring them a snapshot, then call SnapshotDone, in any
  // case. A peer that was out of reach meanwhile may be named again; a transfer still under way then goes on.
  std::vector<PeerId> send_snapshot;
  std::optional<RoleChange> role;
  // Set when `append` truncates: entries from here on were replaced (their proposals are lost).
  std::optional<Index> truncated_from;
};

}  // namespace sluice::raft
