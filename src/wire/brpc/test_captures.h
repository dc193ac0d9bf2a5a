// Reads the captured conversations of real brpc peers in testdata/ for tests: one frame a line, in hex, after
// its direction, in the order seen between the peers.
//
//   for (const char* name : kCaptures)
//     for (const CapturedFrame& frame : LoadCapture(name)) Decode(frame.bytes);
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "base/strings.h"

namespace sluice::wire::brpc {

inline constexpr const char* kCaptures[] = {
    "accept-then-fail",    "batch3",       "early-data", "echo-basic",
    "example-batch-echo",  "example-echo", "failed",     "gzip-crc-attachment",
    "lost-first-feedback", "no-reader",    "refused",    "segmented",
    "server-close",        "unary",        "unlimited",  "window"};

struct CapturedFrame {
  bool from_client = false;
  std::string bytes;
};

// Empty when the file cannot be read or a line is none, which tests must treat as a failure.
inline std::vector<CapturedFrame> LoadCapture(const std::string& name) {
  std::ifstream in(std::string(SLUICE_SOURCE_DIR) + "/src/wire/testdata/brpc-" + name + ".hex");
  std::vector<CapturedFrame> frames;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const bool from_client = line.starts_with("C>S ");
    if (!from_client && !line.starts_with("S>C ")) return {};
    const std::optional<std::string> raw = FromHex(line.substr(4));
    if (!raw) return {};
    frames.push_back({from_client, *raw});
  }
  return frames;
}

// All that one side sent.
inline std::string SentBy(bool client, const std::vector<CapturedFrame>& frames) {
  std::string sent;
  for (const CapturedFrame& frame : frames) {
    if (frame.from_client == client) sent += frame.bytes;
  }
  return sent;
}

}  // namespace sluice::wire::brpc
