// A counter group from outside, for the tests with real processes.
//
//   counter SERVERS GROUP stale MIN_INDEX     the first server's own value, once it has applied MIN_INDEX
//   counter SERVERS GROUP get                 the value, linearizable
//   counter SERVERS GROUP write COUNT RATE    COUNT increments, at most RATE a second (0: no limit)
//
// Prints one number: the value, or how many increments were acknowledged. Fails at the first error of a read.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <thread>

#include "sluice/client.h"

namespace sluice {
namespace {

constexpr size_t kUnderWayMax = 256;

std::vector<std::string> Split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

absl::StatusOr<uint64_t> Value(absl::StatusOr<RaftReply> reply) {
  RETURN_IF_ERROR(reply.status());
  uint64_t value = 0;
  for (const char byte : reply->message.ToString()) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

uint64_t Write(RaftClient& client, uint64_t count, uint64_t rate) {
  uint64_t acknowledged = 0;
  std::deque<Future<RaftReply>> under_way;
  const auto take = [&] {
    const auto reply = under_way.front().Get();
    under_way.pop_front();
    if (reply.ok()) return static_cast<void>(++acknowledged);
    fmt::print(stderr, "not acknowledged: {}\n", Message(reply.status()));
  };
  const auto began = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < count; ++i) {
    const auto due = began + std::chrono::microseconds(rate > 0 ? i * 1'000'000 / rate : 0);
    std::this_thread::sleep_until(due);  // tidy-allow: it is a load of so many writes a second
    if (under_way.size() >= kUnderWayMax) take();
    under_way.push_back(client.Async().SendUnordered(Bytes::Copy("INCREMENT")));
  }
  while (!under_way.empty()) take();
  return acknowledged;
}

absl::StatusOr<uint64_t> Run(const std::vector<std::string>& words) {
  const auto group = GroupId::Parse(words[1]);
  if (!group) return absl::InvalidArgumentError(words[1]);
  ASSIGN_OR_RETURN(auto client,
                   RaftClient::Create({.servers = Split(words[0]), .group = *group, .timeout_ms = 60'000}));
  if (words[2] == "get") return Value(client->Blocking().SendReadOnly(Bytes::Copy("GET")));
  if (words[2] == "stale") {
    return Value(client->Blocking().SendStaleRead(Bytes::Copy("GET"), Index{std::stoll(words.at(3))}));
  }
  return Write(*client, std::stoull(words.at(3)), std::stoull(words.at(4)));
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 3) return 2;
  const auto value = sluice::Run(words);
  if (!value.ok()) {
    fmt::print(stderr, "{}\n", sluice::Message(value.status()));
    return 1;
  }
  fmt::print("{}\n", *value);
  return 0;
}
