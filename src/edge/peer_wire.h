// What carries calls from this server to others: gRPC (grpc_wire.h), or the network of the simulator. What is
// said to whom, how long an answer is waited for and what it means is decided above, by the same code in both.
//
//   wire->Call(to, kHave, deadline_ms, std::move(request), [](absl::StatusOr<pb::HaveReply> reply) { ... });
//
//   auto stream = wire->Open(to, kAppendEntries, bytes_max, on_reply, on_end);   // null: too many, or stopping
//   stream->Push(std::make_unique<Request>(...));   // false: too much waits, or the stream is over
//
//   wire->Read(to, {.path = kRead, .metadata = {...}, ...}, on_message, on_end);    // payload, by reference
//
// Every call says which cluster this server is of and whom it means (handshake.h). Threading: any thread; what
// is given to be called runs on threads of the wire, which it must not block. Failure: the status that the other
// end gave; UNAVAILABLE where it is not there, refuses the connection, or too many calls are under way;
// DEADLINE_EXCEEDED. A call is answered exactly once, `on_end` is called once and last.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice::edge {

using ProtoMessage = google::protobuf::MessageLite;

// A method of a service, by what goes and what comes back.
template <typename Request, typename Reply>
struct Method {
  const char* path;
};

struct WireTo {
  PeerId id;
  std::string address;
  bool heartbeats = false;  // travel apart from what may be long
};

// A stream of requests of one call, and replies to them. Given up by Cancel or by the end of the wire only.
class OutgoingStream {
 public:
  virtual ~OutgoingStream() = default;
  virtual bool Push(std::unique_ptr<ProtoMessage> request) = 0;
  // Nothing more is pushed; what is queued still goes.
  virtual void PushedAll() = 0;
  virtual void Cancel() = 0;
};

class PeerWire {
 public:
  using EndedFn = absl::AnyInvocable<void(absl::Status)>;
  virtual ~PeerWire() = default;

  template <typename Request, typename Reply, typename Then>
  void Call(const WireTo& to, const Method<Request, Reply>& method, int deadline_ms, Request request,
            Then then) {
    struct State {
      Request request;
      Reply reply;
      Then then;
    };
    auto state = std::shared_ptr<State>(new State{std::move(request), {}, std::move(then)});
    StartCall(to, method.path, deadline_ms, state->request, &state->reply,
              [state](const absl::Status& status) mutable {
                if (!status.ok()) return state->then(status);
                state->then(std::move(state->reply));
              });
  }

  // `on_reply` gets each reply, one after another; both are let go after `on_end`.
  template <typename Request, typename Reply, typename OnReply>
  std::shared_ptr<OutgoingStream> Open(const WireTo& to, const Method<Request, Reply>& method,
                                       uint64_t bytes_max, OnReply on_reply, EndedFn on_end) {
    return StartStream(to, method.path, bytes_max,
                       {std::make_unique<Reply>(),
                        [on_reply = std::move(on_reply)](const ProtoMessage& reply) mutable {
                          on_reply(static_cast<const Reply&>(reply));
                        },
                        std::move(on_end)});
  }

  // One request, and messages back that are not parsed. An error of `on_message` ends the call with it.
  struct Reading {
    const char* path;
    int deadline_ms;
    std::pair<std::string, std::string> metadata;
    Bytes request;
  };
  virtual void Read(const WireTo& to, Reading reading,
                    absl::AnyInvocable<absl::Status(const Bytes& message)> on_message, EndedFn on_end) = 0;

  // Cancels what is under way, and waits until nothing of it can be called any more.
  virtual void Stop() = 0;

 protected:
  struct Replies {
    std::unique_ptr<ProtoMessage> memory;  // each is parsed into this
    absl::AnyInvocable<void(const ProtoMessage&)> on_reply;
    EndedFn on_end;
  };
  // Request and reply live until `done`.
  virtual void StartCall(const WireTo& to, const char* path, int deadline_ms, const ProtoMessage& request,
                         ProtoMessage* reply, EndedFn done) = 0;
  virtual std::shared_ptr<OutgoingStream> StartStream(const WireTo& to, const char* path, uint64_t bytes_max,
                                                      Replies replies) = 0;
};

}  // namespace sluice::edge
