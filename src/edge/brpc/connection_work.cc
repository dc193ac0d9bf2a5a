// What leaves a connection, and the code of others that it calls.
#include <errno.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>
#include <mutex>
#include <utility>

#include "edge/brpc/connection.h"

namespace sluice::edge::brpc {
namespace {

using std::chrono::steady_clock;
using wire::brpc::StreamState;

constexpr size_t kWriteBytes = 256 << 10;  // gathered for one call of the socket
constexpr size_t kPiecesMax = 512;         // of one call of the socket
constexpr size_t kTurnBytes = 256 << 10;   // written before the loop looks for what has arrived
// Another thread writes by itself, instead of waking the loop, if nobody else did for so long.
constexpr std::chrono::microseconds kQuiet{50};
// Of handlers' messages, before the loop's other connections get a turn.
constexpr size_t kBatchesAtOnce = 256;
constexpr std::chrono::seconds kFirstFrameTimeout{10};
constexpr std::chrono::milliseconds kBudgetTick{10};
constexpr std::chrono::milliseconds kCloseTick{20};
// No word for so long from a peer that should have read: it may have lost its first FEEDBACK. Longer than
// most people's StreamWait, whose ETIMEDOUT is about a reader that is slow.
constexpr std::chrono::seconds kFirstFeedback{2};

thread_local const Connection* working = nullptr;  // whose RunUserCode is on this thread
thread_local EventScope* current_scope = nullptr;

}  // namespace

// --- Whoever has queued something sees to it that it leaves ---

Connection::FlushBy Connection::WhoFlushes() {
  if (flushing_ || blocked_ || flush_posted_ || lost() || !streams_.HasOutput()) return FlushBy::kNobody;
  if (EventScope::Current() != nullptr) {
    flush_posted_ = true;
    return FlushBy::kScope;
  }
  const auto now = steady_clock::now();
  if (now - last_direct_ > kQuiet) {
    last_direct_ = now;
    return FlushBy::kHere;
  }
  flush_posted_ = true;
  return FlushBy::kLoop;
}

void Connection::FlushAs(FlushBy by) {
  switch (by) {
    case FlushBy::kNobody:
      return;
    case FlushBy::kScope:
      if (EventScope* const scope = EventScope::Current(); scope != nullptr && scope->Add(shared_from_this()))
        return;
      return PostFlush();  // the loop went elsewhere just now
    case FlushBy::kHere:
      return Flush(/*bytes_max=*/1);
    case FlushBy::kLoop:
      return PostFlush();
  }
}

void Connection::Kick() {
  FlushBy by;
  {
    std::lock_guard lock(mutex_);
    by = WhoFlushes();
  }
  FlushAs(by);
}

void Connection::PostFlush() {
  asio::post(crew_->context(), [self = shared_from_this()] { self->FlushPosted(); });
}

void Connection::FlushPosted() {
  {
    std::lock_guard lock(mutex_);
    flush_posted_ = false;
  }
  Flush(kTurnBytes);
}

void Connection::Flush(size_t bytes_max) {
  bool post = false;
  bool arm = false;
  bool wake = false;
  bool close = false;
  bool read_on = false;
  {
    std::lock_guard lock(mutex_);
    if (flushing_ || blocked_ || lost()) return;
    flushing_ = true;
    for (size_t bytes = 0;;) {
      if (output_.pieces.empty() && !streams_.Pull(&output_, kWriteBytes)) break;
      if (bytes >= bytes_max) {
        post = !std::exchange(flush_posted_, true);
        break;
      }
      mutex_.unlock();
      int error = 0;
      const bool more = SendSome(&bytes, &error);
      mutex_.lock();
      if (error != 0) EnterLost(error, fmt::format("writing to {}: {}", peer_, strerror(error)));
      if (lost()) break;
      if (!more) {
        blocked_ = arm = true;
        blocked_since_ = steady_clock::now();
        break;
      }
    }
    flushing_ = false;
    if (lost()) output_.Clear();
    close = std::exchange(close_when_flushed_, false);
    wake = streams_.HasWritable();  // what left made room in the connection's budget
    read_on = MayReadOn();
  }
  if (post) PostFlush();
  if (arm) ArmWrite();
  if (read_on) ArmRead();
  if (close) asio::post(crew_->context(), [self = shared_from_this()] { self->CloseSocket(); });
  if (wake || read_on || lost()) RunUserCodeSoon();
}

bool Connection::SendSome(size_t* all_bytes, int* error) {
  iovec pieces[kPiecesMax];
  size_t count = 0;
  size_t bytes = 0;
  for (size_t i = next_piece_; i < output_.pieces.size() && count < kPiecesMax; ++i, ++count) {
    std::string_view piece = output_.pieces[i];
    if (i == next_piece_) piece.remove_prefix(piece_offset_);
    pieces[count] = {const_cast<char*>(piece.data()), piece.size()};
    bytes += piece.size();
  }
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = count;
  const ssize_t n = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) *error = errno;
    return false;
  }
  auto sent = static_cast<size_t>(n);
  *all_bytes += sent;
  while (sent > 0) {
    const size_t left = output_.pieces[next_piece_].size() - piece_offset_;
    if (sent < left) {
      piece_offset_ += sent;
      break;
    }
    sent -= left;
    piece_offset_ = 0;
    ++next_piece_;
  }
  if (next_piece_ == output_.pieces.size()) {
    output_.Clear();
    next_piece_ = 0;
  }
  if (static_cast<size_t>(n) < bytes) return false;
  // What the kernel has and could not send is time that everything written later waits:
  // it gets no more than this.
  int unsent = 0;
  return ioctl(fd_, SIOCOUTQNSD, &unsent) != 0 || unsent < kUnsentHighBytes;
}

