#include "edge/files/errors.h"

#include <string>
#include <utility>

namespace sluice::edge::files {
namespace {

using absl::StatusCode;

constexpr std::pair<StatusCode, FileCode> kCodes[] = {
    {StatusCode::kOk, FILE_OK},
    {StatusCode::kCancelled, FILE_CANCELLED},
    {StatusCode::kUnknown, FILE_UNKNOWN},
    {StatusCode::kInvalidArgument, FILE_INVALID_ARGUMENT},
    {StatusCode::kDeadlineExceeded, FILE_DEADLINE_EXCEEDED},
    {StatusCode::kNotFound, FILE_NOT_FOUND},
    {StatusCode::kAlreadyExists, FILE_ALREADY_EXISTS},
    {StatusCode::kPermissionDenied, FILE_PERMISSION_DENIED},
    {StatusCode::kResourceExhausted, FILE_RESOURCE_EXHAUSTED},
    {StatusCode::kFailedPrecondition, FILE_FAILED_PRECONDITION},
    {StatusCode::kAborted, FILE_ABORTED},
    {StatusCode::kOutOfRange, FILE_OUT_OF_RANGE},
    {StatusCode::kUnimplemented, FILE_UNIMPLEMENTED},
    {StatusCode::kInternal, FILE_INTERNAL},
    {StatusCode::kUnavailable, FILE_UNAVAILABLE},
    {StatusCode::kDataLoss, FILE_DATA_LOSS},
    {StatusCode::kUnauthenticated, FILE_UNAUTHENTICATED},
};

}  // namespace

FileCode ToCode(const absl::Status& status) {
  for (const auto& [canonical, sent] : kCodes) {
    if (canonical == status.code()) return sent;
  }
  return FILE_UNKNOWN;
}

absl::Status ToStatus(int code, std::string_view text) {
  for (const auto& [canonical, sent] : kCodes) {
    if (sent == code) return {canonical, ToAbsl(text)};
  }
  return absl::UnknownError(fmt::format("code {}: {}", code, text));
}

}  // namespace sluice::edge::files
