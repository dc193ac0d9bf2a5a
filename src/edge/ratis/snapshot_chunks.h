// A snapshot on its way between two servers, as the messages of Ratis' installSnapshot: both ends, without the
// network. The reactors (snapshot_sender, snapshot_receiver) and the simulator only carry what these say.
//
//   SnapshotSource source(plan, &files);
//   while (chunk = source.Next()) send(*chunk);      source.OnReply(reply);     source.outcome()
//
//   auto sink = std::make_shared<SnapshotSink>(&host, &disk, &files, path, says);
//   sink->OnChunk(chunk, [](absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last) { ... });
//
// Chunks are at most kChunkBytes, kUnansweredChunks of them unanswered, MD5 with the last one. The receiver asks
// its host before it writes anything, and answers the last chunk when the snapshot is installed. Threading:
// each object on one executor, which may block. Failure: any wrong message ends the transfer, and what came of
// it is removed; the next one starts anew.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/digest.h"
#include "edge/handshake.h"
#include "edge/ratis/convert.h"
#include "edge/ratis/errors.h"
#include "env/executor.h"
#include "env/files.h"
#include "node/host.h"
#include "node/transports.h"

namespace sluice::edge::ratis {

inline constexpr size_t kChunkBytes = 1u << 20;
inline constexpr uint32_t kUnansweredChunks = 8;
inline constexpr uint64_t kSnapshotBytesMax = uint64_t{1} << 40;
inline constexpr size_t kChunkBytesMax = 16u << 20;  // Ratis' default for one chunk
// Either end gives up after so long without a word of the other. The last answer comes when the snapshot is
// installed: it may take as long again for each MiB.
inline constexpr std::chrono::seconds kSnapshotSilence{60};

struct SnapshotPlan {
  PeerId self;
  PeerId to;
  node::SnapshotOffer offer;
};

class SnapshotSource {
 public:
  SnapshotSource(SnapshotPlan plan, env::Files* files);

  // The next chunk; nullopt while the peer owes answers, and when there are no more.
  absl::StatusOr<std::optional<pb::InstallSnapshotRequestProto>> Next();
  void OnReply(const pb::InstallSnapshotReplyProto& reply);
  // Known once the peer has installed the snapshot, has all of it already, or refused it.
  const std::optional<absl::Status>& outcome() const { return outcome_; }
  bool all_sent() const { return all_sent_; }
  uint64_t bytes() const { return total_; }
  const SnapshotPlan& plan() const { return plan_; }

 private:
  absl::Status Open();
  absl::StatusOr<pb::InstallSnapshotRequestProto> MakeChunk();

  const SnapshotPlan plan_;
  env::Files* const files_;
  const std::string request_id_;
  std::unique_ptr<env::File> file_;
  Md5Builder md5_;
  uint64_t total_ = 0;
  uint64_t offset_ = 0;
  uint32_t next_chunk_ = 0;
  uint32_t answered_ = 0;
  bool all_sent_ = false;
  std::optional<absl::Status> outcome_;
};

class SnapshotSink : public std::enable_shared_from_this<SnapshotSink> {
 public:
  // The answer to a chunk, on `disk`; with `last` nothing more is taken. A status: the call ends with its
  // FailureOf. NOT_FOUND: the group is not here. UNAVAILABLE: not now, and nothing is wrong with the snapshot.
  using Reply = absl::AnyInvocable<void(absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last)>;

  // What comes is written to `path`, a file of our own naming in the host's folder: names that the peer gives
  // are compared, never opened.
  SnapshotSink(node::Host* host, env::Executor* disk, env::Files* files, std::string path, CallerSays says);

  // One after another: the next after the answer.
  void OnChunk(pb::InstallSnapshotRequestProto chunk, Reply reply);
  CallFailure FailureOf(const absl::Status& status) const;
  // The peer is gone. A snapshot that came whole is installed all the same.
  void Drop();

 private:
  using Chunk = pb::InstallSnapshotRequestProto;
  absl::Status Check(const Chunk& chunk) const;
  absl::Status CheckFirst(const Chunk& chunk, TermIndex* at);
  void TakeChunk(const Chunk& chunk, Reply reply);
  absl::Status WriteChunk(const Chunk& chunk);
  absl::Status CloseFile(const std::string& digest);
  void Install(Reply reply);
  pb::InstallSnapshotReplyProto Answer(pb::InstallSnapshotResult result, uint32_t index) const;
  void Fail(const absl::Status& status, Reply reply);
  void DropFile();

  node::Host* const host_;
  env::Executor* const disk_;
  env::Files* const files_;
  const std::string path_;
  const CallerSays says_;
  ServerHeader header_;
  Term leader_term_;
  std::string request_id_;
  std::string filename_;  // as the peer calls it
  std::unique_ptr<env::File> file_;
  bool made_ = false;  // there may be a file
  Md5Builder md5_;
  uint32_t next_chunk_ = 0;
  uint64_t written_ = 0;
  uint64_t total_ = 0;  // announced
  bool installing_ = false;
  bool dropped_ = false;
};

}  // namespace sluice::edge::ratis
