// One Put under way: records in order, fed to the upload's relay,
// or kept until the blob is known to be small.
//
//   auto call = std::make_shared<PutCall>(host, group, lane, place);
//   if (call->Accept(controller)) ...      // it goes on by itself
//
// Threading: see FileStream; all state is the lane's. Failure: the result says why, at once; a stream that
// ends before its end record leaves its upload, unseen, to its time-to-live. Bounds: bytes are consumed when
// the relay has answered for them, so what is held here is what the client may have under way.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "edge/files/file_stream.h"
#include "node/host.h"

namespace sluice::edge::files {

class PutCall final : public FileStream {
 public:
  PutCall(node::Host* host, absl::StatusOr<GroupId> group, env::Executor* lane, CallPlace place);

 private:
  // Bytes of the blob, and how much of what the client sent they stand for.
  struct Piece {
    Bytes data;
    uint64_t credit = 0;
  };

  void OnMessages(std::vector<Bytes> messages) override;
  void OnSilence() override;
  void OnGone() override;

  absl::Status Take(const Bytes& message);
  absl::Status TakeHeader(const Record& record);
  absl::Status TakeData(Bytes data);
  absl::Status TakeEnd(const Record& record);
  void Feed(Bytes data);
  void Step();
  void OpenUpload();
  void OnOpened(absl::StatusOr<std::shared_ptr<node::Relay>> relay);
  void Pump();
  void OnAppended(uint64_t size, uint64_t credit, const absl::Status& status);
  void PutWhole();
  void FinishUpload();
  void OnPublished(absl::StatusOr<node::BlobInfo> info);
  void Answer(const absl::Status& status, const node::BlobInfo& info = {});
  bool Over() const { return ended() || gone(); }

  node::Host* const host_;
  const absl::StatusOr<GroupId> group_;
  const uint64_t window_bytes_;
  const uint64_t inline_bytes_;
  node::BlobHeader header_;
  bool tell_holders_ = false;
  bool headed_ = false;    // the header has come
  bool finished_ = false;  // the end record has come
  uint64_t arrived_ = 0;

  std::string small_;                   // everything, while it may be small enough for the log
  std::deque<Piece> pieces_;            // not appended yet
  std::shared_ptr<node::Relay> relay_;  // shared with the host
  bool opening_ = false;
  bool last_step_ = false;  // publishing
  uint64_t appended_ = 0;
  uint64_t in_flight_ = 0;
  uint64_t untold_ = 0;  // consumed of this batch and not said yet
};

}  // namespace sluice::edge::files
