// The message of a blob's stream header, and of the reply to it, for users of data_stream.h.
#include "sluice/blob.h"
#include "sluice/blob.pb.h"

namespace sluice {

std::string EncodeBlobHeader(const std::string& name, uint64_t length) {
  BlobHeader header;
  header.set_name(name);
  header.set_expected_length(length);
  return header.SerializeAsString();
}

absl::StatusOr<BlobFacts> DecodeBlobReply(const Bytes& message) {
  BlobReply reply;
  if (!reply.ParseFromString(message.ToString())) {
    return absl::InternalError("the group's answer to the put cannot be read");
  }
  BlobFacts facts;
  facts.name = reply.name();
  facts.length = reply.length();
  facts.digest = Sha256::FromBytes(reply.digest());
  return facts;
}

}  // namespace sluice
