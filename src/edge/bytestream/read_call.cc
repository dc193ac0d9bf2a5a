#include "edge/bytestream/read_call.h"

#include <grpc/grpc.h>

#include <chrono>
#include <string>
#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/status.h"

namespace sluice::edge::bytestream {

void ReadCall::Send(Bytes message) {
  sending_ = true;
  std::exchange(started_, true) ? silence_.Sign() : silence_.Start(weak_from_this());
  message_ = ToBuffer(message);
  StartWrite(&message_);
}

void ReadCall::OnWriteDone(bool ok) {
  silence_.Sign();
  lane()->Post([self = self_, ok] {
    self->sending_ = false;
    self->message_.Clear();
    ok ? self->OnSent() : self->End(absl::CancelledError("the client is gone"));
  });
}

void ReadCall::OnCancel() {
  lane()->Post([self = self_] { self->End(absl::CancelledError("cancelled by the client")); });
}

// A status waits behind the message that is not taken, for ever; what a call is cancelled with does not.
bool ReadCall::OnSilence() {
  if (ended()) return true;
  if (!sending_) return false;  // it is the source that is late
  const absl::Status late = absl::DeadlineExceededError(
      fmt::format("nothing was taken for {} ms",
                  std::chrono::duration_cast<std::chrono::milliseconds>(patience_).count()));
  const std::string text(Message(late));
  grpc_call_cancel_with_status(context_->c_call(), GRPC_STATUS_DEADLINE_EXCEEDED, text.c_str(), nullptr);
  End(late);
  return true;
}

void ReadCall::Finish(const absl::Status& status) {
  silence_.Stop();
  ServerWriteReactor::Finish(ToGrpc(status));
}

}  // namespace sluice::edge::bytestream
