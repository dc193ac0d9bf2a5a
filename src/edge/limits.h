// How much of each kind the edges of one server take at a time; what is beyond is refused.
//
//   options.limits.bytestream_calls_max = 100;
//
// Plain values.
#pragma once

#include <cstdint>

namespace sluice::edge {

struct EdgeLimits {
  uint32_t bytestream_calls_max = 4096;
  uint32_t data_stream_connections_max = 1024;
  uint32_t data_stream_half_open_max = 64;  // of one address, that have not said anything whole
};

}  // namespace sluice::edge
