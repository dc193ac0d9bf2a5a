#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>

#include "base/check.h"
#include "base/log.h"
#include "base/metrics.h"
#include "env/crew.h"
#include "env/loop_core.h"

namespace sluice::env {

class RealCrew;

enum class MemberState : uint8_t {
  kLoop,     // has the loop, or is about to
  kBusy,     // held up in code of others
  kWaiting,  // in a Wait
  kResting
};

// One thread of a crew.
struct CrewMember {
  RealCrew* crew = nullptr;
  std::thread thread;
  // Odd while code of others runs. The watch compares two looks at it, so that nobody reads a clock.
  std::atomic<uint64_t> foreign_count{0};
  absl::AnyInvocable<void()>* on_taken_over = nullptr;  // guarded by the crew's mutex
  MemberState state = MemberState::kLoop;               // ditto
};

namespace {

constexpr std::chrono::milliseconds kLook{1};
constexpr int kIdleLooks = 20;  // after as many without code of others, the watch sleeps until there is some

thread_local CrewMember* current_member = nullptr;

// One thread for all crews of the process: finds loops that are held up.
class Watch {
 public:
  static Watch& Get() {
    static Watch& watch = *new Watch;  // never destroyed: crews may outlive every static
    return watch;
  }

  void Add(RealCrew* crew);
  void Remove(RealCrew* crew);
  // Code of others has begun somewhere.
  void Notice() {
    if (asleep_.load(std::memory_order_seq_cst)) Wake();
  }

 private:
  Watch() : thread_([this] { Main(); }) { pthread_setname_np(thread_.native_handle(), "crew-watch"); }
  void Wake() {
    std::lock_guard lock(mutex_);
    asleep_.store(false);
    changed_.notify_one();
  }
  void Main();

  std::mutex mutex_;  // guards the members below; taken before a crew's
  std::condition_variable changed_;
  std::vector<RealCrew*> crews_;
  std::atomic<bool> asleep_{false};
  std::thread thread_;  // last: it uses the others
};

}  // namespace

class RealCrew final : public LoopCore<Crew> {
 public:
  RealCrew(const std::string& name, size_t threads_max, size_t waiting_max)
      : LoopCore(ASIO_CONCURRENCY_HINT_DEFAULT),
        name_(name.substr(0, 15)),
        threads_max_(std::max<size_t>(threads_max, 1)),
        waiting_max_(std::max<size_t>(waiting_max, 1)),
        work_(asio::make_work_guard(context())) {
    {
      std::lock_guard lock(mutex_);
      holder_ = NewMember();
    }
    Watch::Get().Add(this);
  }

  ~RealCrew() override { Stop(); }

