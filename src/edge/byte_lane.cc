#include "edge/byte_lane.h"

namespace sluice::edge {
namespace {

absl::Status NotPluggedIn() { return absl::UnimplementedError("this server has no byte lane to others"); }

// Answers every call with an error, on its home.
class NoSink final : public node::ByteSink {
 public:
  explicit NoSink(env::Executor* home) : home_(home) {}
  void Append(uint64_t, Bytes, Done done) override { Answer(std::move(done)); }
  void Close(uint64_t, Closed done) override { Answer(std::move(done)); }

 private:
  template <typename Callback>
  void Answer(Callback done) {
    home_->Post([done = std::move(done)]() mutable { done(NotPluggedIn()); });
  }
  env::Executor* const home_;
};

}  // namespace

std::unique_ptr<node::ByteSink> ByteLane::Open(env::Executor* home, const raft::Peer& to,
                                               const node::StreamHeader& header,
                                               node::ByteSink::Opened opened) {
  if (sinks_ != nullptr) return sinks_->Open(home, to, header, std::move(opened));
  if (opened) home->Post([opened = std::move(opened)]() mutable { opened(NotPluggedIn()); });
  return std::make_unique<NoSink>(home);
}

void ByteLane::Fetch(const raft::Peer& to, const node::FetchWanted& wanted, uint64_t offset, uint64_t count,
                     env::Executor* reply_on, Done<Bytes> done) {
  if (fetcher_ != nullptr) return fetcher_->Fetch(to, wanted, offset, count, reply_on, std::move(done));
  reply_on->Post([done = std::move(done)]() mutable { done(NotPluggedIn()); });
}

}  // namespace sluice::edge
