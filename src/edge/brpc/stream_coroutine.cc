// sluice::Stream: a stream as a coroutine sees it.
#include <errno.h>

#include <deque>
#include <mutex>

#include "edge/brpc/connection.h"
#include "edge/brpc/crews.h"
#include "edge/brpc/stream_end.h"
#include "sluice/stream.h"

namespace sluice {

using edge::brpc::StreamEnd;

// The stream's reader: keeps what came until Read takes it, which is when it counts as consumed.
struct Stream::Inner final : StreamInputHandler, std::enable_shared_from_this<Stream::Inner> {
  // --- StreamInputHandler ---
  int on_received_messages(StreamId, Bytes* const messages[], size_t size) override {
    std::coroutine_handle<> next;
    uint64_t dropped_bytes = 0;
    {
      std::lock_guard lock(mutex);
      for (size_t i = 0; i < size; ++i) {
        if (drops) {
          dropped_bytes += messages[i]->size();
        } else {
          arrived.push_back(std::move(*messages[i]));
        }
      }
      if (!arrived.empty()) next = std::exchange(reader, nullptr);
    }
    if (dropped_bytes > 0) end->Consumed(dropped_bytes);
    if (next) next.resume();
    return 0;
  }
  void on_failed(StreamId, int error_code, const std::string&) override {
    std::lock_guard lock(mutex);
    code = error_code;
  }
  void on_closed(StreamId) override {
    const std::shared_ptr<Inner> keep = std::exchange(self, nullptr);
    std::coroutine_handle<> first;
    std::coroutine_handle<> second;
    {
      std::lock_guard lock(mutex);
      closed = true;
      first = std::exchange(reader, nullptr);
      second = std::exchange(closer, nullptr);
    }
    if (first) first.resume();
    if (second) second.resume();
  }

  static std::shared_ptr<Inner> Adopt(StreamId id, std::shared_ptr<Inner> inner) {
    inner->end = edge::brpc::FindStream(id);
    return inner;
  }

  std::shared_ptr<StreamEnd> end;  // shared with the library
  std::shared_ptr<Inner> self;     // until on_closed: the library calls us until then

  std::mutex mutex;           // guards the rest
  std::deque<Bytes> arrived;  // bounded by the credit that the peer has
  bool drops = false;
  bool closed = false;
  int code = 0;
  std::coroutine_handle<> reader;
  std::coroutine_handle<> closer;
};

namespace {

template <typename Open>
std::shared_ptr<Stream::Inner> OpenWith(StreamOptions options, Open open) {
  auto inner = std::make_shared<Stream::Inner>();
  options.handler = inner.get();
  StreamId id = kInvalidStreamId;
  if (open(&id, options) != 0) return nullptr;
  inner->end = edge::brpc::FindStream(id);
  inner->end->credits_later = true;
  inner->self = inner;
  return inner;
}

}  // namespace

Stream Stream::Create(Controller& controller, StreamOptions options) {
  return Stream(OpenWith(
      options, [&](StreamId* id, const StreamOptions& with) { return StreamCreate(id, controller, &with); }));
}

Stream Stream::Accept(Controller& controller, StreamOptions options) {
  return Stream(OpenWith(
      options, [&](StreamId* id, const StreamOptions& with) { return StreamAccept(id, controller, &with); }));
}

Stream& Stream::operator=(Stream&& other) noexcept {
  Close();
  inner_ = std::move(other.inner_);
  return *this;
}

Stream::~Stream() { Close(); }

StreamId Stream::id() const { return inner_ == nullptr ? kInvalidStreamId : inner_->end->id; }

void Stream::Close() {
  if (inner_ == nullptr) return;
  uint64_t bytes = 0;
  {
    std::lock_guard lock(inner_->mutex);
    inner_->drops = true;
    for (const Bytes& message : inner_->arrived) bytes += message.size();
    inner_->arrived.clear();
  }
  if (bytes > 0) inner_->end->Consumed(bytes);
  inner_->end->Close();
}

// --- Write ---

bool Stream::WriteAwaiter::await_ready() {
  result = inner == nullptr ? EINVAL : inner->end->Write(message);
  return result != EAGAIN;
}

void Stream::WriteAwaiter::await_suspend(std::coroutine_handle<> waiter) {
  // Nothing of the awaiter is touched after WaitForRoom: the coroutine goes on on a thread of the crew.
  const auto connection = inner->end->connection();
  env::Crew* const crew = connection == nullptr ? edge::brpc::ClientCrew() : connection->crew();
  inner->end->WaitForRoom([this, waiter, crew](int code) {
    result = code == 0 ? inner->end->Write(message) : code;
    if (result == EAGAIN) return await_suspend(waiter);  // others were quicker
    crew->PostForeign([waiter] { waiter.resume(); });
  });
}

int Stream::WriteAwaiter::await_resume() { return result; }

// --- Read ---

bool Stream::ReadAwaiter::await_ready() {
  if (inner == nullptr) return true;
  {
    std::lock_guard lock(inner->mutex);
    if (inner->arrived.empty()) return inner->closed;
    result = std::move(inner->arrived.front());
    inner->arrived.pop_front();
  }
  inner->end->Consumed(result->size());
  return true;
}

bool Stream::ReadAwaiter::await_suspend(std::coroutine_handle<> waiter) {
  std::lock_guard lock(inner->mutex);
  if (!inner->arrived.empty() || inner->closed) return false;
  inner->reader = waiter;
  return true;
}

std::optional<Bytes> Stream::ReadAwaiter::await_resume() {
  if (!result && inner != nullptr) await_ready();
  return std::move(result);
}

// --- Closed ---

bool Stream::ClosedAwaiter::await_ready() {
  if (inner == nullptr) return true;
  uint64_t bytes = 0;
  {
    std::lock_guard lock(inner->mutex);
    inner->drops = true;
    for (const Bytes& message : inner->arrived) bytes += message.size();
    inner->arrived.clear();
    if (inner->closed) return true;
  }
  if (bytes > 0) inner->end->Consumed(bytes);
  return false;
}

bool Stream::ClosedAwaiter::await_suspend(std::coroutine_handle<> waiter) {
  std::lock_guard lock(inner->mutex);
  if (inner->closed) return false;
  inner->closer = waiter;
  return true;
}

int Stream::ClosedAwaiter::await_resume() {
  if (inner == nullptr) return EINVAL;
  std::lock_guard lock(inner->mutex);
  return inner->code;
}

}  // namespace sluice