  void Stop() override {
    if (std::exchange(stopped_, true)) return;
    SLUICE_CHECK(current_member == nullptr || current_member->crew != this)
        << "a crew must not be stopped by its own thread";
    Post([this] {
      Halt();
      std::lock_guard lock(mutex_);
      stopping_ = true;
      wake_.notify_all();
    });
    {
      // Until then threads may be added; afterwards each of them ends when it is back.
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_; });
    }
    Watch::Get().Remove(this);
    for (const auto& member : members_) member->thread.join();
    postponed_.clear();
    Close();
  }

  bool RunsHere() const override {
    return current_member != nullptr && current_member->crew == this && holder_.load() == current_member;
  }

  bool full() const override { return full_.load(); }

  void WhenNotFull(Task code) override {
    static Counter& counter = NewCounter("sluice_rpc_handlers_postponed_total",
                                         "Times that handlers of Streaming RPC waited for a thread");
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    postponed_.push_back(std::move(code));
    if (!full_) return ResumeOne();
    counter.Increment();
    if (!std::exchange(said_full_, true)) {
      LogWarn(
          "crew {}: {} threads are busy in handlers (threads_max is {}) and {} wait in them (at most {}); "
          "further handlers wait",
          name_, busy_, threads_max_, waiting_, waiting_max_);
    }
  }

  size_t threads() const override {
    std::lock_guard lock(mutex_);
    return members_.size();
  }

  // The watch's look: true if code of others runs or ran since the last look.
  bool Look() {
    CrewMember* const holder = holder_.load();
    const uint64_t count = holder->foreign_count.load();
    const bool held_up = holder == seen_holder_ && count == seen_count_ && count % 2 == 1;
    const bool active = holder != seen_holder_ || count != seen_count_ || count % 2 == 1;
    seen_holder_ = holder;
    seen_count_ = count;
    if (held_up) {
      std::lock_guard lock(mutex_);
      TakeFrom(holder);
    }
    return active;
  }

  void Enter(CrewMember* member, absl::AnyInvocable<void()>* on_taken_over) {
    {
      std::lock_guard lock(mutex_);
      member->on_taken_over = on_taken_over;
    }
    member->foreign_count.fetch_add(1, std::memory_order_seq_cst);
    Watch::Get().Notice();
  }

  void Leave(CrewMember* member) {
    member->foreign_count.fetch_add(1, std::memory_order_seq_cst);
    std::lock_guard lock(mutex_);  // waits for a hook that runs just now
    member->on_taken_over = nullptr;
  }

  void BeginWait(CrewMember* member) {
    std::lock_guard lock(mutex_);
    TakeFrom(member);
    if (member->state == MemberState::kBusy && waiting_ < waiting_max_) Move(member, MemberState::kWaiting);
  }

  void EndWait(CrewMember* member) {
    std::lock_guard lock(mutex_);
    if (member->state == MemberState::kWaiting) Move(member, MemberState::kBusy);
  }

 private:
  // --- With mutex_ ---

  // The loop goes on without `member`, if it has it and another thread can be had.
  void TakeFrom(CrewMember* member) {
    if (holder_.load() != member || stopping_) return;
    CrewMember* next = nullptr;
    for (const auto& other : members_) {
      if (other->state == MemberState::kResting) next = other.get();
    }
    if (next == nullptr) next = NewMember();
    if (next == nullptr) return;
    Move(member, MemberState::kBusy);
    Move(next, MemberState::kLoop);
    if (auto* hook = std::exchange(member->on_taken_over, nullptr)) (*hook)();
    holder_.store(next);
    wake_.notify_all();
  }

  // Null if the system has no thread to give.
  CrewMember* NewMember() {
    auto made = std::make_unique<CrewMember>();
    CrewMember* const member = made.get();
    member->crew = this;
    try {
      member->thread = std::thread([this, member] { Main(member); });
    } catch (const std::system_error& error) {
      if (!std::exchange(said_no_thread_, true))
        LogError("crew {}: no thread beside {}: {}; handlers hold up its connections", name_, members_.size(),
                 error.what());
      return nullptr;
    }
    said_no_thread_ = false;
    members_.push_back(std::move(made));
    return member;
  }

  void Move(CrewMember* member, MemberState to) {
    busy_ -= member->state == MemberState::kBusy;
    waiting_ -= member->state == MemberState::kWaiting;
    member->state = to;
    busy_ += to == MemberState::kBusy;
    waiting_ += to == MemberState::kWaiting;
    full_ = busy_ >= threads_max_ || waiting_ >= waiting_max_;
    if (!full_) ResumeOne();
  }

  // One after the other, as long as none of them fills the crew.
  void ResumeOne() {
    if (full_ || stopping_) return;
    if (postponed_.empty()) {
      said_full_ = false;
      return;
    }
    asio::post(context(), [this, code = std::move(postponed_.front())]() mutable {
      if (full_) {
        std::lock_guard lock(mutex_);
        return postponed_.push_front(std::move(code));
      }
      std::exchange(code, nullptr)();
      std::lock_guard lock(mutex_);
      ResumeOne();
    });
    postponed_.pop_front();
  }

  // --- Without ---

  void Main(CrewMember* member) {
    pthread_setname_np(pthread_self(), name_.c_str());
    current_member = member;
    while (true) {
      while (holder_.load(std::memory_order_relaxed) == member && context().run_one() > 0) {
      }
      std::unique_lock lock(mutex_);
      if (holder_.load() == member) {
        if (context().stopped()) return;
        continue;
      }
      Move(member, MemberState::kResting);
      wake_.wait(lock, [&] { return stopping_ || holder_.load() == member; });
      if (stopping_) return;
    }
  }

  const std::string name_;
  const size_t threads_max_;
  const size_t waiting_max_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  bool stopped_ = false;  // of who stops it

  mutable std::mutex mutex_;  // guards the members below
  std::condition_variable wake_;
  std::vector<std::unique_ptr<CrewMember>> members_;
  std::atomic<CrewMember*> holder_{nullptr};  // written with mutex_
  size_t busy_ = 0;                           // members in this state; ditto the next
  size_t waiting_ = 0;
  std::atomic<bool> full_{false};  // written with mutex_
  std::deque<Task> postponed_;     // bounded by the connections, which have one each, and by their streams
  bool stopping_ = false;
  bool said_full_ = false;
  bool said_no_thread_ = false;

  // The watch's own.
  CrewMember* seen_holder_ = nullptr;
  uint64_t seen_count_ = 0;
};

namespace {

void Watch::Add(RealCrew* crew) {
  std::lock_guard lock(mutex_);
  crews_.push_back(crew);
}

void Watch::Remove(RealCrew* crew) {
  std::lock_guard lock(mutex_);
  std::erase(crews_, crew);
}

void Watch::Main() {
  std::unique_lock lock(mutex_);
  const auto look = [this] {
    bool active = false;
    for (RealCrew* crew : crews_) active |= crew->Look();
    return active;
  };
  int idle_looks = 0;
  while (true) {
    changed_.wait_for(lock, kLook);
    idle_looks = look() ? 0 : idle_looks + 1;
    if (idle_looks < kIdleLooks) continue;
    asleep_.store(true, std::memory_order_seq_cst);
    // After saying so, lest one is missed.
    if (!look()) changed_.wait(lock, [this] { return !asleep_.load(); });
    asleep_.store(false);
    idle_looks = 0;
  }
}

}  // namespace

Crew::Foreign::Foreign(Crew* crew, absl::AnyInvocable<void()>* on_taken_over) {
  if (current_member == nullptr || current_member->crew != crew || !crew->RunsHere()) return;
  member_ = current_member;
  member_->crew->Enter(member_, on_taken_over);
}

Crew::Foreign::~Foreign() {
  if (member_ != nullptr) member_->crew->Leave(member_);
}

Crew::Wait::Wait() {
  if (current_member == nullptr || current_member->foreign_count.load() % 2 == 0) return;
  member_ = current_member;
  member_->crew->BeginWait(member_);
}

Crew::Wait::~Wait() {
  if (member_ != nullptr) member_->crew->EndWait(member_);
}

void Crew::PostForeign(Task code) {
  asio::post(context(), [this, code = std::move(code)]() mutable {
    if (full())
      return WhenNotFull([this, code = std::move(code)]() mutable { PostForeign(std::move(code)); });
    Foreign foreign(this, nullptr);
    code();
  });
}

bool Crew::IsMember() { return current_member != nullptr; }

std::unique_ptr<Crew> NewCrew(const std::string& name, size_t threads_max, size_t waiting_max) {
  return std::make_unique<RealCrew>(name, threads_max, waiting_max);
}

}  // namespace sluice::env
