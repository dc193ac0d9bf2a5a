#include <sys/resource.h>

#include <algorithm>

#include "env/descriptors.h"

namespace sluice::env {

uint64_t DescriptorLimit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

uint64_t DescriptorReserve() { return std::clamp<uint64_t>(DescriptorLimit() / 4, 64, 512); }

absl::Status RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return absl::OkStatus();
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (DescriptorLimit() >= kDescriptorsMin) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("the process may open {} files, a server needs {} at least: raise the hard limit "
                  "(ulimit -Hn, LimitNOFILE=)",
                  DescriptorLimit(), kDescriptorsMin));
}

bool IsOfReserve(int descriptor) {
  const uint64_t limit = DescriptorLimit();
  const uint64_t reserve = DescriptorReserve();
  return limit <= reserve || static_cast<uint64_t>(descriptor) >= limit - reserve;
}

}  // namespace sluice::env
