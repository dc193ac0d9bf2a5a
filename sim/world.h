// Virtual time: a queue of events, run one by one in the order of their time, then of their scheduling.
//
//   sim::World world(seed);
//   world.After(std::chrono::milliseconds(5), [&] { ... });
//   EXPECT_TRUE(world.RunUntil([&] { return leader_known; }, std::chrono::seconds(10)));
//
// Everything random comes from random(), so a run depends on the seed alone. Time passes only between events.
// One thread, the test's. Must outlive what was made on it (executors, networks).
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "absl/functional/function_ref.h"
#include "env/clock.h"
#include "env/executor.h"
#include "sim/seeded_random.h"

namespace sluice::sim {

// Names an event; invalid ones are ignored by Cancel.
struct EventId {
  env::Instant at{};
  uint64_t sequence = 0;
  auto operator<=>(const EventId&) const = default;
};

class World final : public env::Clock {
 public:
  explicit World(uint64_t seed) : random_(seed) {}
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  env::Instant MonotonicNow() const override { return now_; }
  int64_t WallNowMs() const override;
  // A jump of wall time (F-38); nothing that keeps time by MonotonicNow may notice.
  void MoveWallClock(env::Duration by) { wall_offset_ += by; }
  SeededRandom& random() { return random_; }

  // Runs `event` once, at `at` or now if that has passed; never inside this call.
  EventId At(env::Instant at, env::Task event);
  EventId After(env::Duration delay, env::Task event) { return At(now_ + delay, std::move(event)); }
  void Cancel(EventId event) { events_.erase(event); }

  // Runs the next event; false when there is none.
  bool Step();
  // Runs every event of the next `duration` and leaves the clock at its end.
  void RunFor(env::Duration duration) { RunUntilTime(now_ + duration); }
  void RunUntilTime(env::Instant end);
  // Runs until `done()`; false when `limit` passed or nothing is left to run before it.
  bool RunUntil(absl::FunctionRef<bool()> done, env::Duration limit);
  // Runs until no event is left; false when `limit` passed first (a periodic timer never ends).
  bool RunUntilIdle(env::Duration limit);
  // Events run so far: two runs from one seed agree in it.
  uint64_t steps() const { return steps_; }

 private:
  SeededRandom random_;
  env::Instant now_ = std::chrono::seconds(1000);  // arbitrary, and not 0
  env::Duration wall_offset_{};
  uint64_t last_sequence_ = 0;
  uint64_t steps_ = 0;
  std::map<EventId, env::Task> events_;
};

}  // namespace sluice::sim