void Connection::ArmWrite() {
  if (!crew_->RunsHere()) {
    asio::post(crew_->context(), [self = shared_from_this()] { self->ArmWrite(); });
    return;
  }
  if (!socket_) return;
  socket_->async_wait(asio::ip::tcp::socket::wait_write,
                      [self = shared_from_this()](const std::error_code& error) {
                        if (error) return;
                        {
                          std::lock_guard lock(self->mutex_);
                          self->blocked_ = false;
                        }
                        self->Flush(kTurnBytes);
                      });
}

// --- Code of others ---

void Connection::RunUserCodeSoon() {
  // This thread does when it comes back to it; one that has lost the loop may be long in coming.
  if (working == this && current_scope != nullptr && current_scope->active()) return;
  std::lock_guard lock(mutex_);
  if (streams_.HasReady() || streams_.HasWritable() || !finished_.empty() || !requests_.empty())
    PostUserCodeLocked();
}

void Connection::LeaveWorkToOthers() {
  std::lock_guard lock(mutex_);
  PostUserCodeLocked();
}

void Connection::PostUserCodeLocked() {
  if (std::exchange(user_code_posted_, true)) return;
  asio::post(crew_->context(), [self = shared_from_this()] { self->RunPosted(&self->user_code_posted_); });
}

void Connection::RunPosted(bool* flag) {
  EventScope scope(shared_from_this());
  {
    std::lock_guard lock(mutex_);
    *flag = false;
  }
  RunUserCode();
}

void Connection::RunUserCode() {
  EventScope* const scope = current_scope;
  const Connection* const outer = std::exchange(working, this);
  Delivery delivery;
  mutex_.lock();
  ++workers_;
  bool postpone = false;
  while (true) {
    if (WakeOne()) continue;
    if (requests_.empty() && finished_.empty() && !streams_.HasReady()) break;
    // A turn ends after so many messages, and where this thread has lost the loop.
    if ((delivery.batches >= kBatchesAtOnce && !lost()) || !scope->active()) {
      PostUserCodeLocked();
      break;
    }
    if (crew_->full()) {
      postpone = !std::exchange(user_code_postponed_, true);
      break;
    }
    if (!requests_.empty() || !finished_.empty()) {
      RunOne(*scope);
    } else {
      Deliver(*scope, static_cast<StreamEnd*>(streams_.NextReady()), &delivery);
    }
  }
  --workers_;
  if (lost()) worked_.notify_all();
  mutex_.unlock();
  if (lost()) TellGone();
  working = outer;
  if (postpone) {
    crew_->WhenNotFull([self = shared_from_this()] { self->RunPosted(&self->user_code_postponed_); });
  }
  if (std::exchange(delivery.read_on, false)) ArmRead();
  Kick();
}

