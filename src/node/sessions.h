// The replies of a group's writes, by client and call,
// so that a retry is answered and not executed again (D-05).
//
//   if (const auto reply = sessions.Find(client, call)) return *reply;
//   sessions.Record({client, call}, {index, reply});     // in log order
//   sessions.ForgetBefore(first_kept);                   // as ReplyAges says
//
// Built from the log on every server. Millions of replies are remembered at full speed, so that they stand one
// behind another in pieces of memory: a reply costs what it is long and about 60 bytes. No call takes long:
// what grows is divided into parts. Threading: one thread at a time (the group's shard).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice::node {

struct StoredReply {
  Index
      index;  // of the entry that it is kept under: the call's, or the last that says it was asked for again
  absl::StatusOr<Bytes> reply = Bytes();
  // CRC32C of what was asked: another one proves that the ids were used for something else (F-66).
  uint32_t content = 0;
  Index executed = kNoIndex;  // of the call's entry, where that is another one
  int64_t since_ms = 0;       // the log's time when it was kept (log_clock.h)

  Index entry() const { return executed.valid() ? executed : index; }
};

class Sessions {
 public:
  Sessions() = default;
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;

  std::optional<StoredReply> Find(const ClientId& client, CallId call) const;
  // In the order of stored.index. A second reply under the same ids replaces the first.
  void Record(const UploadId& key, const StoredReply& stored);
  // Forgets the replies of entries before `first`.
  void ForgetBefore(Index first);
  size_t size() const { return size_; }
  // Memory that the replies take.
  uint64_t bytes() const { return bytes_; }
  // What the largest one takes of them, or did not long ago.
  uint64_t largest() const { return largest_; }
  // What one reply adds to bytes().
  static uint64_t BytesOf(const StoredReply& stored);

 private:
  // Where a reply stands: number of the piece, and offset in it.
  struct Place {
    uint64_t piece;
    uint32_t offset;
    bool operator==(const Place&) const = default;
  };
  // Found by ids, which are read where the reply stands.
  struct Hash {
    using is_transparent = void;
    const Sessions* table;
    size_t operator()(const UploadId& key) const;
    size_t operator()(const Place& place) const { return (*this)(table->KeyAt(place)); }
  };
  struct Same {
    using is_transparent = void;
    const Sessions* table;
    bool operator()(const Place& a, const Place& b) const { return (*this)(a, table->KeyAt(b)); }
    bool operator()(const Place& a, const UploadId& b) const { return table->KeyAt(a) == b; }
    bool operator()(const UploadId& a, const Place& b) const { return (*this)(b, a); }
  };
  using Places = absl::flat_hash_set<Place, Hash, Same>;
  // A table that grows moves all it has: in parts, so that none takes long.
  static constexpr size_t kParts = 32;

  struct Piece {
    std::string replies;
    uint64_t largest = 0;
  };

  std::string_view At(const Place& place) const;
  UploadId KeyAt(const Place& place) const;
  Places& PartOf(const UploadId& key);
  void FindLargest();

  std::array<std::optional<Places>, kParts> parts_;
  std::deque<Piece> pieces_;
  uint64_t first_piece_ = 0;   // number of pieces_.front()
  uint32_t first_offset_ = 0;  // of the oldest reply in it
  size_t size_ = 0;
  uint64_t bytes_ = 0;
  uint64_t largest_ = 0;
};

// A reply as a durable record, and back.
struct ReplyRecord {
  UploadId key;
  StoredReply stored;
};
std::string EncodeReply(const UploadId& key, const StoredReply& stored);
// `index`: from the record's key.
absl::StatusOr<ReplyRecord> DecodeReply(Index index, std::string_view record);

}  // namespace sluice::node
