// What stands behind sluice::Controller.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "edge/brpc/stream_end.h"
#include "sluice/rpc.h"

namespace sluice {

namespace edge::brpc {
struct ServerCall;
}

struct Controller::Inner {
  // Client settings.
  int64_t timeout_ms = 0;
  CompressType request_compress = CompressType::kNone;
  bool request_checksum = false;
  std::vector<std::shared_ptr<edge::brpc::StreamEnd>> streams;  // that open with the next call
  // Server settings.
  CompressType response_compress = CompressType::kNone;
  bool response_checksum = false;
  edge::brpc::ServerCall* server_call = nullptr;  // while the handler of a request has it
  // Both.
  int64_t log_id = 0;
  Bytes request_attachment;
  Bytes response_attachment;
  std::map<std::string, std::string> request_user_fields;
  std::map<std::string, std::string> response_user_fields;
  int error_code = 0;
  std::string error_text;
  std::string remote_side;
  int64_t latency_us = 0;
};

}  // namespace sluice
