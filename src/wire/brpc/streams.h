// All streams of one connection as pure rules: who may send how much, whose turn it is, what is answered, who
// is told what. No sockets, no clock, no threads:
// two of these joined by their bytes are a whole conversation.
//
//   Streams streams(options, &budget);
//   streams.Add(&mine);  ... the opening call ...  streams.Connect(&mine, {.remote_id = 7, ...});
//   streams.Write(&mine, message);              // kWritten, kFull, ...
//   streams.Receive(event);                     // every FrameEvent::kStream of the connection
//   while (StreamState* s = streams.NextUnanswered()) fail the call that was to open it;
//   while (StreamState* s = streams.NextReady()) hand out what TakeMessages gives, Consumed, Delivered;
//   while (StreamState* s = streams.NextWritable()) wake whoever waits for room;
//   Output out;  while (streams.Pull(&out, 256 << 10)) write out.pieces to the socket;
//
// Order of what leaves: answers and word about streams (FEEDBACK, RST) first, then streams that have
// something take turns of turn_bytes; a message longer than segment_bytes goes in several frames, so that no
// stream waits for more than one turn of each other one. CLOSE waits behind the data of its stream.
//
// Threading: one thread at a time (the connection's lock). Ownership: a StreamState belongs to the caller and
// must stay where it is from Add (or the first Write) until its end was taken out with the last message and
// the caller has said Forget. Bounds: bytes that came and were not consumed, bytes that wait to be sent,
// messages, streams; each with an answer (Options). Failure: whatever the peer sends harms one stream at
// most. Facts: brpc 1.17 Streaming RPC; what is stricter here: ids belong to their connection, a total beyond
// what was sent ends its stream (F-73), a message has a bound.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/bytes.h"
#include "wire/brpc/frame.h"
#include "wire/brpc/outbox.h"
#include "wire/brpc/ring.h"

namespace sluice::wire::brpc {

// Bytes of all connections of a process. Atomic: the only thing that connections share.
struct StreamBudget {
  uint64_t received_bytes_max = 512ull << 20;  // beyond it no FEEDBACK leaves
  uint64_t unsent_bytes_max = 512ull << 20;    // beyond it writes are kFull
  uint64_t share_bytes = 0;  // of either kind, that each connection may have whatever the others hold (P6)
  std::atomic<uint64_t> received_bytes{0};  // arrived, not consumed
  std::atomic<uint64_t> unsent_bytes{0};    // written, not yet pulled
};

struct StreamsOptions {
  int64_t first_id = 0;           // ids grow from here and are never used again on this connection
  uint32_t streams_max = 65'536;  // Add says no beyond it
  uint32_t segment_bytes = 64 << 10;
  uint32_t turn_bytes = 64 << 10;
  uint64_t message_bytes_max = 128ull << 20;  // a longer message fails its stream
  // Of this connection; beyond it no FEEDBACK leaves,
  // and beyond twice as much `congested` says to stop reading.
  uint64_t received_bytes_max = 128ull << 20;
  uint64_t unsent_bytes_max = 64ull << 20;  // of this connection; beyond it writes are kFull
  // Sent and not reported as consumed, over all streams; beyond it the windows shrink to min_window_bytes
  // (D: brpc's adaptive windows).
  uint64_t unconsumed_bytes_max = 32ull << 20;
  uint32_t feedback_bytes = 256 << 10;  // a busy receiver reports at least this often
  uint32_t copy_bytes_max = 4 << 10;    // messages up to this are framed into a common buffer at once
  // Server: a CLOSE waits for a sign that the peer knows its stream, see AgeCloses. A brpc client that finds
  // it right behind the answer fails its call.
  bool holds_early_close = false;
};

// How many bytes there are here, and, nearly (within a few KiB, so that not every small message touches
// memory that all connections share), how many in the whole process.
class BytesHere {
 public:
  BytesHere(std::atomic<uint64_t>* all, uint64_t all_max, uint64_t share)
      : all_(all),
        all_max_(all_max),
        share_(share),
        slack_bytes_(static_cast<int64_t>(std::min<uint64_t>(4 << 10, all_max >> 16))) {}
  ~BytesHere() { all_->fetch_sub(told_, std::memory_order_relaxed); }
  BytesHere(const BytesHere&) = delete;
  BytesHere& operator=(const BytesHere&) = delete;

