// absl::Status to and from grpc::Status: the canonical codes are the same numbers.
//
//   reactor->Finish(ToGrpc(status));
//
// Pure functions.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "base/status.h"

namespace sluice::edge {

inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  constexpr size_t kTextMax = 1024;
  std::string text(Message(status).substr(0, kTextMax));
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';  // it travels in a header of HTTP/2
  }
  return {static_cast<grpc::StatusCode>(status.raw_code()), text};
}

inline absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

}  // namespace sluice::edge
