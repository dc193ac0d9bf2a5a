// Life of streams and what the peer says about them. What leaves is in stream_output.cc.
#include "wire/brpc/streams.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>
#include <utility>

namespace sluice::wire::brpc {

namespace {

constexpr int kClosedUnanswered = 1003;  // brpc's EREQUEST
constexpr size_t kArrivedKept = 1024;    // capacity of a spare queue
constexpr size_t kSparesMax = 4;

}  // namespace

Streams::Streams(StreamsOptions options, StreamBudget* budget)
    : options_(options),
      segment_bytes_(std::max<size_t>(1, std::min(options.segment_bytes, options.turn_bytes))),
      next_id_(options.first_id),
      unsent_(&budget->unsent_bytes, budget->unsent_bytes_max, budget->share_bytes),
      received_(&budget->received_bytes, budget->received_bytes_max, budget->share_bytes) {}

Streams::~Streams() = default;

// --- Life ---

bool Streams::HasPlaceFor(size_t count) const {
  return !lost_ && count <= options_.streams_max && known_ <= options_.streams_max - count &&
         next_id_ <= std::numeric_limits<int64_t>::max() - static_cast<int64_t>(count);
}

bool Streams::Add(StreamState* stream) {
  if (stream->phase != Phase::kNew || !HasPlaceFor(1)) return false;
  if (next_id_ == kNoStream) ++next_id_;
  stream->local_id = next_id_++;
  stream->phase = Phase::kOpening;
  stream->window_now_bytes = stream->window_bytes;
  stream->known = true;
  ++known_;
  streams_.emplace(stream->local_id, stream);
  return true;
}

void Streams::Connect(StreamState* stream, const Peer& peer) {
  if (stream->phase == Phase::kEnded && stream->known && peer.remote_id != kNoStream && !stream->told_end) {
    stream->told_end = true;
    if (stream->end_code != 0) return SendRst(peer.remote_id);
    stream->remote_id = peer.remote_id;
    return SayClose(*stream);
  }
  if (stream->phase != Phase::kOpening) return;
  if (stream->opens_here && !stream->answered) DropPartial(stream);  // answered by other means
  stuck_bytes_ -= StuckBytes(*stream) - stream->partial.size();
  stream->answered = true;
  stream->phase = Phase::kOpen;
  stream->remote_id = peer.remote_id;
  stream->peer_readable = peer.readable;
  stream->peer_wants_feedback = peer.wants_feedback;
  SendEarly(stream);
  OweFeedback(stream);
  PushIfReady(stream);
}

void Streams::Release(StreamState* stream) {
  stream->may_deliver = true;
  PushIfReady(stream);
}

void Streams::Close(StreamState* stream) {
  if (stream->phase == Phase::kEnded) return;
  if (stream->phase == Phase::kOpen) AddClose(stream);
  End(stream, 0, {});
}

void Streams::Fail(StreamState* stream, int code, std::string text) {
  if (stream->phase == Phase::kEnded) return;
  if (stream->phase == Phase::kOpen) SendRst(stream->remote_id);
  End(stream, code, std::move(text));
}

void Streams::Forget(StreamState* stream) {
  Close(stream);
  DropArrived(stream);
  received_.Remove(stream->received_bytes - stream->consumed_bytes);  // handed out, never reported
  stream->consumed_bytes = stream->received_bytes;
  LeaveRings(stream);
  stream->end_taken = true;
  if (std::exchange(stream->known, false)) --known_;
}

void Streams::ConnectionLost(int code, const std::string& text) {
  lost_ = true;
  std::vector<StreamState*> all;
  all.reserve(streams_.size());
  ForEach([&](StreamState& stream) { all.push_back(&stream); });
  for (StreamState* stream : all) End(stream, code, text);
  while (!turns_.empty()) DropOutbox(turns_.front());
  while (!early_.empty()) DropOutbox(early_.front());
  held_closes_.clear();
  late_answers_.clear();
  Charged(&control_, [&] { control_.Clear(); });
}

// The stream leaves the connection: its id is unknown from here on.
void Streams::End(StreamState* stream, int code, std::string text) {
  DropPartial(stream);
  if (stream->phase != Phase::kOpen) DropArrived(stream);
  if (stream->outbox != nullptr) DropOutbox(stream->outbox);
  ForgetFeedback(stream);
  if (Limited(*stream)) unconsumed_bytes_ -= stream->produced_bytes - stream->remote_consumed_bytes;
  if (AwaitsAnswer(*stream) && stream->opens_others && !lost_) {
    if (late_answers_.size() >= kLateAnswersMax) late_answers_.erase(late_answers_.begin());
    late_answers_.emplace(stream->local_id, Bytes());
  }
  stream->phase = Phase::kEnded;
  stream->end_code = code;
  stream->end_text = std::move(text);
  if (stream->known) streams_.erase(stream->local_id);
  if (recent_ == stream) recent_ = nullptr;
  if (receiving_ == stream) receiving_ = nullptr;
  if (stream->was_full) WakeWriter(stream);
  PushIfReady(stream);
}

// As Fail, for reasons that are the peer's: whoever waits for the answer to the opening call must know too.
void Streams::EndByPeer(StreamState* stream, int code, std::string text) {
  if (stream->phase != Phase::kOpening) return Fail(stream, code, std::move(text));
  End(stream, code, std::move(text));
  if (stream->in_ready) return;
  stream->in_unanswered = true;
  unanswered_.PushBack(stream);
}

StreamState* Streams::NextUnanswered() {
  StreamState* stream = unanswered_.PopFront();
  if (stream != nullptr) stream->in_unanswered = false;
  return stream;
}

void Streams::DropArrived(StreamState* stream) {
  uint64_t bytes = 0;
  for (size_t i = stream->arrived_begin; i < stream->arrived.size(); ++i) bytes += stream->arrived[i].size();
  if (stream->phase == Phase::kOpening) stuck_bytes_ -= bytes + Waiting(*stream) * kMessageBytes;
  waiting_messages_ -= Waiting(*stream);
  stream->consumed_bytes += bytes;
  received_.Remove(bytes);
  stream->arrived = {};
  stream->arrived_begin = 0;
}

void Streams::DropPartial(StreamState* stream) {
  const uint64_t bytes = stream->partial.size();
  if (bytes == 0) return;
  if (!AwaitsAnswer(*stream)) stream->consumed_bytes += bytes;
  stuck_bytes_ -= bytes;
  received_.Remove(bytes);
  stream->partial = Bytes();
}

void Streams::LeaveRings(StreamState* stream) {
  if (std::exchange(stream->in_ready, false)) ready_.Remove(stream);
  if (std::exchange(stream->in_unanswered, false)) unanswered_.Remove(stream);
  if (std::exchange(stream->in_writable, false)) writable_.Remove(stream);
  if (std::exchange(stream->in_stalled, false)) stalled_.Remove(stream);
  ForgetFeedback(stream);
}

// --- Handing out ---

bool Streams::IsReady(const StreamState& stream) const {
  if (!stream.may_deliver || stream.delivering) return false;
  if (stream.phase == Phase::kEnded) return !stream.end_taken;
  return stream.phase == Phase::kOpen && Waiting(stream) > 0;
}

void Streams::PushIfReady(StreamState* stream) {
  if (stream->in_ready || !IsReady(*stream)) return;
  if (std::exchange(stream->in_unanswered, false)) unanswered_.Remove(stream);
  stream->in_ready = true;
  ready_.PushBack(stream);
}

StreamState* Streams::NextReady() {
  StreamState* stream = ready_.PopFront();
  if (stream == nullptr) return nullptr;
  stream->in_ready = false;
  stream->delivering = true;
  return stream;
}

bool Streams::TakeMessages(StreamState* stream, size_t most, std::vector<Bytes>* messages) {
  const size_t count = std::min(most, Waiting(*stream));
  const auto begin = stream->arrived.begin() + static_cast<ptrdiff_t>(stream->arrived_begin);
  messages->insert(messages->end(), std::move_iterator(begin),
                   std::move_iterator(begin + static_cast<ptrdiff_t>(count)));
  stream->arrived_begin += count;
  waiting_messages_ -= count;
  if (Waiting(*stream) == 0) {
    // An idle stream holds no memory; the queue goes to the next one that needs one.
    stream->arrived.clear();
    stream->arrived_begin = 0;
    if (stream->arrived.capacity() <= kArrivedKept && spare_arrived_.size() < kSparesMax) {
      spare_arrived_.push_back(std::move(stream->arrived));
    }
    stream->arrived = {};
  } else if (stream->arrived_begin >= 64 && stream->arrived_begin * 2 >= stream->arrived.size()) {
    stream->arrived.erase(stream->arrived.begin(),
                          stream->arrived.begin() + static_cast<ptrdiff_t>(stream->arrived_begin));
    stream->arrived_begin = 0;
  }
  if (stream->phase != Phase::kEnded || Waiting(*stream) > 0) return false;
  stream->end_taken = true;
  return true;
}

void Streams::Consumed(StreamState* stream, uint64_t bytes) {
  bytes = std::min(bytes, stream->received_bytes - stream->consumed_bytes);
  stream->consumed_bytes += bytes;
  received_.Remove(bytes);
  const bool all = !stream->delivering && Waiting(*stream) == 0;
  if (all || stream->consumed_bytes - stream->reported_bytes >= options_.feedback_bytes) OweFeedback(stream);
}

void Streams::Delivered(StreamState* stream) {
  stream->delivering = false;
  if (Waiting(*stream) == 0) OweFeedback(stream);
  PushIfReady(stream);
}

// --- Receiving ---

StreamState* Streams::Find(int64_t id) {
  if (recent_ != nullptr && recent_->local_id == id) return recent_;
  const auto found = streams_.find(id);
  if (found == streams_.end()) return nullptr;
  return recent_ = found->second;
}

std::optional<OpeningAnswer> Streams::Receive(FrameEvent& event) {
  if (!event.first) {
    if (receiving_late_) return ReceiveLate(event);
    if (receiving_ == nullptr) return std::nullopt;
    return ReceiveData(receiving_, event);
  }
  receiving_ = nullptr;
  receiving_late_ = false;
  StreamState* stream = Find(event.stream.to);
  if (stream == nullptr) {
    if (event.stream.type == FrameType::kData && late_answers_.contains(event.stream.to)) {
      receiving_late_ = true;
      return ReceiveLate(event);
    }
    ReceiveUnknown(event.stream);
    return std::nullopt;
  }
  const bool open = stream->phase == Phase::kOpen;
  if (open && event.stream.from && *event.stream.from != stream->remote_id) return std::nullopt;
  stream->heard = true;
  switch (event.stream.type) {
    case FrameType::kData:
      receiving_ = stream;
      return ReceiveData(stream, event);
    case FrameType::kFeedback:
      if (open) ReceiveFeedback(stream, event.stream);
      return std::nullopt;
    case FrameType::kClose:
    case FrameType::kRst:
      ReceiveEnd(stream, event.stream.type);
      return std::nullopt;
    case FrameType::kUnknown:
      return std::nullopt;
  }
  return std::nullopt;
}

// The peer reads no more: what was written and has not left is dropped.
void Streams::ReceiveEnd(StreamState* stream, FrameType type) {
  if (stream->phase == Phase::kOpening) {
    return EndByPeer(stream, kClosedUnanswered,
                     fmt::format("stream {} was closed before the call was answered", stream->local_id));
  }
  AddControl({.to = stream->remote_id, .from = stream->local_id, .type = FrameType::kClose});
  if (type == FrameType::kRst) return End(stream, ECONNRESET, "Received RST frame");
  End(stream, 0, {});
}

void Streams::ReceiveUnknown(const StreamMeta& meta) {
  if (const auto held = held_closes_.find(meta.to);
      held != held_closes_.end() && (!meta.from || *meta.from == held->second.to)) {
    const bool ended_there = meta.type == FrameType::kClose || meta.type == FrameType::kRst;
    if (!ended_there) PutClose(held->second.to, held->first);
    held_closes_.erase(held);
    if (!ended_there) return;
  }
  if (meta.type == FrameType::kFeedback) return;
  if (const auto found = closing_.find(meta.to); found != closing_.end()) {
    StreamOutbox* outbox = found->second;
    if (meta.from && *meta.from != outbox->to) return;
    // An RST now would overtake what was written before our CLOSE.
    if (meta.type != FrameType::kClose && meta.type != FrameType::kRst) return;
    DropOutbox(outbox);
  }
  if (meta.type == FrameType::kRst || !meta.from || *meta.from == kNoStream) return;
  if (resets_waiting_ >= kResetsMax) return;
  ++resets_waiting_;
  SendRst(*meta.from);
}

// A batch was accepted when nobody waited any more: its answer alone tells which streams that made.
std::optional<OpeningAnswer> Streams::ReceiveLate(FrameEvent& event) {
  const auto late = late_answers_.find(event.stream.to);
  OpeningAnswer answer{.from = event.stream.from, .frame = std::move(late->second)};
  if (event.too_large || answer.frame.size() + event.body.size() > kLateAnswerBytesMax) {
    receiving_late_ = false;
    late_answers_.erase(late);
    ReceiveUnknown(event.stream);
    return std::nullopt;
  }
  answer.frame.Append(event.body);
  if (!event.last || event.stream.has_continuation) {
    late->second = std::move(answer.frame);
    return std::nullopt;
  }
  receiving_late_ = false;
  late_answers_.erase(late);
  return answer;
}

std::optional<OpeningAnswer> Streams::ReceiveData(StreamState* stream, FrameEvent& event) {
  const bool answer = AwaitsAnswer(*stream);
  if (!stream->readable && !answer) {  // dropped, but counted: the peer must not run out of credit
    const uint64_t bytes = event.too_large ? event.frame_bytes : event.body.size();
    stream->received_bytes += bytes;
    stream->consumed_bytes += bytes;
    if (event.last) {
      receiving_ = nullptr;
      OweFeedback(stream);
    }
    return std::nullopt;
  }
  const uint64_t whole = stream->partial.size() + (event.first ? event.frame_bytes : event.body.size());
  if (event.too_large || std::max<uint64_t>(whole, event.body.size()) > options_.message_bytes_max) {
    const bool unconnected = stream->phase == Phase::kOpening;
    EndByPeer(stream, EMSGSIZE,
              event.too_large
                  ? fmt::format("a frame of {} bytes is too large for stream {}", event.frame_bytes,
                                stream->local_id)
                  : fmt::format("a message of {} bytes or more is too large for stream {} (at most {})",
                                whole, stream->local_id, options_.message_bytes_max));
    if (unconnected && event.stream.from && *event.stream.from != kNoStream) SendRst(*event.stream.from);
    return std::nullopt;
  }
  const bool complete = event.last && !event.stream.has_continuation;
  if (event.last) receiving_ = nullptr;
  const uint64_t bytes = event.body.size();
  received_.Add(bytes);
  if (!answer) stream->received_bytes += bytes;
  if (!stream->partial.empty() || !complete) {
    stuck_bytes_ += bytes;
    if (stream->partial.empty()) {
      stream->partial = std::move(event.body);
    } else {
      stream->partial.Append(event.body);
    }
    if (!complete) return std::nullopt;
    event.body = std::move(stream->partial);
    stream->partial = Bytes();
    stuck_bytes_ -= event.body.size();
  }
  if (answer) {
    stream->answered = true;
    received_.Remove(event.body.size());
    return OpeningAnswer{.stream = stream, .from = event.stream.from, .frame = std::move(event.body)};
  }
  Arrive(stream, std::move(event.body));
  return std::nullopt;
}

void Streams::Arrive(StreamState* stream, Bytes message) {
  if (stream->phase == Phase::kOpening) stuck_bytes_ += message.size() + kMessageBytes;
  if (stream->arrived.capacity() == 0 && !spare_arrived_.empty()) {
    stream->arrived = std::move(spare_arrived_.back());
    spare_arrived_.pop_back();
  }
  stream->arrived.push_back(std::move(message));
  ++stream->messages_in;
  ++waiting_messages_;
  PushIfReady(stream);
}

void Streams::ReceiveFeedback(StreamState* stream, const StreamMeta& meta) {
  if (!meta.consumed) return;
  if (*meta.consumed < 0 || static_cast<uint64_t>(*meta.consumed) > stream->produced_bytes) {
    return Fail(stream, EPROTO,
                fmt::format("peer reports {} bytes of stream {} consumed, {} were sent", *meta.consumed,
                            stream->local_id, stream->produced_bytes));
  }
  const uint64_t total = static_cast<uint64_t>(*meta.consumed);
  if (total <= stream->remote_consumed_bytes) return;
  if (Limited(*stream)) unconsumed_bytes_ -= total - stream->remote_consumed_bytes;
  stream->remote_consumed_bytes = total;
  AdaptWindow(stream);
  WakeIfRoom(stream);
}

void Streams::AdaptWindow(StreamState* stream) {
  if (!Limited(*stream)) return;
  uint64_t& window = stream->window_now_bytes;
  if (unconsumed_bytes_ > options_.unconsumed_bytes_max) {
    const bool has_min = stream->min_window_bytes != 0 && stream->min_window_bytes <= stream->window_bytes;
    window = std::max<uint64_t>(1, has_min ? std::min(window, stream->min_window_bytes) : window / 2);
  } else if (stream->was_full && window < stream->window_bytes) {
    window = window > stream->window_bytes / 2 ? stream->window_bytes : window * 2;
  }
}

void Streams::OweFeedback(StreamState* stream) {
  if (stream->owes_feedback || stream->phase != Phase::kOpen || !stream->peer_wants_feedback) return;
  if (stream->consumed_bytes <= stream->reported_bytes) return;
  stream->owes_feedback = true;
  feedback_.PushBack(stream);
}

void Streams::ForgetFeedback(StreamState* stream) {
  if (std::exchange(stream->owes_feedback, false)) feedback_.Remove(stream);
}

uint64_t Streams::StuckBytes(const StreamState& stream) {
  if (stream.phase != Phase::kOpening) return stream.partial.size();
  if (AwaitsAnswer(stream)) return stream.partial.size();
  return stream.received_bytes - stream.consumed_bytes + Waiting(stream) * kMessageBytes;
}

bool Streams::Congested() {
  const uint64_t most = std::max(options_.received_bytes_max, options_.received_bytes_max * 2);
  while (HeldBytes() > most) {
    if (HeldBytes() > stuck_bytes_) return true;  // something of it is or can be handed out
    StreamState* largest = nullptr;
    ForEach([&](StreamState& stream) {
      if (largest == nullptr || StuckBytes(stream) > StuckBytes(*largest)) largest = &stream;
    });
    if (largest == nullptr) return false;
    EndByPeer(largest, ENOBUFS,
              fmt::format("the connection holds {} bytes that are no whole messages, {} of them of stream {}",
                          HeldBytes(), StuckBytes(*largest), largest->local_id));
  }
  return false;
}

void Streams::Tick() { WakeStalled(); }

bool Streams::WaitsForBudget() const {
  if (!feedback_.empty() && received_.here() <= options_.received_bytes_max) return true;
  return !stalled_.empty() && (unsent_.AllUsed() || unsent_.here() <= options_.unsent_bytes_max / 2);
}

}  // namespace sluice::wire::brpc
