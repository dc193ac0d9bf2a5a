// The store's Upload: a queue of calls in front of a StageFile, drained on the upload's blob thread.
//
//   auto stage = std::make_shared<Stage>(place, spec, std::move(file));
//   stage->Append(0, data, &executor, done);
//
// Calls are queued under a mutex and posted as one task per burst; adjacent appends of a burst become one
// write. With compute_digest each accepted run goes on to a hashing thread, and its appends are answered
// after both have it: that is what slows a sender down to the slower of the two. The queue holds
// StoreOptions::queue_bytes, counted from the call to its answer; a call beyond is answered
// RESOURCE_EXHAUSTED. Ownership: the store and callers share a Stage; its tasks keep it alive.
// `place` outlives every call.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "blob/sealed_file.h"
#include "blob/stage_file.h"
#include "blob/store.h"
#include "blob/upload.h"

namespace sluice::blob {

class Stage;

// What a stage needs from its store.
class StagePlace {
 public:
  virtual ~StagePlace() = default;
  virtual env::Files& files() = 0;
  virtual const env::Clock& clock() const = 0;
  virtual const StoreOptions& options() const = 0;
  virtual StagePaths PathsOf(const UploadId& id) const = 0;
  // RESOURCE_EXHAUSTED if `bytes` more would eat into the reserve of free space.
  virtual absl::Status Admit(uint64_t bytes) = 0;
  // Makes the names of this stage's files durable.
  virtual absl::Status SyncNames(const UploadId& id) = 0;
  // A stage opened (+1) or closed (-1) its files.
  virtual void CountAwake(int change) = 0;
  // Takes the stage out of the store and has its files removed; false if it is no longer the store's.
  virtual bool Drop(const Stage* stage, bool sealed_too) = 0;
  // Posts unless the store is being destroyed.
  virtual bool PostUnlessStopping(env::Executor& executor, env::Task task) = 0;
};

class Stage final : public Upload, public std::enable_shared_from_this<Stage> {
 public:
  struct Threads {
    env::Executor& disk;
    env::Executor& hash;
  };
  // A stage that was just created.
  Stage(StagePlace& place, Threads threads, UploadSpec spec, std::unique_ptr<StageFile> file);
  // A stage found at start; its files are opened by the first call that needs them.
  Stage(StagePlace& place, Threads threads, const SideState& found);

  const UploadSpec& spec() const override { return spec_; }
  void Append(uint64_t offset, Bytes data, env::Executor* reply_on, Done<uint64_t> done) override;
  void Flush(env::Executor* reply_on, Done<uint64_t> done) override;
  void Read(uint64_t offset, uint64_t count, env::Executor* reply_on, Done<Bytes> done) override;
  void Seal(SealExpectation expected, env::Executor* reply_on, Done<Sealed> done) override;
  void Rest() override;
  void Abort() override { place_.Drop(this, false); }
  void Drop() override { place_.Drop(this, true); }
  uint64_t length() const override { return length_; }
  uint64_t durable_length() const override { return durable_length_; }
  env::Instant last_progress() const override { return env::Instant(last_progress_); }
  StageState state() const override { return state_; }
  Sealed sealed_state() const override { return sealed_state_; }

  // Whether it holds files open.
  bool awake() const { return awake_; }
  // The store takes the stage out: calls are refused from now on. False, and nothing changes, if it is sealed and
  // must not be.
  bool MarkDropped(bool sealed_too) {
    StageState now = state_;
    do {
      if (!sealed_too && (now == StageState::kSealed || now == StageState::kLinked)) return false;
    } while (!state_.compare_exchange_weak(now, StageState::kDropped));
    if (awake_.exchange(false)) place_.CountAwake(-1);
    return true;
  }
  // The store is about to make it content; false if it is not sealed (any more).
  bool MarkLinked() { return Move(StageState::kSealed, StageState::kLinked); }
  void UnmarkLinked() { Move(StageState::kLinked, StageState::kSealed); }
  // Blob thread.
  void CloseFiles();

