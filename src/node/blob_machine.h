// The `blob` state machine: names, contents and digests of immutable byte strings. Pure: it decides, and says
// what is to be done with the bytes.
//
//   auto reply = machine.Apply(command, state);
//   for (ContentChange& change : machine.TakeChanges()) { ... link, fetch or free the bytes ... }
//
// An upload id is one content for good: what comes under it again is refused. Two contents are the same bytes
// if their digests are equal or the leader has compared them; an equal checksum proves nothing. Bytes that no
// majority holds any more, or that the leader finds damaged, are replaced by the same bytes when somebody brings
// them.
//
// State (docs/formats/blob_state.md): n/NAME -> content and time; c/ID -> length, checksum, digest, holders,
// number of names, or the content that took its place; d/DIGEST -> content; i/ID -> the bytes of a small one;
// x/ID -> abandoned, y/STAMP ID -> the same by age, z -> how many. Threading as StateMachine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/blob_command.h"
#include "sluice/state_machine.h"

namespace sluice::node {

// What an applied command means for the bytes of this server.
struct ContentChange {
  enum class Kind : uint8_t { kLink, kDropStage, kRemove } kind = Kind::kLink;
  UploadId upload;
  Index index;                  // of the entry
  blob::Sealed sealed;          // kLink
  std::vector<PeerId> holders;  // kLink
};

// A content as the state knows it.
struct ContentRecord {
  UploadId id;
  blob::Sealed sealed;
  std::vector<PeerId> holders;
  uint64_t names = 0;
  bool inlined = false;
  std::vector<UploadId> replaced;  // lost contents that this one stands for
};
struct NameRecord {
  std::string name;
  int64_t created_ms = 0;
  ContentRecord content;
};

class BlobMachine : public StateMachine {
 public:
  // An abandoned upload is remembered for this long, and while it is one of the youngest so many.
  static constexpr int64_t kAbandonedKeptMs = 24 * 3600 * 1000;
  static constexpr uint64_t kAbandonedKept = 1024;

  absl::StatusOr<Bytes> Apply(const ::sluice::Command& command, State& state) override;
  // Not a way in: blobs are read through Host::OpenRead. Answers UNIMPLEMENTED.
  absl::StatusOr<Bytes> Query(const Bytes& request, const State& state) override;
  // Refuses what Apply would refuse whatever the state: malformed commands and names.
  absl::Status Admit(const Bytes& message) override;
  absl::Status CheckRecord(std::string_view key, std::string_view value) const override;

  // What the commands applied since the last call mean for the bytes, in order.
  std::vector<ContentChange> TakeChanges() { return std::exchange(changes_, {}); }

  // Lookups for reads; nullopt if there is none.
  static std::optional<NameRecord> FindName(std::string_view name, const State& state);
  // Of a content that was replaced: the one that stands for it.
  static std::optional<ContentRecord> FindContent(const UploadId& id, const State& state);
  static std::optional<UploadId> FindDigest(const Sha256& digest, const State& state);
  static std::optional<std::string> InlineBytes(const UploadId& id, const State& state);
  static bool IsAbandoned(const UploadId& id, const State& state);
  static std::vector<NameRecord> List(std::string_view prefix, std::string_view after, size_t limit,
                                      const State& state);
  // Every content that is not inline; for the missing set after a snapshot.
  static void ForEachContent(const State& state, const std::function<void(const ContentRecord&)>& visit);
  // Of which content this is the record; nullopt if it is another record, or of one that another stands for now.
  static std::optional<UploadId> ContentOf(std::string_view key, std::string_view value);

 private:
  absl::StatusOr<Bytes> Publish(const BlobCommand& command, Index index, State& state);
  // Makes the command's bytes a content without a name.
  ContentRecord Enter(const BlobCommand& command, Index index, State& state);
  // Has the command's bytes stand for `lost`.
  ContentRecord Replace(const ContentRecord& lost, const BlobCommand& command, Index index, State& state);
  absl::StatusOr<Bytes> Remove(const BlobCommand& command, Index index, State& state);
  absl::StatusOr<Bytes> Abandon(const BlobCommand& command, Index index, State& state);
  static void Prune(int64_t now_ms, State& state);

  std::vector<ContentChange> changes_;
};

}  // namespace sluice::node
