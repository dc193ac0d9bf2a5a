#include "edge/files/records.h"

#include <string>

namespace sluice::edge::files {

absl::StatusOr<Record> ParseRecord(const Bytes& message) {
  if (message.empty()) return absl::InvalidArgumentError("an empty message is no record");
  char first = 0;
  message.Slice(0, 1).CopyTo(&first);
  Record record;
  switch (first) {
    case 'H':
    case 'D':
    case 'E':
    case 'R':
      record.kind = static_cast<RecordKind>(first);
      break;
    default:
      return absl::InvalidArgumentError(
          fmt::format("a record of unknown kind 0x{:02x}", static_cast<unsigned char>(first)));
  }
  if (record.kind != RecordKind::kData && message.size() > kControlBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("record {} of {} bytes: at most {}", first, message.size(), kControlBytesMax));
  }
  record.rest = message.Slice(1, message.size() - 1);
  return record;
}

Bytes DataRecord(const Bytes& data) {
  Bytes record = Bytes::Copy("D");
  record.Append(data);
  return record;
}

Bytes ControlRecord(RecordKind kind, const google::protobuf::MessageLite& message) {
  std::string record(1, static_cast<char>(kind));
  message.AppendToString(&record);
  return Bytes::Take(std::move(record));
}

}  // namespace sluice::edge::files
