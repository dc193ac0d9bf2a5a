#include "edge/bytestream/read_call.h"

#include <utility>

#include "edge/bytestream/buffers.h"
#include "edge/status.h"

namespace sluice::edge::bytestream {

void ReadCall::Send(Bytes message) {
  message_ = ToBuffer(message);
  StartWrite(&message_);
}

void ReadCall::OnWriteDone(bool ok) {
  lane()->Post([self = self_, ok] {
    self->message_.Clear();
    ok ? self->OnSent() : self->End(absl::CancelledError("the client is gone"));
  });
}

void ReadCall::OnCancel() {
  lane()->Post([self = self_] { self->End(absl::CancelledError("cancelled by the client")); });
}

void ReadCall::Finish(const absl::Status& status) { ServerWriteReactor::Finish(ToGrpc(status)); }

}  // namespace sluice::edge::bytestream
