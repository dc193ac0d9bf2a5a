// The follower's side of replication.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {
namespace {

// The configurations among the entries, in order; nullopt if these entries cannot follow `previous` or cannot
// have been sent by a leader of `term`.
std::optional<std::vector<Configuration>> CheckEntries(const AppendRequest& request) {
  std::vector<Configuration> configurations;
  TermIndex before = request.previous;
  for (const Entry& entry : request.entries) {
    if (entry.at.index != before.index.Next() || entry.at.term < before.term ||
        entry.at.term > request.term) {
      return std::nullopt;
    }
    before = entry.at;
    if (entry.kind != EntryKind::kConfiguration) continue;
    absl::StatusOr<Configuration> configuration = DecodeConfiguration(entry.payload);
    if (!configuration.ok() || configuration->voters.empty()) return std::nullopt;
    configurations.push_back(*std::move(configuration));
  }
  return configurations;
}

}  // namespace

void Core::Impl::Handle(const PeerId& from, AppendRequest& request) {
  std::optional<std::vector<Configuration>> configurations = CheckEntries(request);
  const std::optional<Term> term_there = log_.TermAt(request.previous.index);
  const bool shared = request.previous.index <= commit_;  // what is committed is the same everywhere
  const bool contradicts = shared && request.previous.index.valid() && term_there.has_value() &&
                           *term_there != request.previous.term;
  if (!configurations.has_value() || contradicts) {
    ++impossible_;
    return;
  }
  if (request.term < hard_state_.term) {
    return ReplyToAppend(from, request, AppendResult::kNotLeader, log_.last().index.Next());
  }
  if (request.term == hard_state_.term && !leader_.empty() && leader_ != from) {
    ++impossible_;  // two leaders in one term
    return ReplyToAppend(from, request, AppendResult::kNotLeader, log_.last().index.Next());
  }
  BecomeFollower(request.term, from);
  since_leader_ = 0;

  const Index next = log_.last().index.Next();
  if (!request.entries.empty() && request.previous.index < commit_) {
    return ReplyToAppend(from, request, AppendResult::kInconsistency, commit_.Next());
  }
  if (!shared && term_there != request.previous.term) {
    const Index hint = std::min(next, request.previous.index);
    return ReplyToAppend(from, request, AppendResult::kInconsistency, hint);
  }
  AcceptEntries(from, request, *std::move(configurations));
}

void Core::Impl::AcceptEntries(const PeerId& from, AppendRequest& request,
                               std::vector<Configuration> configurations) {
  if (!request.entries.empty() && unsynced_bytes_ + append_bytes_ > options_.uncommitted_bytes_max) {
    return;  // the disk is far behind; the leader asks again
  }
  const Index end = request.previous.index + static_cast<int64_t>(request.entries.size());
  auto entry = request.entries.begin();
  auto configuration = configurations.begin();
  for (; entry != request.entries.end() && log_.Contains(entry->at); ++entry) {
    if (entry->kind == EntryKind::kConfiguration) ++configuration;
  }
  if (entry != request.entries.end() && entry->at.index <= log_.last().index) {
    if (entry->at.index <= std::max(commit_, leader_commit_)) {
      ++impossible_;  // would replace what a leader said is committed
      return;
    }
    TruncateFrom(entry->at.index);
  }
  for (; entry != request.entries.end(); ++entry) {
    const bool changes = entry->kind == EntryKind::kConfiguration;
    AppendOne(std::move(*entry), changes ? std::optional(std::move(*configuration++)) : std::nullopt);
  }
  leader_commit_ = std::max(leader_commit_, std::min(request.commit, end));
  SetCommit(std::min(leader_commit_, durable_));
  const bool heartbeat = request.entries.empty();
  ReplyToAppend(from, request, AppendResult::kSuccess, heartbeat ? log_.last().index.Next() : end.Next());
}

// A success waits until its entries are durable, and says what holds then. Another answer to a request with
// entries waits for what was accepted before it, so that it does not overtake the answers to that.
void Core::Impl::ReplyToAppend(const PeerId& to, const AppendRequest& request, AppendResult result,
                               Index next) {
  AppendReply reply{request.call, hard_state_.term, result, next, kNoIndex, commit_, request.entries.empty()};
  Index wait = kNoIndex;
  const bool success = result == AppendResult::kSuccess;
  if (reply.heartbeat) {
    // What it named is in both logs, and counts as far as it is durable here. Without this a peer that was
    // brought up by a snapshot, or whose acknowledgements were lost, counts for nothing until the next write.
    if (success && MayAcknowledge()) reply.match = std::min(request.previous.index, durable_);
  } else {
    wait = success ? next.Prev() : log_.last().index;
    if (success && MayAcknowledge()) reply.match = next.Prev();
    if (success) reply.commit = std::max(commit_, std::min(leader_commit_, next.Prev()));
  }
  Send(to, reply, wait);
}

}  // namespace sluice::raft
