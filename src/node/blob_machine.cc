#include "node/blob_machine.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "base/fields.h"
#include "base/log.h"
#include "base/names.h"

namespace sluice::node {
namespace {

std::string ContentKey(const UploadId& id) { return "c/" + UploadKey(id); }
std::string NameKey(std::string_view name) { return "n/" + std::string(name); }
std::string DigestKey(const Sha256& digest) { return "d/" + std::string(digest.AsBytes()); }
std::string InlineKey(const UploadId& id) { return "i/" + UploadKey(id); }
std::string AbandonedKey(const UploadId& id) { return "x/" + UploadKey(id); }

// The abandoned in the order of their stamps, so that the oldest is found without looking at all.
constexpr std::string_view kAgePrefix = "y/";
constexpr size_t kStampBytes = 8;
constexpr std::string_view kAbandonedCountKey = "z";
// Records removed by one command at most: more than it adds, so that the number falls.
constexpr size_t kPrunedAtOnce = 8;

std::string AgeKey(int64_t stamp_ms, const UploadId& id) {
  std::string key(kAgePrefix);
  const auto stamp = static_cast<uint64_t>(std::max<int64_t>(stamp_ms, 0));
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(stamp >> shift));
  return key + UploadKey(id);
}

int64_t StampOfAgeKey(std::string_view key) {
  uint64_t stamp = 0;
  for (const char byte : key.substr(kAgePrefix.size(), kStampBytes)) {
    stamp = stamp << 8 | static_cast<uint8_t>(byte);
  }
  return static_cast<int64_t>(stamp);
}

uint64_t AbandonedCount(const State& state) {
  const auto text = state.Get(kAbandonedCountKey);
  uint64_t count = 0;
  if (text) (void)absl::SimpleAtoi(*text, &count);
  return count;
}

std::string EncodeContent(const ContentRecord& content) {
  FieldWriter out;
  out.PutVarint(1, content.sealed.length);
  out.PutVarint(2, content.sealed.checksum);
  if (content.sealed.digest) out.PutText(3, content.sealed.digest->AsBytes());
  for (const PeerId& holder : content.holders) out.PutRecord(4, holder.value);
  out.PutVarint(5, content.names);
  out.PutVarint(6, content.inlined ? 1 : 0);
  for (const UploadId& id : content.replaced) out.PutText(8, UploadKey(id));
  return out.Take();
}

// What is left of a content whose place another one took.
constexpr uint32_t kReplacedByTag = 7;
std::string EncodeReplaced(const UploadId& by) {
  FieldWriter out;
  out.PutText(kReplacedByTag, UploadKey(by));
  return out.Take();
}
std::optional<UploadId> ReplacedBy(std::string_view record) {
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == kReplacedByTag) return ParseUploadKey(in.text());
  }
  return std::nullopt;
}

ContentRecord DecodeContent(const UploadId& id, std::string_view record) {
  ContentRecord content;
  content.id = id;
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 1) content.sealed.length = in.varint();
    if (in.tag() == 2) content.sealed.checksum = static_cast<uint32_t>(in.varint());
    if (in.tag() == 3) content.sealed.digest = Sha256::FromBytes(in.text());
    if (in.tag() == 4) content.holders.push_back({std::string(in.text())});
    if (in.tag() == 5) content.names = in.varint();
    if (in.tag() == 6) content.inlined = in.varint() != 0;
    if (in.tag() == 8) {
      if (const auto replaced = ParseUploadKey(in.text())) content.replaced.push_back(*replaced);
    }
  }
  return content;
}

// A name's record: content id and time.
std::string EncodeName(const UploadId& content, int64_t created_ms) {
  FieldWriter out;
  out.PutText(1, UploadKey(content));
  out.PutVarint(2, static_cast<uint64_t>(created_ms));
  return out.Take();
}

std::optional<NameRecord> DecodeName(std::string_view name, std::string_view record, const State& state) {
  NameRecord found;
  found.name = std::string(name);
  std::optional<UploadId> id;
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 1) id = ParseUploadKey(in.text());
    if (in.tag() == 2) found.created_ms = static_cast<int64_t>(in.varint());
  }
  if (!id) return std::nullopt;
  auto content = BlobMachine::FindContent(*id, state);
  if (!content) return std::nullopt;
  found.content = std::move(*content);
  return found;
}