  uint64_t here() const { return here_; }
  // What others hold does not stop who has no more than a share.
  bool TooManyInAll() const { return here_ >= share_ && all_->load(std::memory_order_relaxed) > all_max_; }
  bool AllUsed() const { return here_ >= share_ && all_->load(std::memory_order_relaxed) >= all_max_; }
  void Add(uint64_t bytes) { Set(here_ + bytes); }
  void Remove(uint64_t bytes) { Set(here_ - bytes); }
  void Set(uint64_t bytes) {
    here_ = bytes;
    const int64_t untold = static_cast<int64_t>(here_ - told_);
    if (untold > slack_bytes_ || untold < -slack_bytes_ || (here_ == 0 && untold != 0)) {
      all_->fetch_add(here_ - told_, std::memory_order_relaxed);
      told_ = here_;
    }
  }

 private:
  std::atomic<uint64_t>* const all_;
  const uint64_t all_max_;
  const uint64_t share_;
  const int64_t slack_bytes_;
  uint64_t here_ = 0;
  uint64_t told_ = 0;
};

// One end of one stream. The caller's object contains it; the caller reads it and changes only what says so.
struct StreamState {
  enum class Phase : uint8_t { kNew, kOpening, kOpen, kEnded };

  // --- Set by the caller before Add ---
  uint64_t window_bytes = 2 << 20;      // max_buf_size; 0: unlimited, and no FEEDBACK wanted
  uint64_t min_window_bytes = 1 << 20;  // min_buf_size
  uint32_t segment_bytes = 0;           // most payload of a frame; 0: the connection's
  bool readable = true;                 // there is a reader: the peer may send ("writable" in our settings)
  bool opens_here = false;              // client side: its first message is the answer to the opening call
  bool opens_others = false;            // with opens_here: that call opens further streams

  // --- Set by the caller at any time under the lock ---
  bool may_deliver = false;  // the opening call is over (see Release); until then what arrives waits

  // --- Kept by Streams ---
  Phase phase = Phase::kNew;
  bool peer_readable = false;        // the peer has a reader
  bool peer_wants_feedback = false;  // the peer limits its sending
  bool delivering = false;           // given out by NextReady and not yet back
  bool in_ready = false;
  bool in_writable = false;
  bool was_full = false;  // a write was refused since the last time there was room
  bool owes_feedback = false;
  bool end_taken = false;  // the end was handed out
  bool slack = false;      // one write is allowed beyond the window
  bool had_slack = false;
  bool answered = false;  // the answer to the opening call has come, or is not waited for any more
  bool known = false;     // counted by Streams: between Add and Forget
  bool in_stalled = false;
  bool in_unanswered = false;
  bool told_end = false;  // a peer that connected too late was told
  bool heard = false;     // the peer has said something on it
  int64_t local_id = kNoStream;
  int64_t remote_id = kNoStream;
  uint64_t window_now_bytes = 0;       // window_bytes, or less while the connection is crowded
  uint64_t produced_bytes = 0;         // payload written since the start
  uint64_t remote_consumed_bytes = 0;  // highest total that the peer has reported
  uint64_t received_bytes = 0;         // payload of whole and partial messages since the start
  uint64_t consumed_bytes = 0;         // payload consumed here since the start
  uint64_t reported_bytes = 0;         // the last total that left in a FEEDBACK
  uint64_t messages_in = 0;            // whole messages that arrived; for people
  uint64_t messages_out = 0;
  uint64_t stalls = 0;         // writes refused for want of room; for people
  Bytes partial;               // segments of a message that is not whole
  std::vector<Bytes> arrived;  // whole messages, oldest at arrived_begin
  size_t arrived_begin = 0;
  StreamOutbox* outbox = nullptr;    // owned by Streams
  RingLink<StreamState> ready_link;  // of those that are ready, or that ended unanswered
  RingLink<StreamState> room_link;   // of those that are writable, or that wait for a budget
  RingLink<StreamState> feedback_link;
  // Why it ended: 0 after a CLOSE of either side.
  int end_code = 0;
  std::string end_text;
};

// The answer of the other side to our opening call, which came as the first message of stream `stream`.
struct OpeningAnswer {
  StreamState* stream = nullptr;  // null: an answer that came too late, and opened more than one stream there
  std::optional<int64_t> from;    // source id of the frame that brought it
  Bytes frame;                    // a whole PRPC frame, if the peer is right
};

class Streams {
 public:
  Streams(StreamsOptions options, StreamBudget* budget);
  // Streams that are left must have been told ConnectionLost.
  ~Streams();

