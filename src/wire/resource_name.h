// Names as ByteStream's clients write them: ordinary names, digests,
// and those that belong to the remote cache.
//
//   ASSIGN_OR_RETURN(ResourceName name, ParseResourceName(request.resource_name));
//   if (name.kind == ResourceName::Kind::kRemoteCache) return Unimplemented();
//
// What is a legal name at all stands in base/names.h. Only names that parse wholly as the remote-cache
// grammar belong to the remote cache (D-17); "blobs/readme" is an ordinary name. Pure functions; any thread.
#pragma once

#include <string_view>

#include "base/digest.h"
#include "base/status.h"

namespace sluice::wire {

struct ResourceName {
  enum class Kind { kGeneric, kDigest, kRemoteCache };
  Kind kind = Kind::kGeneric;
  Sha256 digest;  // that the name promises; kDigest only
};

// CheckName, then the kind.
absl::StatusOr<ResourceName> ParseResourceName(std::string_view name);

// True for upload and read names of the remote cache, compressed or not.
bool IsRemoteCacheName(std::string_view name);

}  // namespace sluice::wire