// Whether the command's bytes are those of a content: equal checksums do not say so.
bool SameBytes(const ContentRecord& content, const BlobCommand& command) {
  if (content.sealed.length != command.sealed.length) return false;
  if (content.sealed.digest && command.sealed.digest) return *content.sealed.digest == *command.sealed.digest;
  return command.same_as == content.id;
}

// Why the command's bytes are refused under the name of `present`.
absl::Status Exists(const NameRecord& present, const BlobCommand& command) {
  const blob::Sealed& there = present.content.sealed;
  if (there.length == command.sealed.length && there.checksum == command.sealed.checksum &&
      !(there.digest && command.sealed.digest)) {
    return absl::AlreadyExistsError(
        fmt::format("{} exists with {} bytes; whether these are the same cannot be told without a digest",
                    Printable(present.name), there.length));
  }
  return absl::AlreadyExistsError(fmt::format("{} exists with other bytes ({} bytes there, {} here)",
                                              Printable(present.name), there.length, command.sealed.length));
}

}  // namespace

std::optional<ContentRecord> BlobMachine::FindContent(const UploadId& id, const State& state) {
  auto record = state.Get(ContentKey(id));
  if (!record) return std::nullopt;
  const auto by = ReplacedBy(*record);
  if (!by) return DecodeContent(id, *record);
  record = state.Get(ContentKey(*by));
  if (!record) return std::nullopt;
  return DecodeContent(*by, *record);
}

std::optional<NameRecord> BlobMachine::FindName(std::string_view name, const State& state) {
  const auto record = state.Get(NameKey(name));
  if (!record) return std::nullopt;
  return DecodeName(name, *record, state);
}

std::optional<UploadId> BlobMachine::FindDigest(const Sha256& digest, const State& state) {
  const auto record = state.Get(DigestKey(digest));
  return record ? ParseUploadKey(*record) : std::nullopt;
}

std::optional<std::string> BlobMachine::InlineBytes(const UploadId& id, const State& state) {
  return state.Get(InlineKey(id));
}

bool BlobMachine::IsAbandoned(const UploadId& id, const State& state) {
  return state.Get(AbandonedKey(id)).has_value();
}

std::vector<NameRecord> BlobMachine::List(std::string_view prefix, std::string_view after, size_t limit,
                                          const State& state) {
  std::vector<NameRecord> found;
  const std::string from = after.empty() ? NameKey(prefix) : NameKey(after);
  state.Scan(NameKey(prefix), from, [&](std::string_view key, std::string_view value) {
    const std::string_view name = key.substr(2);
    if (!after.empty() && name <= after) return true;
    if (auto record = DecodeName(name, value, state)) found.push_back(std::move(*record));
    return found.size() < limit;
  });
  return found;
}

std::optional<UploadId> BlobMachine::ContentOf(std::string_view key, std::string_view value) {
  return key.starts_with("c/") && !ReplacedBy(value) ? ParseUploadKey(key.substr(2)) : std::nullopt;
}

void BlobMachine::ForEachContent(const State& state, const std::function<void(const ContentRecord&)>& visit) {
  state.Scan("c/", "c/", [&](std::string_view key, std::string_view value) {
    const auto id = ContentOf(key, value);
    if (!id) return true;
    const ContentRecord content = DecodeContent(*id, value);
    if (!content.inlined) visit(content);
    return true;
  });
}

absl::Status BlobMachine::Admit(const Bytes& message) {
  ASSIGN_OR_RETURN(const BlobCommand command, DecodeBlobCommand(message));
  if (command.op == BlobOp::kAbandon) return absl::OkStatus();
  if (!command.name.empty() || command.op == BlobOp::kRemove) return CheckName(command.name);
  if (!command.sealed.digest) return absl::InvalidArgumentError("a publish needs a name or a digest");
  return absl::OkStatus();
}

