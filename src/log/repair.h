// Offline changes of a log that no rule may make by itself: a person says that they are right (F-08, F-09, F-54).
//
//   ASSIGN_OR_RETURN(Inspection found, Inspect(files, dir));      // what is there; see inspect.h
//   RETURN_IF_ERROR(BecomeLearner(files, dir, group));
//
// The directory must not be in use. Blocks; one thread. Every function ends with the change durable, or with an
// error; a crash within leaves the log as it was, or changed. NOT_FOUND: the group is not in this log.
#pragma once

#include <string>
#include <vector>

#include "env/executor.h"
#include "env/files.h"
#include "log/log.h"

namespace sluice::log {

// What the server promised in its hard state counts as forgotten: it votes again after all others have told
// their terms (raft::HardState::silent_upto). The term becomes that of the last entry, if it is older.
absl::Status BecomeLearner(env::Files& files, const std::string& dir, const GroupId& group);
// Gives up what damage took, and what lies behind it: it may have been committed.
absl::Status DropDamaged(env::Files& files, env::Executors& executors, const std::string& dir,
                         const GroupId& group);
// Makes `self` the group's only voter, by a configuration entry behind the log's end in a term far above all that
// this log knows; gives up what damage took. So what servers that are left out still send is of the past.
absl::Status ForceMember(env::Files& files, env::Executors& executors, const std::string& dir,
                         const GroupId& group, const raft::Peer& self);

}  // namespace sluice::log