  // --- Life of a stream ---

  // Gives it an id and begins to listen on it (phase kOpening). False when there are too many. What is
  // written from now on waits for Connect; what arrives waits for Connect and Release.
  bool Add(StreamState* stream);
  // True if Add would take so many.
  bool HasPlaceFor(size_t count) const;
  struct Peer {
    int64_t remote_id = kNoStream;
    bool readable = false;
    bool wants_feedback = false;
  };
  // The opening call was accepted: what was written before leaves, in order. Client: as soon as Receive gave
  // the answer, for each stream of the call; server: right after SendAnswer, so that nothing overtakes the
  // answer. A stream that has ended meanwhile tells the peer so.
  void Connect(StreamState* stream, const Peer& peer);
  // The opening call is over, well or not, and the application knows it:
  // what arrives, and the end, may be handed out.
  void Release(StreamState* stream);
  // Local end. Nothing is said to a peer that never was connected. What has arrived is still handed out, then
  // the end; but nothing of a stream whose opening never came to an answer.
  void Close(StreamState* stream);
  // Local end with a reason; a connected peer gets RST, and what was written and not sent is dropped.
  void Fail(StreamState* stream, int code, std::string text);
  // The end was handed out (or never will be): nothing here points to it any more.
  void Forget(StreamState* stream);
  // Ends every stream with this reason. No output any more.
  void ConnectionLost(int code, const std::string& text);

  // --- Sending ---

  enum class Written : uint8_t { kWritten, kFull, kClosed, kNoReader };
  Written Write(StreamState* stream, const Bytes& message);
  // Takes a message that was promised before Add, whatever room there is:
  // right after Add, within the stream's window.
  void Accept(StreamState* stream, const Bytes& message);
  // True if there is room for a message now; remembers otherwise that somebody wants to know (NextWritable).
  // A stream that has ended has none, and is given by NextWritable at once.
  bool HasRoom(StreamState* stream);
  // Allows one write beyond the window to a peer that has never reported anything, once: brpc servers may
  // lose their first FEEDBACK, and say the total with the next one, which needs a next message.
  // True if that helps now.
  bool GrantSlack(StreamState* stream);
  // Appends a whole PRPC frame, which leaves before everything that is written to streams from now on.
  void SendFrame(Bytes frame);
  // The answer to a call that opened streams: `frame` as the payload of a DATA frame to the caller's stream.
  void SendAnswer(int64_t to, int64_t from, const Bytes& frame);
  // RST to a stream that is not ours to keep (an answer that came too late).
  void SendRst(int64_t to);

  bool HasOutput() const {
    return !control_.empty() || !turns_.empty() || (!feedback_.empty() && !WithholdsFeedback());
  }
  // Memory that holds what was written and not yet pulled.
  uint64_t unsent_bytes() const { return unsent_.here(); }
  // Calls, answers and words about streams among it: nothing here bounds them, the caller must.
  uint64_t control_bytes() const { return control_.charged_bytes(); }
  // Lets every CLOSE go that has waited since the last time; true if some wait on.
  // Every 20 ms or so while HoldsCloses.
  bool AgeCloses();
  bool HoldsCloses() const { return !held_closes_.empty(); }
  // Adds up to about `bytes_max` to `out`. False when there was nothing.
  bool Pull(Output* out, size_t bytes_max);

