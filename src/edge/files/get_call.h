// One Get under way: reads ahead, and writes what was read as the stream's window allows.
//
//   auto call = std::make_shared<GetCall>(host, lane, request, place);
//   if (call->Accept(controller)) call->Begin();
//
// Threading: see FileStream; all state is the lane's. Failure: the result carries the status of the source;
// DATA_LOSS if it gives fewer bytes than it promised.
// Bounds: kReadsAhead reads of kDataBytes, and the window.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "edge/files/file_stream.h"
#include "node/host.h"

namespace sluice::edge::files {

class GetCall final : public FileStream {
 public:
  static constexpr uint64_t kDataBytes = 1 << 20;
  static constexpr size_t kReadsAhead = 4;  // the device, two checks and the wire at a time

  GetCall(node::Host* host, env::Executor* lane, FileGetRequest request, CallPlace place);
  void Begin();  // once, after Accept

 private:
  struct Slot {
    uint64_t count = 0;
    std::optional<absl::StatusOr<Bytes>> data;
  };

  void OnMessages(std::vector<Bytes> messages) override;
  void OnWritten() override { Pump(); }
  void OnGone() override;

  void Open(const GroupId& group);
  void OnOpened(absl::StatusOr<node::Reading> reading);
  void ReadAhead();
  void Pump();
  void End(const absl::Status& status);

  node::Host* const host_;
  const FileGetRequest request_;
  std::shared_ptr<blob::Source> source_;  // shared with reads that are due
  std::deque<std::shared_ptr<Slot>> slots_;
  uint64_t next_ = 0;
  uint64_t end_at_ = 0;
  uint64_t sent_ = 0;
};

// The group that a request names; the default group if it names none.
absl::StatusOr<GroupId> GroupNamed(const std::string& text);

}  // namespace sluice::edge::files
