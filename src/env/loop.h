// The real executor seen by an edge: its tasks and the edge's sockets share one thread.
//
//   std::unique_ptr<env::Loop> loop = env::NewLoop("shard-0");
//   asio::ip::tcp::acceptor acceptor(loop->context());
//   loop->Post([&] { Accept(acceptor); });
//
// context() and everything made on it (sockets, timers, coroutines) belong to the loop's thread; Post,
// PostAfter and Cancel may be called from any thread. Close what lives on the context, on its thread, before
// Stop(); destroy it before the loop.
#pragma once

#include <memory>
#include <string>
#include <utility>  // before asio: its 1.22 headers use std::exchange without including it

#include <asio/io_context.hpp>

#include "env/executor.h"

namespace sluice::env {

class Loop : public Executor {
 public:
  virtual asio::io_context& context() = 0;
};

// A loop with a running thread named `name` (15 bytes are kept).
std::unique_ptr<Loop> NewLoop(const std::string& name);

}  // namespace sluice::env
