// Fuzzes the parsers of ByteStream messages and of names. The first byte chooses how the rest is cut.
//
// Checked beside the sanitizers: they accept what protobuf accepts (but for long names) and read the same.
#include "wire/bytestream.h"

#include <cstdlib>

#include "base/names.h"
#include "sluice/bytestream/bytestream.pb.h"
#include "wire/resource_name.h"

namespace sluice::wire {
namespace {

void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0 || size > 16'384) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const size_t step = 1 + bytes[0];
  Bytes message;
  for (size_t at = 0; at < input.size(); at += step) message.Append(Bytes::Copy(input.substr(at, step)));

  ::sluice::bytestream::WriteRequest proto;
  const bool valid = proto.ParseFromArray(input.data(), static_cast<int>(input.size()));
  absl::StatusOr<WriteRequest> ours = ParseWriteRequest(message);
  Require(valid || !ours.ok());
  if (ours.ok()) {
    Require(ours->resource_name == proto.resource_name() && ours->write_offset == proto.write_offset() &&
            ours->finish_write == proto.finish_write() && ours->data == proto.data());
    absl::StatusOr<WriteRequest> again = ParseWriteRequest(EncodeWriteRequest(*ours));
    Require(again.ok() && again->data == ours->data && again->resource_name == ours->resource_name);
  } else if (valid) {
    // The one rule that protobuf does not know. An overlong name may have been replaced by a later one.
    Require(input.size() > kNameBytesMax);
  }

  ::sluice::bytestream::ReadResponse response;
  absl::StatusOr<Bytes> data = ParseReadResponse(message);
  Require(data.ok() == response.ParseFromArray(input.data(), static_cast<int>(input.size())));
  if (data.ok()) Require(*data == response.data());

  absl::StatusOr<ResourceName> name = ParseResourceName(input);
  if (name.ok()) Require(!input.empty() && input.size() <= kNameBytesMax);
  (void)IsRemoteCacheName(input);
  return 0;
}

}  // namespace sluice::wire
