#include "sim/world.h"

#include <algorithm>

namespace sluice::sim {
namespace {

// The wall clock reads this when the world begins.
constexpr int64_t kFirstWallMs = 1'700'000'000'000;

}  // namespace

World::~World() {
  // An event may own what schedules or cancels others when it is destroyed.
  while (!events_.empty()) events_.extract(events_.begin());
}

int64_t World::WallNowMs() const {
  return kFirstWallMs + std::chrono::duration_cast<std::chrono::milliseconds>(now_ + wall_offset_).count();
}

EventId World::At(env::Instant at, env::Task event) {
  const EventId id{std::max(at, now_), ++last_sequence_};
  events_.emplace(id, std::move(event));
  return id;
}

bool World::Step() {
  if (events_.empty()) return false;
  auto next = events_.extract(events_.begin());
  now_ = next.key().at;
  ++steps_;
  next.mapped()();
  return true;
}

void World::RunUntilTime(env::Instant end) {
  while (!events_.empty() && events_.begin()->first.at <= end) Step();
  now_ = std::max(now_, end);
}

bool World::RunUntil(absl::FunctionRef<bool()> done, env::Duration limit) {
  const env::Instant end = now_ + limit;
  while (!done()) {
    if (events_.empty() || events_.begin()->first.at > end) return false;
    Step();
  }
  return true;
}

bool World::RunUntilIdle(env::Duration limit) {
  const env::Instant end = now_ + limit;
  while (!events_.empty() && events_.begin()->first.at <= end) Step();
  return events_.empty();
}

}  // namespace sluice::sim
