// The Relay of this server: one upload's stage, the streams to its successors, and the answers in call order.
//
//   auto relay = std::make_shared<RelayUpload>(std::move(parts));
//   relay->Open(successors, [](absl::Status opened) { ... });      // on home; pieces may arrive before
//   std::shared_ptr<Relay> handle = relay->Handle();               // fences the handles given before (D-20)
//
// Threading: lives on parts.home, as Relay says; NewEpoch, Handle, length, failed and the sealed state may be
// used from any thread. Answers are never given inside the call that they answer. Ownership: whoever holds it
// keeps the upload going; home, files, store and bytes outlive it. When the last holder drops it the streams
// to the successors are given up, what is unanswered is answered ABORTED, and the stage stays (D-10), at rest.
// Failure: the first error of the stage fails the upload for good: everything is answered with it, and a
// stage that is not being sealed is dropped. What was refused by keep_on_bad_offset, the window, or a Close
// whose confirmation failed, fails only that call.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blob/store.h"
#include "node/relay.h"

namespace sluice::node {

// Called on home when this server and its successors hold the upload sealed; `done`, from any thread, says
// whether a majority holds it and the leader knows (D-11). May be called again after a failure.
using ConfirmFn = absl::AnyInvocable<void(SealedUpload upload, absl::AnyInvocable<void(absl::Status)> done)>;

// A server that is to get the bytes, and those that it passes them on to.
struct Downstream {
  raft::Peer peer;
  std::vector<Downstream> below;
};

struct RelayParts {
  StreamHeader header;
  std::string context;  // for the stage's side file
  env::Executor* home = nullptr;
  env::Executor* files = nullptr;  // for blocking file operations
  blob::Store* store = nullptr;
  ByteTransport* bytes = nullptr;
  uint64_t window_bytes = 8u << 20;
  env::Duration silence = std::chrono::seconds(2);
  // A successor that fails or stays silent is left behind (D-15); otherwise its failure is the upload's.
  bool lenient = true;
  // A wrong offset or length refuses the call and keeps what is there (ByteStream).
  bool keep_on_bad_offset = false;
  PeerId self;
  // On `files`, before a stage is made: whether the id may be used; null: any.
  std::function<absl::Status(const UploadId&)> may_open;
  ConfirmFn confirm;  // null unless this server is the upload's primary
};

// How a successor that was taken over gets its bytes: out of the stage, a few pieces at a time,
// however far behind it is (D-15).
struct RelayTail {
  bool opened = false;   // its length is known
  bool reading = false;  // from the stage
  bool close_sent = false;
  bool caught_up = false;  // from then on appends wait for it, as for any successor
  uint64_t next = 0;       // the first byte not read for it
  uint64_t answered = 0;   // it has everything before this
  uint64_t in_flight = 0;  // sent and not answered
};

class RelayUpload final : public Relay, public std::enable_shared_from_this<RelayUpload> {
 public:
  explicit RelayUpload(RelayParts parts);
  ~RelayUpload() override;

  // Makes the stage and opens the successors' streams; an error instead of them fails the upload with it.
  // With header.take_over a stage that is there is gone on with, at its length. Once. `opened` runs on home.
  void Open(absl::StatusOr<std::vector<Downstream>> successors,
            absl::AnyInvocable<void(absl::Status)> opened = nullptr);
  // Goes on with a stage that is there, at its length. The successors are taken over:
  // they get from the stage what they lack. Once.
  void Resume(std::shared_ptr<blob::Upload> upload, std::vector<Downstream> successors = {});
  // Fails the upload, answers what is due, and leaves the stage to whoever goes on with it: another relay that
  // takes it over, or the next start. In a task of its own.
  void GiveWay(absl::Status why);

  // Makes every handle given so far answer ABORTED.
  uint64_t NewEpoch() { return ++epoch_; }
  // A relay that is this one until the next Handle or NewEpoch.
  std::shared_ptr<Relay> Handle();
  uint64_t epoch() const { return epoch_; }

  const StreamHeader& header() const override { return parts_.header; }
  env::Executor* home() const override { return parts_.home; }
  void Append(uint64_t offset, Bytes piece, absl::AnyInvocable<void(absl::Status)> done) override;
  void Close(absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) override;
  void ExpectDigest(const Sha256& digest) override { parts_.header.blob.expected_digest = digest; }
  void Flush(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) override;
  void Abort() override;
  uint64_t length() const override { return length_; }

  bool failed() const { return failed_; }
  // Sealed on this server, whoever else holds it; sealed_state() only then.
  bool sealed() const { return sealed_; }
  const blob::Sealed& sealed_state() const { return sealed_state_; }
  // Somebody waits for the answer to a Close.
  bool awaited() const { return closes_ > 0; }
  // When the stage last made progress; nullopt before it is open.
  std::optional<env::Instant> last_progress() const;

