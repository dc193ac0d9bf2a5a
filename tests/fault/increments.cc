// One client of a counter group: one INCREMENT at a time, retried by the library until it is answered.
//
//   increments SERVERS GROUP          until the standard input ends
//   increments SERVERS GROUP read     says what the counter is, by a linearizable read
//
// Prints a dot a hundred acknowledged increments, then what was acknowledged and what the counter says. Exit
// code 0: they are equal, and no call ended without an answer.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "base/strings.h"
#include "client/connection.h"
#include "client/ratis_client.h"

namespace sluice::client {
namespace {

bool InputEnded() {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char byte = 0;
  return poll(&input, 1, 0) == 1 && read(STDIN_FILENO, &byte, 1) == 0;
}

absl::StatusOr<Bytes> Ask(RatisClient& client, RatisCall::Kind kind, const char* message) {
  RatisCall call;
  call.kind = kind;
  call.message = Bytes::Copy(message);
  auto reply = client.SendAndWait(std::move(call));
  if (!reply.ok()) return reply.status();
  return std::move(reply->message);
}

uint64_t Number(const Bytes& reply) {
  uint64_t number = 0;
  for (const char byte : reply.ToString()) number = number << 8 | static_cast<uint8_t>(byte);
  return number;
}

int Run(const char* servers_text, const char* group_text, bool only_read) {
  const auto servers = ParseServers(servers_text);
  const auto group = GroupId::Parse(group_text);
  if (!servers.ok() || !group) {
    fmt::print(stderr, "servers {} or group {} cannot be read\n", servers_text, group_text);
    return 2;
  }
  RatisClientOptions options;
  options.group = *group;
  options.timeout = std::chrono::minutes(3);
  RatisClient client(std::make_shared<Connection>(*servers), options);
  if (only_read) {
    const auto read = Ask(client, RatisCall::Kind::kRead, "GET");
    fmt::print("{}\n", read.ok() ? fmt::format("{}", Number(*read)) : std::string(Message(read.status())));
    return read.ok() ? 0 : 1;
  }
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
  while (!InputEnded()) {
    const auto reply = Ask(client, RatisCall::Kind::kWrite, "INCREMENT");
    if (!reply.ok()) {
      ++unknown;
      fmt::print("\nno answer: {}\n", Message(reply.status()));
    } else if (++acknowledged % 100 == 0) {
      fmt::print(".");
    }
    fflush(stdout);
  }
  const auto read = Ask(client, RatisCall::Kind::kRead, "GET");
  const uint64_t counter = read.ok() ? Number(*read) : 0;
  fmt::print("\nacknowledged {}, without an answer {}, counter {}{}\n", acknowledged, unknown, counter,
             read.ok() ? "" : " (" + std::string(Message(read.status())) + ")");
  return read.ok() && unknown == 0 && counter == acknowledged ? 0 : 1;
}

}  // namespace
}  // namespace sluice::client

int main(int count, char** arguments) {
  if (count != 3 && count != 4) return 2;
  return sluice::client::Run(arguments[1], arguments[2], count == 4);
}
