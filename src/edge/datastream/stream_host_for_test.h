// A fake host whose uploads are strings in memory and, if a sink factory is given,
// passed on to one successor.
//
//   StreamHost host("n0");  host.sinks = &sinks;  host.next = peer;
//
// Threading: relays on their home; `content` is guarded by FakeHost::mutex.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "edge/byte_lane.h"
#include "edge/fake_host_for_test.h"

namespace sluice::edge {

// The bytes of a blob, as text.
class MemorySource final : public blob::Source {
 public:
  explicit MemorySource(std::string data) : data_(std::move(data)) {}
  uint64_t length() const override { return data_.size() + missing; }
  void Read(uint64_t offset, uint64_t count, env::Executor* on, blob::Upload::Done<Bytes> done) override {
    const std::string part = offset < data_.size() ? data_.substr(offset, count) : "";
    on->Post([done = std::move(done), part]() mutable { done(Bytes::Copy(part)); });
  }
  uint64_t missing = 0;  // promised and not there

 private:
  const std::string data_;
};

class StreamHost : public FakeHost {
 public:
  struct Content {
    std::string bytes;  // tidy-allow: a test compares it as text
    bool sealed = false;
    bool aborted = false;
  };

  explicit StreamHost(const std::string& id) : FakeHost(id, {kDefaultGroup}) {}

  std::shared_ptr<node::Relay> OpenRelay(node::StreamHeader header, env::Executor* home,
                                         absl::AnyInvocable<void(absl::Status)> opened) override {
    const bool known = HasGroup(header.group);
    home->Post([opened = std::move(opened), known]() mutable {
      opened(known ? absl::OkStatus() : absl::NotFoundError("no such group here"));
    });
    return std::make_shared<MemoryRelay>(this, std::move(header), home);
  }

  SinkFactory* sinks = nullptr;
  blob::Sealed held_behind;  // what the server behind this one said to hold at the last CLOSE
  raft::Peer next;
  std::map<UploadId, Content> content;
  std::vector<absl::AnyInvocable<void()>> held;  // answers kept back while hold_answers
  bool hold_answers = false;
  uint64_t most_held_bytes = 0;

 private:
  class MemoryRelay final : public node::Relay {
   public:
    MemoryRelay(StreamHost* host, node::StreamHeader header, env::Executor* home)
        : host_(host), header_(std::move(header)), home_(home) {
      if (host_->sinks != nullptr) sink_ = host_->sinks->Open(home, host_->next, header_, nullptr);
      std::lock_guard lock(host_->mutex);
      Content& there = host_->content[header_.upload];
      if (header_.take_over) {
        length_ = there.bytes.size();
      } else {
        there = {};
      }
    }
    const node::StreamHeader& header() const override { return header_; }
    env::Executor* home() const override { return home_; }
    uint64_t length() const override { return length_; }
    void Append(uint64_t offset, Bytes piece, absl::AnyInvocable<void(absl::Status)> done) override {
      if (failed_ || offset != length_ || piece.size() > (256u << 10)) {
        failed_ = true;
        return Answer(std::move(done),
                      absl::InvalidArgumentError(fmt::format("offset {}: expected {}", offset, length_)));
      }
      length_ += piece.size();
      {
        std::lock_guard lock(host_->mutex);
        host_->content[header_.upload].bytes += piece.ToString();
        if (host_->hold_answers) {
          held_bytes_ += piece.size();
          host_->most_held_bytes = std::max(host_->most_held_bytes, held_bytes_);
          host_->held.push_back([home = home_, done = std::move(done)]() mutable {
            home->Post([done = std::move(done)]() mutable { done(absl::OkStatus()); });
          });
          host_->changed.notify_all();
          return;
        }
      }
      host_->Changed();
      if (sink_ != nullptr) return sink_->Append(offset, std::move(piece), std::move(done));
      Answer(std::move(done), absl::OkStatus());
    }
    void Close(absl::AnyInvocable<void(absl::StatusOr<blob::Sealed>)> done) override {
      auto seal = [this, done = std::move(done)](absl::Status status) mutable {
        if (!status.ok()) return done(status);
        {
          std::lock_guard lock(host_->mutex);
          host_->content[header_.upload].sealed = true;
        }
        host_->Changed();
        done(blob::Sealed{.length = length_, .checksum = 0x01020304, .digest = {}});
      };
      if (sink_ != nullptr) {
        return sink_->Close(
            length_, [this, seal = std::move(seal)](const absl::StatusOr<blob::Sealed>& behind) mutable {
              if (behind.ok()) host_->held_behind = *behind;
              seal(behind.status());
            });
      }
      seal(absl::OkStatus());
    }
    void Flush(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) override { done(length_); }
    void ExpectDigest(const Sha256& digest) override { header_.blob.expected_digest = digest; }
    void Abort() override {
      failed_ = true;
      std::lock_guard lock(host_->mutex);
      host_->content[header_.upload].aborted = true;
    }

   private:
    void Answer(absl::AnyInvocable<void(absl::Status)> done, absl::Status status) {
      home_->Post(
          [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    }

    StreamHost* const host_;
    node::StreamHeader header_;
    env::Executor* const home_;
    std::unique_ptr<node::ByteSink> sink_;
    uint64_t length_ = 0;
    uint64_t held_bytes_ = 0;
    bool failed_ = false;
  };
};

}  // namespace sluice::edge
