// The header that opens a stream: a RaftClientRequestProto with a sluice.BlobHeader inside,
// and what node makes of it.
//
//   ASSIGN_OR_RETURN(node::StreamHeader header, DecodeStreamHeader(packet, raw));
//   socket.Write(EncodeStreamHeader(header));       // header.raw if it came over DataStream, with our own words
//
// Pure functions; any thread. INVALID_ARGUMENT for ids that do not fit the packet, illegal names, and routes
// that are no tree (F-71); whether group and peers exist is for the host to judge.
#pragma once

#include "node/transports.h"
#include "wire/datastream.h"

namespace sluice::edge::datastream {

absl::StatusOr<node::StreamHeader> DecodeStreamHeader(const wire::PacketHeader& packet, Bytes raw);
// With header.raw, only the words that servers say of themselves are put in: take_over, cluster and target.
Bytes EncodeStreamHeader(const node::StreamHeader& header);

// Body of the reply to CLOSE between servers: what the answering one holds (docs/formats/datastream.md).
Bytes EncodeHeld(const blob::Sealed& sealed);
absl::StatusOr<blob::Sealed> DecodeHeld(const Bytes& body);

}  // namespace sluice::edge::datastream
