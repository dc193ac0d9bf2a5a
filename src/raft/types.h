// The nouns of consensus: entries, hard state, configurations and the messages between peers. Plain values.
//
// The shapes follow Apache Ratis (its proto package ratis.common), so that edge/ratis translates field by
// field; names follow the Raft paper where the two differ. Threading: immutable values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice::raft {

// A server of a group. Addresses are "host:port" text that consensus never reads;
// empty means "same as address".
struct Peer {
  PeerId id;
  std::string address;
  std::string data_stream_address;
  std::string client_address;
  std::string admin_address;
  uint32_t priority = 0;
  auto operator<=>(const Peer&) const = default;
};

// Who votes and who only listens. While `old_voters` is not empty the configuration is joint: every decision
// needs a majority of both. Learners receive entries and never count.
struct Configuration {
  std::vector<Peer> voters;
  std::vector<Peer> old_voters;
  std::vector<Peer> learners;
  std::vector<Peer> old_learners;

  bool joint() const { return !old_voters.empty(); }
  bool IsVoter(const PeerId& id) const;      // of either configuration
  const Peer* Find(const PeerId& id) const;  // among all four lists; nullptr if absent
  std::vector<Peer> AllPeers() const;        // each id once, sorted by id
  bool operator==(const Configuration&) const = default;
};

// The payload of a kConfiguration entry, and back (format: docs/formats/configuration.md). Decode answers
// INVALID_ARGUMENT for anything that Encode cannot have written.
Bytes EncodeConfiguration(const Configuration& configuration);
absl::StatusOr<Configuration> DecodeConfiguration(const Bytes& payload);
// INVALID_ARGUMENT: an id is empty or listed twice, a list or a text is too long.
absl::Status CheckConfiguration(const Configuration& configuration);

enum class EntryKind : uint8_t {
  kCommand = 0,        // payload belongs to node
  kConfiguration = 1,  // payload is EncodeConfiguration(); in force from the moment it is appended
  // Written by Java leaders: payload is the commit index as 8 bytes little endian; never applied.
  kMetadata = 2,
};

struct Entry {
  TermIndex at;
  EntryKind kind = EntryKind::kCommand;
  Bytes payload;  // consensus reads it only for kConfiguration
};

inline constexpr Term kEveryTerm{UINT64_MAX};

// What must be durable before a message that depends on it leaves.
struct HardState {
  Term term;
  PeerId voted_for;  // empty: nobody in this term
  // Above Term{0}: what this server promised was lost (F-08). It votes only in terms above this one, and
  // acknowledges from this one on. kEveryTerm: not known yet how far its promises reached.
  Term silent_upto{0};
  auto operator<=>(const HardState&) const = default;
};

// `call` ties a reply to its request: whoever sends a request chooses it, the reply echoes it.
struct VoteRequest {
  uint64_t call = 0;
  Term term;       // pre-vote: the candidate's current term; else its new one
  TermIndex last;  // index kNoIndex for an empty log
  bool pre_vote = false;
};
struct VoteReply {
  uint64_t call = 0;
  Term term;  // the voter's current term
  bool granted = false;
  bool pre_vote = false;  // echo of the request
  Term request_term;      // echo of the request
  TermIndex last;         // the voter's last entry; index kNoIndex: its log is empty
  bool should_shutdown = false;
};
struct AppendRequest {
  uint64_t call = 0;  // grows with every append that a core sends
  Term term;
  TermIndex previous;  // index kNoIndex before the first entry
  std::vector<Entry> entries;
  Index commit;
  bool initializing = false;  // the receiver is being brought up before it votes
};
enum class AppendResult : uint8_t { kSuccess = 0, kNotLeader = 1, kInconsistency = 2 };
struct AppendReply {
  uint64_t call = 0;
  Term term;
  AppendResult result = AppendResult::kSuccess;
  Index next;  // success: one past the last entry of the request (own next index if it had none)
  // Success: the last entry of the request, or, of a heartbeat, what of its `previous` is durable at the
  // follower (a Java server says kNoIndex there). Else kNoIndex, which is no progress; so a server that may
  // not vote (CoreOptions::may_vote) accepts entries with `next` beyond them and this kNoIndex: the leader
  // goes on sending, but the server counts in no majority.
  Index match;
  Index commit;            // the follower's commit index
  bool heartbeat = false;  // the request had no entries
};
struct ReadIndexRequest {
  uint64_t call = 0;
};
struct ReadIndexReply {
  uint64_t call = 0;
  bool ok = false;
  Index index;
};
// Ratis' startLeaderElection: the receiver campaigns at once, without pre-vote.
struct TimeoutNow {
  uint64_t call = 0;
  TermIndex leader_last;
};
struct TimeoutNowReply {
  uint64_t call = 0;
  bool accepted = false;
};

using Message = std::variant<VoteRequest, VoteReply, AppendRequest, AppendReply, ReadIndexRequest,
                             ReadIndexReply, TimeoutNow, TimeoutNowReply>;

// One line for scripts and debug logs, e.g. "append term=2 prev=3@1 entries=[4..6] commit=3".
std::string ToString(const Message& message);
std::string ToString(const Configuration& configuration);

}  // namespace sluice::raft
