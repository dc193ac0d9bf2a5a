// Where the client's connections live: loops of the process, made when the first one is needed.
#pragma once

#include "env/crew.h"

namespace sluice::edge::brpc {

// The next of a few crews, in turn. They live as long as the process.
env::Crew* ClientCrew();

}  // namespace sluice::edge::brpc
