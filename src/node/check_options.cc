#include "node/check_options.h"

#include "log/format.h"

namespace sluice::node {

absl::Status CheckOptions(const HostOptions& options) {
  return log::CheckSizes(options.log.segment_bytes, options.log.block_bytes);
}

}  // namespace sluice::node