  // --- Receiving ---

  // One FrameEvent of kind kStream, whose body is taken.
  // Gives the answer to an opening call when this piece made it whole.
  std::optional<OpeningAnswer> Receive(FrameEvent& event);
  std::optional<OpeningAnswer> Receive(FrameEvent&& event) { return Receive(event); }
  // A stream that the peer ended before its opening call was answered: the caller fails the call.
  // Once for each.
  StreamState* NextUnanswered();
  // Takes out at most `most` whole messages of a stream that NextReady gave, oldest first, behind `messages`.
  // True when nothing more will come after them: then `stream->end_code` says why,
  // and the caller tells its handler.
  bool TakeMessages(StreamState* stream, size_t most, std::vector<Bytes>* messages);
  // Messages of `bytes` payload were consumed: credit for the peer.
  void Consumed(StreamState* stream, uint64_t bytes);
  // The caller is done with a stream that NextReady gave; it becomes ready again if there is more.
  void Delivered(StreamState* stream);
  // A stream that has messages, or its end, for a handler;
  // each is given to one caller at a time, in fair order.
  StreamState* NextReady();
  bool HasReady() const { return !ready_.empty(); }
  // A stream of which a write was refused, or that HasRoom was asked for, and that has room or has ended now.
  StreamState* NextWritable();
  bool HasWritable() const { return !writable_.empty(); }

  // More has arrived and waits than there may be: do not read from the socket until this is false again. If
  // nothing of it can be handed out (unfinished messages only), the stream with the most of it is failed,
  // so it always ends.
  bool Congested();
  // Looks again at what waits for the process' budget. Every 10 ms or so while WaitsForBudget.
  void Tick();
  bool WaitsForBudget() const;

