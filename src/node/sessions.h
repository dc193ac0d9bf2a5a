// The replies of a group's writes, by client and call,
// so that a retry is answered and not executed again (D-05).
//
//   if (const StoredReply* reply = sessions.Find(client, call)) return *reply;
//   sessions.Record(client, call, {index, reply});
//
// Built from the log on every server, in log order; the oldest replies are forgotten beyond `replies_max`:
// from then on a retry counts as new, as it does in Ratis after its retry cache expires.
// Threading: lives on the group's shard.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"

namespace sluice::node {

struct StoredReply {
  Index index;
  absl::StatusOr<Bytes> reply = Bytes();
};

// A reply as a durable record, and back.
std::string EncodeStoredReply(const StoredReply& reply);
absl::StatusOr<StoredReply> DecodeStoredReply(std::string_view record);

class Sessions {
 public:
  explicit Sessions(size_t replies_max) : replies_max_(replies_max) {}

  const StoredReply* Find(const ClientId& client, CallId call) const {
    auto it = replies_.find({client, call});
    return it == replies_.end() ? nullptr : &it->second;
  }
  // Remembers a reply; gives the keys that were forgotten to make room.
  std::vector<UploadId> Record(const ClientId& client, CallId call, StoredReply reply);
  size_t size() const { return replies_.size(); }
  void Clear() {
    replies_.clear();
    order_.clear();
  }

 private:
  const size_t replies_max_;
  absl::flat_hash_map<UploadId, StoredReply> replies_;  // (client, call) is an UploadId's shape
  std::deque<UploadId> order_;
};

}  // namespace sluice::node
