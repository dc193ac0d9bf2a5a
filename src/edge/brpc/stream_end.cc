#include "edge/brpc/stream_end.h"

#include <errno.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "edge/brpc/connection.h"
#include "edge/brpc/crews.h"

namespace sluice::edge::brpc {
namespace {

using wire::brpc::Streams;

constexpr uint64_t kEarlyBytesMax = 64 << 20;  // of a stream without a connection and without a window
constexpr uint64_t kShareBytes = 64 << 10;     // of the process' budget, for each connection
constexpr int64_t kIdleTimeoutMsMax = 10LL * 365 * 24 * 3600 * 1000;
constexpr size_t kSegmentBytesMax = 16 << 20;

// Ids are numbered one after another, so neighbours are in different shards.
class StreamTable {
 public:
  StreamId NewId() { return next_.fetch_add(1, std::memory_order_relaxed); }

  void Put(const std::shared_ptr<StreamEnd>& end) {
    Shard& shard = ShardOf(end->id);
    std::lock_guard lock(shard.mutex);
    shard.ends.emplace(end->id, end);
  }
  std::shared_ptr<StreamEnd> Find(StreamId id) {
    Shard& shard = ShardOf(id);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.ends.find(id);
    return found == shard.ends.end() ? nullptr : found->second;
  }
  void Drop(StreamId id) {
    std::shared_ptr<StreamEnd> dropped;  // destroyed without the lock
    Shard& shard = ShardOf(id);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.ends.find(id);
    if (found == shard.ends.end()) return;
    dropped = std::move(found->second);
    shard.ends.erase(found);
  }
  std::vector<std::shared_ptr<StreamEnd>> All() {
    std::vector<std::shared_ptr<StreamEnd>> all;
    for (Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      for (const auto& [id, end] : shard.ends) all.push_back(end);
    }
    return all;
  }

 private:
  struct alignas(64) Shard {
    std::mutex mutex;
    absl::flat_hash_map<StreamId, std::shared_ptr<StreamEnd>> ends;
  };
  Shard& ShardOf(StreamId id) { return shards_[id % shards_.size()]; }

