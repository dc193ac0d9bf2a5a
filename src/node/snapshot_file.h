// The file of a snapshot: written from a view of the index, verified, read (docs/formats/snapshot.md).
//
//   RETURN_IF_ERROR(WriteSnapshot(files, view, path));                            // durable when it returns
//   ASSIGN_OR_RETURN(SnapshotHead head, VerifySnapshot(files, path, machine));    // whole, or an error
//   ASSIGN_OR_RETURN(SnapshotReader reader, SnapshotReader::Open(files, path));   // what it holds
//
// What comes over the network is believed in nothing before VerifySnapshot has seen all of it. Threading: each
// function and object on one thread, which may block; none of them touches a group. Failure: DATA_LOSS names
// the file and what is wrong with it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "blob/index.h"
#include "env/files.h"
#include "node/group_facts.h"
#include "raft/types.h"
#include "sluice/state_machine.h"

namespace sluice::node {

// The first bytes of every snapshot of this format: 11 characters and a NUL.
inline constexpr std::string_view kSnapshotMagic{"sluicesnap1\0", 12};

// Where a snapshot stands, and what its group is.
struct SnapshotHead {
  TermIndex at{Term{0}, kNoIndex};
  raft::Configuration configuration;
  std::optional<GroupFacts> facts;
};

// The state of a group as of one index, while entries go on being applied.
struct SnapshotView {
  SnapshotHead head;
  std::string prefix;  // of the group's keys
  std::unique_ptr<blob::IndexView> index;
};

struct SnapshotRecord {
  std::string key;  // without the group's prefix
  std::string value;
};

class SnapshotReader {
 public:
  // Verifies the checksum of the whole file, and the head.
  static absl::StatusOr<SnapshotReader> Open(env::Files& files, const std::string& path);
  const SnapshotHead& head() const { return head_; }
  // The next record; nullopt at the end.
  absl::StatusOr<std::optional<SnapshotRecord>> Next();

 private:
  SnapshotReader(std::string path, std::unique_ptr<env::File> file, uint64_t end)
      : path_(std::move(path)), file_(std::move(file)), end_(end) {}
  absl::Status CheckSum();
  absl::Status ReadHead();
  // The next `size` bytes, valid until the next call.
  absl::StatusOr<std::string_view> Take(size_t size);
  absl::StatusOr<std::optional<std::string_view>> NextRaw();
  absl::Status Malformed(std::string_view what) const;

  std::string path_;
  std::unique_ptr<env::File> file_;
  uint64_t end_;     // of the records; the tail follows
  uint64_t at_ = 0;  // of what follows buffer_
  std::string buffer_;
  size_t taken_ = 0;  // of buffer_
  SnapshotHead head_;
};

absl::Status WriteSnapshot(env::Files& files, const SnapshotView& view, const std::string& path);
// Every record is read and decoded, that of `machine` by it; terms and indexes are such that consensus can
// work with them.
absl::StatusOr<SnapshotHead> VerifySnapshot(env::Files& files, const std::string& path,
                                            const StateMachine& machine);

}  // namespace sluice::node
