// What a ByteStream.Read answers: messages of one source, read ahead and passed on by reference; without the network.
//
//   class Call final : public ReadPump { void Send(Bytes message) override; void Finish(absl::Status) override; };
//   call->OnSource(source);   ...   call->OnSent(true);
//
// Threading: everything on the lane. Failure: the status of the source; DATA_LOSS if it gives fewer bytes than it
// promised.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "base/status.h"
#include "edge/handshake.h"
#include "env/executor.h"
#include "node/host.h"

namespace sluice::edge::bytestream {

class ReadPump : public std::enable_shared_from_this<ReadPump> {
 public:
  ReadPump(env::Executor* lane, int64_t offset, int64_t limit)
      : lane_(lane), offset_(offset), limit_(limit) {}
  virtual ~ReadPump() = default;
  env::Executor* lane() const { return lane_; }

  // The answer to the open, on the lane; or its refusal, at once.
  void OnSource(absl::StatusOr<std::shared_ptr<blob::Source>> source);

 protected:
  // The call's own: one message at a time, until OnSent; the end, once.
  virtual void Send(Bytes message) = 0;
  virtual void Finish(const absl::Status& status) = 0;

  void OnSent();
  void End(const absl::Status& status);
  bool ended() const { return ended_; }

 private:
  struct Slot {
    uint64_t count = 0;
    std::optional<absl::StatusOr<Bytes>> data;
  };
  void ReadAhead();
  void Pump();

  env::Executor* const lane_;
  const int64_t offset_;
  const int64_t limit_;
  std::shared_ptr<blob::Source> source_;
  uint64_t next_ = 0;
  uint64_t end_ = 0;
  std::deque<std::shared_ptr<Slot>> slots_;  // shared with reads that are due
  bool writing_ = false;
  bool ended_ = false;
};

// What another server fetches: a sealed upload of this one. An error: refused.
absl::Status OpenFetch(const CallerSays& says, const node::FetchWanted& wanted, node::Host& host,
                       const std::shared_ptr<ReadPump>& call);

}  // namespace sluice::edge::bytestream
