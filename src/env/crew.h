// A loop for code that may block: its threads run it by turns.
//
//   std::unique_ptr<env::Crew> crew = env::NewCrew("stream-0", 64);
//   crew->PostForeign([&] { handler->OnMessage(); });   // may sleep, or wait for something that this same loop
//                                                       // must bring
//
// One thread at a time runs the loop, so what never blocks costs no switch of threads. Code of others runs
// inside a Foreign; when it begins a Wait, or has not come back after a millisecond or two, another thread of
// the crew takes the loop over, and the first one goes to rest when that code returns. So a handler that
// blocks delays others by no more than that.
//
// Code that blocks must run in handlers that were given to context() directly, or by PostForeign: tasks of
// Post and PostAfter run one after another and must not block, as with every executor. Threading: see Loop;
// RunsHere is true on the thread that runs the loop. Bounds: threads_max threads may be held up in code of
// others, and waiting_max more in a Wait; one more always has the loop. When that many are, the crew is full():
// what reads, credits and accepts goes on, and code of others waits until one of them is back. Ownership:
// stopping a crew waits for the code of others that it runs. Failure: a thread that the system refuses is
// asked for again each millisecond.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "env/loop.h"

namespace sluice::env {

struct CrewMember;

class Crew : public Loop {
 public:
  // While one exists on a thread that runs the crew's loop, the loop may go on elsewhere. Not nested; without
  // effect on other threads. `on_taken_over`, which may be null, then runs once, on the thread that goes on
  // with the loop, before it does. Not while the crew is full().
  class Foreign {
   public:
    Foreign(Crew* crew, absl::AnyInvocable<void()>* on_taken_over);
    ~Foreign();
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;

   private:
    CrewMember* member_ = nullptr;
  };

  // While one exists inside a Foreign, its thread only waits for what loops bring. Without effect elsewhere.
  class Wait {
   public:
    Wait();
    ~Wait();
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    CrewMember* member_ = nullptr;
  };

  // True on a thread of any crew.
  static bool IsMember();

  // Code of others must not run now: this is the last thread, and must stay with the loop.
  virtual bool full() const = 0;
  // Gives `code` to context() as soon as the crew is not full; those that waited go first. Any thread.
  virtual void WhenNotFull(Task code) = 0;
  // Runs code of others on the loop, once there is a thread for it. Any thread.
  void PostForeign(Task code);

  // Threads that this crew has now.
  virtual size_t threads() const = 0;
};

inline constexpr size_t kCrewWaitingMax = 1024;

// A crew with one running thread; its threads are named `name` (15 bytes are kept).
std::unique_ptr<Crew> NewCrew(const std::string& name, size_t threads_max,
                              size_t waiting_max = kCrewWaitingMax);

}  // namespace sluice::env
