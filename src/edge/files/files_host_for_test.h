// A fake host that stores blobs by name, in memory, with the checks of a real one.
//
//   FilesHost host;  ... Put ...  EXPECT_EQ(host.names["a"], "bytes");
//
// Threading: as StreamHost; `names` is guarded by FakeHost::mutex.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/digest.h"
#include "edge/datastream/stream_host_for_test.h"

namespace sluice::edge::files {

inline Sha256 DigestOf(const std::string& data) {
  DigestBuilder builder;
  builder.Update(data);
  return builder.Finish();
}
// Names in memory, with the checks of a real host.
class FilesHost : public StreamHost {
 public:
  FilesHost() : StreamHost("n0") {}

  const node::HostOptions& options() const override { return tuned; }
  void PutInline(const GroupId& group, node::BlobHeader header, Bytes data, env::Executor* on,
                 Done<node::BlobInfo> done) override {
    ++inlined;
    Publish(group, header, data.ToString(), on, std::move(done));
  }
  void OpenWrite(const GroupId& group, node::BlobHeader header, uint64_t offset, env::Executor* home,
                 Done<std::shared_ptr<node::Relay>> done) override {
    EXPECT_EQ(offset, 0u);
    home->Post([=, this, done = std::move(done)]() mutable {
      if (!HasGroup(group)) return done(absl::NotFoundError("no such group"));
      node::StreamHeader stream;
      stream.group = group;
      stream.upload.call = CallId{++calls_};
      stream.blob = header;
      done(OpenRelay(stream, home, [](const absl::Status&) {}));
    });
  }
  void FinishWrite(std::shared_ptr<node::Relay> relay, env::Executor* on,
                   Done<node::BlobInfo> done) override {
    std::unique_lock lock(mutex);
    const std::string data = content[relay->header().upload].bytes;
    lock.unlock();
    Publish(relay->header().group, relay->header().blob, data, on, std::move(done));
  }
  void OpenRead(const GroupId& group, const std::string& name, const std::optional<UploadId>& wanted,
                env::Executor* on, Done<node::Reading> done) override {
    on->Post([=, this, done = std::move(done)]() mutable {
      if (!HasGroup(group)) return done(absl::NotFoundError("no such group"));
      std::lock_guard lock(mutex);
      if (names.count(name) == 0) return done(absl::NotFoundError("no such name"));
      // What has the same length is the same content here.
      const UploadId here{ClientId{{7}}, CallId{names[name].size()}};
      if (wanted && *wanted != here) return done(absl::AbortedError("it has other bytes now"));
      auto source = std::make_shared<MemorySource>(names[name]);
      source->missing = missing;
      node::Reading reading;
      reading.info.name = name;
      reading.info.content = here;
      reading.info.digest = DigestOf(names[name]);
      reading.info.holders = {{"n0"}, {"n1"}};
      reading.source = source;
      done(std::move(reading));
    });
  }
  void Stat(const GroupId&, const std::string& name, env::Executor* on, Done<node::BlobInfo> done) override {
    on->Post([name, done = std::move(done)]() mutable {
      node::BlobInfo info;
      info.name = name;
      info.holders = {{"n0"}, {"n2"}};
      done(info);
    });
  }
  size_t NamesStored() {
    std::lock_guard lock(mutex);
    return names.size();
  }

  node::HostOptions tuned;
  std::map<std::string, std::string> names;  // guarded by mutex
  uint64_t missing = 0;
  std::atomic<int> inlined = 0;

 private:
  using FakeHost::Publish;
  void Publish(const GroupId& group, const node::BlobHeader& header, const std::string& data,
               env::Executor* on, Done<node::BlobInfo> done) {
    absl::StatusOr<node::BlobInfo> result = node::BlobInfo();
    const std::string key = header.name.empty() ? "sha256:" + DigestOf(data).ToHex() : header.name;
    {
      std::lock_guard lock(mutex);
      if (!HasGroup(group)) {
        result = absl::NotFoundError("no such group");
      } else if (header.expected_digest && *header.expected_digest != DigestOf(data)) {
        result = absl::InvalidArgumentError("another digest");
      } else if (names.count(key) > 0 && names[key] != data) {
        result = absl::AlreadyExistsError("the name has other bytes");
      } else {
        names[key] = data;
        result->length = data.size();
        if (header.compute_digest) result->digest = DigestOf(data);
      }
    }
    on->Post([result = std::move(result), done = std::move(done)]() mutable { done(std::move(result)); });
  }
  uint64_t calls_ = 0;
};

}  // namespace sluice::edge::files
