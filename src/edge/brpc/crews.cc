#include "edge/brpc/crews.h"

#include <array>
#include <atomic>
#include <memory>

#include <fmt/format.h>

namespace sluice::edge::brpc {
namespace {

constexpr size_t kCrews = 2;
constexpr size_t kThreadsMax = 64;  // of each, for handlers that block

}  // namespace

env::Crew* ClientCrew() {
  static auto& crews = *new std::array<std::unique_ptr<env::Crew>, kCrews>([] {
    std::array<std::unique_ptr<env::Crew>, kCrews> made;
    for (size_t i = 0; i < kCrews; ++i) made[i] = env::NewCrew(fmt::format("stream-c{}", i), kThreadsMax);
    return made;
  }());  // never destroyed: callbacks may run until the process ends
  static std::atomic<size_t> next{0};
  return crews[next.fetch_add(1, std::memory_order_relaxed) % kCrews].get();
}

}  // namespace sluice::edge::brpc
