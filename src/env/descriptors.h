// The process's file descriptors: how many there may be, and which of them clients may have (F-14).
//
//   RETURN_IF_ERROR(RaiseDescriptorLimit());     // at the start of a server
//   if (IsOfReserve(accepted)) close(accepted);  // at every door
//
// The kernel gives the lowest number that is free, so the number of a new descriptor says that at least as
// many are in use. The highest numbers below the limit are the reserve of the log, the index and of other
// servers: whoever gets one for a client gives it back and refuses the client. Without that, what the log
// needs to go on, or an accept, would fail. Threading: any thread. No failure but those that are said.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace sluice::env {

// What a server needs before it takes the first client, its reserve included.
inline constexpr uint64_t kDescriptorsMin = 256;

// The soft limit of open files, as it is now.
uint64_t DescriptorLimit();
// Of them, those that no client gets: a quarter, 64 to 512.
uint64_t DescriptorReserve();
// Raises the soft limit to the hard one. FAILED_PRECONDITION if that is less than kDescriptorsMin.
absl::Status RaiseDescriptorLimit();
bool IsOfReserve(int descriptor);

}  // namespace sluice::env
