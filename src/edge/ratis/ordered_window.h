// The server's side of Ratis' sliding window: requests are processed, and answered,
// in the order of their numbers.
//
//   ASSIGN_OR_RETURN(auto ready, window.Receive(seq, is_first, std::move(request), bytes));
//   for (auto& next : ready) Submit(next.seq, std::move(next.request));   // these, in order
//   for (Reply& r : window.Replied(seq, std::move(reply))) Write(r);      // these may leave now
//   for (Request& r : window.HalfClose()) AlreadyClosed(r);               // these never run
//
// Numbers start with the first request marked as such; what arrives before it waits. Bounded: more than
// `kept_max` waiting requests or `bytes_max` waiting bytes, or a number further ahead than `kept_max`, is
// RESOURCE_EXHAUSTED, and the call must end. Threading: not thread-safe. Knows neither gRPC nor protobuf.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"

namespace sluice::edge::ratis {

template <typename Request, typename Reply>
class OrderedWindow {
 public:
  struct Numbered {
    uint64_t seq;
    Request request;
  };

  OrderedWindow(size_t kept_max, uint64_t bytes_max) : kept_max_(kept_max), bytes_max_(bytes_max) {}

  // Gives the requests that are now next. A number that is known already is dropped silently.
  absl::StatusOr<std::vector<Numbered>> Receive(uint64_t seq, bool is_first, Request request,
                                                uint64_t bytes) {
    if (seq > UINT64_MAX / 2) return absl::InvalidArgumentError(fmt::format("{} is no sequence number", seq));
    if (!next_ && (is_first || seq == 0)) {
      next_ = to_reply_ = seq;
      DropBelow(seq);
    }
    if (closed_ || (next_ && seq < *next_) || kept_.contains(seq)) return std::vector<Numbered>();
    if (next_ && seq - *next_ >= kept_max_) {
      return absl::ResourceExhaustedError(
          fmt::format("request {} is too far ahead of {}: at most {} may wait", seq, *next_, kept_max_));
    }
    if (!next_ || seq != *next_) {
      if (kept_.size() >= kept_max_ || kept_bytes_ + bytes > bytes_max_) {
        return absl::ResourceExhaustedError(
            fmt::format("{} requests with {} bytes wait for their turn", kept_.size(), kept_bytes_));
      }
    }
    kept_bytes_ += bytes;
    kept_.emplace(seq, Kept{std::move(request), bytes});
    return TakeReady();
  }

  // Gives the replies that may leave: this one and those that waited for it, if all before it have left.
  std::vector<Reply> Replied(uint64_t seq, Reply reply) {
    std::vector<Reply> out;
    if (!to_reply_ || seq < *to_reply_ || seq >= *next_) return out;  // not running
    replies_.emplace(seq, std::move(reply));
    for (auto it = replies_.begin(); it != replies_.end() && it->first == *to_reply_;
         it = replies_.erase(it)) {
      out.push_back(std::move(it->second));
      ++*to_reply_;
    }
    return out;
  }

  // The client will send no more: gives the requests that can never run.
  std::vector<Request> HalfClose() {
    closed_ = true;
    std::vector<Request> out;
    for (auto& [seq, kept] : kept_) out.push_back(std::move(kept.request));
    kept_.clear();
    kept_bytes_ = 0;
    return out;
  }

  // Requests that were given out and whose reply has not left.
  uint64_t running() const { return next_ ? *next_ - *to_reply_ : 0; }
  size_t kept() const { return kept_.size(); }

 private:
  struct Kept {
    Request request;
    uint64_t bytes;
  };

  std::vector<Numbered> TakeReady() {
    std::vector<Numbered> out;
    if (!next_) return out;
    for (auto it = kept_.begin(); it != kept_.end() && it->first == *next_; it = kept_.erase(it)) {
      kept_bytes_ -= it->second.bytes;
      out.push_back({it->first, std::move(it->second.request)});
      ++*next_;
    }
    return out;
  }
  void DropBelow(uint64_t seq) {
    while (!kept_.empty() && kept_.begin()->first < seq) {
      kept_bytes_ -= kept_.begin()->second.bytes;
      kept_.erase(kept_.begin());
    }
  }

  const size_t kept_max_;
  const uint64_t bytes_max_;
  std::optional<uint64_t> next_;      // to process
  std::optional<uint64_t> to_reply_;  // lowest number whose reply has not left
  std::map<uint64_t, Kept> kept_;
  uint64_t kept_bytes_ = 0;
  std::map<uint64_t, Reply> replies_;  // finished, waiting for lower numbers
  bool closed_ = false;
};

}  // namespace sluice::edge::ratis
