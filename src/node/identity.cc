#include "node/identity.h"

#include "base/fields.h"
#include "base/log.h"

namespace sluice::node {
namespace {

constexpr uint64_t kFormatVersion = 3;
constexpr size_t kIdentityBytesMax = 64u << 10;

// A folder with files of somebody else is not taken over: whoever removes the server's data would remove them too.
absl::Status CheckEmpty(env::Files& files, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(dir));
  for (const std::string& name : names) {
    if (name == "LOCK" || name == "identity.tmp" || name == "lost+found")
      continue;  // of a first start that was killed before it had begun, or of the file system
    return absl::FailedPreconditionError(fmt::format(
        "{} is no server's folder and is not empty: {} is in it; give --data a folder that is empty, or "
        "that does not exist yet",
        dir, Printable(name)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Identity> OpenIdentity(env::Files& files, const std::string& dir, const PeerId& server,
                                      bool bootstrap) {
  const std::string path = dir + "/identity";
  Identity identity;
  ASSIGN_OR_RETURN(const bool exists, files.Exists(path));
  if (exists) {
    ASSIGN_OR_RETURN(const std::string record, ReadWholeFile(files, path, kIdentityBytesMax));
    uint64_t version = 0;
    FieldReader in(record);
    while (in.Next()) {
      if (in.tag() == 1) version = in.varint();
      if (in.tag() == 2) identity.server = {std::string(in.text())};
      if (in.tag() == 5) identity.may_vote = in.varint() != 0;
      if (in.tag() == 6) identity.cluster = ClusterId::FromBytes(in.text()).value_or(ClusterId{});
    }
    if (!in.ok() || version == 0) return absl::DataLossError(fmt::format("{} is damaged", path));
    if (version != kFormatVersion) {  // F-21
      return absl::FailedPreconditionError(
          fmt::format("{} has format version {}; this program reads version {}: nothing was touched", path,
                      version, kFormatVersion));
    }
    if (identity.server != server) {
      return absl::FailedPreconditionError(
          fmt::format("{} belongs to server {}, not to {}: start with --id {} or with another --data folder",
                      dir, identity.server.value, server.value, identity.server.value));
    }
    // A first start that was killed may have left its name in the cache only.
    RETURN_IF_ERROR(files.SyncDir(dir));
    return identity;
  }
  // It is the first file of a folder: without it this one was somebody's, and nothing says whose (F-19).
  ASSIGN_OR_RETURN(const bool has_log, files.Exists(dir + "/log"));
  if (has_log) {
    return absl::FailedPreconditionError(fmt::format(
        "{} holds a log and no identity: that file is lost, put it back. If it cannot be had, remove {} "
        "whole and start without --bootstrap: the server then follows, and does not vote (F-20)",
        dir, dir));
  }
  RETURN_IF_ERROR(CheckEmpty(files, dir));
  identity.server = server;
  identity.may_vote = bootstrap;
  RETURN_IF_ERROR(SaveIdentity(files, dir, identity));
  return identity;
}

absl::Status SaveIdentity(env::Files& files, const std::string& dir, const Identity& identity) {
  FieldWriter out;
  out.PutVarint(1, kFormatVersion);
  out.PutText(2, identity.server.value);
  out.PutVarint(5, identity.may_vote ? 1 : 0);
  if (!identity.cluster.IsZero()) out.PutText(6, identity.cluster.AsBytes());
  return WriteFileDurably(files, dir + "/identity", Bytes::Take(out.Take()));
}

}  // namespace sluice::node
