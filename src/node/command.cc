#include "node/command.h"

#include <array>
#include <cstring>

namespace sluice::node {
namespace {

// version, type, two zero bytes, client id (16), call id (8, little endian); the data follows.
constexpr size_t kHeadBytes = 28;
constexpr char kVersion = 1;

}  // namespace

Bytes EncodeCommand(const Command& command) {
  std::string head(kHeadBytes, '\0');
  head[0] = kVersion;
  head[1] = static_cast<char>(command.type);
  std::memcpy(head.data() + 4, command.client.bytes.data(), 16);
  for (size_t i = 0; i < 8; ++i) head[20 + i] = static_cast<char>(command.call.value >> (8 * i));
  Bytes payload = Bytes::Take(std::move(head));
  payload.Append(command.data);
  return payload;
}

absl::StatusOr<Command> DecodeCommand(const Bytes& payload) {
  if (payload.size() < kHeadBytes) {
    return absl::InvalidArgumentError(
        fmt::format("command of {} bytes: at least {} expected", payload.size(), kHeadBytes));
  }
  std::array<char, kHeadBytes> head;
  payload.Slice(0, kHeadBytes).CopyTo(head.data());
  if (head[0] != kVersion || head[1] < 0 || head[1] > 1 || head[2] != 0 || head[3] != 0) {
    return absl::InvalidArgumentError(
        fmt::format("command of version {} and type {}", int{head[0]}, int{head[1]}));
  }
  Command command;
  command.type = static_cast<CommandType>(head[1]);
  command.client = *ClientId::FromBytes({head.data() + 4, 16});
  for (size_t i = 0; i < 8; ++i) {
    command.call.value |= uint64_t{static_cast<uint8_t>(head[20 + i])} << (8 * i);
  }
  command.data = payload.Slice(kHeadBytes, payload.size() - kHeadBytes);
  return command;
}

}  // namespace sluice::node
