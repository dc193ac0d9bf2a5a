// Sources whose bytes are not simply a local file: held by other servers, inside the log, or damaged here.
//
//   auto remote = std::make_shared<RemoteSource>(RemoteParts{...});
//   auto source = std::make_shared<RepairingSource>(
//       local, [remote] { return remote; }, [] { MarkDamaged(); });
//
// Threading: as blob::Source, any thread; a read's work is done on the executor that it names, so payload
// never visits a shard. Ownership: a read under way keeps what it needs; the transport outlives it. Failure:
// a read gives all its bytes or an error, never fewer (F-24, F-25).
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "blob/source.h"
#include "env/clock.h"
#include "node/transports.h"

namespace sluice::node {

struct RemoteParts {
  ByteTransport* bytes = nullptr;
  const env::Clock* clock = nullptr;
  FetchWanted wanted;
  std::vector<raft::Peer> sources;  // in order of preference
  absl::Status here;                // not ok: why there is no copy here, for whoever gets no answer
  env::Duration timeout = std::chrono::seconds(10);
  env::Duration retry_delay = std::chrono::milliseconds(100);  // after each round through the sources
};

// Whether an error says that a copy is not there whole. Others (no descriptor, no memory, F-14) say nothing of it.
inline bool SaysLost(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

// Reads from the first server that answers; remembers which one did. A server that is silent for a part of
// the timeout is passed over. When none has given them within the timeout, naming them: DATA_LOSS if each
// says that its copy is damaged, or there is nobody to ask, else UNAVAILABLE (D-14): bytes that are nowhere may have
// been removed meanwhile, or be on their way.
class RemoteSource final : public blob::Source {
 public:
  explicit RemoteSource(RemoteParts parts) : shared_(std::make_shared<Shared>(std::move(parts))) {}
  uint64_t length() const override { return shared_->parts.wanted.length; }
  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on,
            blob::Upload::Done<Bytes> done) override;

 private:
  struct Shared {
    explicit Shared(RemoteParts given) : parts(std::move(given)) {}
    const RemoteParts parts;
    std::atomic<size_t> preferred = 0;
  };
  class Reading;
  std::shared_ptr<Shared> shared_;
};

// Bytes in memory.
class InlineSource final : public blob::Source {
 public:
  explicit InlineSource(Bytes data) : data_(std::move(data)) {}
  uint64_t length() const override { return data_.size(); }
  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on,
            blob::Upload::Done<Bytes> done) override;

 private:
  const Bytes data_;
};

// Reads from `local`, and what that answers with DATA_LOSS from what `fallback` makes: what is whole is served even
// where nobody else has it (F-24). DATA_LOSS says then why not here and why not there. `on_damage` is called once,
// on the executor of the first read that met the damage; `fallback` may be called from several threads at once.
class RepairingSource final : public blob::Source, public std::enable_shared_from_this<RepairingSource> {
 public:
  using Fallback = std::function<std::shared_ptr<blob::Source>()>;
  RepairingSource(std::shared_ptr<blob::Source> local, Fallback fallback,
                  absl::AnyInvocable<void()> on_damage)
      : local_(std::move(local)), make_fallback_(std::move(fallback)), on_damage_(std::move(on_damage)) {}
  ~RepairingSource() override { delete fallback_.load(); }
  uint64_t length() const override { return local_->length(); }
  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on,
            blob::Upload::Done<Bytes> done) override;

 private:
  // Made by whoever needs it first.
  blob::Source& fallback();

  const std::shared_ptr<blob::Source> local_;
  const Fallback make_fallback_;
  absl::AnyInvocable<void()> on_damage_;  // called by whoever sets damaged_
  std::atomic<bool> damaged_ = false;
  std::atomic<std::shared_ptr<blob::Source>*> fallback_ = nullptr;  // owned; set once
};

// Whether two sources hold the same bytes: reads both to the end, or to the first difference, on `on`, where
// `done` runs. An error if one of them cannot be read.
void CompareBytes(std::shared_ptr<blob::Source> a, std::shared_ptr<blob::Source> b, env::Executor* on,
                  absl::AnyInvocable<void(absl::StatusOr<bool>)> done);

// Reads a source to its end, on `on`, where `done` runs: ok if every byte is what was sealed.
void ReadWhole(std::shared_ptr<blob::Source> source, env::Executor* on,
               absl::AnyInvocable<void(absl::Status)> done);

}  // namespace sluice::node
