#include <fmt/format.h>

#include "raft/types.h"

namespace sluice::raft {
namespace {

std::string Text(TermIndex at) {
  return at.index.valid() ? fmt::format("{}@{}", at.index.value, at.term.value) : std::string("none");
}

std::string Text(Index index) { return index.valid() ? fmt::format("{}", index.value) : std::string("none"); }

const char* Text(AppendResult result) {
  switch (result) {
    case AppendResult::kSuccess:
      return "success";
    case AppendResult::kNotLeader:
      return "not-leader";
    case AppendResult::kInconsistency:
      return "inconsistency";
  }
  return "?";
}

std::string Entries(const std::vector<Entry>& entries) {
  if (entries.empty()) return "";
  std::string text = " entries=[";
  for (const Entry& entry : entries) {
    if (text.back() != '[') text += ' ';
    text += Text(entry.at);
    if (entry.kind == EntryKind::kConfiguration) text += "/config";
    if (entry.kind == EntryKind::kMetadata) text += "/metadata";
  }
  return text + "]";
}

struct Printer {
  std::string operator()(const VoteRequest& m) const {
    return fmt::format("{} term={} last={}", m.pre_vote ? "pre-vote?" : "vote?", m.term.value, Text(m.last));
  }
  std::string operator()(const VoteReply& m) const {
    return fmt::format("{} {} term={} last={}{}", m.pre_vote ? "pre-vote" : "vote",
                       m.granted ? "granted" : "refused", m.term.value, Text(m.last),
                       m.should_shutdown ? " should-shutdown" : "");
  }
  std::string operator()(const AppendRequest& m) const {
    return fmt::format("append #{} term={} prev={}{} commit={}{}", m.call, m.term.value, Text(m.previous),
                       Entries(m.entries), Text(m.commit), m.initializing ? " initializing" : "");
  }
  std::string operator()(const AppendReply& m) const {
    return fmt::format("append-reply #{} term={} {} next={} match={} commit={}{}", m.call, m.term.value,
                       Text(m.result), Text(m.next), Text(m.match), Text(m.commit),
                       m.heartbeat ? " heartbeat" : "");
  }
  std::string operator()(const ReadIndexRequest& m) const { return fmt::format("read-index? #{}", m.call); }
  std::string operator()(const ReadIndexReply& m) const {
    return fmt::format("read-index #{} {}", m.call, m.ok ? Text(m.index) : "failed");
  }
  std::string operator()(const TimeoutNow& m) const {
    return fmt::format("timeout-now last={}", Text(m.leader_last));
  }
  std::string operator()(const TimeoutNowReply& m) const {
    return fmt::format("timeout-now {}", m.accepted ? "accepted" : "refused");
  }
};

std::string Ids(const std::vector<Peer>& peers) {
  std::string text;
  for (const Peer& peer : peers) {
    if (!text.empty()) text += ' ';
    text += peer.id.value;
    if (peer.priority != 0) text += fmt::format("^{}", peer.priority);
  }
  return text;
}

}  // namespace

std::string ToString(const Message& message) { return std::visit(Printer(), message); }

std::string ToString(const Configuration& configuration) {
  std::string text = fmt::format("voters({})", Ids(configuration.voters));
  if (configuration.joint()) text += fmt::format(" old-voters({})", Ids(configuration.old_voters));
  if (!configuration.learners.empty()) text += fmt::format(" learners({})", Ids(configuration.learners));
  if (!configuration.old_learners.empty())
    text += fmt::format(" old-learners({})", Ids(configuration.old_learners));
  return text;
}

}  // namespace sluice::raft
