#include "blob/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "blob/format.h"
#include "blob/sealed_file.h"

namespace sluice::blob {
namespace {

constexpr uint64_t kPieceBytes = 1u << 20;
constexpr size_t kSideBytesMax = 256u << 20;

using Visit = std::function<void(const InspectedBlob&)>;

// Reads [0, length) in pieces; `read` verifies.
absl::Status ReadThrough(uint64_t length, const std::function<absl::Status(uint64_t, uint64_t)>& read) {
  for (uint64_t at = 0; at < length; at += kPieceBytes) {
    RETURN_IF_ERROR(read(at, std::min(kPieceBytes, length - at)));
  }
  return absl::OkStatus();
}

absl::Status VerifySealed(env::Files& files, InspectedBlob& blob) {
  ASSIGN_OR_RETURN(auto file, SealedFile::Open(files, blob.path));
  const Footer& footer = file->footer();
  if (blob.id && footer.id != *blob.id) {
    return absl::DataLossError(fmt::format("{} holds upload {}", blob.path, footer.id.ToHex()));
  }
  if (blob.sealed && footer.sealed != *blob.sealed) {
    return absl::DataLossError(fmt::format("{}: footer and side file disagree", blob.path));
  }
  blob.group = footer.group;
  blob.epoch = footer.epoch;
  blob.length = footer.sealed.length;
  blob.sealed = footer.sealed;
  return ReadThrough(blob.length,
                     [&](uint64_t at, uint64_t count) { return file->Read(at, count).status(); });
}

absl::Status VerifyOpen(env::Files& files, const InspectedBlob& blob, const ChunkList& durable) {
  ASSIGN_OR_RETURN(auto file, files.Open(blob.path, {.read_only = true}));
  return ReadThrough(durable.length(), [&](uint64_t at, uint64_t count) {
    return ReadVerified(*file, blob.path, durable.length(), durable.crcs(), at, count).status();
  });
}

// What the side file says, then whether the data agrees.
absl::Status VerifyStage(env::Files& files, const std::string& side_path, InspectedBlob& blob) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(files, side_path, kSideBytesMax));
  ASSIGN_OR_RETURN(const SideState side, DecodeSide(text));
  if (side.spec.id != *blob.id) {
    return absl::DataLossError(fmt::format("{} is of upload {}", side_path, side.spec.id.ToHex()));
  }
  blob.group = side.spec.group;
  blob.epoch = side.spec.epoch;
  blob.length = side.durable.length();
  if (!side.sealed) return VerifyOpen(files, blob, side.durable);
  blob.kind = BlobKind::kSealedStage;
  blob.sealed = side.sealed;
  return VerifySealed(files, blob);
}

// nullopt unless `name` is an id as this server writes it.
std::optional<UploadId> IdOf(const std::string& name) {
  auto id = UploadId::FromHex(name);
  return id && id->ToHex() == name ? id : std::nullopt;
}

absl::Status InspectStages(env::Files& files, const std::string& dir, const Visit& visit) {
  const std::string stage_dir = dir + "/stage";
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(stage_dir));
  for (const std::string& name : names) {
    InspectedBlob blob{.path = fmt::format("{}/{}", stage_dir, name), .id = IdOf(name)};
    if (blob.id) {
      const std::string content = fmt::format("{}/blobs/{}/{}", dir, ContentFolder(*blob.id), name);
      const std::string side_path = std::exchange(blob.path, content + kStageSuffix);
      ASSIGN_OR_RETURN(const bool staged, files.Exists(blob.path));
      ASSIGN_OR_RETURN(const bool linked, files.Exists(content));
      if (linked && !staged) continue;  // shown with the contents
      blob.kind = BlobKind::kOpenStage;
      blob.verified = VerifyStage(files, side_path, blob);
    }
    visit(blob);
  }
  return absl::OkStatus();
}

absl::Status InspectFolder(env::Files& files, const std::string& dir, const std::string& folder,
                           const Visit& visit) {
  const std::string path = dir + "/blobs/" + folder;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
  for (const std::string& name : names) {
    InspectedBlob blob{.path = fmt::format("{}/{}", path, name), .id = IdOf(name)};
    if (blob.id && ContentFolder(*blob.id) == folder) {
      blob.kind = BlobKind::kContent;
      blob.verified = VerifySealed(files, blob);
    } else if (name.ends_with(kStageSuffix)) {
      // Shown with the stages; without a side file it was never promised to anybody.
      const std::string stem = name.substr(0, name.size() - (sizeof(kStageSuffix) - 1));
      ASSIGN_OR_RETURN(const bool has_side, files.Exists(fmt::format("{}/stage/{}", dir, stem)));
      if (has_side) continue;
    }
    visit(blob);
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view BlobKindName(BlobKind kind) {
  switch (kind) {
    case BlobKind::kOpenStage:
      return "open stage";
    case BlobKind::kSealedStage:
      return "sealed stage";
    case BlobKind::kContent:
      return "content";
    case BlobKind::kUnknownFile:
      break;
  }
  return "unknown file";
}

absl::Status InspectBlobs(env::Files& files, const std::string& dir, const Visit& visit) {
  RETURN_IF_ERROR(InspectStages(files, dir, visit));
  ASSIGN_OR_RETURN(const std::vector<std::string> folders, files.List(dir + "/blobs"));
  for (const std::string& folder : folders) RETURN_IF_ERROR(InspectFolder(files, dir, folder, visit));
  return absl::OkStatus();
}

}  // namespace sluice::blob
