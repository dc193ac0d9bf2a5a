// An offline walk of a blob folder: what is there and whether it verifies.
//
//   RETURN_IF_ERROR(InspectBlobs(files, dir, [](const InspectedBlob& blob) { print(blob); }));
//
// Blocks and reads every byte; changes nothing. Not on a folder that a server has open: what it finds may
// move. A file that does not verify is a finding, not an error;
// an error means that a folder could not be listed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "blob/upload.h"
#include "env/files.h"

namespace sluice::blob {

enum class BlobKind { kOpenStage, kSealedStage, kContent, kUnknownFile };
std::string_view BlobKindName(BlobKind kind);

struct InspectedBlob {
  BlobKind kind = BlobKind::kUnknownFile;
  std::string path = {};
  std::optional<UploadId> id = std::nullopt;
  std::optional<GroupId> group = std::nullopt;
  uint64_t epoch = 0;
  uint64_t length = 0;                          // of an open stage: its durable length
  std::optional<Sealed> sealed = std::nullopt;  // of sealed stages and contents
  absl::Status verified = absl::OkStatus();     // OK if every chunk matches its checksum
};

// Stages first, then contents, each in the order of their names.
absl::Status InspectBlobs(env::Files& files, const std::string& dir,
                          const std::function<void(const InspectedBlob&)>& visit);

}  // namespace sluice::blob