 private:
  enum class CallKind : uint8_t { kAppend, kFlush, kClose };
  struct Call {
    CallKind kind = CallKind::kAppend;
    uint64_t offset = 0;
    Bytes piece;
    uint64_t window_bytes = 0;  // what it takes of the window until it is answered
    absl::Status refused;       // known at once; the answer waits for those before it
    uint32_t waits = 0;         // for the stage and each successor
    uint64_t durable = 0;       // kFlush
    absl::AnyInvocable<void(absl::Status)> append_done;
    absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> flush_done;
    absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> close_done;
  };
  struct Successor {
    raft::Peer peer;
    std::vector<Downstream> below;  // whom it passes the bytes on to
    uint32_t patience_ticks = 0;
    std::unique_ptr<ByteSink> sink;   // null once left behind or closed
    std::optional<RelayTail> tail;    // of one that was taken over
    std::deque<uint64_t> unanswered;  // numbers of calls, in order
    uint32_t quiet_ticks = 0;
    std::optional<blob::Sealed> sealed;  // what it said to hold when it answered CLOSE
  };

  // Numbers the call, queues it and starts it if the stage is open.
  void Enqueue(Call call);
  void Start(uint64_t number);
  void StartAppend(uint64_t number);
  void StartFlush(uint64_t number);
  void StartClose(uint64_t number);
  void OnCreated(absl::StatusOr<std::shared_ptr<blob::Upload>> upload);
  void FindOrCreate(bool take_over);
  // What was asked of a stage before is carried out: its length is what it will be.
  void OnSettled(std::shared_ptr<blob::Upload> upload, const absl::Status& settled);
  void SetUpload(std::shared_ptr<blob::Upload> upload);
  Successor& AddSuccessor(Downstream to);
  void TakeOver(Downstream to);
  void OnTakenOver(size_t which, absl::StatusOr<uint64_t> length);
  void FeedTails();
  void FeedTail(size_t which);
  void OnTailRead(size_t which, uint64_t offset, absl::StatusOr<Bytes> piece);
  void OnTailDone(size_t which, uint64_t end, uint64_t size, const absl::Status& status);
  // Ends the waiting of calls for what the successor has.
  void SettleTail(size_t which);
  // Calls wait for it from the start, or once it has caught up.
  static bool AppendsWaitFor(const Successor& successor);
  static bool OwesAnswer(const Successor& successor);
  void OnLocalDone(uint64_t number, const absl::Status& status);
  void OnLocalSealed(uint64_t number, absl::StatusOr<blob::Sealed> sealed);
  void OnSuccessorDone(size_t which, uint64_t number, const absl::Status& status);
  ByteSink::Closed OnSuccessorClosed(size_t which, uint64_t number);
  void LeaveBehind(size_t which, const absl::Status& why);
  void DropSink(Successor& successor);
  void ArmSilence();
  void OnSilenceTick();
  // A call against the protocol: refused, and the upload failed unless it is to be kept.
  void Refuse(Call call, absl::Status status);
  void Fail(absl::Status status);
  void SchedulePump();
  // Answers from the front of the queue what is ready.
  void Pump();
  void Confirm();
  void OnConfirmed(absl::Status status);
  // Answers every Close at the front of the queue.
  void AnswerCloses(const absl::StatusOr<blob::Sealed>& result);
  Call PopFront();
  Call* Find(uint64_t number);
  std::string Name() const;

  RelayParts parts_;
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<uint64_t> length_ = 0;
  std::atomic<bool> failed_ = false;
  std::atomic<bool> sealed_ = false;
  std::atomic<bool> open_ = false;    // upload_ is set
  std::atomic<uint64_t> closes_ = 0;  // among calls_
  blob::Sealed sealed_state_;         // written before sealed_ is set

  std::shared_ptr<blob::Upload> upload_;
  std::vector<Downstream> to_open_;
  absl::AnyInvocable<void(absl::Status)> opened_;
  std::vector<Successor> successors_;
  std::deque<Call> calls_;
  uint64_t first_number_ = 0;  // of calls_.front()
  uint64_t close_number_ = 0;  // of the Close that seals, once sealing_
  uint64_t unanswered_bytes_ = 0;
  bool pump_posted_ = false;
  bool gave_way_ = false;  // the stage is another's
  bool closing_ = false;   // a Close was accepted
  bool sealing_ = false;   // and handed to the stage, which from then on only the log may drop
  bool confirming_ = false;
  bool confirmed_ = false;
  absl::Status failure_;
  env::TimerId silence_timer_ = env::TimerId::kNone;
};

}  // namespace sluice::node