// With the lock, which it gives up meanwhile. Somebody who waits, if there is one: that is done even when the
// crew is full, because those who wait are what fills it.
bool Connection::WakeOne() {
  std::shared_ptr<ClientCall> call;
  std::vector<Writable> waiters;
  int code = 0;
  if (!finished_.empty() && !finished_.front()->done) {
    call = std::move(finished_.front());
    finished_.pop_front();
  } else if (StreamState* const stream = streams_.NextWritable()) {
    auto* const end = static_cast<StreamEnd*>(stream);
    waiters = end->TakeWaiters();
    if (end->phase == StreamState::Phase::kEnded) code = ECONNRESET;
  } else {
    return false;
  }
  mutex_.unlock();
  if (call != nullptr) {
    crew_->Cancel(call->timer);
    call->over.Notify();  // who waits releases the streams
  }
  for (Writable& writable : waiters) writable(code);
  waiters.clear();
  mutex_.lock();
  return true;
}

// With the lock, which it gives up while it runs code of others. One thing: what is behind it stays where
// another thread finds it if that code blocks.
void Connection::RunOne(EventScope& scope) {
  if (!requests_.empty()) {
    wire::brpc::CallFrame request = std::move(requests_.front());
    requests_.pop_front();
    mutex_.unlock();
    scope.Run([&] { handler_->OnRequest(shared_from_this(), std::move(request)); });
  } else {
    const std::shared_ptr<ClientCall> call = std::move(finished_.front());
    finished_.pop_front();
    mutex_.unlock();
    crew_->Cancel(call->timer);
    scope.Run([&] { std::exchange(call->done, nullptr)(); });
    ReleaseStreams(*call);
  }
  mutex_.lock();
}

// With the lock, which it gives up while the handler runs.
void Connection::Deliver(EventScope& scope, StreamEnd* end, Delivery* delivery) {
  const std::shared_ptr<StreamEnd> keep = end->shared_from_this();
  std::vector<Bytes>& messages = delivery->messages;
  messages.clear();
  const bool last = streams_.TakeMessages(end, end->messages_in_batch, &messages);
  // Ends do not count: if fewer were told than streams opened meanwhile, there would be ever more of them.
  if (!messages.empty()) ++delivery->batches;
  mutex_.unlock();
  uint64_t bytes = 0;
  delivery->pointers.clear();
  for (Bytes& message : messages) {
    bytes += message.size();
    delivery->pointers.push_back(&message);
  }
  if (last) ForgetStreamId(end->id);
  if (end->handler != nullptr) {
    scope.Run([&] {
      if (!messages.empty()) {
        end->handler->on_received_messages(end->id, delivery->pointers.data(), messages.size());
      }
      if (!last) return;
      if (end->end_code != 0) end->handler->on_failed(end->id, end->end_code, end->end_text);
      end->handler->on_closed(end->id);
    });
  }
  messages.clear();
  mutex_.lock();
  if (end->idle_timeout_ms >= 0) end->drained_at = steady_clock::now();
  if (bytes > 0 && !end->credits_later) streams_.Consumed(end, bytes);
  if (last) {
    crew_->Cancel(end->idle_timer);
    streams_.Forget(end);
    end->self.reset();
  } else {
    streams_.Delivered(end);
  }
  if (streams_.WaitsForBudget()) SetBudgetTick();
  if (MayReadOn()) delivery->read_on = true;
}

// --- Time ---

