#include "edge/brpc/controller.h"

#include <errno.h>

#include <utility>

namespace sluice {

Controller::Controller() : inner_(std::make_unique<Inner>()) {}
Controller::~Controller() { Reset(); }

void Controller::set_timeout_ms(int64_t timeout_ms) { inner_->timeout_ms = timeout_ms; }
void Controller::set_request_compress_type(CompressType type) { inner_->request_compress = type; }
void Controller::set_request_checksum(bool crc32c) { inner_->request_checksum = crc32c; }
void Controller::set_log_id(int64_t log_id) { inner_->log_id = log_id; }
Bytes& Controller::request_attachment() { return inner_->request_attachment; }
std::map<std::string, std::string>& Controller::request_user_fields() { return inner_->request_user_fields; }
void Controller::set_response_compress_type(CompressType type) { inner_->response_compress = type; }
void Controller::set_response_checksum(bool crc32c) { inner_->response_checksum = crc32c; }
int64_t Controller::log_id() const { return inner_->log_id; }
Bytes& Controller::response_attachment() { return inner_->response_attachment; }
std::map<std::string, std::string>& Controller::response_user_fields() {
  return inner_->response_user_fields;
}

void Controller::SetFailed(int code, std::string text) {
  inner_->error_code = code == 0 ? EINVAL : code;  // an error without a number is one all the same
  inner_->error_text = std::move(text);
}

bool Controller::Failed() const { return inner_->error_code != 0; }
int Controller::ErrorCode() const { return inner_->error_code; }
const std::string& Controller::ErrorText() const { return inner_->error_text; }
std::string Controller::remote_side() const { return inner_->remote_side; }
int64_t Controller::latency_us() const { return inner_->latency_us; }

void Controller::Reset() {
  // Streams that no call has taken end here.
  for (const auto& end : inner_->streams) end->EndUnattached(ECANCELED, "the stream's call was never made");
  inner_ = std::make_unique<Inner>();
}

}  // namespace sluice
