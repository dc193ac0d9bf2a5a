#include "node/sessions.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/hash/hash.h"
#include "base/fields.h"
#include "node/blob_command.h"

namespace sluice::node {
namespace {

constexpr size_t kPieceBytes = 64u << 10;
constexpr uint64_t kPlaceBytes = 24;  // of the table, with its free room

// How a reply stands in memory: this head, then the message or the error's text.
struct Head {
  UploadId key;
  Index index;
  Index executed;
  int64_t since_ms;
  uint32_t content;
  uint32_t code;
  uint32_t text_bytes;
  uint32_t unused;
};
static_assert(std::is_trivially_copyable_v<Head>);

std::string TextOf(const StoredReply& stored) {
  return stored.reply.ok() ? stored.reply->ToString() : std::string(Message(stored.reply.status()));
}

absl::StatusOr<Bytes> ReplyOf(uint64_t code, std::string_view text) {
  if (code == 0) return Bytes::Copy(text);
  return absl::Status(static_cast<absl::StatusCode>(code), ToAbsl(text));
}

}  // namespace

size_t Sessions::Hash::operator()(const UploadId& key) const { return absl::Hash<UploadId>()(key); }

std::string_view Sessions::At(const Place& place) const {
  return std::string_view(pieces_[place.piece - first_piece_].replies).substr(place.offset);
}

UploadId Sessions::KeyAt(const Place& place) const {
  UploadId key;
  std::memcpy(&key, At(place).data() + offsetof(Head, key), sizeof key);
  return key;
}

Sessions::Places& Sessions::PartOf(const UploadId& key) {
  auto& part = parts_[absl::Hash<UploadId>()(key) >> 32 & (kParts - 1)];
  if (!part) part.emplace(0, Hash{this}, Same{this});
  return *part;
}

uint64_t Sessions::BytesOf(const StoredReply& stored) {
  const size_t text = stored.reply.ok() ? stored.reply->size() : Message(stored.reply.status()).size();
  return sizeof(Head) + text + kPlaceBytes;
}

std::optional<StoredReply> Sessions::Find(const ClientId& client, CallId call) const {
  const UploadId key{client, call};
  const auto& part = parts_[absl::Hash<UploadId>()(key) >> 32 & (kParts - 1)];
  if (!part) return std::nullopt;
  const auto it = part->find(key);
  if (it == part->end()) return std::nullopt;
  const std::string_view raw = At(*it);
  Head head;
  std::memcpy(&head, raw.data(), sizeof head);
  return StoredReply{head.index, ReplyOf(head.code, raw.substr(sizeof head, head.text_bytes)), head.content,
                     head.executed, head.since_ms};
}

void Sessions::Record(const UploadId& key, const StoredReply& stored) {
  const std::string text = TextOf(stored);
  Head head{};
  head.key = key;
  head.index = stored.index;
  head.executed = stored.executed;
  head.since_ms = stored.since_ms;
  head.content = stored.content;
  head.code = static_cast<uint32_t>(stored.reply.status().code());
  head.text_bytes = static_cast<uint32_t>(text.size());
  if (pieces_.empty() || pieces_.back().replies.size() >= kPieceBytes) pieces_.emplace_back();
  Piece& piece = pieces_.back();
  const Place place{first_piece_ + pieces_.size() - 1, static_cast<uint32_t>(piece.replies.size())};
  piece.replies.append(reinterpret_cast<const char*>(&head), sizeof head);
  piece.replies.append(text);
  piece.largest = std::max(piece.largest, BytesOf(stored));
  largest_ = std::max(largest_, piece.largest);
  Places& part = PartOf(key);
  // The place of an earlier reply under these ids, if there is one, is forgotten with its piece.
  part.erase(key);
  part.insert(place);
  ++size_;
  bytes_ += BytesOf(stored);
}

void Sessions::ForgetBefore(Index first) {
  while (!pieces_.empty()) {
    const Place oldest{first_piece_, first_offset_};
    Head head;
    std::memcpy(&head, At(oldest).data(), sizeof head);
    if (head.index >= first) return;
    Places& part = PartOf(head.key);
    const auto it = part.find(head.key);
    if (it != part.end() && *it == oldest) part.erase(it);
    --size_;
    bytes_ -= sizeof head + head.text_bytes + kPlaceBytes;
    first_offset_ += static_cast<uint32_t>(sizeof head) + head.text_bytes;
    if (first_offset_ < pieces_.front().replies.size()) continue;
    const uint64_t gone = pieces_.front().largest;
    pieces_.pop_front();
    if (gone == largest_) FindLargest();
    ++first_piece_;
    first_offset_ = 0;
  }
}

// Mostly the next piece has one as large.
void Sessions::FindLargest() {
  const uint64_t before = std::exchange(largest_, 0);
  for (const Piece& piece : pieces_) {
    largest_ = std::max(largest_, piece.largest);
    if (largest_ == before) return;
  }
}

// --- Durable records ---------------------------------------------------------------------------------------

std::string EncodeReply(const UploadId& key, const StoredReply& stored) {
  FieldWriter out;
  out.PutText(1, UploadKey(key));
  out.PutText(stored.reply.ok() ? 2 : 4, TextOf(stored));
  out.PutVarint(3, static_cast<uint64_t>(stored.reply.status().code()));
  out.PutVarint(5, stored.content);
  out.PutVarint(6, static_cast<uint64_t>(stored.since_ms));
  if (stored.executed.valid()) out.PutVarint(7, static_cast<uint64_t>(stored.executed.value));
  return out.Take();
}

absl::StatusOr<ReplyRecord> DecodeReply(Index index, std::string_view record) {
  std::optional<UploadId> key;
  uint64_t code = 0;
  std::string_view text;
  ReplyRecord reply;
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 1) key = ParseUploadKey(in.text());
    if (in.tag() == 2 || in.tag() == 4) text = in.text();
    if (in.tag() == 3) code = in.varint();
    if (in.tag() == 5) reply.stored.content = static_cast<uint32_t>(in.varint());
    if (in.tag() == 6) reply.stored.since_ms = static_cast<int64_t>(in.varint());
    if (in.tag() == 7) reply.stored.executed = Index{static_cast<int64_t>(in.varint())};
  }
  if (!in.ok() || !key || code > static_cast<uint64_t>(absl::StatusCode::kUnauthenticated) ||
      reply.stored.executed >= index) {
    return absl::DataLossError(fmt::format("stored reply of {} bytes is malformed", record.size()));
  }
  reply.key = *key;
  reply.stored.index = index;
  reply.stored.reply = ReplyOf(code, text);
  return reply;
}

}  // namespace sluice::node