absl::Status BlobMachine::CheckRecord(std::string_view key, std::string_view value) const {
  const std::string_view kind = key.substr(0, 2);
  const std::string_view id = key.substr(std::min(kind.size(), key.size()));
  bool good = true;
  if (kind == "n/" || kind == "c/") {
    // Both are fields; a name's first one is the content that it stands for.
    std::optional<UploadId> content;
    FieldReader in(value);
    while (in.Next()) {
      if (in.tag() == 1) content = ParseUploadKey(in.text());
    }
    good = in.ok() &&
           (kind == "n/" ? content.has_value() && CheckName(id).ok() : ParseUploadKey(id).has_value());
  } else if (kind == "d/") {
    good = Sha256::FromBytes(id).has_value() && ParseUploadKey(value).has_value();
  } else if (kind == "i/" || kind == "x/") {
    good = ParseUploadKey(id).has_value();
  } else if (kind == kAgePrefix) {
    good = id.size() > kStampBytes && ParseUploadKey(id.substr(kStampBytes)).has_value();
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} with {} bytes", Printable(key.substr(0, 64)), value.size()));
}

absl::StatusOr<Bytes> BlobMachine::Query(const Bytes&, const State&) {
  return absl::UnimplementedError("blobs are read by name through ByteStream.Read");
}

absl::StatusOr<Bytes> BlobMachine::Apply(const ::sluice::Command& command, State& state) {
  RETURN_IF_ERROR(Admit(command.data));
  ASSIGN_OR_RETURN(const BlobCommand blob, DecodeBlobCommand(command.data));
  switch (blob.op) {
    case BlobOp::kPublish:
    case BlobOp::kPublishInline:
      return Publish(blob, command.at.index, state);
    case BlobOp::kRemove:
      return Remove(blob, command.at.index, state);
    case BlobOp::kAbandon:
      return Abandon(blob, command.at.index, state);
  }
  return absl::InvalidArgumentError("unknown blob command");
}

absl::StatusOr<Bytes> BlobMachine::Publish(const BlobCommand& command, Index index, State& state) {
  const bool inlined = command.op == BlobOp::kPublishInline;
  const auto drop = [&] {
    if (!inlined) changes_.push_back({ContentChange::Kind::kDropStage, command.upload, index, {}, {}});
  };
  if (IsAbandoned(command.upload, state)) {
    drop();
    return absl::AbortedError(
        fmt::format("upload {} was abandoned after its time-to-live", command.upload.ToHex()));
  }
  // Bytes that are known by their digest alone stand under the digest's own name.
  const std::string name = command.name.empty() ? "sha256:" + command.sealed.digest->ToHex() : command.name;
  if (const auto digest = DigestName(name); digest && command.sealed.digest != *digest) {
    drop();
    return absl::InvalidArgumentError(fmt::format("the bytes under {} have another digest", name));
  }
  const Bytes reply = EncodeBlobReply({name, command.sealed.length, command.sealed.digest});

  const auto present = FindName(name, state);
  if (const auto entered = FindContent(command.upload, state)) {
    // The id is taken. Whoever brings the same again is answered as before; what is sealed under it and is
    // something else must never be taken for it (P4).
    if (present && present->content.id == entered->id && Matches(entered->sealed, command.sealed))
      return reply;
    drop();
    return absl::FailedPreconditionError(
        fmt::format("upload {} was entered already: its id cannot be used again", command.upload.ToHex()));
  }
  if (present) {
    if (!SameBytes(present->content, command)) {
      drop();
      return Exists(*present, command);
    }
    if (command.lost == present->content.id) {
      Replace(present->content, command, index, state);
    } else {
      drop();
    }
    return reply;
  }

  // The same bytes under another name: one content, several names.
  std::optional<ContentRecord> content;
  if (command.sealed.digest) {
    if (const auto same = FindDigest(*command.sealed.digest, state)) content = FindContent(*same, state);
  }
  if (content && command.lost == content->id) {
    content = Replace(*content, command, index, state);
  } else if (content) {
    drop();
  } else {
    content = Enter(command, index, state);
  }
  content->names += 1;
  state.Put(ContentKey(content->id), EncodeContent(*content));
  state.Put(NameKey(name), EncodeName(content->id, command.stamp_ms));
  return reply;
}

