// The time of a group's log: the milliseconds for which somebody led it. It is what replies age by (D-05): it
// stands in the log, so that it is the same on every server, and no clock on a wall has a part in it (F-38).
//
//   Bytes entry = EncodeClockEntry(now_ms);        // a leader, before commands, every kClockEveryMs at most
//   if (const auto now_ms = ClockOf(command)) ...  // whoever applies it
//
// Between two clock entries the time stands still; while nobody writes there are none. A reply that is asked for
// again counts as made at that time: the leader enters that, too, so that every server keeps the same.
//
//   Bytes entry = EncodeAskedAgain(kept);          // the index of the entry that the reply is kept under
//
// In `sluice` mode only: Java members could not apply them. Format: docs/formats/command.md. Threading: plain
// values.
#pragma once

#include <cstdint>
#include <optional>

#include "node/command.h"

namespace sluice::node {

inline constexpr int64_t kClockEveryMs = 1000;

// The payload of the entry, and what a command says if it is one; nullopt for any other command.
Bytes EncodeClockEntry(int64_t now_ms);
std::optional<int64_t> ClockOf(const Command& command);
Bytes EncodeAskedAgain(Index kept);
std::optional<Index> AskedAgainOf(const Command& command);

}  // namespace sluice::node
