#include "wire/brpc/meta.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <limits>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/status.h"
#include "fmt/format.h"
#include "wire/brpc/frame.h"

namespace sluice::wire::brpc {
namespace {

constexpr uint32_t kMaskDelta = 0xa282ead8;

void AppendBigEndian(size_t value, std::string& out) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

// What a brpc writer writes even where it says nothing.
void SetWhatIsAlwaysWritten(RpcMeta* meta) {
  meta->set_correlation_id(meta->correlation_id());
  meta->set_content_type(meta->content_type());
  if (meta->has_response()) {
    meta->mutable_response()->set_error_code(meta->response().error_code());
  }
  if (meta->has_stream_settings()) {
    auto* settings = meta->mutable_stream_settings();
    settings->set_need_feedback(settings->need_feedback());
    settings->set_writable(settings->writable());
  }
}

absl::Status VerifyChecksum(const RpcMeta& meta, const Bytes& packed, const Bytes& all) {
  if (meta.checksum_type() == 0) return absl::OkStatus();  // a brpc server echoes a value that means nothing
  if (meta.checksum_type() != static_cast<int>(ChecksumType::kCrc32c)) {
    return absl::InvalidArgumentError(fmt::format("unknown checksum type {}", meta.checksum_type()));
  }
  if (meta.checksum_value() != ChecksumOf(meta.checksum_with_attachment() ? all : packed)) {
    return absl::InvalidArgumentError(fmt::format("checksum of {} bytes does not fit {} bytes",
                                                  meta.checksum_value().size(), packed.size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CallFrame> DecodeCall(std::string_view meta, Bytes body) {
  CallFrame frame;
  frame.body = std::move(body);
  // Partial: the other way of parsing writes a log line for every frame without a required field.
  if (meta.size() > std::numeric_limits<int>::max() ||
      !frame.meta.ParsePartialFromArray(meta.data(), static_cast<int>(meta.size()))) {
    return absl::InvalidArgumentError(fmt::format("{} bytes that are no meta of a call", meta.size()));
  }
  if (!frame.meta.IsInitialized()) {
    return absl::InvalidArgumentError("meta of a call without a field that it must have");
  }
  return frame;
}

absl::StatusOr<CallBody> OpenBody(const CallFrame& frame, size_t body_bytes_max) {
  const RpcMeta& meta = frame.meta;
  if (meta.response().error_code() != 0) return CallBody();
  const int64_t attachment_bytes = meta.attachment_size();
  const auto body_bytes = static_cast<int64_t>(frame.body.size());
  if (attachment_bytes < 0 || attachment_bytes > body_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("attachment of {} bytes in a body of {}", attachment_bytes, body_bytes));
  }
  if (meta.compress_type() < 0 || meta.compress_type() > static_cast<int>(CompressType::kZlib)) {
    return absl::InvalidArgumentError(fmt::format("unknown compression {}", meta.compress_type()));
  }
  const auto packed_bytes = static_cast<size_t>(body_bytes - attachment_bytes);
  const Bytes packed = frame.body.Slice(0, packed_bytes);
  RETURN_IF_ERROR(VerifyChecksum(meta, packed, frame.body));
  CallBody open;
  ASSIGN_OR_RETURN(open.message,
                   Decompress(static_cast<CompressType>(meta.compress_type()), packed, body_bytes_max));
  open.attachment = frame.body.Slice(packed_bytes, static_cast<size_t>(attachment_bytes));
  return open;
}

Bytes EncodeCall(RpcMeta meta, const Bytes& message, const Bytes& attachment, CompressType compress,
                 ChecksumType checksum) {
  SLUICE_CHECK(meta.IsInitialized());
  Bytes body = Compress(compress, message);
  const Bytes packed = body;
  body.Append(attachment);
  SLUICE_CHECK(body.size() <= std::numeric_limits<int32_t>::max());

  SetWhatIsAlwaysWritten(&meta);
  meta.set_compress_type(static_cast<int>(compress));
  meta.set_checksum_type(static_cast<int>(checksum));
  if (!meta.checksum_with_attachment()) meta.clear_checksum_with_attachment();
  meta.set_checksum_value(checksum == ChecksumType::kNone
                              ? meta.checksum_value()
                              : ChecksumOf(meta.checksum_with_attachment() ? body : packed));
  meta.clear_attachment_size();
  if (!attachment.empty()) meta.set_attachment_size(static_cast<int32_t>(attachment.size()));

  const size_t meta_bytes = meta.ByteSizeLong();
  std::string front = "PRPC";
  front.reserve(kFrameFrontBytes + meta_bytes);
  AppendBigEndian(meta_bytes + body.size(), front);
  AppendBigEndian(meta_bytes, front);
  {
    google::protobuf::io::StringOutputStream raw(&front);
    google::protobuf::io::CodedOutputStream coded(&raw);
    coded.SetSerializationDeterministic(true);  // user_fields are a map
    meta.SerializeWithCachedSizes(&coded);
  }
  Bytes frame = Bytes::Take(std::move(front));
  frame.Append(body);
  return frame;
}

std::string ChecksumOf(const Bytes& body) {
  const uint32_t crc = Crc32c(body);
  std::string value;
  AppendBigEndian(((crc >> 15) | (crc << 17)) + kMaskDelta, value);
  return value;
}

}  // namespace sluice::wire::brpc