 private:
  struct AppendCall {
    uint64_t offset;
    Bytes data;
    env::Executor* reply_on;
    Done<uint64_t> done;
  };
  struct FlushCall {
    env::Executor* reply_on;
    Done<uint64_t> done;
  };
  struct ReadCall {
    uint64_t offset;
    uint64_t count;
    env::Executor* reply_on;
    Done<Bytes> done;
  };
  struct SealCall {
    SealExpectation expected;
    env::Executor* reply_on;
    Done<Sealed> done;
  };
  struct RestCall {};
  using Call = std::variant<AppendCall, FlushCall, ReadCall, SealCall, RestCall>;

  // False if the stage is not in state `from`.
  bool Move(StageState from, StageState to) { return state_.compare_exchange_strong(from, to); }

  // Room in the queue for a call with `bytes` of payload, until its answer.
  absl::Status Reserve(uint64_t bytes);
  void Release(uint64_t bytes);
  void Enqueue(Call call);
  // From here on: blob thread only.
  void Drain();
  void Process();
  void Run(AppendCall call);
  void Run(FlushCall call);
  void Run(ReadCall call);
  void Run(SealCall call);
  void Run(RestCall call);
  // Why no call can be carried out, or OK.
  absl::Status CheckState() const;
  // The same, with the files open.
  absl::Status Usable();
  absl::Status OpenFiles();
  void SetFile(std::unique_ptr<StageFile> file);
  size_t GatherRun(const AppendCall& first, Bytes& run) const;
  absl::Status WriteRun(const Bytes& run);
  void Answer(std::vector<AppendCall> calls, const absl::Status& status, uint64_t offset);
  absl::StatusOr<uint64_t> FlushNow();
  absl::Status SyncNames();
  absl::StatusOr<Bytes> ReadNow(uint64_t offset, uint64_t count);
  absl::Status CheckExpectation(const SealExpectation& expected, const Sealed& sealed) const;
  void FinishSeal(absl::StatusOr<std::optional<Sha256>> digest);
  absl::StatusOr<Sealed> SealWith(const SealExpectation& expected,
                                  absl::StatusOr<std::optional<Sha256>> digest_or);
  absl::Status Fail(absl::Status status);
  std::string Name() const { return fmt::format("upload {}", spec_.id.ToHex()); }

  // Makes sure that the hashing thread has everything up to the present length.
  void StartHashing();
  void HashAgain(env::File& data, const ChunkList& chunks);  // hashing thread

  StagePlace& place_;
  const Threads threads_;
  const UploadSpec spec_;
  const StagePaths paths_;

  std::mutex mutex_;
  std::vector<Call> queue_ ABSL_GUARDED_BY(mutex_);
  bool drain_posted_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> queued_bytes_ = 0;

  std::atomic<uint64_t> length_ = 0;
  std::atomic<uint64_t> durable_length_ = 0;
  std::atomic<int64_t> last_progress_;
  std::atomic<StageState> state_ = StageState::kOpen;
  std::atomic<bool> awake_ = false;
  Sealed sealed_state_;  // written before state_ says kSealed

  // Blob thread.
  std::deque<Call> pending_;
  std::unique_ptr<StageFile> file_;
  std::unique_ptr<SealedFile> sealed_file_;  // opened by the first read after the seal
  bool names_durable_;
  absl::Status failure_;
  std::optional<SealCall> sealing_;  // waits for its digest; later calls wait behind it
  bool hashing_ = false;             // the hashing thread has everything that was accepted
  struct Digested {
    uint64_t length;
    Sha256 digest;
  };
  std::optional<Digested> digested_;

  // Hashing thread.
  std::optional<DigestBuilder> builder_;
  absl::Status hash_failure_;
};

}  // namespace sluice::blob
