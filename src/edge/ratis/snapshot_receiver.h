// One incoming snapshot: chunks are written to a file of our own naming, checked, and given to the host.
//
// Used by ServerService::installSnapshot only. Threading: chunks are handled one at a time on `disk`, which
// may block; the next chunk is read when the last one is written. Names that the peer gives are compared,
// never opened. Failure: the file is removed and the call ends with a status; the leader starts anew.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/digest.h"
#include "edge/bidi_call.h"
#include "edge/open_calls.h"
#include "edge/ratis/errors.h"
#include "env/executor.h"
#include "env/files.h"
#include "node/host.h"

namespace sluice::edge::ratis {

inline constexpr size_t kSnapshotsMax = 8;  // received at a time
inline constexpr uint64_t kSnapshotBytesMax = uint64_t{1} << 40;
inline constexpr size_t kChunkBytesMax = 16u << 20;  // Ratis' default for one chunk

class SnapshotReceiver final
    : public BidiCall<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>,
      public std::enable_shared_from_this<SnapshotReceiver> {
 public:
  SnapshotReceiver(grpc::CallbackServerContext* context, node::Host* host, env::Executor* disk,
                   env::Files* files, std::shared_ptr<OpenCalls<SnapshotReceiver>> calls);
  ~SnapshotReceiver() override;

  void Begin() { Read(); }
  void Stop();
  void OnReadDone(bool ok) override;
  void OnDone() override;

 private:
  void OnChunk();
  absl::Status WriteChunk(const pb::InstallSnapshotRequestProto::SnapshotChunkProto& chunk);
  absl::Status Check(const pb::InstallSnapshotRequestProto::SnapshotChunkProto& chunk) const;
  absl::Status CloseFile(const std::string& digest);
  void Install();
  void Reply(pb::InstallSnapshotResult result, uint32_t request_index);
  void Fail(CallFailure failure);
  void DropFile();

  node::Host* const host_;
  env::Executor* const disk_;
  env::Files* const files_;
  const std::shared_ptr<OpenCalls<SnapshotReceiver>> calls_;

  // Used on `disk` only.
  ServerHeader header_;
  Term leader_term_;
  std::string request_id_;
  std::string filename_;  // as the peer calls it
  std::string path_;      // ours
  std::unique_ptr<env::File> file_;
  Md5Builder md5_;
  uint32_t next_chunk_ = 0;
  uint64_t written_ = 0;
  uint64_t total_ = 0;  // announced; 0: unknown
  bool installing_ = false;
};

}  // namespace sluice::edge::ratis
