// The payload of a kCommand entry: who asked, and what for. Format: docs/formats/command.md.
//
//   Bytes payload = EncodeCommand({.type = CommandType::kWrite, .client = c, .call = n, .data = bytes});
//   ASSIGN_OR_RETURN(Command command, DecodeCommand(entry.payload));     // data shares the payload's memory
//
// On the Ratis wire a command is a StateMachineLogEntryProto {logData = data, type, clientId, callId}:
// nothing else of it may matter to a machine that Java members share. sluice's own commands (what the
// group is, D-01) are writes of the client kSystemClient. Threading: plain values.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice::node {

enum class CommandType : uint8_t { kWrite = 0, kDataStream = 1 };

// The client id under which servers themselves propose; no client may use it.
inline constexpr ClientId kSystemClient{
    {'s', 'l', 'u', 'i', 'c', 'e', '-', 's', 'y', 's', 't', 'e', 'm', 0, 0, 1}};

struct Command {
  CommandType type = CommandType::kWrite;
  ClientId client;
  CallId call;
  Bytes data;
};

Bytes EncodeCommand(const Command& command);
// INVALID_ARGUMENT for anything that EncodeCommand cannot have written.
absl::StatusOr<Command> DecodeCommand(const Bytes& payload);

}  // namespace sluice::node