void Connection::SetTick() {
  tick_ = crew_->PostAfter(std::chrono::milliseconds(std::max<int64_t>(1, options_.stall_timeout_ms / 4)),
                           [self = weak_from_this()] {
                             if (const auto connection = self.lock()) connection->OnTick();
                           });
}

void Connection::OnTick() {
  const auto now = steady_clock::now();
  const std::chrono::milliseconds stall(options_.stall_timeout_ms);
  std::string why;
  {
    std::lock_guard lock(mutex_);
    if (lost()) return;
    if (blocked_ && now - blocked_since_ > stall) {
      why = fmt::format("{} has taken nothing for {} ms", peer_, options_.stall_timeout_ms);
    } else if (!reader_.idle() && !read_paused_ && now - last_read_ > stall) {
      why = fmt::format("{} has sent half a frame and then nothing for {} ms", peer_,
                        options_.stall_timeout_ms);
    } else if (handler_ != nullptr && !seen_frame_ &&
               now - last_read_ > std::min<steady_clock::duration>(stall, kFirstFrameTimeout)) {
      why = fmt::format("{} has sent no frame", peer_);
    }
  }
  if (!why.empty()) return Lose(ETIMEDOUT, why);
  SetTick();
}

void Connection::OnFull(StreamEnd* end) {
  if (streams_.WaitsForBudget()) SetBudgetTick();
  const bool is_client = handler_ == nullptr;
  if (!is_client || end->remote_consumed_bytes > 0 || end->had_slack ||
      end->phase != StreamState::Phase::kOpen)
    return;
  if (std::exchange(end->awaits_slack, true)) return;
  crew_->PostAfter(kFirstFeedback, [weak = weak_from_this(), weak_end = end->weak_from_this()] {
    const auto self = weak.lock();
    const auto same = weak_end.lock();
    if (self == nullptr || same == nullptr) return;
    {
      std::lock_guard lock(self->mutex_);
      same->awaits_slack = false;
      if (self->lost() || !self->streams_.GrantSlack(same.get())) return;
    }
    self->RunUserCodeSoon();
  });
}

void Connection::SetBudgetTick() {
  if (std::exchange(budget_ticking_, true)) return;
  crew_->PostAfter(kBudgetTick, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      std::lock_guard lock(self->mutex_);
      self->budget_ticking_ = false;
      if (self->lost()) return;
      self->streams_.Tick();
      if (self->streams_.WaitsForBudget()) self->SetBudgetTick();
    }
    self->Kick();
    self->RunUserCodeSoon();
  });
}

void Connection::SetCloseTick() {
  if (!streams_.HoldsCloses() || std::exchange(close_ticking_, true)) return;
  crew_->PostAfter(kCloseTick, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      std::lock_guard lock(self->mutex_);
      self->close_ticking_ = false;
      self->streams_.AgeCloses();
      self->SetCloseTick();
    }
    self->Kick();
  });
}

// --- EventScope ---

EventScope::EventScope(std::shared_ptr<Connection> connection)
    : connection_(std::move(connection)),
      outer_(std::exchange(current_scope, this)),
      on_taken_over_([this] { OnTakenOver(); }) {}

EventScope::~EventScope() {
  current_scope = outer_;
  FlushAll();
}

EventScope* EventScope::Current() { return current_scope; }

bool EventScope::Add(const std::shared_ptr<Connection>& connection) {
  std::lock_guard lock(mutex_);
  if (!active_) return false;
  dirty_.push_back(connection);
  return true;
}

void EventScope::OnTakenOver() {
  FlushAll();
  connection_->LeaveWorkToOthers();
}

// At the end, or on the thread that takes the loop over; from then on this thread is like any other.
void EventScope::FlushAll() {
  std::vector<std::shared_ptr<Connection>> dirty;
  {
    std::lock_guard lock(mutex_);
    active_ = false;
    dirty.swap(dirty_);
  }
  for (const auto& connection : dirty) connection->FlushPosted();
}

}  // namespace sluice::edge::brpc
