// How much of each kind the edges of one server take at a time; what is beyond is refused.
//
//   options.limits.bytestream_calls_max = 100;
//
// Plain values.
#pragma once

#include <cstdint>

namespace sluice::edge {

// Of the port that speaks Streaming RPC; those of bytes are per connection.
struct StreamLimits {
  uint32_t loops = 2;
  uint32_t threads_max = 64;  // of each loop, held up in handlers; those in StreamWait do not count
  uint32_t connections_max = 10'000;
  uint32_t half_open_max = 1'024;  // of one address, that have not said anything whole
  uint32_t streams_per_connection_max = 65'536;
  uint32_t files_max = 1024;  // Puts and Gets under way
  uint64_t message_bytes_max = 64 << 20;
  uint64_t received_bytes_max = 64 << 20;  // arrived and not consumed
  uint64_t unsent_bytes_max = 64 << 20;    // written and not sent
  uint32_t stall_timeout_ms = 60'000;
};

struct EdgeLimits {
  uint32_t bytestream_calls_max = 4096;
  uint32_t data_stream_connections_max = 1024;
  uint32_t data_stream_half_open_max = 64;  // of one address, that have not said anything whole
  StreamLimits stream;
};

}  // namespace sluice::edge
