// Snapshots of a group: one goes to a peer that the log does not reach any more, one that came replaces the
// state here; and how much log is kept for those who catch up.

#include <utility>

#include "base/log.h"
#include "node/group.h"

namespace sluice::node {

// --- Going out ---------------------------------------------------------------------------------------------

void Group::SendSnapshot(const PeerId& peer) {
  if (peers_ == nullptr || core_->configuration().Find(peer) == nullptr) {
    return core_->SnapshotDone(peer, false, kNoIndex);
  }
  // Named again because it was out of reach meanwhile: what is under way to it goes on.
  if (transfers_.contains(peer)) return;
  snapshot_wanted_.insert(peer);
  SendWanted();
}

bool Group::LogFollows(TermIndex snapshot) const {
  return core_->TermAt(snapshot.index) == snapshot.term && snapshot.index >= core_->unreadable();
}

void Group::SendWanted() {
  if (snapshot_wanted_.empty() || writing_snapshot_) return;
  if (!outgoing_ || !LogFollows(outgoing_->at)) {
    // One file at a time: those who are being sent the last one finish first.
    if (transfers_.empty()) WriteOutgoing();
    return;
  }
  const std::set<PeerId> wanted = std::exchange(snapshot_wanted_, {});
  for (const PeerId& peer : wanted) StartTransfer(peer);
}

// The apply executor only looks away for a moment: everybody is applied on while the file is written.
void Group::WriteOutgoing() {
  DropOutgoing();
  writing_snapshot_ = applied_.index;
  parts_.apply->Post([this, alive = alive_] {
    auto view = std::make_shared<absl::StatusOr<SnapshotView>>(applier_->TakeView());
    parts_.shard->Post([this, alive, view = std::move(view)] {
      if (!*alive || stopped_) return;
      if (!view->ok()) return OnWritten(view->status(), {});
      OutgoingSnapshot file;
      file.path = fmt::format("{}/out-{}-{}", parts_.snapshot_dir, sluice::ToHex(parts_.spec.id.AsBytes()),
                              ++snapshot_files_);
      file.at = (*view)->head.at;
      file.configuration = (*view)->head.configuration;
      parts_.snapshots->Post([this, alive, view, file = std::move(file)]() mutable {
        const absl::Status status = WriteSnapshot(applier_->files(), **view, file.path);
        (*view)->index.reset();
        if (!status.ok()) (void)applier_->files().Remove(file.path);
        parts_.shard->Post([this, alive, status, file = std::move(file)]() mutable {
          if (*alive) OnWritten(status, std::move(file));
        });
      });
    });
  });
}

void Group::OnWritten(absl::Status status, OutgoingSnapshot written) {
  writing_snapshot_.reset();
  if (stopped_) return;
  if (status.ok()) {
    snapshot_ = written.at;
    written.written = parts_.clock->MonotonicNow();
    outgoing_ = std::move(written);
    SendWanted();
  } else {
    LogWarn("group {}: no snapshot: {}", parts_.spec.id.ToString(), Message(status));
    const std::set<PeerId> wanted = std::exchange(snapshot_wanted_, {});
    for (const PeerId& peer : wanted) core_->SnapshotDone(peer, false, kNoIndex);
  }
  Pump();
}

void Group::StartTransfer(const PeerId& peer) {
  const raft::Peer* found = core_->configuration().Find(peer);
  if (found == nullptr) return core_->SnapshotDone(peer, false, kNoIndex);
  SnapshotOffer offer;
  offer.group = parts_.spec.id;
  offer.leader_term = core_->term();
  offer.at = outgoing_->at;
  offer.configuration = outgoing_->configuration;
  offer.path = outgoing_->path;
  offer.foreign_members = parts_.spec.mode == GroupMode::kRatis;
  transfers_[peer] = {offer.at, offer.progress};
  peers_->SendSnapshot(offer, *found, parts_.shard, [this, alive = alive_, peer](const absl::Status& status) {
    if (*alive && !stopped_) OnTransferEnded(peer, status);
  });
}

void Group::OnTransferEnded(const PeerId& peer, const absl::Status& status) {
  const auto found = transfers_.find(peer);
  if (found == transfers_.end()) return;
  const Transfer transfer = std::move(found->second);
  transfers_.erase(found);
  const uint64_t total = transfer.progress->total;
  // It was not the way, or the moment: whatever is wrong, this file is not sent again (F-31).
  const bool refused = !status.ok() && !absl::IsUnavailable(status);
  if (status.ok()) {
    LogInfo("group {}: {} has the snapshot up to entry {} ({} bytes)", parts_.spec.id.ToString(),
            Printable(peer.value), transfer.at.index.value, total);
  } else {
    LogWarn("group {}: snapshot up to entry {} to {}: {}", parts_.spec.id.ToString(), transfer.at.index.value,
            Printable(peer.value), Message(status));
  }
  core_->SnapshotDone(peer, status.ok(), transfer.at.index);
  if (transfers_.empty() && (status.ok() || refused)) DropOutgoing();
  SendWanted();
  Pump();
}

void Group::DropOutgoing() {
  if (!outgoing_) return;
  parts_.snapshots->Post([this, path = outgoing_->path] {
    if (const absl::Status removed = applier_->files().Remove(path); !removed.ok()) {
      LogWarn("a snapshot that nobody needs stays: {}", Message(removed));
    }
  });
  outgoing_.reset();
}

void Group::TickSnapshots(env::Instant now) {
  if (!leads()) snapshot_wanted_.clear();
  const bool useful =
      outgoing_ && leads() && LogFollows(outgoing_->at) && now - outgoing_->written < kOutgoingKept;
  if (outgoing_ && transfers_.empty() && !useful) DropOutgoing();
  if (when_idle_ && !applying_ && !checkpointing_) std::exchange(when_idle_, nullptr)();
}

// --- How much log is kept ----------------------------------------------------------------------------------

// Else the log would run away from those who catch up, and each snapshot would be too old when it is there
// (F-30). Beyond the limit it does.
Index Group::MayCompact(Index wanted) const {
  if (!leads() || log_full_) return wanted;
  Index upto = wanted;
  const auto keep_after = [&](Index has, const PeerId& peer) {
    if (has >= upto) return;
    const uint64_t bytes = core_->LogBytesAfter(has);
    // Never at the price of those who write: as much as is kept must still be free.
    if (bytes <= parts_.options->catch_up_log_bytes_max && parts_.log->HasRoom(bytes).ok()) {
      upto = has;
    } else {
      LogWarn(
          "group {}: {} bytes of log are more than is kept for {}, which has up to entry {}: it will need a "
          "snapshot",
          parts_.spec.id.ToString(), bytes, Printable(peer.value), has.value);
    }
  };
  bool waits_for_snapshot = false;
  for (const auto& peer : core_->Progress()) {
    if (transfers_.contains(peer.id)) {
      keep_after(transfers_.at(peer.id).at.index, peer.id);
      continue;
    }
    if (!peer.active) continue;
    const bool replicates = peer.state == raft::Core::PeerProgress::State::kReplicate;
    const Index has = replicates ? peer.known : peer.next.Prev();
    if (has >= core_->first_index().Prev()) {
      keep_after(has, peer.id);
    } else {
      waits_for_snapshot = true;
      if (outgoing_) keep_after(outgoing_->at.index, peer.id);
    }
  }
  if (waits_for_snapshot && writing_snapshot_) upto = std::min(upto, *writing_snapshot_);
  return upto;
}

bool Group::ShortOfRoom() const {
  return parts_.log->ShortOfSpace() || (parts_.room != nullptr && parts_.room->Short());
}

void Group::CompactLog() {
  // What is in the index may be more than what damage has left of the log.
  const Index durable = std::min(checkpointed_, core_->commit());
  const uint64_t keep = ShortOfRoom() ? 0 : parts_.options->compact_keep_entries;
  const Index upto = MayCompact(durable - static_cast<int64_t>(keep));
  const auto term = core_->TermAt(upto);
  if (!term || upto < core_->first_index()) return;
  core_->Compact(upto);
  parts_.log->Compact(parts_.spec.id, {*term, upto});
}

// A snapshot stands for what is applied here. What is not is somebody else's to give: without it this server
// cannot be the leader.
void Group::OnUnreadable(Index from, Index end, const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return;  // compacted meanwhile, or no room to read it now
  const Index index = from <= applied_.index ? std::min(end.Prev(), applied_.index) : from;
  if (index > core_->unreadable()) {
    LogError("group {}: entries up to {} cannot be read for followers: {}", parts_.spec.id.ToString(),
             index.value, Message(status));
  }
  core_->Unreadable(index);
}

// --- Coming in ---------------------------------------------------------------------------------------------

absl::Status Group::MayInstall(TermIndex at) const {
  if (stopped_) return absl::UnavailableError("the server is stopping");
  RETURN_IF_ERROR(failed_);
  if (!core_->WantsSnapshot(at)) {
    return absl::AlreadyExistsError(fmt::format("entry {} is here already", at.index.value));
  }
  // Its leader's messages bring the term, which may be one that we do not believe at once.
  if (at.term > core_->term()) {
    return absl::UnavailableError(
        fmt::format("a snapshot of term {} in term {}", at.term.value, core_->term().value));
  }
  return absl::OkStatus();
}

void Group::WantsSnapshot(Term leader_term, TermIndex at, env::Executor* reply_on,
                          absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status answer = MayInstall(at);
  if (leader_term < core_->term()) {
    answer = absl::FailedPreconditionError(fmt::format("the leader of term {} is an old one: the term is {}",
                                                       leader_term.value, core_->term().value));
  } else if (answer.ok() && installing_) {
    answer = absl::UnavailableError("another snapshot is being installed");
  }
  reply_on->Post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
}

void Group::InstallSnapshot(const std::string& path, env::Executor* reply_on,
                            absl::AnyInvocable<void(absl::Status)> done) {
  auto answer = std::make_shared<absl::AnyInvocable<void(absl::Status)>>(std::move(done));
  const auto finish = [reply_on, answer](absl::Status status) {
    reply_on->Post([answer, status = std::move(status)] { (*answer)(status); });
  };
  if (stopped_ || installing_) return finish(absl::UnavailableError("stopping, or installing another one"));
  if (!failed_.ok()) return finish(failed_);
  installing_ = true;
  const std::function<void(absl::Status)> finished = [this, alive = alive_, finish](absl::Status status) {
    if (*alive) InstallEnded();
    finish(std::move(status));
  };
  // Whole, or nothing that it replaces is touched.
  parts_.snapshots->Post([this, alive = alive_, path, finished] {
    auto head = std::make_shared<absl::StatusOr<SnapshotHead>>(applier_->CheckSnapshot(path));
    parts_.shard->Post([this, alive, path, head, finished] {
      if (!*alive || stopped_) return finished(absl::UnavailableError("stopping"));
      if (absl::IsFailedPrecondition(head->status())) Fail(head->status());  // D-01
      absl::Status good = head->status();
      if (good.ok()) good = MayInstall((*head)->at);
      if (!good.ok()) return finished(std::move(good));
      // What is being applied, or made durable, ends first; nothing new begins.
      replacing_ = true;
      when_idle_ = [this, path, at = (*head)->at, finished] { BeginInstall(at, path, finished); };
    });
  });
}

void Group::InstallEnded() {
  if (state_gone_) return;
  installing_ = replacing_ = core_rests_ = false;
  MaybeApply();
}

// The last life of this server ended in the middle of it: between the old state and the new one there is
// nothing to serve. The log follows when the new one is there, as always.
void Group::GoOnInstalling() {
  installing_ = replacing_ = core_rests_ = true;
  LogInfo("group {}: goes on with the snapshot that was being installed", parts_.spec.id.ToString());
  ReplaceState({}, [this, alive = alive_](const InstalledState& start, bool begun) {
    if (!*alive || stopped_) return;
    OnStateReplaced(start, begun, [this](const absl::Status&) { InstallEnded(); });
  });
}

void Group::BeginInstall(TermIndex at, const std::string& path, std::function<void(absl::Status)> finished) {
  absl::Status good = MayInstall(at);
  if (!good.ok()) return finished(std::move(good));
  core_rests_ = true;  // it must not append, vote or lead while its state is replaced
  parts_.apply->Post([this, alive = alive_, path, finished = std::move(finished)] {
    const absl::Status begun = applier_->BeginReplacing();
    parts_.shard->Post([this, alive, path, begun, finished] {
      if (!*alive || stopped_) return finished(absl::UnavailableError("stopping"));
      if (!begun.ok()) return finished(begun);
      ReplaceState(path, [this, alive, finished](const InstalledState& start, bool replaced) {
        if (!*alive || stopped_) return finished(absl::UnavailableError("stopping"));
        OnStateReplaced(start, replaced, finished);
      });
    });
  });
}

// Once the old state is gone, a full disk is waited for: there is no way back (F-12).
void Group::ReplaceState(const std::string& path, const StateReplaced& done) {
  parts_.snapshots->Post([this, alive = alive_, path, done] {
    auto start = std::make_shared<absl::StatusOr<Applier::Start>>(applier_->Replace(path));
    const bool begun = applier_->replaced();
    if (!begun) {
      // Whole again, the new state or the old one.
      parts_.apply->Post([this, done, start] {
        applier_->EndReplacing();
        parts_.shard->Post([done, start] { done(start, false); });
      });
      return;
    }
    parts_.shard->Post([this, alive, path, done, start] {
      if (!absl::IsResourceExhausted(start->status()) || !*alive || stopped_) return done(start, true);
      LogWarn("group {}: the snapshot waits: {}", parts_.spec.id.ToString(), Message(start->status()));
      parts_.shard->PostAfter(kFullDiskRetry, [this, alive, path, done, start] {
        if (!*alive || stopped_) return done(start, true);
        ReplaceState(path, done);
      });
    });
  });
}

void Group::OnStateReplaced(const InstalledState& start, bool begun,
                            const std::function<void(absl::Status)>& finished) {
  if (!start->ok() && begun) {
    // Neither the old state nor the new one: a restart goes on with the file, nothing else does. The core
    // rests until then, so that no read finds an empty state.
    state_gone_ = true;
    Fail(start->status());
    return finished(start->status());
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
  ++recall_round_;     // what is under way was asked about the log that is gone
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
}

}  // namespace sluice::node