  size_t size() const { return streams_.size(); }
  uint64_t received_bytes() const { return received_.here(); }  // arrived, not consumed
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [id, stream] : streams_) visit(*stream);
  }

 private:
  using Phase = StreamState::Phase;

  // What a waiting message costs beside its bytes: messages of no bytes need a bound too.
  static constexpr uint64_t kMessageBytes = 64;
  // Answers to frames for unknown streams that may wait; no more are given until they have left.
  static constexpr size_t kResetsMax = 16 << 10;
  // Of CLOSE that wait for a sign of the peer; more leave at once.
  static constexpr size_t kHeldClosesMax = 4096;
  // Answers that may come too late and say what to reset; of older or longer ones only the first stream is.
  static constexpr size_t kLateAnswersMax = 64;
  static constexpr size_t kLateAnswerBytesMax = 64 << 10;
  // brpc refuses frames above 64 MiB.
  static constexpr size_t kAnswerSegmentBytes = 1 << 20;

  static size_t Waiting(const StreamState& stream) { return stream.arrived.size() - stream.arrived_begin; }
  static bool Limited(const StreamState& stream) { return stream.window_bytes != 0; }
  static bool AwaitsAnswer(const StreamState& stream) { return stream.opens_here && !stream.answered; }
  static uint64_t StuckBytes(const StreamState& stream);

  // Life (streams.cc)
  void End(StreamState* stream, int code, std::string text);
  void EndByPeer(StreamState* stream, int code, std::string text);
  void DropArrived(StreamState* stream);
  void DropPartial(StreamState* stream);
  void LeaveRings(StreamState* stream);
  bool IsReady(const StreamState& stream) const;
  void PushIfReady(StreamState* stream);

  // Receiving (streams.cc)
  StreamState* Find(int64_t id);
  void ReceiveUnknown(const StreamMeta& meta);
  std::optional<OpeningAnswer> ReceiveData(StreamState* stream, FrameEvent& event);
  std::optional<OpeningAnswer> ReceiveLate(FrameEvent& event);
  void ReceiveEnd(StreamState* stream, FrameType type);
  void Arrive(StreamState* stream, Bytes message);
  void ReceiveFeedback(StreamState* stream, const StreamMeta& meta);
  void AdaptWindow(StreamState* stream);
  uint64_t HeldBytes() const { return received_.here() + waiting_messages_ * kMessageBytes; }
  bool WithholdsFeedback() const {
    return received_.here() > options_.received_bytes_max || received_.TooManyInAll();
  }
  void OweFeedback(StreamState* stream);
  void ForgetFeedback(StreamState* stream);

  // Sending (stream_output.cc)
  bool HasWindow(const StreamState& stream) const;
  bool BudgetUsed() const { return unsent_.here() >= options_.unsent_bytes_max || unsent_.AllUsed(); }
  void WantRoom(StreamState* stream);
  void WakeIfRoom(StreamState* stream);
  void WakeWriter(StreamState* stream);
  void WakeStalled();
  void Enqueue(StreamState* stream, const Bytes& message);
  void Frame(const StreamState& stream, const Bytes& message, OutQueue* queue);
  void SendEarly(StreamState* stream);
  StreamOutbox* OutboxOf(StreamState* stream);
  void DropOutbox(StreamOutbox* outbox);
  void Recycle(StreamOutbox* outbox);
  void AddClose(StreamState* stream);
  // CLOSE behind what was written, now or later.
  void SayClose(const StreamState& stream);
  void PutClose(int64_t to, int64_t from);
  void AddControl(const StreamMeta& meta);
  void AddFeedback(StreamState* stream);
  // Recounts what waits in `queue` after it was changed.
  template <typename Change>
  void Charged(OutQueue* queue, Change change) {
    const uint64_t before = queue->charged_bytes();
    change();
    if (queue->charged_bytes() != before) unsent_.Set(unsent_.here() - before + queue->charged_bytes());
  }

  const StreamsOptions options_;
  size_t SegmentOf(const StreamState& stream) const {
    return stream.segment_bytes != 0 ? std::min<size_t>(stream.segment_bytes, options_.turn_bytes)
                                     : segment_bytes_;
  }

  const size_t segment_bytes_;
  int64_t next_id_;
  size_t known_ = 0;
  bool lost_ = false;
  absl::flat_hash_map<int64_t, StreamState*> streams_;
  StreamState* recent_ = nullptr;          // found last
  StreamState* receiving_ = nullptr;       // takes the rest of the frame that has begun
  std::map<int64_t, Bytes> late_answers_;  // by the id of the ended stream: what has come of it
  bool receiving_late_ = false;            // one of them takes the rest of the frame

  OutQueue control_;
  size_t resets_waiting_ = 0;
  Ring<StreamOutbox, &StreamOutbox::link> turns_;
  Ring<StreamOutbox, &StreamOutbox::link> early_;  // their streams are not connected
  // By local id: the stream is gone, CLOSE waits behind data.
  absl::flat_hash_map<int64_t, StreamOutbox*> closing_;
  struct HeldClose {
    int64_t to;
    bool aged = false;
  };
  std::map<int64_t, HeldClose> held_closes_;  // by local id, in their order
  std::vector<std::unique_ptr<StreamOutbox>> outboxes_;
  std::vector<std::unique_ptr<StreamOutbox>> spare_outboxes_;
  std::vector<std::vector<Bytes>> spare_arrived_;

  Ring<StreamState, &StreamState::ready_link> ready_;
  Ring<StreamState, &StreamState::ready_link> unanswered_;
  Ring<StreamState, &StreamState::room_link> writable_;
  Ring<StreamState, &StreamState::room_link> stalled_;  // have a window, wait for a budget
  Ring<StreamState, &StreamState::feedback_link> feedback_;

  BytesHere unsent_;
  BytesHere received_;
  uint64_t waiting_messages_ = 0;
  uint64_t stuck_bytes_ = 0;       // part of HeldBytes that nobody can be given yet
  uint64_t unconsumed_bytes_ = 0;  // sent within windows and not reported as consumed
};

}  // namespace sluice::wire::brpc
