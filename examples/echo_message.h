// What the two streaming examples share: their messages, and their ways to be started.
//
//   streaming_echo server PORT
//   streaming_echo client HOST:PORT [COUNT]
//   streaming_echo
//
// Without words, server and client talk inside one process and check what arrived. One thread. A program with
// protoc has EchoRequest and EchoResponse made from `message EchoRequest { required string message = 1; }`;
// this type stands for both, so that the example needs no generated file.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include <chrono>
#include <string>
#include <thread>

#include "sluice/rpc.h"
#include "sluice/stream.h"

namespace sluice::examples {

inline constexpr char kService[] = "example.EchoService";
inline constexpr char kMethod[] = "Echo";
inline constexpr char kOpening[] = "I'm a RPC to connect stream";
inline constexpr char kAccepted[] = "Accepted stream";

class EchoMessage {
 public:
  const std::string& message() const { return message_; }
  void set_message(std::string message) { message_ = std::move(message); }

  std::string SerializeAsString() const {
    std::string raw = "\n";  // field 1, bytes
    size_t size = message_.size();
    for (; size >= 128; size >>= 7) raw.push_back(static_cast<char>(size | 128));
    raw.push_back(static_cast<char>(size));
    return raw + message_;
  }
  bool ParseFromString(const std::string& raw) {
    size_t size = 0;
    size_t at = 1;
    for (int shift = 0; at < raw.size() && shift < 32; shift += 7) {
      const auto byte = static_cast<unsigned char>(raw[at++]);
      size |= static_cast<size_t>(byte & 127) << shift;
      if (byte < 128) break;
    }
    if (raw.empty() || raw[0] != '\n' || raw.size() - at != size) return false;
    message_ = raw.substr(at);
    return true;
  }

 private:
  std::string message_;
};

// `serve` adds the method to a server; `talk` is the client: address, rounds (negative: for ever),
// milliseconds between them, 0 if all went well. Returns what main should.
template <typename Serve, typename Talk>
int Main(int argc, char** argv, Serve serve, Talk talk) {
  const std::string role = argc > 1 ? argv[1] : "";
  if (role == "client" && argc > 2) return talk(argv[2], argc > 3 ? atoi(argv[3]) : -1, 1000);
  if (role != "" && (role != "server" || argc < 3)) {
    fprintf(stderr, "%s [server PORT | client HOST:PORT [COUNT]]\n", argv[0]);
    return 2;
  }
  RpcServer server;
  serve(server);
  const std::string port = role == "server" ? argv[2] : "0";
  if (const absl::Status started = server.Start((role == "server" ? "0.0.0.0:" : "127.0.0.1:") + port);
      !started.ok()) {
    fprintf(stderr, "%s\n", started.ToString().c_str());
    return 1;
  }
  if (role == "") return talk("127.0.0.1:" + std::to_string(server.port()), 3, 10);
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace sluice::examples
