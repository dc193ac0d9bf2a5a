// One call under way, on the client's side.
//
//   auto call = std::make_shared<ClientCall>(...);  connection->StartCall(call);
//
// Threading: fields that change belong to the lock of the call's connection until the call is in its finished
// list, then to whoever took it out. Ownership: shared by the connection and the channel that waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "edge/brpc/controller.h"
#include "edge/brpc/stream_end.h"
#include "wire/brpc/meta.h"

namespace sluice::edge::brpc {

struct ClientCall {
  Controller* controller = nullptr;
  Bytes* response = nullptr;
  Done done;  // null: somebody waits for `over`
  std::string service;
  std::string method;
  Bytes request;
  std::vector<std::shared_ptr<StreamEnd>> streams;  // that open with it
  int64_t correlation = 0;
  int64_t timeout_ms = -1;
  std::atomic<env::TimerId> timer{env::TimerId::kNone};
  std::atomic<bool> timed_out{false};  // before any connection knew it
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  int end_code = 0;  // of a call that no connection took
  std::string end_text;
  absl::Notification over;
};

// Writes the outcome where the caller looks for it.
void Conclude(ClientCall& call, int code, const std::string& text);
// The opening calls of its streams are over, well or not.
void ReleaseStreams(ClientCall& call);

}  // namespace sluice::edge::brpc
