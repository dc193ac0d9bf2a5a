// The messages of a file stream: one byte that says the kind, then bytes or protobuf
// (docs/formats/stream-files.md).
//
//   ASSIGN_OR_RETURN(const Record record, ParseRecord(message));
//   StreamWrite(id, DataRecord(bytes));
//
// Pure functions. Data is neither copied nor looked at. INVALID_ARGUMENT for what is no record.
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "sluice/files.pb.h"

namespace sluice::edge::files {

enum class RecordKind : char { kHeader = 'H', kData = 'D', kEnd = 'E', kResult = 'R' };

inline constexpr size_t kControlBytesMax = 64 << 10;  // of a record that is no data

struct Record {
  RecordKind kind = RecordKind::kData;
  Bytes rest;
};

// Refuses an empty message, an unknown kind and control records above kControlBytesMax.
absl::StatusOr<Record> ParseRecord(const Bytes& message);
Bytes DataRecord(const Bytes& data);
Bytes ControlRecord(RecordKind kind, const google::protobuf::MessageLite& message);

// The message in a control record.
template <typename Message>
absl::StatusOr<Message> ParseControl(const Record& record) {
  Message message;
  if (message.ParseFromString(record.rest.ToString())) return message;
  return absl::InvalidArgumentError(
      fmt::format("record {} is malformed, or its text is no UTF-8", static_cast<char>(record.kind)));
}

}  // namespace sluice::edge::files
