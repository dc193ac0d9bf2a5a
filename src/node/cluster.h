// Which cluster this server belongs to, and who of another one is refused (F-19, F-56).
//
//   Cluster cluster({"n0"}, clock, identity.cluster);
//   RETURN_IF_ERROR(cluster.Check("server n1", said));  // before anything that a server says is believed
//   cluster.Said(id);                                // the log holds it, perhaps not yet for good
//   if (cluster.Learn(id)) { ...write the identity... }
//
// The id is made by the first leader of one group, as a fact of its log (docs/formats/identity.md). A server
// knows it when that entry is applied here; until then it has none, and takes what its group's servers send.
// It *says* the id as soon as its log holds the entry: so whoever may be needed as the next leader is never
// refused by those who know the id already. Threading: thread-safe.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "base/cluster_id.h"
#include "base/ids.h"
#include "base/status.h"
#include "env/clock.h"

namespace sluice::node {

class Cluster {
 public:
  Cluster(PeerId self, const env::Clock* clock, ClusterId id = {})
      : self_(std::move(self)), clock_(clock), id_(id), said_(id) {}

  // Zero: not known yet.
  ClusterId id() const;
  // What this server says of itself to others.
  ClusterId said() const;

  void Said(const ClusterId& id);
  // True if it was not known. Another id than the known one changes nothing.
  bool Learn(const ClusterId& id);

  // FAILED_PRECONDITION, with both ids, if `who` says another id than this server has; zero: it says none.
  // A line in the log tells of it, at most one in ten seconds.
  absl::Status Check(std::string_view who, const ClusterId& theirs) const;
  // The same for an answer of a server that refused this one.
  void TellRefused(const PeerId& by, const absl::Status& why) const;

 private:
  void Warn(const std::string& text) const;

  const PeerId self_;
  const env::Clock* const clock_;
  mutable std::mutex mutex_;  // tidy-allow: threads of every edge ask; held for a copy of sixteen bytes
  ClusterId id_;              // guarded by mutex_, as is all below
  ClusterId said_;
  mutable env::Instant warned_{};
  mutable bool warned_once_ = false;
  mutable uint64_t unsaid_ = 0;  // warnings since
};

}  // namespace sluice::node
