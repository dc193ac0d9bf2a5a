// The one field of example.EchoRequest and example.EchoResponse: `required string message = 1`.
//
//   channel->Call(kEchoService, kEchoMethod, controller, PackEcho("echo"), &answer);
//   std::optional<std::string> text = UnpackEcho(answer);
//
// Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/fields.h"

namespace sluice::app {

constexpr char kEchoService[] = "example.EchoService";
constexpr char kEchoMethod[] = "Echo";

inline Bytes PackEcho(std::string_view text) {
  FieldWriter fields;
  fields.PutRecord(1, text);
  return Bytes::Take(fields.Take());
}

// Nothing if `message` is none, or lacks the field.
inline std::optional<std::string> UnpackEcho(const Bytes& message) {
  const std::string flat = message.ToString();
  std::optional<std::string> text;
  FieldReader fields(flat);
  while (fields.Next()) {
    if (fields.tag() == 1) text = std::string(fields.text());
  }
  return fields.ok() ? text : std::nullopt;
}

}  // namespace sluice::app
