// Judges whether a transfer that failed goes on: where, after which pause, and when it is over.
//
//   Persistence persistence(silence, Clock::now());
//   const auto next = persistence.Failed({address, status, reached, servers}, Clock::now());
//   if (!next.again) return persistence.Verdict(status);
//
// A refusal that no other server would change ends it at once; RESOURCE_EXHAUSTED is final for the server that
// says it, and for the transfer when all say it. Servers that are there and cannot serve (no
// leader yet, starting, stopping) get the whole `silence`; so does everybody once bytes have moved. Only
// bytes beyond all that ever moved count: a transfer that begins again and again comes to its end. When
// nothing ever moved and every server refused the connection for kContactPatience, the cluster is stopped.
// Pure but for its own memory; one thread at a time.
#pragma once

#include <map>
#include <set>
#include <string>

#include "client/connection.h"

namespace sluice::client {

// No other server and no other attempt would change the answer.
bool IsFinal(const absl::Status& status);

class Persistence {
 public:
  struct Failure {
    std::string address;
    absl::Status status;
    bool reached = false;  // the server is there: it said so itself
    size_t servers = 1;    // that may be asked in turn
  };
  struct Next {
    bool again = false;
    Duration pause{};
  };

  Persistence(Duration silence, Clock::time_point start)
      : silence_(silence), moved_at_(start), reached_at_(start) {}

  // `bytes`: transferred so far by this attempt; more than any attempt had is progress.
  void Progress(uint64_t bytes, Clock::time_point now);
  Next Failed(const Failure& failure, Clock::time_point now);
  // How long one server may be silent: short while there are others to go to, longer with each round of all.
  Duration AttemptSilence(size_t servers) const;
  // What to tell when it is over.
  absl::Status Verdict(const absl::Status& last) const;

 private:
  const Duration silence_;
  Clock::time_point moved_at_;
  Clock::time_point reached_at_;
  uint64_t most_bytes_ = 0;
  bool moved_ = false;
  bool reached_ = false;
  size_t failed_in_row_ = 0;
  Duration pause_{};
  int rounds_ = 0;              // of all servers that failed
  std::set<std::string> full_;  // said RESOURCE_EXHAUSTED last
  std::map<std::string, absl::Status> said_;
};

}  // namespace sluice::client
