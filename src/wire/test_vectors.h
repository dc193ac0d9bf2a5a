// Reads the captured exchanges of testdata/ for tests: one packet a line, in hex, after its labels.
//
//   for (const Vector& v : LoadVectors("ratis-datastream-chain.hex")) Decode(v.bytes, v.is_request);
#pragma once

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/strings.h"

namespace sluice::wire {

struct Vector {
  std::string line_name;  // hop or name, as written
  bool is_request = false;
  std::string bytes;
};

// Empty when the file cannot be read, which tests must treat as a failure.
inline std::vector<Vector> LoadVectors(const std::string& file) {
  std::ifstream in(std::string(SLUICE_SOURCE_DIR) + "/src/wire/testdata/" + file);
  std::vector<Vector> vectors;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::vector<std::string> parts;
    for (std::string word; words >> word;) parts.push_back(word);
    const std::optional<std::string> raw = FromHex(parts.back());
    if (!raw) return {};
    Vector vector{.line_name = parts.front(), .bytes = *raw};
    for (const std::string& part : parts) vector.is_request |= part == "REQ";
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

}  // namespace sluice::wire
