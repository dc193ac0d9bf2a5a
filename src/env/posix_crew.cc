#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include <asio/executor_work_guard.hpp>

#include "base/check.h"
#include "base/log.h"
#include "env/crew.h"
#include "env/loop_core.h"

namespace sluice::env {

class RealCrew;

// One thread of a crew.
struct CrewMember {
  RealCrew* crew = nullptr;
  std::thread thread;
  // Odd while code of others runs. The watch compares two looks at it, so that nobody reads a clock.
  std::atomic<uint64_t> foreign_count{0};
  absl::AnyInvocable<void()>* on_taken_over = nullptr;  // guarded by the crew's mutex
  bool resting = false;                                 // ditto
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
  RealCrew(const std::string& name, size_t threads_max)
      : LoopCore(ASIO_CONCURRENCY_HINT_DEFAULT),
        name_(name.substr(0, 15)),
        threads_max_(std::max<size_t>(threads_max, 1)),
        work_(asio::make_work_guard(context())) {
    {
      std::lock_guard lock(mutex_);
      holder_ = NewMember();
    }
    Watch::Get().Add(this);
  }

  ~RealCrew() override {
    SLUICE_CHECK(current_member == nullptr || current_member->crew != this)
        << "a crew must not be destroyed by its own thread";
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
  }

  bool RunsHere() const override {
    return current_member != nullptr && current_member->crew == this && holder_.load() == current_member;
  }

  size_t threads() const override {
    std::lock_guard lock(mutex_);
    return members_.size();
  }

  // The loop goes on without `member`, if it has it and another thread can be had.
  void TakeFrom(CrewMember* member) {
    std::lock_guard lock(mutex_);
    if (holder_.load() != member || stopping_) return;
    CrewMember* next = nullptr;
    for (const auto& other : members_) {
      if (other->resting) next = other.get();
    }
    if (next == nullptr && members_.size() < threads_max_) next = NewMember();
    if (next == nullptr) {
      if (!short_of_threads_) LogWarn("crew {}: all {} threads are busy in handlers", name_, threads_max_);
      short_of_threads_ = true;
      return;
    }
    short_of_threads_ = false;
    next->resting = false;
    if (auto* hook = std::exchange(member->on_taken_over, nullptr)) (*hook)();
    holder_.store(next);
    wake_.notify_all();
  }

  // The watch's look: true if code of others runs or ran since the last look.
  bool Look() {
    CrewMember* const holder = holder_.load();
    const uint64_t count = holder->foreign_count.load();
    const bool held_up = holder == seen_holder_ && count == seen_count_ && count % 2 == 1;
    const bool active = holder != seen_holder_ || count != seen_count_ || count % 2 == 1;
    seen_holder_ = holder;
    seen_count_ = count;
    if (held_up) TakeFrom(holder);
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

 private:
  CrewMember* NewMember() {  // with mutex_
    members_.push_back(std::make_unique<CrewMember>());
    CrewMember* member = members_.back().get();
    member->crew = this;
    member->thread = std::thread([this, member] { Main(member); });
    return member;
  }

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
      member->resting = true;
      wake_.wait(lock, [&] { return stopping_ || holder_.load() == member; });
      if (stopping_) return;
    }
  }

  const std::string name_;
  const size_t threads_max_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;

  mutable std::mutex mutex_;  // guards the members below
  std::condition_variable wake_;
  std::vector<std::unique_ptr<CrewMember>> members_;
  std::atomic<CrewMember*> holder_{nullptr};  // written with mutex_
  bool stopping_ = false;
  bool short_of_threads_ = false;

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

void Crew::AboutToBlock() {
  CrewMember* const member = current_member;
  if (member == nullptr || member->foreign_count.load() % 2 == 0) return;
  member->crew->TakeFrom(member);
}

bool Crew::IsMember() { return current_member != nullptr; }

std::unique_ptr<Crew> NewCrew(const std::string& name, size_t threads_max) {
  return std::make_unique<RealCrew>(name, threads_max);
}

}  // namespace sluice::env
