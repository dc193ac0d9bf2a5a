// What a `blob` group's log says: this upload exists under this name; this name is gone;
// this upload never will be.
//
//   Bytes data = EncodeBlobCommand({.op = BlobOp::kPublish, .name = "a", .upload = id, ...});
//
// Format: docs/formats/blob_command.md (tagged fields). Threading: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status.h"
#include "blob/upload.h"

namespace sluice::node {

enum class BlobOp : uint8_t { kPublish = 1, kPublishInline = 2, kRemove = 3, kAbandon = 4 };

struct BlobCommand {
  BlobOp op = BlobOp::kPublish;
  std::string name;             // publish: empty means known by its digest only
  UploadId upload;              // publish, abandon
  blob::Sealed sealed;          // publish
  std::vector<PeerId> holders;  // publish: who holds it sealed
  int64_t stamp_ms = 0;         // the leader's wall clock when it proposed
  Bytes data;                   // publish inline: the content itself
  // publish: what the leader found out of the content that these bytes meet, under the name or by digest.
  std::optional<UploadId> same_as;  // it compared them with that content's, byte for byte
  std::optional<UploadId> lost;     // no majority holds that content: these bytes are to stand for it
};

Bytes EncodeBlobCommand(const BlobCommand& command);
absl::StatusOr<BlobCommand> DecodeBlobCommand(const Bytes& data);
// CRC32C of what the command asks for: the same for a retry, in which stamp and holders may be others (F-66).
uint32_t BlobCommandContent(const Bytes& data);

// The answer to a publish, as a client gets it in the reply's message (sluice.BlobReply on the wire).
struct BlobReply {
  std::string name;
  uint64_t length = 0;
  std::optional<Sha256> digest;
};
Bytes EncodeBlobReply(const BlobReply& reply);
absl::StatusOr<BlobReply> DecodeBlobReply(const Bytes& data);

// Durable form of ids and sealed states, shared with the machine's records.
std::string UploadKey(const UploadId& id);  // 24 bytes
std::optional<UploadId> ParseUploadKey(std::string_view key);

}  // namespace sluice::node
