// One request under way, on the server's side.
//
// Threading: its handler's thread, then whoever calls done. Ownership: shared by the handler's `done`.
#pragma once

#include <memory>
#include <vector>

#include "edge/brpc/connection.h"
#include "sluice/rpc.h"

namespace sluice::edge::brpc {

struct ServerCall {
  std::shared_ptr<Connection> connection;  // shared: an answer may come after its end
  Controller controller;
  Bytes request;
  Bytes response;
  RequestAnswer answer;  // filled while it goes on: correlation, streams
  bool accepted = false;
};

}  // namespace sluice::edge::brpc
