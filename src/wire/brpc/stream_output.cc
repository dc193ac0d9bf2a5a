// What leaves: room for writers, boxes of what they wrote, turns.
#include <limits>
#include <utility>

#include "absl/strings/string_view.h"
#include "wire/brpc/streams.h"

namespace sluice::wire::brpc {

namespace {

constexpr size_t kSpareOutboxes = 16;
constexpr size_t kControlBufferBytes = 16 << 10;

char* CopyOf(const Bytes& bytes, char* out) {
  const absl::optional<absl::string_view> flat = bytes.cord().TryFlat();
  if (flat) return std::copy(flat->begin(), flat->end(), out);
  bytes.CopyTo(out);
  return out + bytes.size();
}

}  // namespace

// --- Room ---

bool Streams::HasWindow(const StreamState& stream) const {
  if (!Limited(stream) || stream.slack) return true;
  const uint64_t window = stream.window_now_bytes != 0 ? stream.window_now_bytes : stream.window_bytes;
  return stream.produced_bytes - stream.remote_consumed_bytes < window;
}

bool Streams::HasRoom(StreamState* stream) {
  if (stream->phase != Phase::kEnded && HasWindow(*stream) && !BudgetUsed()) return true;
  WantRoom(stream);
  return false;
}

bool Streams::GrantSlack(StreamState* stream) {
  if (stream->phase != Phase::kOpen || stream->had_slack || stream->remote_consumed_bytes > 0) return false;
  if (HasWindow(*stream)) return false;
  stream->slack = stream->had_slack = true;
  WakeIfRoom(stream);
  return true;
}

void Streams::WantRoom(StreamState* stream) {
  if (stream->phase == Phase::kEnded && !stream->known) return;  // nobody says Forget again: in no ring
  stream->was_full = true;
  if (stream->in_writable) return;
  if (stream->phase == Phase::kEnded) return WakeWriter(stream);
  if (!HasWindow(*stream) || stream->in_stalled) return;
  stream->in_stalled = true;
  stalled_.PushBack(stream);
}

void Streams::WakeIfRoom(StreamState* stream) {
  if (!stream->was_full || !HasWindow(*stream)) return;
  if (BudgetUsed()) return WantRoom(stream);
  WakeWriter(stream);
}

void Streams::WakeWriter(StreamState* stream) {
  if (std::exchange(stream->in_stalled, false)) stalled_.Remove(stream);
  if (std::exchange(stream->in_writable, true)) return;
  writable_.PushBack(stream);
}

// Half empty, so that writers do not come and go with every frame.
void Streams::WakeStalled() {
  if (stalled_.empty() || unsent_.here() > options_.unsent_bytes_max / 2 || BudgetUsed()) return;
  while (!stalled_.empty()) WakeWriter(stalled_.front());
}

StreamState* Streams::NextWritable() {
  while (StreamState* stream = writable_.PopFront()) {
    stream->in_writable = false;
    if (stream->phase == Phase::kEnded || (HasWindow(*stream) && !BudgetUsed())) {
      stream->was_full = false;
      return stream;
    }
    WantRoom(stream);  // others were quicker
  }
  return nullptr;
}

// --- Writing ---

Streams::Written Streams::Write(StreamState* stream, const Bytes& message) {
  if (stream->phase == Phase::kEnded || lost_) return Written::kClosed;
  const bool open = stream->phase == Phase::kOpen;
  if (open && !stream->peer_readable) return Written::kNoReader;
  if (!HasWindow(*stream) || BudgetUsed()) {
    ++stream->stalls;
    WantRoom(stream);
    return Written::kFull;
  }
  Accept(stream, message);
  return Written::kWritten;
}

void Streams::Accept(StreamState* stream, const Bytes& message) {
  if (stream->phase == Phase::kEnded || lost_) return;
  stream->produced_bytes += message.size();
  stream->slack = false;
  if (Limited(*stream)) unconsumed_bytes_ += message.size();
  ++stream->messages_out;
  Enqueue(stream, message);
}

void Streams::Enqueue(StreamState* stream, const Bytes& message) {
  OutQueue* queue = &OutboxOf(stream)->queue;
  Charged(queue, [&] {
    if (stream->phase != Phase::kOpen || message.size() > options_.copy_bytes_max) {
      queue->AddMessage(message);
    } else {
      Frame(*stream, message, queue);
    }
  });
}

void Streams::Frame(const StreamState& stream, const Bytes& message, OutQueue* queue) {
  StreamMeta meta{.to = stream.remote_id, .from = stream.local_id, .type = FrameType::kData};
  const size_t segment_bytes = SegmentOf(stream);
  if (message.size() <= segment_bytes) {
    char* const at = queue->Reserve(kStreamFrontBytesMax + message.size(), options_.turn_bytes);
    char* const end = CopyOf(message, WriteStreamFront(meta, message.size(), at));
    return queue->Commit(static_cast<size_t>(end - at));
  }
  for (size_t offset = 0; offset < message.size(); offset += segment_bytes) {
    const Bytes segment = message.Slice(offset, segment_bytes);
    meta.has_continuation = offset + segment.size() < message.size();
    char* const at = queue->Reserve(kStreamFrontBytesMax + segment.size(), options_.turn_bytes);
    char* const end = CopyOf(segment, WriteStreamFront(meta, segment.size(), at));
    queue->Commit(static_cast<size_t>(end - at));
  }
}

// What was written while the opening call was under way.
void Streams::SendEarly(StreamState* stream) {
  std::vector<Bytes> messages;
  if (StreamOutbox* early = stream->outbox; early != nullptr) {
    Charged(&early->queue, [&] { messages = early->queue.TakeMessages(); });
    DropOutbox(early);
  }
  if (stream->peer_readable) {
    for (const Bytes& message : messages) Enqueue(stream, message);
    return WakeIfRoom(stream);
  }
  if (Limited(*stream)) unconsumed_bytes_ -= stream->produced_bytes;
  stream->produced_bytes = 0;
  stream->messages_out = 0;
  if (stream->was_full) WakeWriter(stream);
}

// --- Boxes ---

StreamOutbox* Streams::OutboxOf(StreamState* stream) {
  if (stream->outbox != nullptr) return stream->outbox;
  if (spare_outboxes_.empty()) {
    outboxes_.push_back(std::make_unique<StreamOutbox>());
  } else {
    outboxes_.push_back(std::move(spare_outboxes_.back()));
    spare_outboxes_.pop_back();
  }
  StreamOutbox* outbox = outboxes_.back().get();
  outbox->slot = outboxes_.size() - 1;
  outbox->stream = stream;
  outbox->to = stream->remote_id;
  outbox->from = stream->local_id;
  outbox->segment_bytes = SegmentOf(*stream);
  outbox->early = stream->phase != Phase::kOpen;
  (outbox->early ? early_ : turns_).PushBack(outbox);
  stream->outbox = outbox;
  return outbox;
}

void Streams::DropOutbox(StreamOutbox* outbox) {
  (outbox->early ? early_ : turns_).Remove(outbox);
  Charged(&outbox->queue, [&] { outbox->queue.Clear(); });
  Recycle(outbox);
  WakeStalled();
}

// It is in no ring any more.
void Streams::Recycle(StreamOutbox* outbox) {
  if (outbox->stream != nullptr) {
    outbox->stream->outbox = nullptr;
  } else {
    closing_.erase(outbox->from);
  }
  outbox->queue.Clear();
  const size_t slot = outbox->slot;
  std::swap(outboxes_[slot], outboxes_.back());
  outboxes_[slot]->slot = slot;
  if (spare_outboxes_.size() < kSpareOutboxes) spare_outboxes_.push_back(std::move(outboxes_.back()));
  outboxes_.pop_back();
}

// --- Words ---

void Streams::AddControl(const StreamMeta& meta) {
  if (lost_) return;
  Charged(&control_, [&] {
    char* const at = control_.Reserve(kStreamFrontBytesMax, kControlBufferBytes);
    control_.Commit(static_cast<size_t>(WriteStreamFront(meta, 0, at) - at));
  });
}

// Our own end of a connected stream: the last word about what was consumed,
// and CLOSE behind what was written.
void Streams::AddClose(StreamState* stream) {
  if (stream->owes_feedback) {
    ForgetFeedback(stream);
    AddFeedback(stream);
  }
  if (StreamOutbox* const outbox = std::exchange(stream->outbox, nullptr); outbox != nullptr) {
    outbox->stream = nullptr;
    closing_.emplace(outbox->from, outbox);
  }
  SayClose(*stream);
}

void Streams::SayClose(const StreamState& stream) {
  if (options_.holds_early_close && !stream.heard && held_closes_.size() < kHeldClosesMax) {
    held_closes_.emplace(stream.local_id, HeldClose{.to = stream.remote_id});
  } else {
    PutClose(stream.remote_id, stream.local_id);
  }
}

void Streams::PutClose(int64_t to, int64_t from) {
  const StreamMeta close{.to = to, .from = from, .type = FrameType::kClose};
  const auto found = closing_.find(from);
  if (found == closing_.end()) return AddControl(close);
  OutQueue* const queue = &found->second->queue;
  Charged(queue, [&] {
    char* const at = queue->Reserve(kStreamFrontBytesMax, options_.turn_bytes);
    queue->Commit(static_cast<size_t>(WriteStreamFront(close, 0, at) - at));
  });
}

bool Streams::AgeCloses() {
  for (auto held = held_closes_.begin(); held != held_closes_.end();) {
    if (!std::exchange(held->second.aged, true)) {
      ++held;
      continue;
    }
    PutClose(held->second.to, held->first);
    held = held_closes_.erase(held);
  }
  return HoldsCloses();
}

void Streams::AddFeedback(StreamState* stream) {
  stream->reported_bytes = stream->consumed_bytes;
  AddControl({.to = stream->remote_id,
              .from = stream->local_id,
              .type = FrameType::kFeedback,
              .consumed = static_cast<int64_t>(stream->consumed_bytes)});
}

void Streams::SendFrame(Bytes frame) {
  if (lost_) return;
  Charged(&control_, [&] {
    if (frame.size() > options_.copy_bytes_max) return control_.AddFramed(frame);
    char* const at = control_.Reserve(frame.size(), kControlBufferBytes);
    control_.Commit(static_cast<size_t>(CopyOf(frame, at) - at));
  });
}

void Streams::SendAnswer(int64_t to, int64_t from, const Bytes& frame) {
  if (lost_) return;
  size_t offset = 0;
  do {
    const Bytes segment = frame.Slice(offset, kAnswerSegmentBytes);
    offset += segment.size();
    Charged(&control_, [&] {
      const StreamMeta meta{
          .to = to, .from = from, .type = FrameType::kData, .has_continuation = offset < frame.size()};
      char* const at = control_.Reserve(kStreamFrontBytesMax, kControlBufferBytes);
      control_.Commit(static_cast<size_t>(WriteStreamFront(meta, segment.size(), at) - at));
    });
    SendFrame(segment);
  } while (offset < frame.size());
}

void Streams::SendRst(int64_t to) { AddControl({.to = to, .type = FrameType::kRst}); }

// --- Turns ---

bool Streams::Pull(Output* out, size_t bytes_max) {
  const size_t before = out->bytes;
  if (!feedback_.empty() && !WithholdsFeedback()) {
    while (StreamState* stream = feedback_.PopFront()) {
      stream->owes_feedback = false;
      AddFeedback(stream);
    }
  }
  resets_waiting_ = 0;
  Charged(&control_, [&] { control_.PullTurn({.turn_bytes = std::numeric_limits<size_t>::max()}, out); });
  while (out->bytes - before < bytes_max) {
    StreamOutbox* outbox = turns_.PopFront();
    if (outbox == nullptr) break;
    Charged(&outbox->queue, [&] {
      outbox->queue.PullTurn({.to = outbox->to,
                              .from = outbox->from,
                              .segment_bytes = outbox->segment_bytes,
                              .turn_bytes = options_.turn_bytes},
                             out);
    });
    if (outbox->queue.empty()) {
      Recycle(outbox);
    } else {
      turns_.PushBack(outbox);
    }
  }
  WakeStalled();
  return out->bytes > before;
}

}  // namespace sluice::wire::brpc
