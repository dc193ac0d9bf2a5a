// A loop for code that may block: its threads run it by turns.
//
//   std::unique_ptr<env::Crew> crew = env::NewCrew("stream-0", 64);
//   asio::post(crew->context(), [&] {
//     env::Crew::Foreign foreign(crew.get(), &on_taken_over);
//     handler->OnMessage();           // may sleep, or wait for something that this same loop must bring
//   });
//
// One thread at a time runs the loop, so what never blocks costs no switch of threads. Code of others runs
// inside a Foreign; when it says AboutToBlock, or has not come back after a millisecond or two, another
// thread of the crew takes the loop over, and the first one goes to rest when that code returns. So a handler
// that blocks delays others by no more than that.
//
// Code that blocks must run in handlers that were given to context() directly: tasks of Post and PostAfter
// run one after another and must not block, as with every executor. Threading: see Loop; RunsHere is true on
// the thread that runs the loop. Bounds: threads_max threads; beyond, the loop waits until one of them comes
// back. Ownership: destroying a crew waits for the code of others that it runs.
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
  // with the loop, before it does.
  class Foreign {
   public:
    Foreign(Crew* crew, absl::AnyInvocable<void()>* on_taken_over);
    ~Foreign();
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;

   private:
    CrewMember* member_ = nullptr;
  };

  // Called by code that is about to wait. Without effect outside a Foreign.
  static void AboutToBlock();
  // True on a thread of any crew.
  static bool IsMember();

  // Threads that this crew has now.
  virtual size_t threads() const = 0;
};

// A crew with one running thread; its threads are named `name` (15 bytes are kept).
std::unique_ptr<Crew> NewCrew(const std::string& name, size_t threads_max);

}  // namespace sluice::env
