// One incoming call of installSnapshot: carries chunks to a SnapshotSink and its answers back.
//
// Used by ServerService::installSnapshot only. Threading: chunks are handled one at a time on `disk`, which
// may block; the next chunk is read when the last one was answered. Failure: the call ends with a status, with
// DEADLINE_EXCEEDED when the sender says nothing for `silence`; the leader starts anew.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "edge/bidi_call.h"
#include "edge/open_calls.h"
#include "edge/ratis/errors.h"
#include "edge/ratis/snapshot_chunks.h"
#include "edge/silence.h"

namespace sluice::edge::ratis {

inline constexpr size_t kSnapshotsMax = 8;  // received at a time

class SnapshotReceiver final
    : public BidiCall<pb::InstallSnapshotRequestProto, pb::InstallSnapshotReplyProto>,
      public std::enable_shared_from_this<SnapshotReceiver> {
 public:
  SnapshotReceiver(grpc::CallbackServerContext* context, node::Host* host, env::Executor* disk,
                   env::Files* files, env::Duration silence,
                   std::shared_ptr<OpenCalls<SnapshotReceiver>> calls);
  ~SnapshotReceiver() override;

  void Begin();
  void Stop();
  void OnReadDone(bool ok) override;
  void OnDone() override;

 private:
  void OnAnswer(absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last);
  void Fail(CallFailure failure);
  bool OnSilence();

  env::Executor* const disk_;
  const std::shared_ptr<OpenCalls<SnapshotReceiver>> calls_;
  const std::shared_ptr<SnapshotSink> sink_;  // used on `disk`; what the host owes an answer to holds it, too
  const env::Duration silent_for_;
  Silence silence_;
  std::atomic<bool> answering_{false};  // a chunk came that has no answer yet
};

}  // namespace sluice::edge::ratis