  std::atomic<StreamId> next_{1};
  std::array<Shard, 64> shards_;
};

StreamTable& Table() {
  static StreamTable& table = *new StreamTable;  // never destroyed: streams may end while statics do
  return table;
}

// Of all streams that have no connection yet. Taken after a connection's.
std::mutex& UnattachedMutex() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

}  // namespace

wire::brpc::StreamBudget& ProcessBudget() {
  static wire::brpc::StreamBudget& budget = *[] {
    auto* const made = new wire::brpc::StreamBudget;
    made->share_bytes = kShareBytes;
    return made;
  }();
  return budget;
}

std::shared_ptr<StreamEnd> FindStream(StreamId id) { return Table().Find(id); }
void ForgetStreamId(StreamId id) { Table().Drop(id); }

std::shared_ptr<StreamEnd> StreamEnd::New(const StreamOptions& options) {
  auto end = std::make_shared<StreamEnd>(Table().NewId(), options);
  Table().Put(end);
  return end;
}

StreamEnd::StreamEnd(StreamId new_id, const StreamOptions& options)
    : id(new_id),
      handler(options.handler),
      messages_in_batch(std::max<size_t>(options.messages_in_batch, 1)),
      idle_timeout_ms(std::min(options.idle_timeout_ms, kIdleTimeoutMsMax)) {
  window_bytes = options.max_buf_size > 0 ? static_cast<uint64_t>(options.max_buf_size) : 0;
  min_window_bytes = options.min_buf_size > 0 ? static_cast<uint64_t>(options.min_buf_size) : 0;
  segment_bytes = static_cast<uint32_t>(std::clamp<size_t>(options.max_segment_size, 1, kSegmentBytesMax));
  readable = handler != nullptr;
}

std::shared_ptr<Connection> StreamEnd::connection() const {
  return attached_.load(std::memory_order_acquire) == nullptr ? nullptr : connection_;
}

int StreamEnd::Write(const Bytes& message) {
  Connection* connection = attached_.load(std::memory_order_acquire);
  if (connection == nullptr) {
    std::lock_guard lock(UnattachedMutex());
    connection = attached_.load(std::memory_order_acquire);
    if (connection == nullptr) {
      if (phase == Phase::kEnded) return EINVAL;
      if (produced_bytes >= (window_bytes > 0 ? window_bytes : kEarlyBytesMax)) {
        was_full = true;
        ++stalls;
        return EAGAIN;
      }
      if (!early_) early_ = std::make_unique<std::vector<Bytes>>();
      early_->push_back(message);
      produced_bytes += message.size();
      return 0;
    }
  }
  switch (connection->Write(this, message)) {
    case Streams::Written::kWritten:
      return 0;
    case Streams::Written::kFull:
      return EAGAIN;
    case Streams::Written::kNoReader:
      return EBADF;
    case Streams::Written::kClosed:
      break;
  }
  return EINVAL;
}

void StreamEnd::SetConnection(std::shared_ptr<Connection> connection) {
  Connection* const raw = connection.get();
  std::lock_guard lock(UnattachedMutex());
  connection_ = std::move(connection);
  self = shared_from_this();
  produced_bytes = 0;
  if (early_) {
    for (const Bytes& message : *early_) raw->streams().Accept(this, message);
    early_.reset();
  }
  attached_.store(raw, std::memory_order_release);
  if (waiters_ && raw->streams().HasRoom(this)) was_full = true;  // told as soon as there is news of room
}

uint64_t StreamEnd::WaitForRoom(Writable writable) {
  int code = 0;
  const auto wait = [&](bool has_room) -> uint64_t {
    code = phase == Phase::kEnded ? EINVAL : 0;
    if (code != 0 || has_room) return 0;
    if (!waiters_) waiters_ = std::make_unique<std::vector<Waiter>>();
    waiters_->push_back({++last_wait_, std::move(writable)});
    return last_wait_;
  };
  uint64_t number = 0;
  Connection* connection = attached_.load(std::memory_order_acquire);
  if (connection == nullptr) {
    std::lock_guard lock(UnattachedMutex());
    connection = attached_.load(std::memory_order_acquire);
    if (connection == nullptr)
      number = wait(produced_bytes < (window_bytes > 0 ? window_bytes : kEarlyBytesMax));
  }
  if (connection != nullptr) {
    std::lock_guard lock(connection->mutex());
    number = wait(connection->HasRoom(this));
  }
  if (number == 0) writable(code);
  return number;
}

std::vector<Writable> StreamEnd::TakeWaiters() {
  std::vector<Writable> taken;
  if (!waiters_) return taken;
  for (Waiter& waiter : *waiters_) taken.push_back(std::move(waiter.writable));
  waiters_.reset();
  return taken;
}

void StreamEnd::StopWaiting(uint64_t wait, int code) {
  Writable stopped;
  const auto take = [&] {
    if (!waiters_) return;
    const auto found = std::find_if(waiters_->begin(), waiters_->end(),
                                    [wait](const Waiter& waiter) { return waiter.number == wait; });
    if (found == waiters_->end()) return;
    stopped = std::move(found->writable);
    waiters_->erase(found);
  };
  Connection* connection = attached_.load(std::memory_order_acquire);
  if (connection == nullptr) {
    std::lock_guard lock(UnattachedMutex());
    connection = attached_.load(std::memory_order_acquire);
    if (connection == nullptr) take();
  }
  if (connection != nullptr) {
    std::lock_guard lock(connection->mutex());
    take();
  }
  if (stopped) stopped(code);
}

void StreamEnd::Close() {
  ForgetStreamId(id);
  if (const auto connection = this->connection()) return connection->CloseStream(this);
  EndUnattached(0, "");
}

void StreamEnd::Fail(int error_code, const std::string& text) {
  ForgetStreamId(id);
  if (const auto connection = this->connection()) return connection->FailStream(this, error_code, text);
  EndUnattached(error_code, text);
}

void StreamEnd::EndUnattached(int error_code, const std::string& text) {
  std::vector<Writable> waiters;
  {
    std::lock_guard lock(UnattachedMutex());
    if (connection_ != nullptr || phase == Phase::kEnded) return;
    phase = Phase::kEnded;
    end_code = error_code;
    end_text = text;
    early_.reset();
    waiters = TakeWaiters();
  }
  ForgetStreamId(id);
  for (Writable& writable : waiters) writable(ECONNRESET);
  if (handler == nullptr) return;
  ClientCrew()->PostForeign([end = shared_from_this()] {
    if (end->end_code != 0) end->handler->on_failed(end->id, end->end_code, end->end_text);
    end->handler->on_closed(end->id);
  });
}

void StreamEnd::Consumed(uint64_t bytes) {
  if (const auto connection = this->connection()) connection->Credit(this, bytes);
}

StreamInfo StreamEnd::Info() const {
  StreamInfo info;
  info.id = id;
  info.age_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - since).count();
  const auto connection = this->connection();
  if (connection == nullptr) return info;
  info.peer = connection->peer();
  std::lock_guard lock(connection->mutex());
  info.local_id = local_id;
  info.remote_id = remote_id;
  info.bytes_in = received_bytes;
  info.bytes_out = produced_bytes;
  info.messages_in = messages_in;
  info.messages_out = messages_out;
  info.unconsumed_bytes = window_bytes == 0 ? 0 : produced_bytes - remote_consumed_bytes;
  info.window_bytes = window_now_bytes;
  info.stalls = stalls;
  return info;
}

std::vector<std::shared_ptr<StreamEnd>> AllStreams() { return Table().All(); }

}  // namespace sluice::edge::brpc
