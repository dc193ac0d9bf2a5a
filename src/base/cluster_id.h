// Names one cluster: made once, at its first bootstrap, and the same in every folder, log and handshake of it.
// Zero: not known. A small immutable value.
#pragma once

#include "base/ids.h"

namespace sluice {

struct ClusterTag;
using ClusterId = Uuid<ClusterTag>;

}  // namespace sluice
