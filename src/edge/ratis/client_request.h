// A RaftClientRequestProto as the server sees it: checked, and taken apart into what to do and how to answer.
//
//   ParsedRequest parsed;
//   if (auto failure = TakeClientRequest(*host, proto, &parsed)) return End(*failure);
//   host->Submit(std::move(parsed.request), ...);
//
// Pure but for the lookup of the group; any thread. Every nonsense ends the call with a CallFailure.
#pragma once

#include <optional>

#include "edge/ratis/errors.h"
#include "edge/ratis/message_streams.h"
#include "node/host.h"

namespace sluice::edge::ratis {

struct ParsedRequest {
  node::ClientRequest request;
  ReplyContext context;
  uint64_t bytes = 0;
  bool in_window = false;  // has a sliding-window entry
  uint64_t seq = 0;
  bool is_first = false;
  // The request is a part of a message. Until that is whole it is a watch of index 0: does this server lead?
  std::optional<MessagePart> part;
};

// Moves the content out of `proto`.
std::optional<CallFailure> TakeClientRequest(const node::Host& host, pb::RaftClientRequestProto& proto,
                                             ParsedRequest* out);

}  // namespace sluice::edge::ratis
