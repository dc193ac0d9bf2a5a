#include "edge/files/file_stream.h"

#include <errno.h>
#include <time.h>

#include <chrono>
#include <string>
#include <utility>

#include "base/names.h"
#include "edge/brpc/controller.h"
#include "edge/brpc/server_call.h"
#include "edge/brpc/stream_end.h"
#include "edge/files/errors.h"
#include "edge/files/stream_totals.h"

namespace sluice::edge::files {
namespace {

constexpr int64_t kWindowBytes = 4 << 20;  // of what the server sends
constexpr env::Duration kLinger = std::chrono::seconds(10);
constexpr size_t kTextMax = 1024;

timespec After(uint32_t milliseconds) {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_sec += milliseconds / 1000;
  time.tv_nsec += static_cast<int64_t>(milliseconds % 1000) * 1'000'000;
  if (time.tv_nsec >= 1'000'000'000) {
    ++time.tv_sec;
    time.tv_nsec -= 1'000'000'000;
  }
  return time;
}

}  // namespace

FileStream::FileStream(env::Executor* lane, uint32_t silence_ms, CallPlace place)
    : lane_(lane), silence_ms_(silence_ms), place_(std::move(place)) {}

bool FileStream::Accept(Controller& controller) {
  const brpc::ServerCall* const call = controller.inner().server_call;
  if (call == nullptr || call->answer.remote_ids.size() != 1) return false;
  StreamOptions options;
  options.handler = this;
  options.max_buf_size = kWindowBytes;
  options.min_buf_size = kWindowBytes / 4;
  options.idle_timeout_ms = silence_ms_;
  self_ = shared_from_this();  // of a stream that is accepted on_closed will come
  StreamId id = kInvalidStreamId;
  if (StreamAccept(&id, controller, &options) != 0) {
    self_.reset();  // there is no place for it, or no connection: nobody is told of its end
    return false;
  }
  end_ = brpc::FindStream(id);
  if (end_ == nullptr) return false;
  end_->credits_later = true;  // nothing is delivered before the call is answered
  StreamOpened(end_);
  return true;
}

// --- On threads of the library ---

int FileStream::on_received_messages(StreamId, Bytes* const messages[], size_t size) {
  std::vector<Bytes> taken;
  taken.reserve(size);
  for (size_t i = 0; i < size; ++i) taken.push_back(std::move(*messages[i]));
  lane_->Post([self = shared_from_this(), taken = std::move(taken)]() mutable {
    self->OnMessages(std::move(taken));
  });
  return 0;
}

void FileStream::on_idle_timeout(StreamId) {
  lane_->Post([self = shared_from_this()] {
    if (!self->gone_ && !self->ended_) self->OnSilence();
  });
}

void FileStream::on_closed(StreamId) {
  if (end_ != nullptr) StreamEnded(end_);
  lane_->Post([self = std::exchange(self_, nullptr)] {
    self->gone_ = true;
    self->lane_->Cancel(self->linger_);
    self->unwritten_.clear();
    self->OnGone();
  });
}

// --- On the lane ---

void FileStream::Credit(uint64_t bytes) {
  if (bytes > 0) end_->Consumed(bytes);
}

void FileStream::Write(Bytes record) {
  unwritten_.push_back(std::move(record));
  WriteOn();
}

void FileStream::WriteOn() {
  while (!unwritten_.empty() && !waiting_ && !gone_) {
    const int result = StreamWrite(end_->id, unwritten_.front());
    if (result == EAGAIN) return WaitForRoom();
    unwritten_.pop_front();
    if (result == EINVAL) return;  // it has ended: OnGone follows
    if (result != 0) {             // the client does not read at all
      StreamClose(end_->id);
      return;
    }
  }
  if (ended_ && unwritten_.empty() && !gone_ && linger_ == env::TimerId::kNone) Linger();
}

// After the last record the client closes; this side does when it does not.
void FileStream::Linger() {
  linger_ = lane_->PostAfter(kLinger, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) StreamClose(self->end_->id);
  });
}

void FileStream::WaitForRoom() {
  waiting_ = true;
  const timespec due = After(silence_ms_);
  const auto told = [](StreamId id, void* raw, int code) {
    const std::unique_ptr<std::shared_ptr<FileStream>> self(static_cast<std::shared_ptr<FileStream>*>(raw));
    if (code == ETIMEDOUT) StreamClose(id);  // it takes nothing
    (*self)->lane_->Post([call = *self] {
      call->waiting_ = false;
      call->WriteOn();
      if (call->unwritten_.empty() && !call->gone_ && !call->ended_) call->OnWritten();
    });
  };
  StreamWait(end_->id, &due, told, new std::shared_ptr<FileStream>(shared_from_this()));
}

void FileStream::EndWith(const absl::Status& status, FileResult result) {
  if (std::exchange(ended_, true) || gone_) return;
  result.set_code(ToCode(status));
  std::string text(Message(status).substr(0, kTextMax));
  while (!IsValidUtf8(text)) text.pop_back();  // cut within a letter
  result.set_text(std::move(text));
  Write(ControlRecord(RecordKind::kResult, result));
}

}  // namespace sluice::edge::files
