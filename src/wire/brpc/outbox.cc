#include "wire/brpc/outbox.h"

#include <algorithm>
#include <iterator>

namespace sluice::wire::brpc {

namespace {

constexpr size_t kFrontsBytes = 2 << 10;
constexpr size_t kFirstBufferBytes = 512;
constexpr size_t kItemsKept = 16;  // capacity that an empty queue may keep

}  // namespace

void Output::Clear() {
  pieces.clear();
  buffers.clear();
  held.clear();
  fronts_used = 0;
  bytes = 0;
}

void Output::AddPiece(std::string_view piece) {
  if (piece.empty()) return;
  pieces.push_back(piece);
  bytes += piece.size();
}

void Output::AddFront(const StreamMeta& meta, size_t payload_bytes) {
  if (fronts == nullptr || fronts_used + kStreamFrontBytesMax > kFrontsBytes) {
    if (fronts != nullptr) buffers.push_back(std::move(fronts));
    fronts = std::make_unique_for_overwrite<char[]>(kFrontsBytes);
    fronts_used = 0;
  }
  char* at = fronts.get() + fronts_used;
  const size_t size = static_cast<size_t>(WriteStreamFront(meta, payload_bytes, at) - at);
  fronts_used += size;
  AddPiece({at, size});
}

void Output::AddBytes(Bytes more) {
  // A Cord of up to 15 bytes lives inside its object, which may move: views are taken where it stays.
  if (more.size() <= kStreamFrontBytesMax) {
    std::unique_ptr<char[]> copy = std::make_unique_for_overwrite<char[]>(more.size());
    more.CopyTo(copy.get());
    AddPiece({copy.get(), more.size()});
    buffers.push_back(std::move(copy));
    return;
  }
  held.push_back(std::move(more));
  held.back().ForEachChunk([&](std::string_view chunk) { AddPiece(chunk); });
}

char* OutQueue::AddBuffer(size_t bytes, size_t buffer_bytes_max) {
  const size_t capacity =
      std::max(bytes, std::min(std::max(next_capacity_, kFirstBufferBytes), buffer_bytes_max));
  next_capacity_ = std::min(capacity * 2, std::max(buffer_bytes_max, kFirstBufferBytes));
  Item item;
  item.buffer = std::make_unique_for_overwrite<char[]>(capacity);
  item.capacity = static_cast<uint32_t>(capacity);
  charged_bytes_ += capacity + kItemBytes;
  items_.push_back(std::move(item));
  return items_.back().buffer.get();
}

void OutQueue::AddReference(const Bytes& bytes, bool framed) {
  Item item;
  item.bytes = bytes;
  item.framed = framed;
  charged_bytes_ += bytes.size() + kItemBytes;
  items_.push_back(std::move(item));
}

size_t OutQueue::PullSegments(const Turn& turn, size_t bytes_max, Item* item, Output* out) {
  const uint64_t whole = item->bytes.size();
  size_t taken = 0;
  do {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(whole - item->offset, turn.segment_bytes));
    if (taken > 0 && taken + count > bytes_max) break;
    const bool more = item->offset + count < whole;
    out->AddFront({.to = turn.to, .from = turn.from, .type = FrameType::kData, .has_continuation = more},
                  count);
    out->AddBytes(count == whole ? std::move(item->bytes) : item->bytes.Slice(item->offset, count));
    item->offset += count;
    charged_bytes_ -= count;
    taken += count;
  } while (item->offset < whole);
  if (item->offset == whole) {
    charged_bytes_ -= kItemBytes;
    PopFront();
  }
  return taken;
}

void OutQueue::PullTurn(const Turn& turn, Output* out) {
  size_t taken = 0;
  while (!empty()) {
    Item& item = items_[begin_];
    const bool cut = item.capacity == 0 && !item.framed;
    const size_t size = cut ? std::min<size_t>(item.bytes.size() - item.offset, turn.segment_bytes)
                        : item.capacity == 0 ? item.bytes.size()
                                             : item.size;
    if (taken > 0 && taken + size > turn.turn_bytes) return;
    if (cut) {
      taken += PullSegments(turn, turn.turn_bytes - std::min(taken, turn.turn_bytes), &item, out);
      continue;
    }
    taken += size;
    if (item.capacity == 0) {
      charged_bytes_ -= item.bytes.size() + kItemBytes;
      out->AddBytes(std::move(item.bytes));
    } else {
      charged_bytes_ -= item.capacity + kItemBytes;
      out->AddPiece({item.buffer.get(), item.size});
      out->buffers.push_back(std::move(item.buffer));
    }
    PopFront();
  }
}

void OutQueue::PopFront() {
  ++begin_;
  if (begin_ == items_.size()) {
    items_.clear();
    begin_ = 0;
    next_capacity_ /= 2;  // a quiet queue comes back to small buffers
  } else if (begin_ >= kItemsKept && begin_ * 2 >= items_.size()) {
    items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(begin_));
    begin_ = 0;
  }
}

std::vector<Bytes> OutQueue::TakeMessages() {
  std::vector<Bytes> messages;
  messages.reserve(items_.size() - begin_);
  for (size_t i = begin_; i < items_.size(); ++i) messages.push_back(std::move(items_[i].bytes));
  Clear();
  return messages;
}

void OutQueue::Clear() {
  items_.clear();
  if (items_.capacity() > kItemsKept) items_ = std::vector<Item>();
  begin_ = 0;
  next_capacity_ = 0;
  charged_bytes_ = 0;
}

}  // namespace sluice::wire::brpc
