#include "wire/bytestream.h"

#include "base/names.h"
#include "base/status.h"
#include "wire/proto_reader.h"

namespace sluice::wire {
namespace {

constexpr uint32_t kTagResourceName = 0x0a;
constexpr uint32_t kTagWriteOffset = 0x10;
constexpr uint32_t kTagFinishWrite = 0x18;
constexpr uint32_t kTagData = 0x52;  // in both messages

absl::Status Malformed(std::string_view message) {
  return absl::InvalidArgumentError(fmt::format("{} is not protobuf", message));
}

bool ReadData(BytesSource& source, Bytes* data) {
  size_t length = 0;
  if (!ReadLength(source, &length)) return false;
  *data = source.TakeBytes(length);
  return true;
}

absl::Status ReadName(BytesSource& source, std::string* name) {
  size_t length = 0;
  if (!ReadLength(source, &length)) return Malformed("WriteRequest");
  if (length > kNameBytesMax) {
    return absl::InvalidArgumentError(fmt::format("name has {} bytes: at most {}", length, kNameBytesMax));
  }
  *name = source.TakeBytes(length).ToString();
  if (!IsValidUtf8(*name)) return absl::InvalidArgumentError("name is not valid UTF-8");
  return absl::OkStatus();
}

Bytes WithData(std::string front, const Bytes& data) {
  if (!data.empty()) {
    front.push_back(static_cast<char>(kTagData));
    AppendVarint(data.size(), front);
  }
  Bytes message = Bytes::Take(std::move(front));
  message.Append(data);
  return message;
}

}  // namespace

absl::StatusOr<WriteRequest> ParseWriteRequest(const Bytes& message) {
  WriteRequest request;
  BytesSource source(message);
  while (!source.AtEnd()) {
    uint32_t tag = 0;
    uint64_t value = 0;
    if (!ReadTag(source, &tag)) return Malformed("WriteRequest");
    bool ok = true;
    switch (tag) {
      case kTagResourceName:
        RETURN_IF_ERROR(ReadName(source, &request.resource_name));
        break;
      case kTagWriteOffset:
        ok = ReadVarint(source, &value);
        request.write_offset = static_cast<int64_t>(value);
        break;
      case kTagFinishWrite:
        ok = ReadVarint(source, &value);
        request.finish_write = value != 0;
        break;
      case kTagData:
        ok = ReadData(source, &request.data);
        break;
      default:
        ok = SkipField(source, tag);
    }
    if (!ok) return Malformed("WriteRequest");
  }
  return request;
}

Bytes EncodeWriteRequest(const WriteRequest& request) {
  std::string front;
  if (!request.resource_name.empty()) {
    front.push_back(static_cast<char>(kTagResourceName));
    AppendVarint(request.resource_name.size(), front);
    front.append(request.resource_name);
  }
  if (request.write_offset != 0) {
    front.push_back(static_cast<char>(kTagWriteOffset));
    AppendVarint(static_cast<uint64_t>(request.write_offset), front);
  }
  if (request.finish_write) {
    front.push_back(static_cast<char>(kTagFinishWrite));
    front.push_back(1);
  }
  return WithData(std::move(front), request.data);
}

absl::StatusOr<Bytes> ParseReadResponse(const Bytes& message) {
  Bytes data;
  BytesSource source(message);
  while (!source.AtEnd()) {
    uint32_t tag = 0;
    if (!ReadTag(source, &tag)) return Malformed("ReadResponse");
    if (!(tag == kTagData ? ReadData(source, &data) : SkipField(source, tag)))
      return Malformed("ReadResponse");
  }
  return data;
}

Bytes EncodeReadResponse(const Bytes& data) { return WithData(std::string(), data); }

}  // namespace sluice::wire
