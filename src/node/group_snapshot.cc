// Snapshots of a group: one is sent to a peer that the log does not reach any more,
// one that came replaces the state here.

#include "base/log.h"
#include "node/group.h"

namespace sluice::node {

void Group::SendSnapshot(const PeerId& peer_id) {
  const raft::Peer* found = core_->configuration().Find(peer_id);
  if (found == nullptr || peers_ == nullptr || snapshot_running_) {
    core_->SnapshotDone(peer_id, false, kNoIndex);
    return;
  }
  snapshot_running_ = true;
  const raft::Peer peer = *found;
  const Term term = core_->term();
  const std::string path = fmt::format("{}/out-{}-{}", parts_.snapshot_dir,
                                       sluice::ToHex(parts_.spec.id.AsBytes()), sluice::ToHex(peer_id.value));
  parts_.apply->Post([this, alive = alive_, peer, term, path] {
    auto saved = std::make_shared<absl::StatusOr<TermIndex>>(applier_->SaveSnapshot(path));
    raft::Configuration configuration = applier_->configuration();
    parts_.shard->Post([this, alive, peer, term, path, saved, configuration = std::move(configuration)] {
      if (!*alive || stopped_) return;
      const auto done = [this, alive, peer, saved](const absl::Status& status) {
        if (!*alive || stopped_) return;
        snapshot_running_ = false;
        if (!status.ok()) LogWarn("snapshot to {}: {}", peer.id.value, Message(status));
        core_->SnapshotDone(peer.id, status.ok(), saved->ok() ? (*saved)->index : kNoIndex);
        Pump();
      };
      if (!saved->ok()) return done(saved->status());
      snapshot_ = **saved;
      SnapshotOffer offer{parts_.spec.id, term, **saved, configuration, path, 0};
      peers_->SendSnapshot(offer, peer, parts_.shard, done);
    });
  });
}

void Group::InstallSnapshot(Term leader_term, const std::string& path, env::Executor* reply_on,
                            absl::AnyInvocable<void(absl::Status)> done) {
  auto answer = std::make_shared<absl::AnyInvocable<void(absl::Status)>>(std::move(done));
  const auto finish = [reply_on, answer](absl::Status status) {
    reply_on->Post([answer, status = std::move(status)] { (*answer)(status); });
  };
  if (stopped_ || !failed_.ok() || installing_ || applying_ || checkpointing_) {
    return finish(absl::UnavailableError("the group is busy; try the snapshot again"));
  }
  if (leader_term < core_->term())
    return finish(absl::FailedPreconditionError("the snapshot is from an old leader"));
  installing_ = true;
  auto at = std::make_shared<absl::StatusOr<TermIndex>>(absl::UnknownError("not run"));
  const auto finished = [this, alive = alive_, finish](absl::Status status) {
    if (*alive) {
      installing_ = core_rests_ = false;
      MaybeApply();
    }
    finish(std::move(status));
  };
  const auto installed = [this, alive = alive_, finish, finished](const InstalledState& start, bool begun) {
    if (!*alive || stopped_) return finished(absl::UnavailableError("stopping"));
    if (!start->ok() && begun) {
      // Neither the old state nor the new one: a restart goes on with the file, nothing else does. The core
      // rests until then, so that no read finds an empty state.
      Fail(start->status());
      return finish(start->status());
    }
    if (!start->ok()) {
      if (absl::IsFailedPrecondition(start->status())) Fail(start->status());  // D-01
      return finished(start->status());
    }
    // The state is durable; the log follows. It starts again behind the snapshot before anything else is
    // appended; a crash in between is made up for when the group is opened.
    const TermIndex upto = (*start)->applied;
    parts_.log->Restart(parts_.spec.id, upto, parts_.shard, [this, alive = alive_](absl::Status status) {
      if (*alive && !status.ok()) Fail(std::move(status));
    });
    core_->SnapshotInstalled(upto, *(*start)->configuration);
    unwritten_.clear();  // of the old log; a vote that waits with it still counts
    applied_ = upto;
    facts_known_ = (*start)->facts_known;
    if (parts_.on_cluster && !(*start)->cluster.IsZero()) parts_.on_cluster((*start)->cluster);
    checkpointed_ = upto.index;
    sessions_ = std::move((*start)->replies);
    clock_ms_ = (*start)->clock_ms;
    Applied changes;
    changes.upto = upto;
    changes.missing = (*start)->missing;
    changes.no_longer_missing = (*start)->no_longer_missing;
    if (parts_.on_applied) parts_.on_applied(changes);
    snapshot_ = upto;
    LogInfo("group {}: snapshot up to entry {} installed", parts_.spec.id.ToString(), upto.index.value);
    finished(absl::OkStatus());
    Pump();
  };
  parts_.apply->Post([this, alive = alive_, path, at, installed, finished] {
    *at = Applier::CheckSnapshot(applier_->files(), path);
    parts_.shard->Post([this, alive, path, at, installed, finished] {
      if (!*alive || stopped_) return finished(absl::UnavailableError("stopping"));
      if (!at->ok()) return finished(at->status());
      if (!core_->WantsSnapshot(**at))
        return finished(absl::AlreadyExistsError("the log is already that far"));
      core_rests_ = true;  // it must not append, vote or lead while its state is replaced
      ReplaceState(path, installed);
    });
  });
}

// Once begun, a full disk is waited for: there is no way back (F-12).
void Group::ReplaceState(const std::string& path, const StateReplaced& done) {
  parts_.apply->Post([this, alive = alive_, path, done] {
    auto start = std::make_shared<absl::StatusOr<Applier::Start>>(applier_->InstallSnapshot(path));
    const bool begun = applier_->replacing();
    parts_.shard->Post([this, alive, path, done, start, begun] {
      const bool full = begun && absl::IsResourceExhausted(start->status());
      if (!full || !*alive || stopped_) return done(start, begun);
      LogWarn("group {}: the snapshot waits: {}", parts_.spec.id.ToString(), Message(start->status()));
      parts_.shard->PostAfter(kFullDiskRetry, [this, alive, path, done, start, begun] {
        if (!*alive || stopped_) return done(start, begun);
        ReplaceState(path, done);
      });
    });
  });
}

}  // namespace sluice::node
