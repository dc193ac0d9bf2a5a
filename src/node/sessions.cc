#include "node/sessions.h"

#include "base/fields.h"

namespace sluice::node {

std::string EncodeStoredReply(const StoredReply& stored) {
  FieldWriter out;
  out.PutVarint(1, static_cast<uint64_t>(stored.index.value + 1));
  if (stored.reply.ok()) {
    out.PutText(2, stored.reply->ToString());
  } else {
    out.PutVarint(3, static_cast<uint64_t>(stored.reply.status().code()));
    out.PutText(4, Message(stored.reply.status()));
  }
  return out.Take();
}

absl::StatusOr<StoredReply> DecodeStoredReply(std::string_view record) {
  StoredReply stored;
  uint64_t code = 0;
  std::string_view message;
  std::string_view text;
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 1) stored.index = Index{static_cast<int64_t>(in.varint()) - 1};
    if (in.tag() == 2) text = in.text();
    if (in.tag() == 3) code = in.varint();
    if (in.tag() == 4) message = in.text();
  }
  if (!in.ok())
    return absl::DataLossError(fmt::format("stored reply of {} bytes is malformed", record.size()));
  if (code == 0) {
    stored.reply = Bytes::Copy(text);
  } else {
    stored.reply = absl::Status(static_cast<absl::StatusCode>(code), ToAbsl(message));
  }
  return stored;
}

std::vector<UploadId> Sessions::Record(const ClientId& client, CallId call, StoredReply reply) {
  std::vector<UploadId> forgotten;
  const UploadId key{client, call};
  auto [it, inserted] = replies_.insert_or_assign(key, std::move(reply));
  (void)it;
  if (inserted) order_.push_back(key);
  while (replies_.size() > replies_max_) {
    forgotten.push_back(order_.front());
    replies_.erase(order_.front());
    order_.pop_front();
  }
  return forgotten;
}

}  // namespace sluice::node