ContentRecord BlobMachine::Enter(const BlobCommand& command, Index index, State& state) {
  ContentRecord content;
  content.id = command.upload;
  content.sealed = command.sealed;
  content.holders = command.holders;
  content.inlined = command.op == BlobOp::kPublishInline;
  if (content.inlined) {
    state.Put(InlineKey(content.id), command.data.ToString());
  } else {
    changes_.push_back({ContentChange::Kind::kLink, content.id, index, content.sealed, content.holders});
  }
  if (content.sealed.digest) state.Put(DigestKey(*content.sealed.digest), UploadKey(content.id));
  return content;
}

// Names go on to say the old id, which leads to the new content from now on.
ContentRecord BlobMachine::Replace(const ContentRecord& lost, const BlobCommand& command, Index index,
                                   State& state) {
  ContentRecord content = Enter(command, index, state);
  if (!content.sealed.digest && lost.sealed.digest) content.sealed.digest = lost.sealed.digest;
  content.names = lost.names;
  content.replaced = lost.replaced;
  content.replaced.push_back(lost.id);
  for (const UploadId& id : content.replaced) state.Put(ContentKey(id), EncodeReplaced(content.id));
  state.Put(ContentKey(content.id), EncodeContent(content));
  if (content.sealed.digest) state.Put(DigestKey(*content.sealed.digest), UploadKey(content.id));
  changes_.push_back({ContentChange::Kind::kRemove, lost.id, index, {}, {}});
  return content;
}

absl::StatusOr<Bytes> BlobMachine::Remove(const BlobCommand& command, Index index, State& state) {
  auto present = FindName(command.name, state);
  if (!present) return absl::NotFoundError(fmt::format("{} does not exist", Printable(command.name)));
  state.Delete(NameKey(command.name));
  ContentRecord& content = present->content;
  if (--content.names > 0) {
    state.Put(ContentKey(content.id), EncodeContent(content));
  } else {
    state.Delete(ContentKey(content.id));
    for (const UploadId& id : content.replaced) state.Delete(ContentKey(id));
    if (content.sealed.digest && FindDigest(*content.sealed.digest, state) == content.id) {
      state.Delete(DigestKey(*content.sealed.digest));
    }
    if (content.inlined) {
      state.Delete(InlineKey(content.id));
    } else {
      changes_.push_back({ContentChange::Kind::kRemove, content.id, index, {}, {}});
    }
  }
  return EncodeBlobReply({command.name, content.sealed.length, content.sealed.digest});
}

// Stamps come from entries, so that every server forgets the same at the same index (D-05). By then no server
// has had the bytes for kAbandonedKeptMs: what is forgotten cannot be published for want of holders (D-11).
void BlobMachine::Prune(int64_t now_ms, State& state) {
  uint64_t count = AbandonedCount(state);
  std::vector<std::string> old;
  state.Scan(kAgePrefix, kAgePrefix, [&](std::string_view key, std::string_view) {
    const bool forget = count - old.size() > kAbandonedKept && StampOfAgeKey(key) < now_ms - kAbandonedKeptMs;
    if (forget) old.emplace_back(key);
    return forget && old.size() < kPrunedAtOnce;
  });
  if (old.empty()) return;
  for (const std::string& key : old) {
    state.Delete("x/" + key.substr(kAgePrefix.size() + kStampBytes));
    state.Delete(key);
  }
  state.Put(kAbandonedCountKey, std::to_string(count - old.size()));
}

absl::StatusOr<Bytes> BlobMachine::Abandon(const BlobCommand& command, Index index, State& state) {
  if (FindContent(command.upload, state)) return Bytes();  // it was entered after all
  changes_.push_back({ContentChange::Kind::kDropStage, command.upload, index, {}, {}});
  if (IsAbandoned(command.upload, state)) return Bytes();
  state.Put(AbandonedKey(command.upload), std::to_string(command.stamp_ms));
  state.Put(AgeKey(command.stamp_ms, command.upload), "");
  state.Put(kAbandonedCountKey, std::to_string(AbandonedCount(state) + 1));
  Prune(command.stamp_ms, state);
  return Bytes();
}

}  // namespace sluice::node
